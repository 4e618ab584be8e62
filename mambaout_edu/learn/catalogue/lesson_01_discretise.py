"""Exercise of lesson 01 on discretisation: the zero-order hold of a diagonal system."""

from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _hold_cases(seed: int) -> list[Case]:
    import numpy as np

    rng = np.random.default_rng(seed)
    # As many inputs as states in two cases, so that a B scaled along the wrong axis runs, too, and can be named.
    sizes = ((3, 3, 0.5), (2, 2, 1.5), (1, 1, 0.1))
    cases = [Case((-rng.uniform(0.2, 4, N), rng.normal(size=(N, M)), delta), {}) for N, M, delta in sizes]
    poles = -rng.uniform(0.2, 2, 3) + 1j * rng.uniform(1, 4, 3)
    return [*cases, Case((poles, rng.normal(size=(3, 3)), 0.25), {})]


def _mistake(key: str, hold: Any) -> Diagnosis:
    """Build a diagnosis from `hold(a, A, B, delta)`, with a = exp(delta A) [N, 1] and A as a column [N, 1]."""

    def implementation(A: Any, B: Any, delta: float) -> Any:
        import numpy as np

        return hold(np.exp(delta * A)[:, None], A[:, None], B, delta)

    return Diagnosis(key, implementation)


def _other_axis(A: Any, B: Any, delta: float) -> Any:
    import numpy as np

    return np.exp(delta * A), (np.exp(delta * A) - 1) / A * B


def _as_matrix(A: Any, B: Any, delta: float) -> Any:
    import numpy as np

    return np.diag(np.exp(delta * A)), ((np.exp(delta * A) - 1) / A)[:, None] * B


_HOLD = Exercise(
    id="systems.zero_order_hold",
    lesson="01",
    objective="01.discretise",
    kind="worked",
    difficulty=2,
    minutes=8,
    stub='''\
def my_zero_order_hold(A, B, delta):
    """Return (A_bar [N], B_bar [N, M]) for an input that is held during a step of length delta.

    A [N] holds the poles of a diagonal system, none of them 0; B is [N, M].
    """
    # Worked for one pole A = -2, with B = 3 and delta = 0.5:
    #     A_bar = exp(0.5 * -2)                 = 0.368    what is left of the state
    #     B_bar = (exp(0.5 * -2) - 1) / -2 * 3  = 0.948    what the held input adds
    # Now for N poles, each with a row of B of its own.
    return ...
''',
    reference="mambaout_edu.systems.zero_order_hold",
    cases=_hold_cases,
    diagnoses=(
        _mistake("first_order", lambda a, A, B, delta: (a[:, 0], delta * B + 0 * A)),
        _mistake("euler", lambda a, A, B, delta: (1 + delta * A[:, 0], delta * B + 0 * A)),
        _mistake(
            "bilinear",
            lambda a, A, B, delta: (((2 + delta * A) / (2 - delta * A))[:, 0], 2 * delta * B / (2 - delta * A)),
        ),
        _mistake("not_divided", lambda a, A, B, delta: (a[:, 0], (a - 1) * B)),
        _mistake("delta_too_many", lambda a, A, B, delta: (a[:, 0], (a - 1) / A * delta * B)),
        _mistake("delta_too_few", lambda a, A, B, delta: (a[:, 0], (a - 1) / (delta * A) * B)),
        _mistake("sign", lambda a, A, B, delta: (a[:, 0], (1 - a) / A * B)),
        _mistake("without_one", lambda a, A, B, delta: (a[:, 0], a / A * B)),
        _mistake("swapped", lambda a, A, B, delta: ((a - 1) / A * B, a[:, 0])),
        Diagnosis("other_axis", _other_axis),
        Diagnosis("as_matrix", _as_matrix),
    ),
    equation="equation-hold",
)


EXERCISES = (_HOLD,)
