"""Figures of scan orders: the path over the picture, where neighbours land, how far a state carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize

from .. import flatten
from ..strings import text
from .pictures import bare
from .style import COLOURS, INK, LINE_STYLES, MARKERS, MUTED, PAPER, finish, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["autocorrelation_curves", "locality_bars", "neighbour_map_pictures", "order_pictures", "reach_crosses"]

Order = npt.ArrayLike


def order_pictures(
    orders: Mapping[str, Order] | Sequence[str],
    height: int,
    width: int,
    *,
    image: npt.NDArray[Any] | None = None,
    columns: int = 4,
) -> Figure:
    """Draw the way of each order over the grid or a picture, coloured from its first step to its last.

    Parameters
    ----------
    orders
        Names of `flatten.ORDERS`, or titles and indices [L]; a path may leave pixels out.
    height, width
        Of the grid.
    image
        Drawn beneath, stretched over the grid: [H, W] or [H, W, 3] of any size.
    columns
        How many in a row.

    Raises
    ------
    ValueError
        If there is no order, or one does not fit the grid.

    Examples
    --------
    >>> [ax.get_title() for ax in order_pictures(["raster", "hilbert"], 8, 8).axes[:2]]
    ['raster', 'hilbert']
    """
    named = _named(orders, height, width)
    fig, cells = _cells(len(named), columns, height / width)
    scale = Normalize(0, height * width - 1)
    for ax, (name, index) in zip(cells, named.items(), strict=True):
        _ground(ax, height, width, image)
        draw_way(ax, index, width, scale, light=image is not None)
        ax.set_title(name)
    _key(fig, cells, scale, "viridis", text("orders", "step"))
    return finish(fig)


def draw_way(ax: Axes, index: npt.NDArray[np.int64], width: int, scale: Normalize, *, light: bool = False) -> None:
    """Draw the way through the cells' centres; a circle marks its start, a square its end."""
    rows, columns = np.divmod(index, width)
    points = np.stack([columns, rows], axis=1).astype(float)
    thickness = float(np.clip(60 / width, 1.2, 4))
    segments = np.stack([points[:-1], points[1:]], axis=1)
    if light:  # on a photograph, a pale edge keeps dark steps visible
        ax.add_collection(LineCollection(list(segments), colors=PAPER, linewidths=thickness + 2, capstyle="round"))
    lines = LineCollection(list(segments), cmap="viridis", norm=scale, linewidths=thickness, capstyle="round")
    lines.set_array(np.arange(len(segments)))
    ax.add_collection(lines)
    for place, marker in ((0, "o"), (-1, "s")):
        ax.plot(
            *points[place], marker=marker, markersize=9, color=COLOURS[3], markeredgecolor=INK, markeredgewidth=1.5,
            linestyle="", zorder=5,
        )  # fmt: skip


def neighbour_map_pictures(
    orders: Mapping[str, Order] | Sequence[str], height: int, width: int, *, columns: int = 4
) -> Figure:
    r"""Draw for every pixel how many steps away its farthest neighbour stands, on one logarithmic scale.

    Arguments and errors are those of `order_pictures`; every order must visit each pixel once.

    >>> neighbour_map_pictures(["raster"], 8, 8).axes[0].get_title()
    'raster\nup to 8 steps'
    """
    maps = {name: flatten.neighbour_map(index, height, width) for name, index in _named(orders, height, width).items()}
    fig, cells = _cells(len(maps), columns, height / width)
    scale = LogNorm(1, max(2, *(values.max() for values in maps.values())))
    for ax, (name, values) in zip(cells, maps.items(), strict=True):
        bare(ax)
        ax.imshow(np.maximum(values, 1), cmap="cividis", norm=scale, interpolation="nearest")
        ax.set_title(text("orders", "worst", name=name, worst=values.max()))
    _key(fig, cells, scale, "cividis", text("orders", "neighbour"))
    return finish(fig)


