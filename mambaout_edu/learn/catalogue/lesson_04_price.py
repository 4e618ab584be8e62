"""Exercise of lesson 04 on the price of a mask: a difference paired by seed, with its interval."""

import random
from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _seed_cases(seed: int) -> list[Case]:
    draw = random.Random(seed)
    cases = []
    for count, quantile in ((3, 4.303), (5, 2.776), (10, 2.262)):
        hard = [draw.uniform(90, 97) for _ in range(count)]  # some splits are harder for both
        first, second = ([round(each + draw.uniform(-1, 1) + up, 2) for each in hard] for up in (0.5, 0))
        cases.append(Case((first, second, quantile), {}))
    return cases


def _interval(first: Any, second: Any, quantile: float, slip: str = "") -> tuple[float, ...]:
    import numpy as np

    first, second = np.array(first), np.array(second)
    difference = first - second
    n, mean, spread = len(first), difference.mean(), difference.std(ddof=0 if slip == "divided_by_n" else 1)
    if slip == "not_paired":
        spread = (first.var(ddof=1) + second.var(ddof=1)) ** 0.5
    half = quantile * spread / (1 if slip == "spread_of_one" else n if slip == "root_forgotten" else n**0.5)
    if slip == "normal":
        half = half / quantile * 1.96
    if slip == "no_quantile":
        half = half / quantile
    return mean, mean - half, mean + half


def _slip(key: str) -> Diagnosis:
    return Diagnosis(key, lambda first, second, quantile: _interval(first, second, quantile, key))


_INTERVAL = Exercise(
    id="causality.paired_interval",
    lesson="04",
    objective="04.price",
    kind="free",
    difficulty=3,
    minutes=10,
    stub='''\
def my_paired_interval(first, second, quantile):
    """Return (mean, low, high) of first - second over seeds.

    first, second [n]: results of two models, the same seeds in the same sequence.
        d    = first - second, one a seed
        half = quantile * s / sqrt(n), with s the standard deviation of d, dividing by n - 1
    """
    return ...
''',
    reference="mambaout_edu.training.causality.paired_interval",
    cases=_seed_cases,
    diagnoses=(
        *map(_slip, ("not_paired", "divided_by_n", "spread_of_one", "root_forgotten", "normal", "no_quantile")),
        Diagnosis("second_minus_first", lambda first, second, quantile: _interval(second, first, quantile)),
    ),
    equation="equation-paired",
)


EXERCISES = (_INTERVAL,)
