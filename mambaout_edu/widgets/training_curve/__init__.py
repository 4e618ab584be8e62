"""The loss of a running training, drawn while it runs."""

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import traitlets

from mambaout_edu.widgets._base import Widget
from mambaout_edu.widgets.training_curve._series import Series

__all__ = ["TrainingCurve"]

SECONDS_BETWEEN_MESSAGES = 0.2


class TrainingCurve(Widget):
    """Draw loss against step, with a smoothed line, and accuracy below it, as training goes on.

    Display it, then call `update` at every step, `mark` where accuracy was measured, and `finish`
    at the end. The page is told at most five times a second; `finish` always sends what is left.
    Beyond 4,000 steps the curve keeps one step in two, four, and so on, so its size stays bounded.
    The methods may be called from any thread.

    Parameters
    ----------
    total : int
        The number of steps that are planned, for the axis; 0 where it is not known.
    log_scale : bool
        Draw the loss on a logarithmic axis.
    smoothing : float
        Weight of the past in the smoothed line, from 0 (none) to 0.99.
    clock : callable, optional
        Gives the time in seconds; another one than the real one is for tests.

    Raises
    ------
    TypeError
        For an unknown name.
    traitlets.TraitError
        For a smoothing outside 0 to 0.99, or a negative total.

    Examples
    --------
    >>> from mambaout_edu.widgets import TrainingCurve
    >>> curve = TrainingCurve(total=3)
    >>> for step, loss in enumerate([2.3, 1.1, 0.6]):
    ...     curve.update(step, loss)
    >>> curve.mark(2, accuracy=0.91)
    >>> curve.finish()
    >>> curve
    TrainingCurve(steps=3, marks=1, running=False)
    """

    strings_prefix = "curve."

    # float32, little-endian, so that a saved notebook holds the curve in few bytes
    points = traitlets.Bytes(b"").tag(sync=True)  # rows of step, loss, learning rate (NaN where none)
    accuracies = traitlets.Bytes(b"").tag(sync=True)  # rows of step, accuracy from 0 to 1
    stride = traitlets.Int(1).tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)
    total = traitlets.Int(0, min=0).tag(sync=True)
    log_scale = traitlets.Bool(False).tag(sync=True)
    smoothing = traitlets.Float(0.9, min=0, max=0.99).tag(sync=True)
    read_step = traitlets.Int(-1).tag(sync=True)  # the step that is read off, -1 for the newest

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, **kwargs: Any) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._points, self._marks = Series(columns=3), Series(columns=2)
        self._last_step, self._last_sent = -1, -math.inf
        super().__init__(**kwargs)

    def __repr__(self) -> str:
        return f"TrainingCurve(steps={self._last_step + 1}, marks={len(self._marks)}, running={self.running})"

    def update(self, step: int, loss: float, lr: float | None = None) -> None:
        """Add the loss of one step, and its learning rate where there is one.

        A loss that is not finite is drawn as a gap. Raises ValueError for a step that is negative or
        does not come after the last one.
        """
        with self._lock:
            if step <= self._last_step:
                raise ValueError(
                    f"step {step} came after step {self._last_step}, expected steps that grow from 0 on. "
                    f"Use a new TrainingCurve, or clear(), for a new training"
                )
            self._last_step = int(step)
            self._points.append(step, float(loss), math.nan if lr is None else float(lr))
            if self._clock() - self._last_sent >= SECONDS_BETWEEN_MESSAGES:
                self._tell(running=True)

    def mark(self, step: int, accuracy: float) -> None:
        """Add an accuracy, from 0 to 1, that was measured after a step. Raises ValueError outside 0 to 1."""
        if not 0 <= accuracy <= 1:
            raise ValueError(f"accuracy is {accuracy}, expected a share from 0 to 1; divide a percentage by 100")
        with self._lock:
            self._marks.append(step, float(accuracy))
            self._tell(running=self.running)

    def finish(self) -> None:
        """Send what has not been sent, and say that training is over. May be called twice."""
        with self._lock:
            self._tell(running=False)

    def clear(self) -> None:
        """Forget the curve, for a training that starts anew."""
        with self._lock:
            self._points.clear()
            self._marks.clear()
            self._last_step, self._last_sent = -1, -math.inf
            self.read_step = -1
            self._tell(running=False)

    def _tell(self, running: bool) -> None:
        self._last_sent = self._clock()
        with self.hold_sync():
            self.points, self.accuracies = self._points.tobytes(), self._marks.tobytes()
            self.stride, self.running = self._points.stride, running
