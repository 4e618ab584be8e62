"""Handwritten digits that travel inside scikit-learn: nothing is downloaded."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from .extras import require
from .image_set import ImageSet

__all__ = ["Digits", "digits"]

_GREY_LEVELS = 16  # each pixel counts the dark points in a 4x4 cell of the original 32x32 scan


class Digits(NamedTuple):
    """The digits to learn from and the digits held out."""

    train: ImageSet
    test: ImageSet


def digits(seed: int = 0, test_fraction: float = 0.25, image_size: int | None = None) -> Digits:
    """Return scikit-learn's 1,797 scanned digits, split into a training and a held-out part.

    The split keeps each digit's share in both parts and depends on `seed` alone.

    Parameters
    ----------
    seed
        Which split.
    test_fraction
        The share that is held out, between 0 and 1.
    image_size
        Side in pixels to resize to (bilinear); the scans' own size is 8.

    Returns
    -------
    Digits
        `train` and `test`, with images float32 [N, 1, 8, 8] from 0 (paper) to 1 (ink).

    Raises
    ------
    ImportError
        If scikit-learn is missing.
    ValueError
        If the fraction or the size is out of range.

    Notes
    -----
    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998 (the test half, from 13 writers).

    Examples
    --------
    >>> train, test = digits(seed=0)
    >>> train, test
    (ImageSet(1347 images of 1x8x8, 10 classes), ImageSet(450 images of 1x8x8, 10 classes))
    """
    scans = require("sklearn.datasets").load_digits()
    images = torch.from_numpy(scans.images.astype(np.float32)) / _GREY_LEVELS  # [N, 8, 8]
    labels = torch.from_numpy(scans.target.astype(np.int64))
    everything = ImageSet(images[:, None], labels, tuple(str(name) for name in scans.target_names))
    if image_size is not None:
        everything = everything.resized(image_size)
    return Digits(*everything.split(test_fraction, seed))
