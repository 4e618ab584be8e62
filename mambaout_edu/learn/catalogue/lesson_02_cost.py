"""Exercise of lesson 02 on cost: the operations of a scan, as papers on vision count them."""

import math
import random
from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _flops_cases(seed: int) -> list[Case]:
    length = random.Random(seed).randint(100, 4000)
    calls: list[tuple[tuple[int, int, int], int, dict[str, bool]]] = [
        ((1, 196, 384), 16, {}),
        ((8, 3136, 192), 1, {"skip": True, "gate": True}),
        ((2, length, 96), 4, {"skip": True}),
        ((3, 49, 768), 8, {"gate": True}),
    ]
    return [Case((shape, state), {"skip": False, "gate": False, **extra}) for shape, state, extra in calls]


def _mistake(key: str, count: Any) -> Diagnosis:
    """Build a diagnosis from `count(shape, N, skip, gate)`."""
    return Diagnosis(key, lambda u_shape, state, skip, gate: count(u_shape, state, skip, gate))


_FLOPS = Exercise(
    id="scan.flops",
    lesson="02",
    objective="02.cost",
    kind="free",
    difficulty=2,
    minutes=8,
    stub='''\
def my_flops(u_shape, state, skip=False, gate=False):
    """Return the operations of a scan over u_shape = (B, L, D) with N = state, a whole number.

    Nine for each state of each position, and one more a position for the skip D u where `skip` is
    true, and one for the product with the gate where `gate` is.
    """
    return ...
''',
    reference="mambaout_edu.scan.flops",
    cases=_flops_cases,
    diagnoses=(
        _mistake("sequential_count", lambda u, n, skip, gate: math.prod(u) * (6 * n + skip + gate)),
        _mistake("extras_for_each_state", lambda u, n, skip, gate: math.prod(u) * n * (9 + skip + gate)),
        _mistake("extras_left_out", lambda u, n, skip, gate: math.prod(u) * 9 * n),
        _mistake("extras_once", lambda u, n, skip, gate: math.prod(u) * 9 * n + skip + gate),
        _mistake("extras_always", lambda u, n, skip, gate: math.prod(u) * (9 * n + 2)),
        _mistake("one_sequence", lambda u, n, skip, gate: math.prod(u[1:]) * (9 * n + skip + gate)),
        _mistake("sizes_added", lambda u, n, skip, gate: sum(u) * (9 * n + skip + gate)),
        _mistake("no_states", lambda u, n, skip, gate: math.prod(u) * (9 + skip + gate)),
    ),
    equation="equation-flops",
)


EXERCISES = (_FLOPS,)
