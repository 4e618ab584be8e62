"""The card of a run: what was trained, how, on what, and how it went, on one page, as JSON and as a picture."""

from __future__ import annotations

import datetime
import itertools
import json
import math
import os
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..models import create_model
from .evaluation import wilson_interval

__all__ = ["run_card"]

_POINTS = 400  # of a curve on the card; the log has them all
Line = Mapping[str, Any]


def run_card(folder: str | os.PathLike[str], *, picture: bool | None = None) -> dict[str, Any]:
    """Write the card of a run, `card.json` and `card.png`, into its folder, and return what it says.

    A run may be finished, stopped or still going on; the card says which.

    Parameters
    ----------
    folder
        Of the run, with `run.json`, `recipe.json` and `log.jsonl`.
    picture
        Draw the picture; None draws it where matplotlib is installed.

    Returns
    -------
    dict
        `model`, `model_options`, `parameters`, `data`, `classes`, `recipe`, `device`, `versions`, `command`,
        `started`; `state` ("finished", "stopped" or "unfinished"), `steps`, `total_steps`, `epochs`, `seconds`,
        `images_per_second` (median), `gpu_memory` (highest, bytes), `events` (how often); `final` and `best` accuracy
        with the 95 % interval; `curves` of at most 400 points, and all `evaluations`.

    Raises
    ------
    FileNotFoundError
        If the folder holds no run.
    ValueError
        If no step was logged yet.
    ImportError
        If a picture is asked for and matplotlib is missing.
    """
    from .run_log import read_log

    folder = Path(folder)
    about, recipe = _read(folder, "run.json"), _read(folder, "recipe.json")
    log = read_log(folder)
    if not log.steps:
        raise ValueError(f"the run in {str(folder)!r} has logged no step yet; wait for the first, or resume it")
    card = {
        **{key: about.get(key) for key in ("model", "model_options", "data", "device", "versions", "command")},
        "parameters": _parameters(about),
        "classes": len(about["classes"]),
        "started": _as_date(about.get("started")),
        "recipe": recipe,
        **_course(log.run, log.steps, log.events),
        **_accuracies(log.evals),
        "curves": _curves(log.steps),
    }
    _write(folder / "card.json", (json.dumps(card, indent=1) + "\n").encode())
    if picture is not False:
        _draw(folder, card, needed=picture is True)
    return card


def _read(folder: Path, name: str) -> dict[str, Any]:
    file = folder / name
    if not file.is_file():
        raise FileNotFoundError(f"{str(folder)!r} is not the folder of a run: it has no {name}")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _parameters(about: Line) -> int | None:
    if about.get("model") is None:
        return None
    import torch

    with torch.device("meta"):
        model = create_model(about["model"], **about["model_options"])
    return sum(p.numel() for p in model.parameters())


def _course(run: Line, steps: Sequence[Line], events: Sequence[Line]) -> dict[str, Any]:
    """Say how far the run came, how long it took and how quick it was."""
    last = steps[-1]
    what = Counter(str(event["what"]) for event in events)
    total = run.get("total_steps")
    finished = what["finished"] > 0 or last["step"] == total
    ended = next((event["what"] for event in reversed(events) if event["what"] in ("stopped", "nan", "resumed")), None)
    state = "finished" if finished else "stopped" if ended in ("stopped", "nan") else "unfinished"
    memory = [step["gpu_memory"] for step in steps if step.get("gpu_memory")]
    return {
        "state": state,
        "steps": last["step"],
        "total_steps": total,
        "epochs": last["epoch"],
        "seconds": _seconds(run, steps, {event["step"] for event in events if event["what"] == "resumed"}),
        "images_per_second": statistics.median(step["images_per_second"] for step in steps),
        "gpu_memory": max(memory, default=None),
        "events": dict(what),
    }


def _seconds(run: Line, steps: Sequence[Line], resumed_after: set[int]) -> float:
    """Add up the time between the steps, but for the pauses before a run was resumed."""
    first = steps[0]["time"] - run["started"] if run.get("started") is not None else 0.0
    pairs = itertools.pairwise(steps)
    return max(0.0, first) + sum(b["time"] - a["time"] for a, b in pairs if a["step"] not in resumed_after)


def _accuracies(evals: Sequence[Line]) -> dict[str, Any]:
    found = [{**line, "interval": list(wilson_interval(line["correct"], line["total"]))} for line in evals]
    best = max(found, key=lambda line: (line["correct"] / line["total"], line["step"]), default=None)
    return {"final": found[-1] if found else None, "best": best, "evaluations": found}


def _curves(steps: Sequence[Line]) -> dict[str, list[float | None]]:
    """Return the course of the run in at most `_POINTS` points, each the mean of as many steps."""
    size = -(-len(steps) // _POINTS)
    parts = [steps[start : start + size] for start in range(0, len(steps), size)]
    curves: dict[str, list[float | None]] = {"step": [part[-1]["step"] for part in parts]}
    for key in ("epoch", "loss", "lr", "images_per_second"):
        curves[key] = [_mean([line[key] for line in part]) for part in parts]
    return curves


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is finite; None where nothing is, for JSON knows no other word for it."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None


def _as_date(started: float | str | None) -> str | None:
    if not isinstance(started, (int, float)):
        return started
    return datetime.datetime.fromtimestamp(started, datetime.UTC).isoformat(timespec="seconds")


def _draw(folder: Path, card: Line, *, needed: bool) -> None:
    try:
        from ..plots import training_runs
    except ImportError:
        if needed:
            raise
        return
    _write(folder / "card.png", training_runs.card_png(card))


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
