"""What a comparison of scan orders says: means with intervals over seeds, and the spread between best and worst.

The best of ten equal orders looks better than the worst: seeds alone make a spread. So every spread stands beside the
one that chance gives, found by exchanging the orders' results within each seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.extras import require
from ..strings import text
from .scan_orders import SCANS, SETTINGS, TASKS, ScanRun

__all__ = ["GROUPS", "Mean", "Spread", "accuracies", "collect", "mean_interval", "report", "spread"]

GROUPS: Mapping[str, tuple[str, ...]] = {
    "orders": tuple(name for name in SCANS if name not in ("oneway", "random")),
    "all": SCANS,
    "table10": tuple(name for name in SCANS if name in ("oneway", "raster", "cross")),
}
"""Which orders a spread is taken over: those with a plan, there and back; all; three rows of VMamba's table 10."""

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Mean:
    """A mean over seeds and its 95 % interval, in percent."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Spread:
    """How far the best order is above the worst, in points of accuracy.

    Attributes
    ----------
    best, worst
        The orders' names.
    points
        The difference of their means over seeds.
    chance
        The spread that exchanged orders stay below in 95 % of all draws.
    p
        The share of draws with a spread at least this large.
    """

    best: str
    worst: str
    points: float
    chance: float
    p: float


def mean_interval(values: Sequence[float] | NDArray[np.float64]) -> Mean:
    """Return the mean of results that differ by their seed, with Student's 95 % interval.

    Raises ValueError for fewer than two values.

    >>> mean_interval([97.0, 98.0, 99.0])
    Mean(value=98.0, low=95.52, high=100.48)
    """
    if len(values) < 2:
        raise ValueError(f"there are {len(values)} values; expected 2 or more, one a seed, to tell how far they differ")
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(require("scipy.stats").t.ppf(0.975, len(values) - 1)) * error
    return Mean(round(mean, 2), round(mean - half, 2), round(mean + half, 2))


def spread(values: Mapping[str, Sequence[float]], *, draws: int = 10_000, seed: int = 0) -> Spread:
    """Return the spread between the best and the worst order, and what chance alone would give.

    Parameters
    ----------
    values
        Accuracies in percent of each order, one a seed, the seeds in the same sequence for all: two orders or more.
    draws
        How often the orders are exchanged within each seed.
    seed
        Of those draws.

    Raises
    ------
    ValueError
        If there are fewer than two orders, or they differ in their number of seeds.

    Examples
    --------
    >>> spread({"a": [90.0, 91.0, 92.0], "b": [95.0, 96.0, 97.0]}).points
    5.0
    """
    counts = {len(of_order) for of_order in values.values()}
    if len(values) < 2 or len(counts) != 1 or counts == {0}:
        raise ValueError(f"expected 2 orders or more with one value a seed each; got {dict(values)}")
    table = np.array(list(values.values()), dtype=float)  # [orders, seeds]
    means = table.mean(axis=1)
    rng = np.random.default_rng(seed)
    exchanged = rng.permuted(np.broadcast_to(table, (draws, *table.shape)), axis=1).mean(axis=2)  # [draws, orders]
    by_chance = np.ptp(exchanged, axis=1)
    names = list(values)
    points = float(np.ptp(means))
    return Spread(
        best=names[int(means.argmax())], worst=names[int(means.argmin())], points=round(points, 2),
        chance=round(float(np.quantile(by_chance, 0.95)), 2), p=float((by_chance >= points - 1e-9).mean()),
    )  # fmt: skip


def collect(runs: Iterable[ScanRun]) -> dict[str, Any]:
    """Return runs as one table: counts of right answers by task, convolution and order, one a seed.

    Raises
    ------
    ValueError
        If there are no runs, one is there twice, or an order lacks a seed that another has.

    Examples
    --------
    >>> runs = [ScanRun("raster", False, "digits", seed, 1, 400 + seed, 450, 0.5, 10_000, 1.0) for seed in (0, 1)]
    >>> collect(runs)["correct"]
    {'digits': {'plain': {'raster': [400, 401]}}}
    """
    ordered = sorted(runs, key=lambda r: (TASKS.index(r.task), r.conv, SCANS.index(r.order), r.seed))
    if not ordered:
        raise ValueError("there are no runs; expected those of at least one order")
    seeds = sorted({run.seed for run in ordered})
    correct: dict[str, dict[str, dict[str, list[int]]]] = {}
    found: dict[tuple[str, bool, str], list[int]] = {}
    for run in ordered:
        correct.setdefault(run.task, {}).setdefault(_key(run.conv), {}).setdefault(run.order, []).append(run.correct)
        found.setdefault((run.task, run.conv, run.order), []).append(run.seed)
    for what, has in found.items():
        if has != seeds:
            raise ValueError(f"the runs of {what} have the seeds {has}; expected each of {seeds} once")
    return {
        "seeds": seeds,
        "settings": {task: {**SETTINGS[task], "epochs": _one(r.epochs for r in ordered if r.task == task)}
                     for task in correct},
        "total": {task: _one(run.total for run in ordered if run.task == task) for task in correct},
        "parameters": {
            task: {key: _one(r.parameters for r in ordered if (r.task, _key(r.conv)) == (task, key)) for key in by_conv}
            for task, by_conv in correct.items()
        },
        "correct": correct,
    }  # fmt: skip


def accuracies(results: Results, task: str, conv: bool, orders: Sequence[str] | None = None) -> dict[str, list[float]]:
    """Return the accuracies in percent by order, one a seed, of what `collect` returned or a recorded run holds.

    Raises ValueError for a task, convolution or order that was not run.

    >>> accuracies({"total": {"digits": 4}, "correct": {"digits": {"conv": {"raster": [3, 4]}}}}, "digits", True)
    {'raster': [75.0, 100.0]}
    """
    table = results["correct"].get(task, {}).get(_key(conv), {})
    missing = [name for name in orders or [] if name not in table]
    if not table or missing:
        raise ValueError(
            f"no run of {', '.join(missing) or 'any order'} on task {task!r} with conv={conv}; "
            f"there are {', '.join(table) or 'none'}"
        )
    total = results["total"][task]
    return {name: [100 * count / total for count in table[name]] for name in orders or table}


def report(results: Results) -> str:
    """Return the tables of a comparison as text: every order's mean and interval, then the spreads."""
    lines = []
    for task, by_conv in results["correct"].items():
        lines.append(text("scan_order_results", "heading", task=task, seeds=len(results["seeds"])))
        for key in by_conv:
            values = accuracies(results, task, key == _key(True))
            lines.append(text("scan_order_results", key))
            for name, of_order in values.items():
                mean = mean_interval(of_order)
                lines.append(f"  {name:11} {mean.value:6.2f}  ({mean.low:.2f} - {mean.high:.2f})")
            groups = [group for group, names in GROUPS.items() if group != "table10" or set(names) <= set(values)]
            lines += [_spread_line(group, values) for group in groups]
    return "\n".join(lines)


def _spread_line(group: str, values: Mapping[str, Sequence[float]]) -> str:
    found = spread({name: values[name] for name in GROUPS[group] if name in values})
    said = {"best": found.best, "worst": found.worst, "points": f"{found.points:.2f}"}
    return text(
        "scan_order_results", "spread", group=text("scan_order_results", f"group.{group}"), **said,
        chance=f"{found.chance:.2f}", p=f"{found.p:.4f}",
    )  # fmt: skip


def _key(conv: bool) -> str:
    return "conv" if conv else "plain"


def _one(values: Iterable[int]) -> int:
    distinct = set(values)
    if len(distinct) != 1:
        raise ValueError(f"runs that are compared must agree in size and epochs; got {sorted(distinct)}")
    return distinct.pop()
