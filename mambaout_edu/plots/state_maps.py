"""Figures of what a scan's state holds of a picture: the weight of every pixel, in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm

from ..strings import text
from .pictures import bare
from .style import COLOURS, INK, MUTED, PAPER, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["state_maps"]

_LEAST = 0.01  # weights below are drawn as dark as this one


def state_maps(maps: Mapping[str, npt.NDArray[Any]], pixel: tuple[int, int], *, columns: int = 4) -> Figure:
    r"""Draw the weight of every pixel in the state when one pixel is read; what it does not hold is hatched.

    Under each title stand the weights of the four pixels around the one that is read, in percent.

    Parameters
    ----------
    maps
        Titles and weights [H, W] from 0 to 1, such as `flatten.memory_map` returns; all of one size.
    pixel
        Row and column of the pixel that is read, with a neighbour on all four sides.
    columns
        How many maps in a row.

    Raises
    ------
    ValueError
        If there are no maps, they differ in size, a weight is out of range, or the pixel is at an edge.

    Examples
    --------
    >>> weights = np.array([[0.1, 0.2, 0.3], [0.4, 1.0, 0.0], [0.0, 0.0, 0.0]])
    >>> state_maps({"raster": weights}, (1, 1)).axes[0].get_title()
    'raster\nleft 40, right 0,\nup 20, down 0 %'
    """
    height, width = _check(maps, pixel)
    columns = max(1, min(columns, len(maps)))
    rows = -(-len(maps) // columns)
    fig, axes = new_figure(3.4 * columns + 1.2, (3.1 * height / width + 1.5) * rows, rows, columns)
    for ax in axes.flat[len(maps) :]:
        ax.remove()
    scale, cells = LogNorm(_LEAST, 1), list(axes.flat[: len(maps)])
    for ax, (title, weights) in zip(cells, maps.items(), strict=True):
        bare(ax)
        ax.set_facecolor(PAPER)
        ax.fill_between([-0.5, width - 0.5], -0.5, height - 0.5, facecolor=PAPER, edgecolor=MUTED, hatch="//", zorder=0)
        held = np.where(weights > 0, np.maximum(weights, _LEAST), np.nan)
        ax.imshow(held, cmap="viridis", norm=scale, interpolation="nearest", zorder=1)
        ax.plot(
            pixel[1], pixel[0], marker="s", markersize=9, color=COLOURS[3], markeredgecolor=INK, linestyle="", zorder=2
        )
        ax.set_title(f"{title}\n{_around(weights, pixel)}")
    bar = fig.colorbar(ScalarMappable(scale, "viridis"), ax=cells, shrink=0.9, aspect=30)
    bar.set_ticks([0.01, 0.03, 0.1, 0.3, 1], labels=["1 %", "3 %", "10 %", "30 %", "100 %"])
    bar.ax.tick_params(which="minor", length=0)
    bar.set_label(text("plots", "state.weight"))
    bar.outline.set_edgecolor(INK)
    fig.supxlabel(text("plots", "state.key"))
    return finish(fig)


def _around(weights: npt.NDArray[Any], pixel: tuple[int, int]) -> str:
    r, c = pixel
    places = {"left": (r, c - 1), "right": (r, c + 1), "up": (r - 1, c), "down": (r + 1, c)}
    return text("plots", "state.around", **{side: _percent(weights[at]) for side, at in places.items()})


def _percent(weight: float) -> str:
    if 0 < weight < 0.0005:
        return text("plots", "state.next_to_nothing")
    return f"{100 * weight:.2g}"


def _check(maps: Mapping[str, npt.NDArray[Any]], pixel: tuple[int, int]) -> tuple[int, int]:
    if not maps:
        raise ValueError("there are no maps to draw; expected at least one of shape [H, W]")
    shapes = {np.shape(weights) for weights in maps.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(f"the maps have shapes {sorted(shapes)}; expected one size [H, W] for all")
    height, width = next(iter(shapes))
    if not (0 < pixel[0] < height - 1 and 0 < pixel[1] < width - 1):
        raise ValueError(f"pixel is {tuple(pixel)}; expected (row, column) inside the edge of {height} x {width}")
    for title, weights in maps.items():
        if not (np.min(weights) >= 0 and np.max(weights) <= 1):
            raise ValueError(f"{title!r} has weights from {np.min(weights):g} to {np.max(weights):g}; expected 0 to 1")
    return height, width
