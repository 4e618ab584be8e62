"""Exercise of lesson 01 on memory: the matrices of HiPPO-LegS."""

import random
from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _legs_cases(seed: int) -> list[Case]:
    return [Case((states,), {}) for states in (3, random.Random(seed).randint(4, 24), 2, 1)]


def _legs(states: int, start: int = 0) -> Any:
    """Return n as a column, and sqrt(2n + 1) as a column, [N, 1] each."""
    import numpy as np

    n = np.arange(start, start + states)[:, None]
    return n, np.sqrt(2.0 * n + 1)


def _mistake(key: str, build: Any, start: int = 0) -> Diagnosis:
    """Build a diagnosis from `build(np, n, root)`, which returns (A, B)."""

    def implementation(states: int) -> Any:
        import numpy as np

        return build(np, *_legs(states, start))

    return Diagnosis(key, implementation)


def _right(np: Any, n: Any, root: Any) -> Any:
    return -np.tril(root * root.T, -1) - np.diag(n[:, 0] + 1.0)


_LEGS = Exercise(
    id="systems.hippo_legs",
    lesson="01",
    objective="01.memory",
    kind="free",
    difficulty=3,
    minutes=10,
    stub='''\
def my_hippo(states):
    """Return HiPPO-LegS for N = states: A [N, N] and B [N, 1].

    With n the row and k the column, both counted from 0:
        A[n, k] = -sqrt((2n + 1) (2k + 1))  below the diagonal,  -(n + 1) on it,  0 above it
        B[n]    =  sqrt(2n + 1)
    """
    return ...
''',
    reference="mambaout_edu.systems.hippo_legs",
    cases=_legs_cases,
    diagnoses=(
        _mistake("sign", lambda np, n, root: (-_right(np, n, root), root)),
        _mistake("upper", lambda np, n, root: (_right(np, n, root).T, root)),
        _mistake(
            "full", lambda np, n, root: (-root * root.T - np.diag(n[:, 0] + 1.0) + np.diag(2.0 * n[:, 0] + 1), root)
        ),
        _mistake("root_on_diagonal", lambda np, n, root: (-np.tril(root * root.T), root)),
        _mistake("no_diagonal", lambda np, n, root: (-np.tril(root * root.T, -1), root)),
        _mistake("positive_diagonal", lambda np, n, root: (-np.tril(root * root.T, -1) + np.diag(n[:, 0] + 1.0), root)),
        _mistake(
            "diagonal_from_zero", lambda np, n, root: (-np.tril(root * root.T, -1) - np.diag(n[:, 0] + 0.0), root)
        ),
        _mistake("no_root", lambda np, n, root: (-np.tril(root**2 * root.T**2, -1) - np.diag(n[:, 0] + 1.0), root**2)),
        _mistake("from_one", lambda np, n, root: (-np.tril(root * root.T, -1) - np.diag(n[:, 0] + 1.0), root), start=1),
        _mistake("b_of_ones", lambda np, n, root: (_right(np, n, root), np.ones_like(root))),
        _mistake("b_without_axis", lambda np, n, root: (_right(np, n, root), root[:, 0])),
        _mistake("only_a", lambda np, n, root: _right(np, n, root)),
    ),
    equation="equation-legs",
)


EXERCISES = (_LEGS,)