def locality_bars(orders: Mapping[str, Order] | Sequence[str], height: int, width: int) -> Figure:
    """Draw how far apart each order puts neighbours: mean, median and 95th percentile, on a logarithmic scale.

    Beside each order stand its share of unit steps and its longest jump. Arguments and errors are those of
    `order_pictures`; every order must visit each pixel once.

    >>> [label.get_text() for label in locality_bars(["raster", "hilbert"], 8, 8).axes[0].get_yticklabels()]
    ['raster', 'hilbert']
    """
    measured = {name: flatten.locality(index, height, width) for name, index in _named(orders, height, width).items()}
    fig, axes = new_figure(12, 1.8 + 0.62 * len(measured))
    ax = axes[0, 0]
    for i, key in enumerate(("median", "mean", "p95")):
        values = [getattr(found, key) for found in measured.values()]
        ax.plot(
            values, range(len(values)), linestyle="", linewidth=0, marker=MARKERS[i], markersize=11,
            color=COLOURS[i], label=text("orders", key),
        )  # fmt: skip
    far = max(found.p95 for found in measured.values())
    for row, found in enumerate(measured.values()):
        said = text("orders", "unit_steps", percent=f"{100 * found.unit_steps:.0f}", jump=f"{found.longest_jump:.1f}")
        ax.hlines(row, found.median, max(found.mean, found.p95), color=MUTED, linewidth=1.5, linestyle="-", zorder=0)
        ax.annotate(said, (max(found.mean, found.p95, 1), row), xytext=(14, 0), textcoords="offset points", va="center")
    ax.set_xscale("log")
    ax.tick_params(which="minor", color=INK)
    ax.set_xlim(0.8, max(far, 2) ** 1.75)  # room for the words beside the last point
    ax.set_yticks(range(len(measured)), list(measured))
    ax.set_ylim(len(measured) - 0.4, -0.6)
    ax.set_xlabel(text("orders", "steps_between"))
    ax.grid(axis="x", color=MUTED, alpha=0.3)
    fig.legend(loc="outside upper center", ncols=3, fontsize=14, facecolor=PAPER, edgecolor=MUTED)
    return finish(fig)


