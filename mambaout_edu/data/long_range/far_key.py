"""Far key, and its control of the same look: a mark says how shapes must be painted.

In a picture: four marks of four colours in the top left corner, the key; shapes at a distance from it, each with a mark
beside it. In `FarKey` the outermost mark of the key decides and the marks beside the shapes are drawn at random, in
`LocalControl` it is the other way round. Both draw the same pictures, so nothing but the relation differs.

All four colours are always in the key. Their order alone says something, and the marks stand so far apart that no
patch as small as a mark sees two of them: neither a histogram nor a bag of such patches helps, wherever the distance is
at least a mark's side (a patch that sees a mark and a shape says where that mark stands).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .task import IGNORED, LongRangeTask, shuffled

__all__ = ["FORMS", "MARK_COLOURS", "FarKey", "LocalControl"]

# Okabe and Ito's orange, sky blue, bluish green and reddish purple.
MARK_COLOURS = torch.tensor([[230, 159, 0], [86, 180, 233], [0, 158, 115], [204, 121, 167]]) / 255  # [4, 3]
BACKGROUND, SHAPE = 0.25, 0.9
FORMS = torch.tensor(
    [
        [[0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0]],  # disc
        [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]],  # frame
        [[0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0]],  # plus
        [[1, 0, 0, 0, 1], [0, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 1, 0, 1, 0], [1, 0, 0, 0, 1]],  # cross
    ],
    dtype=torch.bool,
)
"""The four shapes, [4, 5, 5]."""
SIDE = FORMS.shape[-1]  # of a shape, in pixels


@dataclass(frozen=True)
class FarKey(LongRangeTask):
    """Paint each shape with the class (key + form) mod 4, where the key stands in the corner.

    Attributes
    ----------
    distance
        From the key to the nearest pixel of each shape, exactly: the larger of rows and columns, as a square window
        reaches (1 is next to it). All that says something about the key is as far from a shape as this, or farther.
    mark
        Side of a mark, in pixels; the key is three times as high and as wide.
    shapes
        How many shapes there are.

    Examples
    --------
    >>> images, targets = FarKey(size=32, distance=8).draw(2, torch.Generator().manual_seed(0))
    >>> images.shape, targets.shape, sorted(targets[0].unique().tolist())[0] == IGNORED
    (torch.Size([2, 32, 32, 3]), torch.Size([2, 32, 32]), True)
    >>> FarKey(size=32).distances
    Traceback (most recent call last):
    ValueError: distance must be from 1 to 8 pixels in a picture of 32 x 32; got 32. A larger size has room for \
larger distances
    """

    mark: int = 4
    shapes: int = 2
    num_classes: ClassVar[int] = 4
    dense: ClassVar[bool] = True

    @property
    def distances(self) -> tuple[int, int]:
        """The least and the greatest distance that this picture has room for, in pixels."""
        return 1, self.size - self.tile - self.key_end + 1

    @property
    def key_end(self) -> int:
        """The first row, and column, below and right of the key: two marks, a gap as wide as one, and a margin.

        The margin lets as many patches see the mark in the corner as any other.
        """
        return 4 * self.mark - 1

    @property
    def tile(self) -> int:
        """Side of a shape with its mark, in pixels."""
        return SIDE + 1 + self.mark

    @property
    def sees_all(self) -> int:
        """How far a window must reach, in pixels, so that every pixel of a shape sees the mark that decides."""
        return self.distance + 2 * self.mark + SIDE - 1

    def _check(self) -> None:
        if not 2 <= self.mark <= 32:
            raise ValueError(f"mark must be from 2 to 32 pixels; got {self.mark}")
        low, high = self.distances
        if not low <= self.distance <= high:
            return  # refused next, in words about the distance
        places = len(self._places()[0])
        if not 1 <= self.shapes <= places:
            raise ValueError(
                f"shapes must be from 1 to {places}, as many as have room at distance = {self.distance}; got "
                f"{self.shapes}"
            )

    def _places(self) -> tuple[Tensor, Tensor]:
        """Return the corners (row, column) where a shape with its mark can stand, and how far each may slide.

        They lie on two arms, below the key and right of it, that are equally far from it everywhere.
        """
        edge, step = self.key_end - 1 + self.distance, self.tile + 1
        down = range(0, edge + 1, step)
        across = range(0, edge - self.tile, step)  # ends before the other arm begins
        places = [(row, edge) for row in down] + [(edge, column) for column in across]
        slides = [(edge - down[-1], 0)] * len(down)
        slides += [(0, edge - self.tile - 1 - across[-1])] * len(across) if across else []
        return torch.tensor(places), torch.tensor(slides)

    def _draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        order = shuffled(batch, 4, generator)  # [B, 4], the colours of the key
        places, slides = self._places()
        slid = places + (torch.rand(batch, 1, 1, generator=generator) * (slides + 1)).long()  # [B, places, 2]
        which = shuffled(batch, len(places), generator)[:, : self.shapes, None].expand(-1, -1, 2)
        chosen = slid.gather(1, which)  # [B, S, 2]
        forms = torch.randint(4, (batch, self.shapes), generator=generator)
        near = torch.randint(4, (batch, self.shapes), generator=generator)  # colours of the marks beside the shapes
        images = torch.full((batch, self.size, self.size, 3), BACKGROUND)
        targets = torch.full((batch, self.size, self.size), IGNORED)
        near_edge, far_edge = self.mark - 1, 3 * self.mark - 1
        for number, (row, column) in enumerate(itertools.product((near_edge, far_edge), repeat=2)):
            images[:, row : row + self.mark, column : column + self.mark] = MARK_COLOURS[order[:, number], None, None]
        corner = chosen + SIDE + 1  # of the marks beside the shapes
        at = _window(corner, self.mark)
        images[at] = MARK_COLOURS[near][:, :, None, None].expand(-1, -1, self.mark, self.mark, -1)
        classes = (self._deciding(order, near) + forms) % 4  # [B, S]
        painted = FORMS[forms]  # [B, S, 5, 5]
        where = tuple(index.expand(painted.shape)[painted] for index in _window(chosen, SIDE))
        images[where] = SHAPE
        targets[where] = classes[:, :, None, None].expand(painted.shape)[painted]
        return images, targets

    def _deciding(self, order: Tensor, near: Tensor) -> Tensor:
        """Return the colour that decides for each shape, [B, S] or [B, 1]."""
        return order[:, :1]


@dataclass(frozen=True)
class LocalControl(FarKey):
    """Paint each shape with the class (mark beside it + form) mod 4; the pictures are those of `FarKey`.

    >>> far, near = (task(size=32, distance=8) for task in (FarKey, LocalControl))
    >>> drawn = [task.draw(8, torch.Generator().manual_seed(0)) for task in (far, near)]
    >>> torch.equal(drawn[0].images, drawn[1].images), torch.equal(drawn[0].targets, drawn[1].targets)
    (True, False)
    """

    def _deciding(self, order: Tensor, near: Tensor) -> Tensor:
        return near


def _window(corner: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return indices of picture, row and column of squares at corners [B, S, 2], to be broadcast to [B, S, h, w]."""
    steps = torch.arange(side)
    pictures = torch.arange(len(corner))[:, None, None, None]
    return pictures, corner[..., 0, None, None] + steps[:, None], corner[..., 1, None, None] + steps
