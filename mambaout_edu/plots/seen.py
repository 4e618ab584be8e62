"""Figures of what mixers and models see: mixing matrices side by side, receptive fields over the photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm

from ..seen.area import half_area
from ..strings import text
from .pictures import bare
from .style import COLOURS, INK, MUTED, PAPER, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["receptive_fields", "seen_matrices"]

_LEAST = 0.001  # smaller shares are drawn as dark as this one
_MOST_TICKS = 9


def seen_matrices(
    matrices: Mapping[str, npt.ArrayLike],
    tokens: Sequence[str] | None = None,
    *,
    size: tuple[int, int] | None = None,
    columns: int = 3,
) -> Figure:
    r"""Draw mixing matrices side by side, each as shares of its own largest entry, on one logarithmic scale.

    Row t holds what each input s gives to output t. Absolute values are drawn; entries that are exactly 0 are hatched,
    and counted under the title. Matrices of different mixers have different units, so each has its own largest entry.

    Parameters
    ----------
    matrices
        {title: [L, L]}, such as `seen.mixing_matrix` returns for one sample.
    tokens
        L short labels for rows and columns.
    size
        (H, W) of an image whose pixels are the tokens, row by row: lines then part its rows.
    columns
        How many in a row.

    Raises
    ------
    ValueError
        If there are no matrices, one is not square, or of another size than the tokens or the image, or has no finite
        entry but 0.

    Examples
    --------
    >>> seen_matrices({"causal": np.tri(3)}, ["I", "want", "apples"]).axes[0].get_title()
    'causal\n6 of 9 pairs'
    """
    drawn = {title: _matrix(title, matrix, tokens, size) for title, matrix in matrices.items()}
    fig, cells = _cells(len(drawn), columns, 4.4, 4.9)
    norm = LogNorm(_LEAST, 1)
    for ax, (title, matrix) in zip(cells, drawn.items(), strict=True):
        length = len(matrix)
        _hatched(ax, length, length)
        shares = np.where(matrix > 0, np.maximum(matrix / matrix.max(), _LEAST), np.nan)
        ax.imshow(shares, cmap="viridis", norm=norm, interpolation="nearest", zorder=1)
        ax.set_title(f"{title}\n{text('seen', 'pairs', seen=int((matrix > 0).sum()), all=matrix.size)}")
        _token_axes(ax, length, tokens, size)
    unit = "token" if size is None else "pixel"
    fig.supylabel(text("seen", f"output_{unit}"))
    fig.supxlabel(f"{text('seen', f'input_{unit}')}\n{text('seen', 'matrix_key')}")
    _scale(fig, cells, norm, text("seen", "weight"))
    return finish(fig)


def receptive_fields(
    fields: Mapping[str, npt.ArrayLike],
    image: npt.NDArray[Any],
    position: tuple[float, float] | None = None,
    *,
    columns: int = 3,
) -> Figure:
    r"""Draw receptive fields over the image, each as shares of its own largest gradient, on one logarithmic scale.

    Pixels whose gradient is exactly 0 show the image in grey. Under the title stands how many pixels hold half of
    the gradient, the strongest first.

    Parameters
    ----------
    fields
        {title: [H, W]}, such as `seen.receptive_field` returns.
    image
        [H, W] or [H, W, 3] of any size, stretched over the fields: bytes, or numbers from 0 to 1.
    position
        (row, column) in pixels of what was asked, drawn as a cross.
    columns
        How many in a row.

    Raises
    ------
    ValueError
        If there are no fields, one is not [H, W], has a negative entry or none above 0, or the image has other axes.

    Examples
    --------
    >>> receptive_fields({"3 x 3": np.pad(np.ones((3, 3)), 2)}, np.zeros((7, 7)), (3, 3)).axes[0].get_title()
    '3 x 3\nhalf within 5 pixels\n(10 % of the image)'
    """
    drawn = {title: _field(title, field) for title, field in fields.items()}
    grey = _grey(image)
    aspect = max((field.shape[0] / field.shape[1] for field in drawn.values()), default=1.0)
    fig, cells = _cells(len(drawn), columns, 3.9, 3.7 * aspect + 1.3)
    norm = LogNorm(_LEAST, 1)
    for ax, (title, field) in zip(cells, drawn.items(), strict=True):
        height, width = field.shape
        bare(ax)
        ax.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=(-0.5, width - 0.5, height - 0.5, -0.5), aspect="equal")
        shares = np.where(field > 0, np.maximum(field / field.max(), _LEAST), np.nan)
        ax.imshow(shares, cmap="viridis", norm=norm, interpolation="nearest", alpha=0.75)
        if position is not None:
            ax.plot(
                position[1], position[0], marker="x", color=COLOURS[3], markersize=11, markeredgewidth=3, linestyle=""
            )
        ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        ax.set_title(f"{title}\n{_half(field)}")
    fig.supxlabel(text("seen", "field_key_plain" if position is None else "field_key"), wrap=True)
    _scale(fig, cells, norm, text("seen", "gradient"))
    return finish(fig)


def _matrix(
    title: str, matrix: npt.ArrayLike, tokens: Sequence[str] | None, size: tuple[int, int] | None
) -> npt.NDArray[np.float64]:
    """Return the absolute values of a matrix that can be drawn."""
    values = np.abs(np.asarray(matrix, dtype=np.float64))
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not len(values):
        raise ValueError(f"{title!r} has shape {values.shape}; expected [L, L], the matrix of one sample")
    for name, length in (("tokens", tokens and len(tokens)), ("size", size and size[0] * size[1])):
        if length is not None and length != len(values):
            raise ValueError(f"{title!r} is {len(values)} x {len(values)}, but {name} speaks of {length} tokens")
    if not np.isfinite(values).all() or not values.any():
        raise ValueError(f"{title!r} has entries that are no numbers, or none but 0; there is nothing to draw")
    return values


def _field(title: str, field: npt.ArrayLike) -> npt.NDArray[np.float64]:
    values = np.asarray(field, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"{title!r} has shape {values.shape}; expected [H, W]")
    half_area(values)  # refuses what has no gradient
    return values


def _grey(image: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return an image as grey values from 0 to 1 [H, W]."""
    pixels = np.asarray(image)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] != 3) or 0 in pixels.shape:
        raise ValueError(f"the image has shape {pixels.shape}; expected [H, W] or [H, W, 3]")
    values = pixels / (255.0 if pixels.dtype.kind in "iu" else 1.0)
    luma = values @ np.array([0.299, 0.587, 0.114]) if pixels.ndim == 3 else values  # ITU-R BT.601
    return np.clip(luma, 0, 1)


