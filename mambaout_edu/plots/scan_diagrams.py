"""Drawings of how scan algorithms join steps: who is joined with whom, round after round."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..strings import text
from .style import COLOURS, INK, MUTED, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["scan_diagrams", "scan_joins"]

Joins = list[list[tuple[int, int]]]  # for every round, the pairs (from place, into place)


def _sequential(length: int) -> Joins:
    return [[(t - 1, t)] for t in range(1, length)]


def _hillis_steele(length: int) -> Joins:
    distances = [1 << i for i in range((length - 1).bit_length())]
    return [[(t - distance, t) for t in range(distance, length)] for distance in distances]


def _blelloch(length: int) -> Joins:
    """Return the rounds up the tree, then those down it, in the places of the joined steps' ends.

    Drawn for states after each step, so the way down has one round less than for the states before.
    """
    levels = (length - 1).bit_length()
    up = [[(t - (1 << i), t) for t in range((2 << i) - 1, length, 2 << i)] for i in range(levels)]
    down = [[(t - (1 << i), t) for t in range(3 * (1 << i) - 1, length, 2 << i)] for i in reversed(range(levels - 1))]
    return up + down


def _chunked(length: int, chunk: int = 4) -> Joins:
    starts = range(0, length, chunk)
    inside: Joins = [[(s + i - 1, s + i) for s in starts if s + i < length] for i in range(1, chunk)]
    ends = [min(s + chunk, length) - 1 for s in starts]
    carry: Joins = [[(before, after)] for before, after in itertools.pairwise(ends)]
    # Second pass: each place joins the state before its chunk to the steps of its own chunk, which it already has.
    again: Joins = [[(s - 1, t) for s in starts[1:] for t in range(s, min(s + chunk, length)) if t not in ends]]
    return inside + carry + again


_JOINS: dict[str, Callable[[int], Joins]] = {
    "sequential": _sequential,
    "hillis_steele": _hillis_steele,
    "blelloch": _blelloch,
    "chunked_two_pass": _chunked,
}


def scan_joins(algorithm: str, length: int) -> Joins:
    """Return for every round of an algorithm which place is joined into which, as (from, into) pairs.

    Raises ValueError for an algorithm without a drawing, or a length below 2.

    >>> scan_joins("hillis_steele", 4)
    [[(0, 1), (1, 2), (2, 3)], [(0, 2), (1, 3)]]
    """
    if algorithm not in _JOINS:
        raise ValueError(f"there is no drawing of {algorithm!r}; there are drawings of {', '.join(_JOINS)}")
    if length < 2:
        raise ValueError(f"length is {length}; expected 2 steps or more")
    return [pairs for pairs in _JOINS[algorithm](length) if pairs]


def scan_diagrams(length: int = 8, algorithms: Sequence[str] = tuple(_JOINS)) -> Figure:
    r"""Draw the joins of several algorithms side by side, time from left to right, rounds from top to bottom.

    Raises ValueError as `scan_joins` does, and where no algorithm is named.

    >>> [ax.get_title() for ax in scan_diagrams(8, ["hillis_steele"]).axes]
    ['hillis_steele\n3 rounds, 17 joins']
    """
    if not algorithms:
        raise ValueError(f"no algorithm is named; there are drawings of {', '.join(_JOINS)}")
    rounds = {name: scan_joins(name, length) for name in algorithms}
    deepest = max(map(len, rounds.values()))
    fig, axes = new_figure(max(4.2, 3.6 * len(rounds)), 1.8 + 0.42 * deepest, columns=len(rounds))
    for ax, (name, joins) in zip(axes[0], rounds.items(), strict=True):
        _draw(ax, joins, length, deepest)
        counted = text("plots", "scan.rounds", rounds=len(joins), joins=sum(map(len, joins)))
        ax.set_title(f"{name}\n{counted}")
    axes[0, 0].set_ylabel(text("plots", "scan.round"))
    fig.supxlabel(text("plots", "scan.diagram_key"))
    return finish(fig)


def _draw(ax: Axes, joins: Joins, length: int, deepest: int) -> None:
    for place in range(length):
        ax.plot([place, place], [0, len(joins)], color=MUTED, linestyle="-", linewidth=1, marker="", alpha=0.6)
        ax.plot(place, 0, linestyle="", marker="o", color=INK, markersize=7)
    for row, pairs in enumerate(joins):
        for start, end in pairs:
            ax.plot([start, end], [row, row + 1], color=COLOURS[0], linestyle="-", linewidth=2, marker="")
            ax.plot(end, row + 1, linestyle="", marker="s", color=COLOURS[3], markersize=7)
    ax.set_xlim(-0.6, length - 0.4)
    ax.set_ylim(deepest + 0.4, -0.4)
    shown = sorted({0, *range(3, length, 4), length - 1})
    ax.set_xticks(shown, [str(place + 1) for place in shown])
    ax.set_yticks(range(0, deepest + 1, 2))
