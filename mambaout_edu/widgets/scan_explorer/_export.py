"""The explorer's view as a figure and as a moving picture, drawn by matplotlib as the page draws it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mambaout_edu.strings import table, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mambaout_edu.widgets.scan_explorer import ScanExplorer

__all__ = ["plain_pixels", "save_figure", "state_picture", "view_figure"]

FORGOTTEN = np.array([14.0, 16.0, 36.0])
VIRIDIS = (
    *((72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142), (31, 158, 137)),
    *((53, 183, 121), (109, 205, 89), (180, 222, 44), (253, 231, 37)),
)
SQUARE = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5]])  # x, y around a pixel
HEADS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#ffffff")  # Okabe-Ito
BLANK = 225
STEPS_BEHIND = 12


def plain_pixels(height: int, width: int) -> NDArray[np.uint8]:
    """Return the colours of a plain grid, uint8 [height, width, 3]: rows choose the hue, columns how pale it is.

    >>> plain_pixels(2, 1)[:, 0].tolist()
    [[118, 94, 154], [254, 237, 92]]
    """
    at = np.linspace(0, 1, height) if height > 1 else np.array([0.5])
    stops = np.linspace(0, 1, len(VIRIDIS))
    hue = np.stack([np.rint(np.interp(at, stops, channel)) for channel in np.transpose(VIRIDIS)], axis=1)  # [H, 3]
    pale = (np.linspace(0, 0.5, width) if width > 1 else np.array([0.25]))[None, :, None]
    return np.rint(hue[:, None] + (255 - hue[:, None]) * pale).astype(np.uint8)


def state_picture(explorer: ScanExplorer, which: int = 0) -> NDArray[np.uint8]:
    """Return what the page shows of the first (0) or second (1) order in a light theme, uint8 [height, width, 3].

    In full colour what the state holds, dark what it has forgotten, grey what was not read yet.
    """
    picture = explorer.pixels()
    plain = picture is None
    pixels = (plain_pixels(explorer.height, explorer.width) if picture is None else picture).astype(np.float64)
    grey = pixels @ np.array([0.3, 0.59, 0.11])
    weights = explorer.memory(which)[:, :, None]
    gone = FORGOTTEN + 0.16 * (grey[:, :, None] - FORGOTTEN)
    ahead = np.full_like(grey, 196.0) if plain else 196 + 0.35 * (grey - 128)
    shown = np.where(_read(explorer, which)[:, :, None], gone + weights * (pixels - gone), ahead[:, :, None])
    return np.clip(np.rint(shown), 0, 255).astype(np.uint8)


def _read(explorer: ScanExplorer, which: int) -> NDArray[np.bool_]:
    found = np.zeros(explorer.height * explorer.width, dtype=bool)
    for path in explorer.paths(which):
        found[path[: explorer.step + 1]] = True
    return found.reshape(explorer.height, explorer.width)


def view_figure(explorer: ScanExplorer) -> Figure:
    """Return the current view as a figure: for every order the state's picture, its sequence, its measures."""
    from mambaout_edu.plots.style import finish, new_figure

    count = len(explorer.orders)
    tall = 6.2 * float(np.clip(explorer.height / explorer.width, 0.25, 1.6))
    fig, axes = new_figure(6.6 * count, tall + 2.0, rows=2, columns=count)
    axes[0, 0].get_gridspec().set_height_ratios([tall, 0.45])
    for which in range(count):
        _draw_picture(axes[0, which], explorer, which)
        _draw_sequence(axes[1, which], explorer, which)
    finish(fig)
    for which in range(count):
        _number_heads(axes[0, which], explorer, which)
    decay = text("scan_explorer", "keeps_all")
    if explorer.decay < 1:
        half_life = f"{explorer.half_life:.3g}"
        decay = text("scan_explorer", "half_life", decay=f"{explorer.decay:g}", steps=half_life)
    fig.suptitle(decay, fontsize=15)
    return fig


def _draw_picture(ax: Axes, explorer: ScanExplorer, which: int) -> None:
    from mambaout_edu.plots.pictures import bare

    bare(ax)
    ax.imshow(state_picture(explorer, which), interpolation="nearest")
    for k, path in enumerate(explorer.paths(which)):
        end = min(explorer.step, len(path) - 1)
        rows, columns = np.divmod(path[max(0, end - STEPS_BEHIND) : end + 1], explorer.width)
        for colour, width in (("black", 4.5), ("white", 2.0)):
            ax.plot(columns, rows, color=colour, linewidth=width, linestyle="-", solid_capstyle="round")
        ax.plot(
            columns[-1], rows[-1], marker="o", markersize=15, color=HEADS[k % len(HEADS)], markeredgecolor="black",
            markeredgewidth=2, linestyle="",
        )  # fmt: skip
    if explorer.cursor:
        row, column = explorer.cursor
        for colour, width in (("black", 5.0), ("white", 2.5)):
            ax.plot(column + SQUARE[:, 0], row + SQUARE[:, 1], color=colour, linewidth=width, linestyle="-")
    ax.set_xlim(-0.5, explorer.width - 0.5)
    ax.set_ylim(explorer.height - 0.5, -0.5)
    ax.set_title(table("scan_explorer")["names"][explorer.orders[which]])


def _number_heads(ax: Axes, explorer: ScanExplorer, which: int) -> None:
    """Write the number of each head on it, where there are several; after `finish`, which sets one type size."""
    paths = explorer.paths(which)
    for k, path in enumerate(paths if len(paths) > 1 else []):
        row, column = divmod(int(path[min(explorer.step, len(path) - 1)]), explorer.width)
        ax.text(column, row, str(k + 1), ha="center", va="center", fontsize=11, fontweight="bold", zorder=9)


def _draw_sequence(ax: Axes, explorer: ScanExplorer, which: int) -> None:
    from mambaout_edu.plots.pictures import bare

    picture = explorer.pixels()
    pixels = plain_pixels(explorer.height, explorer.width) if picture is None else picture
    paths = explorer.paths(which)
    strip = np.full((len(paths), max(map(len, paths)), 3), BLANK, dtype=np.uint8)
    for k, path in enumerate(paths):
        read = path[: explorer.step + 1]
        strip[k, : len(read)] = pixels.reshape(-1, 3)[read]
    bare(ax)
    ax.imshow(strip, aspect="auto", interpolation="nearest")
    ax.set_title(text("scan_explorer", "strip"))
    found = explorer.locality(which)
    said = {
        "mean": f"{found.mean:.3g}",
        "p95": f"{found.p95:.3g}",
        "longest_jump": text("scan_explorer", "pixels", value=f"{found.longest_jump:.3g}"),
    }
    if len(paths) == 1:
        names = (f"{text('scan_explorer', key)} {value}" for key, value in said.items())
        ax.set_xlabel(text("scan_explorer", "separator").join(names))


def save_figure(explorer: ScanExplorer, path: str | os.PathLike[str], dpi: int) -> Path:
    """Save the current view as PNG or SVG; the file appears once it is whole."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path = Path(path)
    # Without date and program, equal views are equal files.
    metadata: dict[str, Any] = {".png": {"Software": None}, ".svg": {"Date": None}}
    if path.suffix.lower() not in metadata:
        raise ValueError(
            f"the file ends in {path.suffix!r}; expected .png or .svg (save_animation writes .gif and .mp4)"
        )
    fig = view_figure(explorer)
    FigureCanvasAgg(fig)
    beside = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        fig.savefig(beside, dpi=dpi, metadata=metadata[path.suffix.lower()])
        return beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
