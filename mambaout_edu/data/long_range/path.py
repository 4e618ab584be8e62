"""Connected path: whether two dots are on one curve.

Three curves run from left to right, as the strands of a braid, and cross each other; one dot is at a left end and one
at a right end. Which ends belong together depends on the order of all crossings. After Pathfinder (Linsley et al.,
arXiv 1805.08315; in the Long Range Arena, arXiv 2011.04006), but with nothing that counting could find:

- every picture has as many crossings of the upper two curves as of the lower two, so their number says nothing;
- every right end is as likely to belong to every left end, so the dots' positions say nothing.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .task import LongRangeTask

__all__ = ["ConnectedPath"]

# Pictures differ in brightness and stroke, or each braid would have a histogram of its own.
BACKGROUND, CURVE, STROKE = (0.05, 0.25), (0.7, 0.95), (0.9, 1.4)
DOT = torch.tensor([213, 94, 0]) / 255  # Okabe and Ito's vermillion
SEGMENT = 3  # pixels that a crossing needs
MARGIN = 1  # least pixels between a dot's centre and the edge of the picture
RADIUS = 1.5  # of a dot, in pixels
EVEN = ((0, 1, 2), (1, 2, 0), (2, 0, 1))  # the permutations that an even number of crossings can make


@dataclass(frozen=True)
class ConnectedPath(LongRangeTask):
    """Say whether the two dots are on one curve (1) or not (0).

    Attributes
    ----------
    distance
        Columns between the two dots, in pixels.
    crossings
        How many crossings there are: 4, 6 or 8.

    Examples
    --------
    >>> images, targets = ConnectedPath(size=48).draw(4, torch.Generator().manual_seed(0))
    >>> images.shape, targets.shape, ConnectedPath().chance
    (torch.Size([4, 48, 48, 3]), torch.Size([4]), 0.5)
    """

    crossings: int = 4
    num_classes: ClassVar[int] = 2

    @property
    def distances(self) -> tuple[int, int]:
        """The least and the greatest distance that this picture has room for, in pixels."""
        return SEGMENT * self.crossings, self.size - 1 - 2 * MARGIN

    @property
    def spacing(self) -> int:
        """Rows between two curves: no more than lets a curve run at about 45 degrees or less where it can."""
        return max(4, min(self.size // 5, round(self.distance / self.crossings)))

    def _check(self) -> None:
        if self.crossings not in (4, 6, 8):
            raise ValueError(
                f"crossings must be 4, 6 or 8 (an even number, and with 2 no curve ends where it began); got "
                f"{self.crossings}"
            )

    def _draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        lanes = self._lanes(batch, generator)  # [B, crossings + 1, 3]
        start = torch.randint(3, (batch,), generator=generator)
        other = torch.randint(1, 3, (batch,), generator=generator)
        targets = torch.randint(2, (batch,), generator=generator)
        end = torch.where(targets == 1, start, (start + other) % 3)  # the curve whose right end has a dot
        slack = self.size - 2 * MARGIN - self.distance
        left = MARGIN + torch.randint(slack, (batch, 1), generator=generator)
        middle, slope = self._rows(lanes, left, generator)  # [B, 3, W]
        rows = torch.arange(self.size)[:, None]
        # Distance to the curve, not to its row: a steep curve is as thick as a flat one.
        away = (rows - middle[:, :, None]).abs() / (1 + slope[:, :, None] ** 2).sqrt()  # [B, 3, H, W]
        columns = torch.arange(self.size)
        inside = (columns >= left) & (columns <= left + self.distance)  # [B, W]
        ground, bright, stroke = (_between(*ends, batch, generator) for ends in (BACKGROUND, CURVE, STROKE))
        ink = (stroke - away.amin(1)).clamp(0, 1) * inside[:, None]  # [B, H, W]
        images = (ground + (bright - ground) * ink)[..., None].repeat(1, 1, 1, 3)
        for curve, column in ((start, left), (end, left + self.distance)):
            row = middle.gather(1, curve[:, None, None].expand(-1, 1, self.size)).squeeze(1).gather(1, column)  # [B, 1]
            disc = (rows - row[:, None]) ** 2 + (columns - column[:, None]) ** 2 <= RADIUS**2 + 0.5  # [B, H, W]
            images[disc] = DOT
        return images, targets

    def _lanes(self, batch: int, generator: torch.Generator) -> Tensor:
        """Return the lane of each curve before, between and after the crossings, [B, crossings + 1, 3]."""
        groups = _braids(self.crossings)
        wanted = torch.randint(len(groups), (batch,), generator=generator)
        draws = torch.rand(batch, generator=generator)
        lanes = torch.empty(batch, self.crossings + 1, 3, dtype=torch.int64)
        for number, group in enumerate(groups):
            mine = wanted == number
            lanes[mine] = group[(draws[mine] * len(group)).long()]
        return lanes

    def _rows(self, lanes: Tensor, left: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return each curve's row and slope in every column, [B, 3, W]; beyond its ends it runs on flat."""
        batch = len(lanes)
        along = ((torch.arange(self.size) - left) / self.distance).clamp(0, 1)  # [B, W]
        knots = self._knots(batch, generator)  # [B, crossings + 1]
        segment = (torch.searchsorted(knots, along, right=True) - 1).clamp(0, self.crossings - 1)
        begin, end = knots.gather(1, segment), knots.gather(1, segment + 1)
        part = ((along - begin) / (end - begin))[..., None]  # [B, W, 1], from 0 to 1 within a crossing
        at = segment[..., None].expand(-1, -1, 3)
        before, after = lanes.gather(1, at), lanes.gather(1, at + 1)  # [B, W, 3]
        climb = self.spacing * (after - before)
        middle = self.spacing * before + climb * (1 - torch.cos(math.pi * part)) / 2
        slope = climb * torch.sin(math.pi * part) * (math.pi / 2 / self.distance) / (end - begin)[..., None]
        free = self.size - 1 - 2 * self.spacing - 2 * MARGIN
        top = MARGIN + torch.rand(batch, 1, 1, generator=generator) * free
        return (middle + top).transpose(1, 2), slope.transpose(1, 2)

    def _knots(self, batch: int, generator: torch.Generator) -> Tensor:
        """Return where the crossings begin and end, as shares of the distance, [B, crossings + 1]."""
        play = 0.25 * (1 - SEGMENT * self.crossings / self.distance)  # none where there is no room to spare
        knots = torch.arange(self.crossings + 1.0).repeat(batch, 1)
        knots[:, 1:-1] += _between(-play, play, (batch, self.crossings - 1), generator)
        return knots / self.crossings


def _between(low: float, high: float, shape: int | tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return random numbers from low to high: of a shape, or [B, 1, 1]."""
    return low + (high - low) * torch.rand((shape, 1, 1) if isinstance(shape, int) else shape, generator=generator)


@functools.cache
def _braids(crossings: int) -> tuple[Tensor, ...]:
    """Return the braids with as many upper as lower crossings, by permutation: [braids, crossings + 1, 3] each."""
    found: dict[tuple[int, ...], list[list[list[int]]]] = {permutation: [] for permutation in EVEN}
    for upper in itertools.combinations(range(crossings), crossings // 2):
        curves = [0, 1, 2]  # the curve in each lane
        lanes = [[0, 1, 2]]
        for number in range(crossings):
            first = 0 if number in upper else 1
            curves[first], curves[first + 1] = curves[first + 1], curves[first]
            lanes.append([curves.index(curve) for curve in range(3)])
        found[tuple(lanes[-1])].append(lanes)
    return tuple(torch.tensor(group) for group in found.values())
