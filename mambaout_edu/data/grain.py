"""Which way does the grain run? A task whose answer lies in how a pixel stands to its neighbours in two dimensions.

Every picture is noise that was smoothed along one of four directions, as wood is along its grain. The direction is the
class. One pixel says nothing about it: brightness is spread alike in all classes. Two neighbours say a little, and only
by where they lie: side by side, one above the other, or on a diagonal.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .image_set import ImageSet

__all__ = ["Grain", "grain"]

DIRECTIONS = {
    "horizontal": (0, 1),
    "vertical": (1, 0),
    "falling": (1, 1),
    "rising": (-1, 1),
}  # rows down, columns right
_LENGTH = 3  # pixels that are averaged along the grain


class Grain(NamedTuple):
    """The pictures to learn from and the pictures held out."""

    train: ImageSet
    test: ImageSet


def grain(seed: int = 0, train: int = 2048, test: int = 1024, image_size: int = 10, strength: float = 0.8) -> Grain:
    """Return pictures with a grain to classify, every direction equally often; a blind guess is right in 25 %.

    Parameters
    ----------
    seed
        Where all random choices come from.
    train, test
        How many pictures to learn from and to hold out, multiples of 4.
    image_size
        Side in pixels, 2 or more.
    strength
        The grain's share of the variance, from 0 (noise alone, nothing to see) to 1. Pixels that are one step apart
        along the grain have a correlation of 2/3 of it, two steps apart 1/3; all others have none.

    Returns
    -------
    Grain
        `train` and `test`, with images float32 [N, 1, image_size, image_size], of mean 0.5 and standard deviation
        0.2, clipped to 0 ... 1.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> train, test = grain(train=8, test=4)
    >>> train
    ImageSet(8 images of 1x10x10, 4 classes)
    >>> test.labels.bincount().tolist()
    [1, 1, 1, 1]
    """
    if image_size < 2:
        raise ValueError(f"image_size is {image_size}; expected 2 or more pixels, so that there are neighbours")
    if min(train, test) < 1 or train % len(DIRECTIONS) or test % len(DIRECTIONS):
        raise ValueError(f"train is {train} and test is {test}; expected multiples of 4, as many of each class")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}; expected a share of the variance, from 0 to 1")
    generator = torch.Generator().manual_seed(seed)
    parts = [_draw(count, image_size, strength, generator) for count in (train, test)]
    return Grain(*(ImageSet(images, labels, tuple(DIRECTIONS)) for images, labels in parts))


def _draw(count: int, size: int, strength: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return `count` pictures [N, 1, size, size] and their classes [N], in random order."""
    labels = torch.arange(count)[torch.randperm(count, generator=generator)] % len(DIRECTIONS)
    field = torch.randn(count, size + _LENGTH - 1, size + _LENGTH - 1, generator=generator)
    steps = torch.tensor(list(DIRECTIONS.values()))[labels]  # [N, 2]
    start = torch.where(steps < 0, _LENGTH - 1, 0)  # a rising grain begins below
    item = torch.arange(count)[:, None, None]
    smooth = torch.zeros(count, size, size)
    for k in range(_LENGTH):
        rows, columns = ((start + k * steps)[:, :, None] + torch.arange(size)).unbind(1)  # [N, size] each
        smooth += field[item, rows[:, :, None], columns[:, None, :]]
    rough = torch.randn(smooth.shape, generator=generator)
    images = (strength / _LENGTH) ** 0.5 * smooth + (1 - strength) ** 0.5 * rough  # variance 1
    return (0.5 + 0.2 * images).clamp(0, 1)[:, None], labels
