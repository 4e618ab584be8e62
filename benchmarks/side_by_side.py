"""Time several ways of doing the same work, in turn, and compare their medians."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tqdm import tqdm

__all__ = ["Timing", "side_by_side"]


@dataclass(frozen=True)
class Timing:
    """Seconds of one case: the median, and the quarter points either side of it."""

    name: str
    median: float
    low: float
    high: float


def side_by_side(cases: Mapping[str, Callable[[], object]], repeats: int = 15, warmup: int = 2) -> dict[str, Timing]:
    """Run each case `warmup` times, then all of them in turn `repeats` times, so that noise meets all alike."""
    if repeats < 3:
        raise ValueError(f"repeats must be at least 3 for a median with quarter points; got {repeats}")
    for run in cases.values():
        for _ in range(warmup):
            run()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in tqdm(range(repeats), desc=", ".join(cases), leave=False):
        names = list(cases)[:: -1 if turn % 2 else 1]  # nobody is always first
        for name in names:
            start = time.perf_counter()
            cases[name]()
            seconds[name].append(time.perf_counter() - start)
    timings = {}
    for name, times in seconds.items():
        low, median, high = statistics.quantiles(times, n=4)
        timings[name] = Timing(name, median, low, high)
    return timings
