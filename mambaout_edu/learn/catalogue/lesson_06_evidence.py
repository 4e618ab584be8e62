"""Exercise of lesson 06 on evidence: how sure an accuracy is that was measured on few images."""

import math
import random
from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _interval_cases(seed: int) -> list[Case]:
    total = random.Random(seed).randint(100, 2000)
    counts = [
        (443, 450, 1.96),
        (7, 10, 1.645),
        (19, 20, 1.96),
        (0, 20, 1.96),
        (20, 20, 2.576),
        (total // 3, total, 1.0),
    ]
    return [Case((correct, n), {"z": z}) for correct, n, z in counts]


def _interval(p: float, n: int, z: float) -> tuple[float, float]:
    """Return centre and half width of the Wilson interval, both times 1 + z^2 / n."""
    return p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))


def _interval_mistake(key: str, ends: Any) -> Diagnosis:
    """Build a diagnosis from `ends(p, n, z)`."""
    return Diagnosis(key, lambda correct, total, z: ends(correct / total, total, z))


def _wilson(p: float, n: int, z: float) -> tuple[float, float]:
    centre, half = _interval(p, n, z)
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def _around(centre: float, half: float) -> tuple[float, float]:
    return centre - half, centre + half


_WILSON = Exercise(
    id="evidence.wilson_interval",
    lesson="06",
    objective="06.evidence",
    kind="free",
    difficulty=3,
    minutes=12,
    stub='''\
def my_interval(correct, total, z=1.96):
    """Return (low, high), the Wilson interval of an accuracy of `correct` out of `total` images.

    With p = correct / total and n = total:
        centre = (p + z^2 / 2n) / (1 + z^2 / n)
        half   = z * sqrt(p (1 - p) / n + z^2 / 4n^2) / (1 + z^2 / n)
    """
    return ...
''',
    reference="mambaout_edu.training.wilson_interval",
    cases=_interval_cases,
    diagnoses=(
        _interval_mistake("normal", lambda p, n, z: _around(p, z * math.sqrt(p * (1 - p) / n))),
        _interval_mistake("clipped_normal", lambda p, n, z: _clipped(*_around(p, z * math.sqrt(p * (1 - p) / n)))),
        _interval_mistake("percent", lambda p, n, z: tuple(100 * end for end in _wilson(p, n, z))),
        _interval_mistake("reversed", lambda p, n, z: _wilson(p, n, z)[::-1]),
        _interval_mistake("centre_and_half", lambda p, n, z: tuple(x / (1 + z * z / n) for x in _interval(p, n, z))),
        _interval_mistake("not_shifted", lambda p, n, z: _around(p, _interval(p, n, z)[1] / (1 + z * z / n))),
        _interval_mistake("not_divided", lambda p, n, z: _around(*_interval(p, n, z))),
        _interval_mistake("no_z", lambda p, n, z: _wilson(p, n, 1.0)),
        _interval_mistake("fixed_z", lambda p, n, z: _wilson(p, n, 1.96)),
        _interval_mistake("brackets", lambda p, n, z: _brackets(p, n, z)),
    ),
    equation="equation-interval",
)


def _clipped(low: float, high: float) -> tuple[float, float]:
    return max(0.0, low), min(1.0, high)


def _brackets(p: float, n: int, z: float) -> tuple[float, float]:
    """Write z * z / 2 * n for z * z / (2 * n), the slip of the missing brackets."""
    centre, half = p + z * z / 2 * n, z * math.sqrt(p * (1 - p) / n + z * z / 4 * n * n)
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


EXERCISES = (_WILSON,)