def autocorrelation_curves(
    image: npt.NDArray[Any], orders: Mapping[str, Order] | Sequence[str], *, max_lag: int = 64
) -> Figure:
    """Draw how alike the pixels of a grey picture [H, W] are that each order reads so many steps apart.

    Arguments and errors are those of `order_pictures` and `flatten.autocorrelation`.

    >>> ramp = np.add.outer(np.arange(8.0), np.arange(8.0))
    >>> autocorrelation_curves(ramp, ["raster", "hilbert"], max_lag=16).axes[0].get_xlabel()
    'steps apart in the sequence'
    """
    grey = np.asarray(image)
    if grey.ndim != 2:
        raise ValueError(f"image must be a grey picture [H, W]; got shape {grey.shape}. Average its colours first")
    fig, axes = new_figure(11, 5)
    ax = axes[0, 0]
    for i, (name, index) in enumerate(_named(orders, *grey.shape).items()):
        ax.plot(
            flatten.autocorrelation(grey, index, max_lag), color=COLOURS[i % len(COLOURS)], linewidth=2.5, label=name,
            linestyle=LINE_STYLES[i % len(LINE_STYLES)], marker=MARKERS[i % len(MARKERS)], markersize=8,
            markevery=max(1, max_lag // 8),
        )  # fmt: skip
    ax.axhline(0, color=MUTED, linewidth=1, linestyle="-")
    ax.set_xlabel(text("orders", "lag"))
    ax.set_ylabel(text("orders", "correlation"))
    ax.grid(color=MUTED, alpha=0.3)
    legend(ax)
    return finish(fig)


def reach_crosses(
    orders: Mapping[str, Order | Sequence[Order]] | Sequence[str],
    height: int,
    width: int,
    decay: float,
    *,
    columns: int = 4,
) -> Figure:
    r"""Draw how far a decaying state carries to the right, left, up and down, as `flatten.reach` measures it.

    Parameters
    ----------
    orders
        Names of `flatten.ORDERS` or `flatten.PATHS`, or titles and indices, or titles and lists of paths.
    height, width, decay, columns
        The grid, the share of the state left after a step, and how many crosses in a row.

    Raises
    ------
    ValueError
        If there is no order, one does not fit the grid, or the decay is out of range.

    Examples
    --------
    >>> reach_crosses(["cross"], 16, 16, decay=0.9).axes[0].get_title()
    'cross\nright 9, left 9,\nup 9, down 9'
    """
    named = dict(orders) if isinstance(orders, Mapping) else {name: name for name in orders}
    found = {name: flatten.reach(ways, height, width, decay) for name, ways in named.items()}
    fig, cells = _cells(len(found), columns, 1.5)
    far = max(1, *(max(r.right, r.left, r.up, r.down) for r in found.values()))
    for ax, (name, r) in zip(cells, found.items(), strict=True):
        bare(ax)
        for x, y in ((r.right, 0), (-r.left, 0), (0, r.up), (0, -r.down)):
            if x or y:
                arrow = {"arrowstyle": "-|>,head_width=0.5,head_length=0.7", "color": COLOURS[0], "linewidth": 4,
                         "shrinkA": 0, "shrinkB": 0}  # fmt: skip
                ax.annotate("", (x, y), (0, 0), arrowprops=arrow)
        ax.plot(0, 0, marker="o", markersize=11, color=COLOURS[3], markeredgecolor=INK, linestyle="")
        ax.axhline(0, color=MUTED, linewidth=0.8, linestyle=":", zorder=0)
        ax.axvline(0, color=MUTED, linewidth=0.8, linestyle=":", zorder=0)
        ax.set_xlim(-1.1 * far, 1.1 * far)
        ax.set_ylim(-1.1 * far, 1.1 * far)
        ax.set_aspect("equal")
        said = text("orders", "reach", right=r.right, left=r.left, up=r.up, down=r.down)
        ax.set_title(f"{name}\n{said}")
    fig.supxlabel(text("orders", "reach_key", decay=f"{decay:g}"))
    return finish(fig)


def _named(orders: Mapping[str, Order] | Sequence[str], height: int, width: int) -> dict[str, npt.NDArray[np.int64]]:
    if not orders or isinstance(orders, str):
        raise ValueError(f"orders is {orders!r}; expected names such as ['raster', 'hilbert'], or titles and indices")
    if not isinstance(orders, Mapping):
        return {name: flatten.order(name, height, width) for name in orders}
    named = {name: np.asarray(index) for name, index in orders.items()}
    for name, index in named.items():
        if index.ndim != 1 or not index.size or index.min() < 0 or index.max() >= height * width:
            raise ValueError(
                f"{name!r} does not fit a grid of {height} x {width}: expected a row of indices 0 to "
                f"{height * width - 1}, got shape {index.shape}"
            )
    return named


def _cells(count: int, columns: int, aspect: float) -> tuple[Figure, list[Axes]]:
    if count < 1 or columns < 1:
        raise ValueError(f"got {count} orders in {columns} columns; expected 1 or more of each")
    columns = min(columns, count)
    rows = -(-count // columns)
    fig, axes = new_figure(3.4 * columns + 1.2, max(3.8, (3.2 * aspect + 0.8) * rows), rows, columns)
    for ax in axes.flat[count:]:
        ax.remove()
    return fig, list(axes.flat[:count])


def _ground(ax: Axes, height: int, width: int, image: npt.NDArray[Any] | None) -> None:
    bare(ax)
    if image is not None:
        ax.imshow(image, extent=(-0.5, width - 0.5, height - 0.5, -0.5), cmap="gray", aspect="equal")
    ax.set_xlim(-0.5, width - 0.5)
    ax.set_ylim(height - 0.5, -0.5)
    ax.set_aspect("equal")
    ax.spines[:].set(visible=True, color=MUTED)


def _key(fig: Figure, cells: list[Axes], scale: Normalize, cmap: str, label: str) -> None:
    """Explain a colour scale that all cells share."""
    bar = fig.colorbar(ScalarMappable(scale, cmap), ax=cells, shrink=0.9, aspect=30)
    bar.set_label(label)
    bar.outline.set_edgecolor(INK)
    bar.ax.tick_params(which="minor", color=INK)
