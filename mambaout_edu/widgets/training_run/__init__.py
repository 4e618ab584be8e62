"""A training run, or several over each other: loss, accuracy, learning rate, speed, memory, and what happened."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import traitlets

from mambaout_edu.widgets._base import Widget
from mambaout_edu.widgets.training_run._course import Course
from mambaout_edu.widgets.training_run._tail import Tail

__all__ = ["TrainingRun"]

SECONDS_BETWEEN_MESSAGES = 0.5
SECONDS_BETWEEN_LOOKS = 1.0


class TrainingRun(Widget):
    """Show a run of `training.train`, while it goes on or afterwards, or several runs to compare.

    Give `on_log` to `train`, or let `from_folder` read the run's log: that needs nothing but the folder,
    so it also shows a run that another process makes, or one from before the kernel was restarted. A
    long run is thinned: of the steps that share a column of the picture, the lowest and the highest
    value and the mean loss are kept, at most 1,000 columns. The page is told at most twice a second.

    Parameters
    ----------
    names : list of str
        What the runs are called, for `on_log`; one run called "run" by default.
    log_scale : bool
        Draw the loss on a logarithmic axis.
    smoothing : float
        Weight of the past in the smoothed loss, from 0 (none) to 0.99.
    axis : str
        "step", or "epoch" to compare runs whose batches differ in size.
    clock : callable, optional
        Gives the time in seconds; another one than the real one is for tests.

    Raises
    ------
    TypeError
        For an unknown argument.
    ValueError
        For no name, or a name that is there twice.
    traitlets.TraitError
        For a smoothing outside 0 to 0.99, or another axis.

    Examples
    --------
    >>> from mambaout_edu.widgets import TrainingRun
    >>> view = TrainingRun()
    >>> view.on_log({"kind": "step", "step": 1, "epoch": 0.5, "loss": 2.3, "lr": 1e-3, "images_per_second": 90.0})
    >>> view.on_log({"kind": "eval", "step": 1, "epoch": 0.5, "correct": 45, "total": 50, "loss": 0.4})
    >>> view.on_log({"kind": "event", "step": 1, "what": "finished", "detail": ""})
    >>> view
    TrainingRun(run: finished at step 1)
    """

    strings_part = "training_run"
    modules = ("numbers.js", "panels.js", "words.js")

    # float32, little-endian, the rows of one run after the other's, so that a saved notebook holds them in few bytes
    points = traitlets.Bytes(b"").tag(sync=True)
    runs = traitlets.List(traitlets.Dict()).tag(sync=True)  # what Course.told says, in the order of the rows
    hidden = traitlets.List(traitlets.Unicode()).tag(sync=True)  # names of runs that are not drawn
    problem = traitlets.Unicode("").tag(sync=True)  # why a log cannot be read
    log_scale = traitlets.Bool(False).tag(sync=True)
    smoothing = traitlets.Float(0.9, min=0, max=0.99).tag(sync=True)
    axis = traitlets.Enum(["step", "epoch"], "step").tag(sync=True)
    read_at = traitlets.Float(-1.0).tag(sync=True)  # where the curves are read off, on the axis; -1 for the newest

    def __init__(
        self, names: list[str] | None = None, *, clock: Callable[[], float] = time.monotonic, **kwargs: Any
    ) -> None:
        self._stop = threading.Event()  # first of all: a widget that is refused is closed all the same
        names = ["run"] if names is None else list(names)
        if not names or len(set(names)) < len(names):
            raise ValueError(f"names is {names}, expected at least one name, each of them once")
        self._courses = {name: Course(name) for name in names}
        self._tails: dict[str, Tail] = {}
        self._clock, self._lock = clock, threading.RLock()
        self._sent = -math.inf
        self._timer: threading.Timer | None = None
        self._follower: threading.Thread | None = None
        super().__init__(**kwargs)
        self._show()

    @classmethod
    def from_folder(
        cls, folder: str | Path | Mapping[str, str | Path], *, follow: bool = False, **kwargs: Any
    ) -> TrainingRun:
        r"""Show the run of a folder, or the runs of several by the names they shall have.

        Parameters
        ----------
        folder
            A run's folder, or a mapping of names to such folders.
        follow
            Go on reading while the log grows, until every run has finished or `stop` is called; a folder
            that is not there yet is waited for. A run that is resumed is shown from its beginning again.
        **kwargs
            Further arguments of the class.

        Raises
        ------
        FileNotFoundError
            If a folder has no log, unless it is followed.
        ValueError
            If there is no folder, or a log was changed: a line of it is no JSON.

        Examples
        --------
        >>> import json, tempfile
        >>> folder = Path(tempfile.mkdtemp(), "first_try")
        >>> folder.mkdir()
        >>> line = {"kind": "step", "step": 1, "epoch": 0.5, "loss": 2.3, "lr": 1e-3, "images_per_second": 90.0}
        >>> _ = (folder / "log.jsonl").write_text(json.dumps(line) + "\n")
        >>> TrainingRun.from_folder(folder)
        TrainingRun(first_try: running at step 1)
        """
        folders = folder if isinstance(folder, Mapping) else {Path(folder).resolve().name: folder}
        view = cls(list(folders), **kwargs)
        view._tails = {name: Tail(path) for name, path in folders.items()}
        for tail in view._tails.values():
            if not follow and not tail.path.is_file():
                raise FileNotFoundError(
                    f"there is no {tail.path.name} in {str(tail.path.parent)!r}; expected the folder of a run, "
                    f"or follow=True for one that is about to begin"
                )
        view._look()
        view._show()
        if follow and not view._over():
            view._follower = threading.Thread(target=view._follow, name="training-run", daemon=True)
            view._follower.start()
        return view

    def __repr__(self) -> str:
        said = [f"{name}: {course.state} at step {course.step}" for name, course in self._courses.items()]
        return f"TrainingRun({', '.join(said)})"

    @property
    def following(self) -> bool:
        """Whether logs are still being read."""
        return self._follower is not None and self._follower.is_alive()

    def on_log(self, line: Mapping[str, Any], run: str | None = None) -> None:
        """Take in one line of a run's log: `train(..., on_log=view.on_log)`. May be called from any thread.

        A step that was there already cuts the curves back to it: a resumed run goes on from its checkpoint.

        Parameters
        ----------
        line
            As `training.run_log` describes it; a kind that is not known is passed over.
        run
            The name of the run, where there are several: `functools.partial(view.on_log, run="second")`.

        Raises
        ------
        ValueError
            If there is no run of that name, or several and none was named.
        """
        if run is None and len(self._courses) == 1:
            run = next(iter(self._courses))
        if run not in self._courses:
            raise ValueError(f"run is {run!r}, expected one of {', '.join(self._courses)}")
        with self._lock:
            self._courses[run].add(line)
        if line.get("kind") == "step":
            self._tell()
        else:
            self._show()

    def stop(self) -> None:
        """Stop following, and send what has not been sent. May be called twice."""
        self._stop.set()
        if self._follower is not None and self._follower is not threading.current_thread():
            self._follower.join()
        self._show()

    def close(self) -> None:
        """Stop following, and take the widget from every page."""
        self._stop.set()
        super().close()

    # --- reading ------------------------------------------------------------------------------------------------------

    def _over(self) -> bool:
        return all(self._courses[name].state == "finished" for name in self._tails)

    def _look(self) -> bool:
        """Read what the logs have that is new; return whether there was something."""
        some = False
        for name, tail in self._tails.items():
            lines, anew = tail.read()
            while lines or anew:
                with self._lock:
                    if anew:
                        self._courses[name].clear()
                    for line in lines:
                        self._courses[name].add(line)
                some = True
                lines, anew = tail.read()
        return some

    def _follow(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN_LOOKS) and not self._over():
            try:
                if self._look():
                    self._show()
            except OSError as error:  # a disk over the network may come back
                self.problem = str(error)
            except ValueError as error:
                self.problem = str(error)
                self._show()
                return
            else:
                self.problem = ""

    # --- telling the page ---------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Send now, or as soon as enough time has gone by: lines come in bursts, and the last one counts too."""
        with self._lock:
            wait = self._sent + SECONDS_BETWEEN_MESSAGES - self._clock()
            if wait <= 0:
                self._show()
            elif self._timer is None:
                self._timer = threading.Timer(wait, self._show)
                self._timer.daemon = True
                self._timer.start()

    def _show(self) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._sent = self._clock()
            with self.hold_sync():
                self.points = b"".join(course.tobytes() for course in self._courses.values())
                self.runs = [course.told() for course in self._courses.values()]
