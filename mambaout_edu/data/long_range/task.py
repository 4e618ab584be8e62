"""What all long-range tasks share: a size, a dial, a level of chance, and drawing."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from ..recall import IGNORED

__all__ = ["IGNORED", "SIZES", "Drawn", "LongRangeTask"]

SIZES = (16, 512)
"""The least and the greatest side of a picture, in pixels."""


class Drawn(NamedTuple):
    """Images [B, H, W, C], float32 from 0 to 1, and classes: [B, H, W] where a task is dense, else [B]."""

    images: Tensor
    targets: Tensor


@dataclass(frozen=True)
class LongRangeTask:
    """What all tasks share.

    Attributes
    ----------
    size
        Side of the picture, in pixels.
    noise
        Standard deviation of the grey noise on every pixel.
    distance
        Pixels between what must be related: the dial. Each task says between which.
    num_classes
        How many classes there are; all are equally frequent.
    dense
        Whether every pixel has a class of its own (`IGNORED` where nothing is asked), or the picture has one.
    """

    size: int = 64
    noise: float = 0.05
    distance: int = 32
    dial: ClassVar[str] = "distance"
    num_classes: ClassVar[int] = 2
    dense: ClassVar[bool] = False

    def __post_init__(self) -> None:
        least, most = SIZES
        if not least <= self.size <= most:
            raise ValueError(f"size must be from {least} to {most} pixels; got {self.size}")
        if not 0 <= self.noise <= 0.1:
            raise ValueError(f"noise must be from 0 to 0.1, or it hides what is to be seen; got {self.noise}")
        self._check()
        low, high = self.distances
        if high < low:
            raise ValueError(f"a picture of {self.size} pixels has no room for {self!r}; give a larger size")
        if not low <= self.distance <= high:
            raise ValueError(
                f"distance must be from {low} to {high} pixels in a picture of {self.size} x {self.size}; got "
                f"{self.distance}. A larger size has room for larger distances"
            )

    @classmethod
    def numbers(cls) -> tuple[str, ...]:
        """Return the names of the numbers that a task is made of."""
        return tuple(field.name for field in dataclasses.fields(cls))

    @property
    def distances(self) -> tuple[int, int]:
        """The least and the greatest distance that this picture has room for, in pixels."""
        raise NotImplementedError

    @property
    def chance(self) -> float:
        """The share of answers that a blind guess has right."""
        return 1 / self.num_classes

    def with_dial(self, value: int) -> Self:
        """Return this task with another distance; ValueError if the picture has no room for it."""
        return dataclasses.replace(self, **{self.dial: value})

    def draw(self, batch: int, generator: torch.Generator) -> Drawn:
        """Return `batch` new pictures; the same state of the generator gives the same ones."""
        if batch < 1:
            raise ValueError(f"batch must be at least 1; got {batch}")
        images, targets = self._draw(batch, generator)
        grey = torch.randn(batch, self.size, self.size, 1, generator=generator)
        return Drawn(images.add_(grey, alpha=self.noise).clamp_(0, 1), targets)

    def _check(self) -> None:
        """Raise ValueError where a task's own numbers are impossible."""

    def _draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


def shuffled(batch: int, count: int, generator: torch.Generator) -> Tensor:
    """Return the numbers 0 ... count - 1 in random order, one order for each row, [B, count]."""
    return torch.rand(batch, count, generator=generator, dtype=torch.float64).argsort(1)