def _half(field: npt.NDArray[np.float64]) -> str:
    count = half_area(field)
    pixels = text("seen", "pixels.one") if count == 1 else text("seen", "pixels.many", count=f"{count:,}")
    return text("seen", "half", pixels=pixels, share=f"{100 * count / field.size:.2g} %")


def _token_axes(ax: Axes, length: int, tokens: Sequence[str] | None, size: tuple[int, int] | None) -> None:
    """Label rows and columns with the tokens, or with the numbers of some, and part the rows of an image."""
    if tokens is not None:
        ax.set_xticks(range(length), list(tokens), rotation=60)
        ax.set_yticks(range(length), list(tokens))
        return
    unit = 1 if size is None else size[1]
    places = range(0, length, unit * max(1, -(-length // unit // _MOST_TICKS)))
    ax.set_xticks(places)
    ax.set_yticks(places)
    if size is not None:
        for line in range(size[1], length, size[1]):
            for draw in (ax.axhline, ax.axvline):
                draw(line - 0.5, color=PAPER, linewidth=0.6, linestyle="-", marker="", alpha=0.6)


def _hatched(ax: Axes, height: int, width: int) -> None:
    """Hatch the whole of the axes: what is drawn over it covers it where there is something."""
    ax.set_facecolor(PAPER)
    ax.fill_between([-0.5, width - 0.5], -0.5, height - 0.5, facecolor=PAPER, edgecolor=MUTED, hatch="//", zorder=0)


def _cells(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    if count < 1 or columns < 1:
        raise ValueError(f"got {count} pictures in {columns} columns; expected 1 or more of each")
    columns = min(columns, count)
    rows = -(-count // columns)
    fig, axes = new_figure(width * columns + 1.8, height * rows + 0.8, rows, columns)
    for ax in axes.flat[count:]:
        ax.remove()
    return fig, list(axes.flat[:count])


def _scale(fig: Figure, cells: list[Axes], norm: LogNorm, label: str) -> None:
    """Explain the colours, from the least share that is told apart to the largest entry."""
    bar = fig.colorbar(ScalarMappable(norm, "viridis"), ax=cells, shrink=0.85, aspect=25)
    bar.set_ticks([0.001, 0.01, 0.1, 1], labels=["0.1 %", "1 %", "10 %", "100 %"])
    bar.ax.tick_params(which="minor", length=0)
    bar.set_label(label)
    bar.outline.set_edgecolor(INK)
