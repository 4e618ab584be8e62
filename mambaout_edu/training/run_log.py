"""What happened in a run, one JSON object a line: a line for every update, every measurement and every event.

    {"kind": "run", "model": ..., "total_steps": ..., "started": ...}
    {"kind": "step", "step": 1, "epoch": 0.05, "loss": 2.3, "lr": 1e-4, ...}
    {"kind": "eval", "step": 21, "accuracy": 0.9, "correct": 405, "total": 450, ...}
    {"kind": "event", "step": 21, "what": "resumed", "detail": ...}

A run that goes on from a checkpoint first cuts its log back to that step: no update is missing, none is there twice.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

__all__ = ["Log", "RunLog", "read_log"]

NAME = "log.jsonl"
Line = dict[str, Any]


@dataclass(repr=False)
class Log:
    """The lines of a log by kind.

    Attributes
    ----------
    run
        What was begun; empty where nothing was written yet.
    steps, evals, events
        In the order of the run.
    """

    run: Line = field(default_factory=dict)
    steps: list[Line] = field(default_factory=list)
    evals: list[Line] = field(default_factory=list)
    events: list[Line] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Log({len(self.steps)} steps, {len(self.evals)} evaluations, {len(self.events)} events)"

    def add(self, line: Line) -> None:
        """Take one line in; a kind that is not known is passed over."""
        kind = line.get("kind")
        if kind == "run":
            self.run = line
        elif kind in ("step", "eval", "event"):
            {"step": self.steps, "eval": self.evals, "event": self.events}[kind].append(line)


def read_log(folder: Path | str) -> Log:
    """Return the log of a run; a last line that was cut short is left out.

    Raises FileNotFoundError where there is none, ValueError for a broken line that is not the last one.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        raise FileNotFoundError(f"there is no {NAME} in {str(folder)!r}; expected the folder of a run")
    log = Log()
    for line in _lines(path):
        log.add(line)
    return log


class RunLog:
    """The log of a run that is being written.

    Parameters
    ----------
    folder
        Of the run.
    resume_at
        Cut the log back to this step, and go on after it; None begins a new one.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> log = RunLog(folder)
    >>> log.write({"kind": "step", "step": 1, "loss": 2.0})
    >>> log.write({"kind": "step", "step": 2, "loss": 1.0})
    >>> log.close()
    >>> again = RunLog(folder, resume_at=1)
    >>> again.log
    Log(1 steps, 0 evaluations, 0 events)
    >>> again.close()
    """

    def __init__(self, folder: Path, resume_at: int | None = None) -> None:
        self.path = folder / NAME
        self.log = Log()
        if resume_at is not None:
            kept = [line for line in _lines(self.path) if line["kind"] == "run" or line["step"] <= resume_at]
            for line in kept:
                self.log.add(line)
            _check_whole(self.log.steps, resume_at, self.path)
            beside = self.path.with_name(f"{NAME}.part")
            beside.write_text("".join(_text(line) for line in kept), encoding="utf-8")
            beside.replace(self.path)
        elif self.path.exists():
            raise FileExistsError(f"{str(self.path)!r} is there already; resume that run, or choose another folder")
        self._file: IO[str] = self.path.open("a", encoding="utf-8")

    def write(self, line: Line) -> None:
        """Append one line."""
        self._file.write(_text(line))
        self.log.add(line)

    def flush(self) -> None:
        """Force what was written to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Force what was written to the disk, and let go of the file."""
        if not self._file.closed:
            self.flush()
            self._file.close()


def _check_whole(steps: list[Line], last: int, path: Path) -> None:
    if [line["step"] for line in steps] != list(range(1, last + 1)):
        raise ValueError(
            f"{str(path)!r} does not have every step from 1 to {last} once, as it was written; it was changed since. "
            "Begin a new run, or bring the file back"
        )


def _text(line: Line) -> str:
    # JSON has no word for what is infinite or undefined.
    known = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
    return json.dumps(known, ensure_ascii=False, allow_nan=False) + "\n"


def _lines(path: Path) -> list[Line]:
    text = path.read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]  # a line that is being written, or was cut short, is no line yet
    found = []
    for number, line in enumerate(whole.split("\n")[:-1], 1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"line {number} of {str(path)!r} is no JSON ({error}); the file was changed") from error
    return found
