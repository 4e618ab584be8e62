"""Labelled images held in memory: what the small lessons train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .extras import require

__all__ = ["ImageSet"]


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images with one label each, all in memory.

    Parameters
    ----------
    images
        float32 [N, C, H, W], values from 0 to 1.
    labels
        int64 [N], each from 0 to `len(classes) - 1`.
    classes
        The name of each class.

    Raises
    ------
    TypeError
        If a dtype is not the one above.
    ValueError
        If the shapes do not belong together or a label has no class.

    Examples
    --------
    >>> ImageSet(torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 1, 0]), ("cat", "dog"))
    ImageSet(4 images of 1x8x8, 2 classes)
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != torch.float32 or images.ndim != 4:
            raise TypeError(
                f"images are {images.dtype} of shape {tuple(images.shape)}; expected float32 [N, C, H, W]. "
                "For uint8 [N, H, W, C], pass images.permute(0, 3, 1, 2).float() / 255"
            )
        if labels.dtype != torch.int64 or labels.ndim != 1:
            raise TypeError(
                f"labels are {labels.dtype} of shape {tuple(labels.shape)}; expected int64 [N]. Pass labels.long()"
            )
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} labels; every image needs one label")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            raise ValueError(
                f"labels run from {int(labels.min())} to {int(labels.max())}, but there are {len(self.classes)} "
                f"classes; expected labels from 0 to {len(self.classes) - 1}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        shape = "x".join(str(n) for n in self.images.shape[1:])
        return f"ImageSet({len(self)} images of {shape}, {len(self.classes)} classes)"

    def subset(self, indices: Sequence[int] | np.ndarray[Any, Any] | Tensor) -> ImageSet:
        """Return the images at `indices`, in that order.

        >>> ImageSet(torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 1, 0]), ("cat", "dog")).subset([1, 2]).labels
        tensor([1, 1])
        """
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return ImageSet(self.images[chosen], self.labels[chosen], self.classes)

    def resized(self, image_size: int) -> ImageSet:
        """Return the images at [N, C, image_size, image_size], by bilinear interpolation.

        Shrinking is antialiased. Raises ValueError for a size below 1.

        >>> ImageSet(torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 1, 0]), ("cat", "dog")).resized(32)
        ImageSet(4 images of 1x32x32, 2 classes)
        """
        if image_size < 1:
            raise ValueError(f"image_size is {image_size}; expected 1 or more pixels")
        if tuple(self.images.shape[2:]) == (image_size, image_size):
            return self
        images = F.interpolate(self.images, (image_size, image_size), mode="bilinear", antialias=True)
        return ImageSet(images, self.labels, self.classes)

    def split(self, test_fraction: float = 0.25, seed: int = 0) -> tuple[ImageSet, ImageSet]:
        """Split into two sets that share no image, with every class in the same proportion in both.

        Raises ValueError for a fraction that is not between 0 and 1, or a class too small to be in both.

        >>> whole = ImageSet(torch.zeros(40, 1, 8, 8), torch.arange(40) % 2, ("cat", "dog"))
        >>> [len(part) for part in whole.split(test_fraction=0.25)]
        [30, 10]
        """
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction is {test_fraction}; expected a number between 0 and 1, such as 0.25")
        selection = require("sklearn.model_selection")
        train, test = selection.train_test_split(
            np.arange(len(self)), test_size=test_fraction, random_state=seed, stratify=self.labels.numpy()
        )
        return self.subset(train), self.subset(test)
