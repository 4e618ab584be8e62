"""A scan as a moving picture: the head walks over the grid, the sequence grows, and the state forgets."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from tqdm.auto import tqdm

from .. import flatten
from ..flatten.checks import check_whole
from ..strings import text
from .pictures import bare
from .style import COLOURS, INK, MUTED, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["save_order_animation"]

_DIM = 0.15  # what a forgotten pixel keeps of its brightness, so that the picture can still be seen


def save_order_animation(
    path: str | os.PathLike[str],
    order: str | npt.ArrayLike,
    height: int,
    width: int,
    image: npt.NDArray[Any] | None = None,
    *,
    decay: float = 0.9,
    fps: int = 15,
    frames: int = 150,
    dpi: int = 72,
) -> Path:
    """Save a scan as an animated GIF or an MP4: head, sequence, and what a decaying state remembers.

    Pixels are as bright as their weight in the state; those to come are dim. The file appears once it is whole.

    Parameters
    ----------
    path
        Ends in .gif or .mp4; the latter needs the program ffmpeg.
    order
        A name of `flatten.ORDERS`, or row-major indices [H*W].
    height, width
        Of the grid.
    image
        The picture that is read, one pixel a cell: [H, W], [H, W, 3] or [H, W, 4], whole numbers up to 255 or
        fractions up to 1. Without one the cells are white.
    decay
        Share of the state that is left after one step, above 0 and up to 1.
    fps
        Frames a second, 1 to 50.
    frames
        At most so many; a longer scan takes several steps a frame.
    dpi
        Pixels per inch; the figure is 6 inches wide.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If the file's ending, a number, the order or the picture's size does not fit.
    TypeError
        If fps or frames is no whole number.
    RuntimeError
        If an MP4 is asked for and ffmpeg is not found.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save_order_animation(f"{folder}/scan.gif", "hilbert", 4, 4).name
    'scan.gif'
    """
    path = Path(path)
    writer = _writer(path.suffix.lower(), fps)
    check_whole("frames", frames, 1)
    index = (
        flatten.order(order, height, width) if isinstance(order, str) else flatten.check_order(order, height * width)
    )
    pixels = _colours(image, height, width)
    steps = np.unique(np.linspace(0, len(index) - 1, min(frames, len(index))).round().astype(int))
    fig, update = _stage(index, pixels, decay, order if isinstance(order, str) else "")
    FigureCanvasAgg(fig).draw()
    fig.set_layout_engine("none")  # one layout serves all frames
    beside = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        _draw(writer, fig, beside, dpi, steps, update)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def _draw(writer: Any, fig: Figure, file: Path, dpi: int, steps: npt.NDArray[Any], update: Any) -> None:
    writer.setup(fig, str(file), dpi)
    try:
        for step in tqdm(steps, desc=file.name, unit="frame", leave=False, disable=not sys.stderr.isatty()):
            update(int(step))
            writer.grab_frame()
    except BaseException:
        with contextlib.suppress(Exception):  # a writer without frames fails to close; what stopped it counts
            writer.finish()
        raise
    writer.finish()


def _writer(ending: str, fps: int) -> Any:
    check_whole("fps", fps, 1, 50)  # browsers slow down GIFs that are quicker
    if ending == ".gif":
        return PillowWriter(fps=fps)
    if ending != ".mp4":
        raise ValueError(f"the file ends in {ending!r}; expected .gif or .mp4")
    if not FFMpegWriter.isAvailable():
        raise RuntimeError("an MP4 needs the program ffmpeg, which is not found; install it, or save a .gif")
    return FFMpegWriter(fps=fps, extra_args=["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p"])


def _colours(image: npt.NDArray[Any] | None, height: int, width: int) -> npt.NDArray[np.float64]:
    """Return the picture as fractions [H, W, 3]."""
    if image is None:
        return np.ones((height, width, 3))
    pixels = np.asarray(image)
    if pixels.shape[:2] != (height, width) or pixels.shape[2:] not in ((), (1,), (3,), (4,)):
        raise ValueError(
            f"image has shape {pixels.shape}; expected [{height}, {width}], or the same with 3 or 4 colours; resize it"
        )
    fractions = pixels / 255 if pixels.dtype.kind in "iu" else pixels.astype(np.float64)
    fractions = fractions[..., None] if fractions.ndim == 2 else fractions[..., :3]
    return np.broadcast_to(np.clip(fractions, 0, 1), (height, width, 3)).astype(np.float64)


def _stage(
    index: npt.NDArray[np.int64], pixels: npt.NDArray[np.float64], decay: float, name: str
) -> tuple[Figure, Any]:
    height, width = pixels.shape[:2]
    fig, axes = new_figure(6, 1.9 + 5.4 * min(height / width, 1.6), rows=2)
    grid, strip = axes[:, 0]
    axes[0, 0].get_gridspec().set_height_ratios([12, 1])
    for ax in (grid, strip):
        bare(ax)
        ax.spines[:].set(visible=True, color=MUTED)
    shown = grid.imshow(pixels, interpolation="nearest")
    rows, columns = np.divmod(index, width)
    way = np.stack([columns, rows], axis=1).astype(float)
    segments = np.stack([way[:-1], way[1:]], axis=1)
    trail = LineCollection([], colors=COLOURS[0], linewidths=float(np.clip(40 / width, 0.8, 2.5)))
    grid.add_collection(trail)
    (head,) = grid.plot(*way[0], marker="o", markersize=10, color=COLOURS[3], markeredgecolor=INK, linestyle="")
    sequence = pixels.reshape(-1, 3)[index]
    read = strip.imshow(sequence[None], aspect="auto", interpolation="nearest")
    grid.set_title(text("orders", "step_of", name=name, step=len(index), steps=len(index)))
    strip.set_xlabel(text("orders", "decay_key", decay=f"{decay:g}"))
    finish(fig)

    def update(step: int) -> None:
        weights = flatten.memory_map(index, height, width, step, decay)[..., None]
        shown.set_data(pixels * (_DIM + (1 - _DIM) * weights))
        trail.set_segments(list(segments[max(0, step - 4 * width) : step]))
        head.set_data([way[step, 0]], [way[step, 1]])
        known = np.arange(len(index)) <= step
        read.set_data(np.where(known[:, None], sequence, 1.0)[None])
        grid.set_title(text("orders", "step_of", name=name, step=step + 1, steps=len(index)), fontsize=14, color=INK)

    update(0)
    return fig, update
