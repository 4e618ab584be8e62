"""A picture read as a sequence, along one order or two, and what a state still remembers of it."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import traitlets
from numpy.typing import NDArray

from mambaout_edu import flatten
from mambaout_edu.flatten.checks import unknown_name
from mambaout_edu.flatten.orders import OPTIONS
from mambaout_edu.widgets._base import Widget
from mambaout_edu.widgets.scan_explorer._picture import LARGEST, as_pixels, resampled

__all__ = ["NAMES", "ScanExplorer"]

NAMES = (*(name for name in flatten.ORDERS if name not in flatten.PATHS), *flatten.PATHS)
"""What can be explored: the orders, and the strategies of several paths."""

RUN_SECONDS = 12  # how long a whole run takes where no speed is given


class ScanExplorer(Widget):
    """Watch an order read a picture: its heads, its sequence, how far apart it puts neighbours, what a state keeps.

    A state with decay exp(delta*A) per step holds each pixel with the weight decay**age, its age counted in steps:
    pixels are shown in full colour where the state holds them, dark where it has forgotten them, grey where they were
    not read yet. A strategy of several paths has a state for each; the one that holds most is shown. All of it is
    computed in the page from the definitions of `mambaout_edu.flatten`, also where there is no kernel.

    Parameters
    ----------
    image : array, PIL image or path, optional
        An array [H, W] or [H, W, C] (grey, RGB, RGBA; uint8, uint16, bool, or floats from 0 to 1) or a picture file;
        made smaller to at most 128 x 128. None shows a plain grid.
    orders : str or sequence
        One name or two, of `NAMES`, side by side.
    height, width : int
        Of the grid, 1 to 128; by default the picture's, or 16 x 16.
    step : int
        The step that has just been read, counted from 0. Beyond the end it is the last one.
    playing : bool
        Whether the page plays. Where the reader asked for less motion it does not start by itself.
    speed : float
        Steps a second, 1 to 8192; by default a whole run takes 12 seconds.
    decay : float
        exp(delta*A) of a step, above 0 to 1.
    cursor : sequence
        The chosen pixel as (row, column); empty for none.
    window, skip, seed : int
        Options of the orders window, atrous and random.
    base : str
        The order that bidirectional reads both ways.

    Raises
    ------
    TypeError
        For an unknown argument, or an image that is none.
    ValueError
        For an unknown order, with the nearest one, or a picture that is empty, broken or out of range.
    traitlets.TraitError
        For a number out of range, no order or more than two, or a cursor outside the grid.

    Examples
    --------
    >>> from mambaout_edu.widgets import ScanExplorer
    >>> explorer = ScanExplorer(orders=("raster", "hilbert"), height=8, width=8, step=20)
    >>> explorer
    ScanExplorer(orders=['raster', 'hilbert'], height=8, width=8, step=20, decay=0.9)
    >>> explorer.locality(1).unit_steps
    1.0
    >>> explorer.memory(0).shape
    (8, 8)
    """

    strings_part = "scan_explorer"
    repr_traits = ("orders", "height", "width", "step", "decay")
    modules = ("orders.js", "paint.js", "panel.js")

    orders = traitlets.List(default_value=["raster"]).tag(sync=True)
    height = traitlets.Int(16, min=1, max=LARGEST).tag(sync=True)
    width = traitlets.Int(16, min=1, max=LARGEST).tag(sync=True)
    step = traitlets.Int(0, min=0).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    speed = traitlets.Float(16.0, min=1.0, max=8192.0).tag(sync=True)
    decay = traitlets.Float(0.9, max=1.0).tag(sync=True)
    cursor = traitlets.List(default_value=[]).tag(sync=True)
    window = traitlets.Int(2, min=1, max=LARGEST).tag(sync=True)
    skip = traitlets.Int(2, min=1, max=LARGEST).tag(sync=True)
    seed = traitlets.Int(0, min=0, max=2**32 - 1).tag(sync=True)
    base = traitlets.Unicode("raster").tag(sync=True)
    # rgb bytes, row by row; a picture chosen in the page arrives as a view of a message's buffer
    picture = traitlets.Bytes(b"").tag(sync=True, from_json=lambda value, widget: bytes(value))
    picture_size = traitlets.List(default_value=[]).tag(sync=True)  # its rows and columns

    def __init__(self, image: Any = None, orders: str | Sequence[str] = ("raster",), **kwargs: Any) -> None:
        if image is not None:
            pixels = as_pixels(image)
            kwargs |= {"picture": pixels.tobytes(), "picture_size": list(pixels.shape[:2])}
            kwargs = {"height": pixels.shape[0], "width": pixels.shape[1]} | kwargs
        super().__init__(orders=[orders] if isinstance(orders, str) else list(orders), **kwargs)
        if "speed" not in kwargs:
            self.speed = max(4.0, float(round(self.height * self.width / RUN_SECONDS)))

    @property
    def half_life(self) -> float:
        """Steps after which the state holds half of a pixel; infinite where nothing is forgotten."""
        return math.log(0.5) / math.log(self.decay) if self.decay < 1 else math.inf

    def set_image(self, image: Any) -> None:
        """Show another picture, or None for the plain grid; height and width stay. Errors are those of the class."""
        pixels = None if image is None else as_pixels(image)
        with self.hold_sync():
            self.picture = b"" if pixels is None else pixels.tobytes()
            self.picture_size = [] if pixels is None else list(pixels.shape[:2])

    def pixels(self) -> NDArray[np.uint8] | None:
        """Return the picture on the grid, uint8 [height, width, 3]; None for the plain grid."""
        if len(self.picture_size) != 2:
            return None
        source = np.frombuffer(self.picture, dtype=np.uint8).reshape(*self.picture_size, 3)
        return resampled(source, self.height, self.width)

    def paths(self, which: int = 0) -> list[NDArray[np.int64]]:
        """Return the paths of the first (0) or second (1) order, as `mambaout_edu.flatten.paths` gives them."""
        name = self._name(which)
        base = self.base if name == "bidirectional" else name
        options: dict[str, Any] = {option: getattr(self, option) for option in OPTIONS.get(base, ())}
        if name == "bidirectional":
            options["order"] = base
        return flatten.paths(name, self.height, self.width, **options)

    def memory(self, which: int = 0) -> NDArray[np.float64]:
        """Return the weight of every pixel in the state at `step`, [height, width]; of several states the largest."""
        cells = self.height * self.width
        weights = np.zeros(cells)
        for path in self.paths(which):
            end = min(self.step, len(path) - 1)
            read = path[: end + 1]
            weights[read] = np.maximum(weights[read], self.decay ** np.arange(end, -1, -1.0))
        return weights.reshape(self.height, self.width)

    def locality(self, which: int = 0, path: int = 0) -> flatten.Locality:
        """Return how local a path of the first (0) or second (1) order is; see `mambaout_edu.flatten.locality`.

        The groups of atrous visit a part of the grid each: there it is that of the groups one after the other.
        """
        return flatten.locality(self._whole(which, path), self.height, self.width)

    def save(self, path: str | os.PathLike[str], *, dpi: int = 100) -> Path:
        """Save the current view as a figure, PNG or SVG by the file's ending, and return its path.

        Raises ValueError for another ending. The file appears once it is whole.
        """
        from mambaout_edu.widgets.scan_explorer._export import save_figure

        return save_figure(self, path, dpi)

    def save_animation(
        self, path: str | os.PathLike[str], *, which: int = 0, route: int = 0, fps: int = 15, frames: int = 150
    ) -> Path:
        """Save the scan of one order as a GIF, or an MP4 where ffmpeg is found, and return the file's path.

        Parameters
        ----------
        path
            Ends in .gif or .mp4.
        which
            The first (0) or the second (1) order.
        route
            Which of its paths, where it has several; the groups of atrous are read one after the other.
        fps
            Frames a second.
        frames
            At most so many; a longer scan takes several steps a frame.

        Raises
        ------
        ValueError
            For another ending, or an order or path that is not there.
        RuntimeError
            If an MP4 is asked for and ffmpeg is not found.
        """
        from mambaout_edu.plots import save_order_animation
        from mambaout_edu.widgets.scan_explorer._export import plain_pixels

        pixels = self.pixels()
        if pixels is None:
            pixels = plain_pixels(self.height, self.width)
        order = self._whole(which, route)
        return save_order_animation(
            path, order, self.height, self.width, pixels, decay=self.decay, fps=fps, frames=frames
        )

    def _whole(self, which: int, path: int) -> NDArray[np.int64]:
        """Return one path of an order that visits every pixel."""
        found = self.paths(which)
        if not 0 <= path < len(found):
            raise ValueError(f"path is {path}; {self._name(which)!r} has paths 0 to {len(found) - 1}")
        return np.concatenate(found) if self._name(which) == "atrous" else found[path]

    def _name(self, which: int) -> str:
        if not 0 <= which < len(self.orders):
            shown = ", ".join(f"{k} for {name!r}" for k, name in enumerate(self.orders))
            raise ValueError(f"which is {which!r}; this explorer has {shown}")
        return self.orders[which]

    def _last(self) -> int:
        """Return the last step of the longest path."""
        coarse = math.ceil(self.height / self.skip) * math.ceil(self.width / self.skip)
        return max(coarse if name == "atrous" else self.height * self.width for name in self.orders) - 1

    @traitlets.validate("orders")
    def _known_orders(self, proposal: dict[str, Any]) -> list[str]:
        names = list(proposal["value"])
        if not 1 <= len(names) <= 2:
            raise traitlets.TraitError(f"the explorer shows one order or two side by side; got {len(names)}")
        for name in names:
            if name not in NAMES:
                raise unknown_name("order", name, NAMES)
        return names

    @traitlets.validate("base")
    def _known_base(self, proposal: dict[str, Any]) -> str:
        if proposal["value"] not in flatten.ORDERS:
            raise unknown_name("order", proposal["value"], flatten.ORDERS)
        return str(proposal["value"])

    @traitlets.validate("decay")
    def _not_zero(self, proposal: dict[str, Any]) -> float:
        decay = float(proposal["value"])
        if not decay > 0:
            raise traitlets.TraitError(f"decay is {decay:g}; expected exp(delta*A), above 0 and up to 1")
        return decay

    @traitlets.validate("step")
    def _up_to_the_end(self, proposal: dict[str, Any]) -> int:
        return min(int(proposal["value"]), self._last())

    @traitlets.validate("cursor")
    def _on_the_grid(self, proposal: dict[str, Any]) -> list[int]:
        cursor = list(proposal["value"])
        inside = len(cursor) == 2 and all(isinstance(at, int | np.integer) for at in cursor)
        inside = inside and 0 <= cursor[0] < self.height and 0 <= cursor[1] < self.width
        if cursor and not inside:
            raise traitlets.TraitError(
                f"cursor is {tuple(cursor)!r}; expected (row, column) on the grid of {self.height} x {self.width} "
                "pixels, counted from 0, or () for none"
            )
        return [int(at) for at in cursor]

    @traitlets.observe("orders", "height", "width", "skip")
    def _stay_inside(self, change: Any) -> None:
        with self.hold_sync():
            self.step = min(self.step, self._last())
            if self.cursor and not (self.cursor[0] < self.height and self.cursor[1] < self.width):
                self.cursor = []
