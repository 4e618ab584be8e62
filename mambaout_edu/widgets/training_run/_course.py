"""One run as its log tells it, in bounded room however long it is."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Mapping
from typing import Any

from mambaout_edu.training.evaluation import wilson_interval

__all__ = ["COLUMNS", "Course"]

COLUMNS = (
    *("step", "epoch", "loss_low", "loss_high", "loss", "lr_low", "lr_high", "speed_low", "speed_high"),
    *("seconds_left", "gpu_memory"),
)
ENDS = {"finished": "finished", "stopped": "stopped", "nan": "nan", "resumed": "running"}
PATIENCE = 120.0  # seconds without a line after which a run is no longer called running, at least


class Column:
    """The steps that share a column of pixels: their lowest and highest values, and the mean loss."""

    __slots__ = ("count", "epoch", "highs", "index", "left", "lows", "memory", "step", "total")

    def __init__(self, index: int) -> None:
        self.index, self.step, self.epoch = index, 0, math.nan
        self.lows, self.highs = [math.inf] * 3, [-math.inf] * 3  # loss, learning rate, images per second
        self.total, self.count = 0.0, 0
        self.left = self.memory = math.nan

    def add(self, line: Mapping[str, Any]) -> None:
        """Take in the line of one step."""
        self.step, self.epoch = line["step"], _number(line.get("epoch"))
        loss = _number(line.get("loss"))
        values = (loss, _number(line.get("lr")), _number(line.get("images_per_second")))
        for i, value in enumerate(values):
            if value < self.lows[i]:  # never so for NaN
                self.lows[i] = value
            if value > self.highs[i]:
                self.highs[i] = value
        if loss == loss:
            self.total += loss
            self.count += 1
        self.left = _number(line.get("seconds_left"))
        memory = _number(line.get("gpu_memory"))
        if not memory <= self.memory:
            self.memory = memory

    def merge(self, later: Column) -> None:
        """Take in the column that comes after this one."""
        self.step, self.epoch, self.left = later.step, later.epoch, later.left
        self.lows = [min(pair) for pair in zip(self.lows, later.lows, strict=True)]
        self.highs = [max(pair) for pair in zip(self.highs, later.highs, strict=True)]
        self.total, self.count = self.total + later.total, self.count + later.count
        self.memory = max((m for m in (self.memory, later.memory) if m == m), default=math.nan)

    def row(self) -> tuple[float, ...]:
        """Return the numbers of `COLUMNS`, NaN where nothing is known."""
        pairs = zip(self.lows, self.highs, strict=True)
        loss, lr, speed = ((low, high) if low <= high else (math.nan, math.nan) for low, high in pairs)
        mean = self.total / self.count if self.count else math.nan
        return (self.step, self.epoch, *loss, mean, *lr, *speed, self.left, self.memory)


class Course:
    """The course of a run: curves in columns of equally many steps, measurements, events and the state.

    When the columns are full, two become one. What is kept depends on the lines alone, so a run that was
    watched and one that is read afterwards look the same.

    Parameters
    ----------
    name : str
        What the run is called in the picture.
    capacity : int
        The most columns, and the most measurements; at least 4.

    Examples
    --------
    >>> course = Course("a run", capacity=4)
    >>> for step in range(1, 11):
    ...     course.add({"kind": "step", "step": step, "epoch": step / 5, "loss": 1 / step, "lr": 0.1})
    >>> course.width, [column.step for column in course.columns]
    (4, [4, 8, 10])
    """

    def __init__(self, name: str, capacity: int = 1000) -> None:
        if capacity < 4:
            raise ValueError(f"capacity={capacity}, expected room for at least 4 columns")
        self.name, self.capacity = name, capacity
        self.clear()

    def clear(self) -> None:
        """Forget everything, for a log that is read anew."""
        self.width, self.columns = 1, list[Column]()
        self.run: Mapping[str, Any] = {}
        self.evals: list[
            tuple[int, float | None, float, float, float, float | None]
        ] = []  # step, epoch, accuracy, low, high, loss
        self.events: list[dict[str, Any]] = []
        self.state, self.step = "waiting", 0
        self._time, self._gap = math.nan, 0.0  # of the newest step, and the longest between two

    def add(self, line: Mapping[str, Any]) -> None:
        """Take in one line of a log; a step that was there already cuts the course back to it."""
        kind = line.get("kind")
        if kind == "run":
            if self.step:  # another run, in the place of this one
                self.clear()
            self.run = line
        elif kind == "step":
            self._add_step(line)
        elif kind == "eval":
            self._add_eval(line)
        elif kind == "event":
            self._add_event(line)

    def tobytes(self) -> bytes:
        """Return the rows of `COLUMNS`, little-endian float32."""
        rows = array("f", (number for column in self.columns for number in column.row()))
        if sys.byteorder == "big":  # pragma: no cover
            rows.byteswap()
        return rows.tobytes()

    def told(self) -> dict[str, Any]:
        """Return all but the curves, as JSON can hold it."""
        return {
            "name": self.name, "rows": len(self.columns), "width": self.width, "state": self.state,
            "total_steps": self.run.get("total_steps"), "updates_per_epoch": self.run.get("updates_per_epoch"),
            "model": self.run.get("model"), "data": self.run.get("data"), "device": self.run.get("device"),
            "newest": None if math.isnan(self._time) else self._time, "patience": max(PATIENCE, 3 * self._gap),
            "evals": list(self.evals), "events": [dict(event) for event in self.events],
        }  # fmt: skip

    def _add_step(self, line: Mapping[str, Any]) -> None:
        step = line["step"]
        if step <= self.step:
            self._cut(step)
        index = (step - 1) // self.width
        if not self.columns or self.columns[-1].index != index:
            if len(self.columns) == self.capacity:
                self._halve()
                index = (step - 1) // self.width
            if not self.columns or self.columns[-1].index != index:
                self.columns.append(Column(index))
        self.columns[-1].add(line)
        now = _number(line.get("time"))
        if now > self._time:
            self._gap = max(self._gap, now - self._time)
        self._time, self.step, self.state = now, step, "running"

    def _add_eval(self, line: Mapping[str, Any]) -> None:
        low, high = wilson_interval(line["correct"], line["total"])
        accuracy = line["correct"] / line["total"]
        self.evals.append((line["step"], _finite(line.get("epoch")), accuracy, low, high, _finite(line.get("loss"))))
        if len(self.evals) > self.capacity:
            self.evals = self.evals[1::2]  # the newest stays

    def _add_event(self, line: Mapping[str, Any]) -> None:
        what, step = line["what"], line["step"]
        if what == "resumed":
            self._cut(step + 1)
            self._time = math.nan  # the pause before it is no gap
        last = next((event for event in reversed(self.events) if event["what"] == what), None)
        if what == "bad_image" and last is not None and last["step"] // self.width == step // self.width:
            last.update(step=step, detail=str(line.get("detail", "")), count=last["count"] + 1)
        else:
            self.events.append({"step": step, "what": what, "detail": str(line.get("detail", "")), "count": 1})
        if what in ENDS:
            self.state = ENDS[what]

    def _halve(self) -> None:
        self.width *= 2
        kept: list[Column] = []
        for column in self.columns:
            column.index //= 2
            if kept and kept[-1].index == column.index:
                kept[-1].merge(column)
            else:
                kept.append(column)
        self.columns = kept
        self._join_events()

    def _join_events(self) -> None:
        """Count the bad images of one column together."""
        kept: dict[tuple[int, int], dict[str, Any]] = {}
        for i, event in enumerate(self.events):
            key = (event["step"] // self.width, -1 if event["what"] == "bad_image" else i)
            count = kept[key]["count"] if key in kept else 0
            kept[key] = {**event, "count": event["count"] + count}
        self.events = list(kept.values())

    def _cut(self, step: int) -> None:
        """Forget what came from this step on: the run goes on from before it."""
        # A column that reaches beyond the cut goes as a whole, so that no step is counted twice.
        self.columns = [column for column in self.columns if column.step < step]
        self.evals = [found for found in self.evals if found[0] < step]
        self.events = [event for event in self.events if event["step"] < step]
        self.step = min(self.step, step - 1)


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) and math.isfinite(value) else math.nan


def _finite(value: Any) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None
