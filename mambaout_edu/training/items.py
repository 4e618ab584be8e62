"""One image of a run at a time, transformed; what cannot be read is replaced, or left out, and told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from .randomness import seeded, stable_seed
from .sources import Source
from .transforms import Transform

__all__ = ["ATTEMPTS", "BadImage", "Batch", "Items", "Key", "collate"]

ATTEMPTS = 10
"""How many images are tried in a row before it is given up."""

# What Pillow and its decoders raise for files that are broken, cut short, or made to do harm.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
Key = tuple[int, int]  # (epoch, index of the image)


@dataclass(frozen=True)
class BadImage:
    """An image that could not be read, and why."""

    index: int
    reason: str


class _Item(NamedTuple):
    image: Tensor | None  # [C, S, S]
    label: int
    number: int
    bad: tuple[BadImage, ...]


class Batch(NamedTuple):
    """Images and what was wrong with others; for a whole batch of broken ones, empty."""

    images: Tensor  # [B, C, S, S]
    labels: Tensor  # [B]
    indices: Tensor  # [B]
    bad: tuple[BadImage, ...]
    missing: int  # images that nothing could replace


class Items(Dataset[_Item]):
    """Transformed images by (epoch, index); while training their random changes follow from the seed and this key."""

    def __init__(self, source: Source, transform: Transform, seed: int, training: bool) -> None:
        self.source, self.transform, self.seed, self.training = source, transform, seed, training

    def __getitem__(self, key: Key) -> _Item:
        epoch, index = key
        bad: tuple[BadImage, ...] = ()
        # A replacement would count twice in a measurement.
        for attempt in range(ATTEMPTS if self.training else 1):
            chosen = index if not attempt else stable_seed(self.seed, epoch, index, attempt) % len(self.source)
            try:
                picture, label = self.source.dataset[chosen]
            except _UNREADABLE as error:
                bad += (BadImage(chosen, str(error) or type(error).__name__),)
                continue
            return _Item(self._transformed(picture, epoch, index), int(label), chosen, bad)
        return _Item(None, -1, index, bad)

    def _transformed(self, picture: Any, epoch: int, index: int) -> Tensor:
        if not self.training:
            return self.transform(picture)
        with seeded(self.seed, epoch, index):
            return self.transform(picture)


def collate(items: list[_Item]) -> Batch:
    """Put the images of one batch together."""
    bad = tuple(entry for item in items for entry in item.bad)
    seen = [(item.image, item.label, item.number) for item in items if item.image is not None]
    if not seen:
        return Batch(
            torch.empty(0), torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64), bad, len(items)
        )
    images, labels, indices = default_collate(seen)
    return Batch(images, labels, indices, bad, len(items) - len(seen))
