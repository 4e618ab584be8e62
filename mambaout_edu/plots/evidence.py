"""Figures that an argument rests on: what a position can reach, what papers report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..strings import text
from .pictures import bare
from .style import COLOURS, INK, MARKERS, MUTED, finish, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..published import ImageNetRow

__all__ = ["published_accuracy", "reaches"]


def reaches(maps: Mapping[str, npt.NDArray[np.bool_]]) -> Figure:
    r"""Draw which outputs a change at one input position reaches, one map a title.

    Parameters
    ----------
    maps
        bool [H, W], true where the output changed; the change was made in the middle.

    Raises
    ------
    ValueError
        If there are none.

    Examples
    --------
    >>> reaches({"no mixer": np.eye(3, dtype=bool)}).axes[0].get_title()
    'no mixer\n3 of 9 positions'
    """
    if not maps:
        raise ValueError("there are no maps to draw; expected at least one bool [H, W]")
    fig, axes = new_figure(3.6 * len(maps), 5.2, columns=len(maps))
    for ax, (title, reached) in zip(axes[0], maps.items(), strict=True):
        height, width = reached.shape
        bare(ax)
        ax.pcolormesh(reached[::-1], cmap="cividis", vmin=0, vmax=1, edgecolors="#888888", linewidth=0.4)
        ax.plot(width / 2, height / 2, marker="x", color=INK, markersize=9, markeredgewidth=2.5)
        ax.set_aspect("equal")
        count = text("plots", "positions", reached=int(reached.sum()), all=reached.size)
        ax.set_title(f"{title}\n{count}")
    fig.supxlabel(text("plots", "reach_key"))
    return finish(fig)


def published_accuracy(rows: Sequence[ImageNetRow]) -> Figure:
    """Draw published ImageNet accuracies against multiply-adds, by mixer, each model named.

    Rows whose multiply-adds the paper does not print are left out.

    Parameters
    ----------
    rows
        What `published.imagenet` returns, or some of it.

    Raises
    ------
    ValueError
        If no row can be drawn.

    Examples
    --------
    >>> from mambaout_edu.published import imagenet
    >>> published_accuracy(imagenet("tiny")).axes[0].get_xlabel()
    'ImageNet top-1 accuracy (%)'
    """
    drawn = sorted((row for row in rows if row.macs_g is not None), key=lambda row: -row.top1)
    if not drawn:
        raise ValueError("there is no row with multiply-adds to draw; pass what published.imagenet(...) returns")
    fig, axes = new_figure(12, 1.6 + 0.55 * len(drawn))
    ax = axes[0, 0]
    for place, mixer in enumerate(dict.fromkeys(row.mixer for row in drawn)):
        of_mixer = [(rank, row) for rank, row in enumerate(drawn) if row.mixer == mixer]
        ax.plot(
            [row.top1 for _, row in of_mixer], [rank for rank, _ in of_mixer],
            linestyle="", linewidth=0, marker=MARKERS[place], color=COLOURS[place], markersize=12, label=mixer,
        )  # fmt: skip
    for rank, row in enumerate(drawn):
        said = text("plots", "published_row", top1=f"{row.top1:.1f}", macs=f"{row.macs_g:.1f}")
        ax.annotate(said, (row.top1, rank), xytext=(14, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(drawn)), [row.model for row in drawn])
    ax.invert_yaxis()
    low, high = min(row.top1 for row in drawn), max(row.top1 for row in drawn)
    span = max(high - low, 0.5)
    ax.set_xlim(low - 0.08 * span, high + 0.5 * span)  # room for the words beside the last point
    ax.set_xlabel(text("plots", "imagenet_top1"))
    ax.grid(axis="x", color=MUTED, alpha=0.3)
    legend(ax, loc="lower right")
    return finish(fig)
