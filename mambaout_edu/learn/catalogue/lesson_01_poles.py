"""Exercise of lesson 01 on poles: every motion is a sum of exponentials."""

from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _motion_cases(seed: int) -> list[Case]:
    import numpy as np

    from mambaout_edu.systems import StateSpace, mass_spring

    rng = np.random.default_rng(seed)
    springs = [mass_spring(damping=damping) for damping in (0.4, -0.2, 5.0)]
    # Far from symmetric, with a real pole and a pair of complex ones.
    A = np.array([[-1.0, 2.0, 0.0], [-2.0, -1.0, 1.0], [0.0, 0.5, -3.0]])
    systems = [*springs, StateSpace(A, np.ones(3), np.ones(3))]
    cases = []
    for number, system in enumerate(systems):
        times = np.sort(rng.uniform(0, 3, 5 + number))
        cases.append(Case((system, rng.normal(size=system.states), times), {}))
    return cases


def _mistake(key: str, move: Any) -> Diagnosis:
    """Build a diagnosis from `move(np, poles, directions, parts, times)`, with times as a column [T, 1]."""

    def implementation(system: Any, state: Any, times: Any) -> Any:
        import numpy as np

        poles, directions = np.linalg.eig(system.A)
        return move(np, poles, directions, np.linalg.solve(directions, state), times[:, None])

    return Diagnosis(key, implementation)


_MOTION = Exercise(
    id="systems.initial_response",
    lesson="01",
    objective="01.poles",
    kind="completion",
    difficulty=3,
    minutes=10,
    stub='''\
def my_motion(system, state, times):
    """Return the state at every time, [T, N], when it is let go from `state` [N]; no input."""
    poles, directions = np.linalg.eig(system.A)  # [N], [N, N]: a column a pole
    parts = np.linalg.solve(directions, state)  # [N]: state = directions @ parts
    # Two lines are missing. Each part moves by itself, as exp(pole * t): [T, N].
    # Then sum over the directions. What is left of the imaginary part is rounding: drop it.
    return ...
''',
    reference="mambaout_edu.systems.initial_response",
    cases=_motion_cases,
    diagnoses=(
        _mistake("parts_only", lambda np, p, V, c, t: (np.exp(p * t) * c).real),
        _mistake("other_axis", lambda np, p, V, c, t: ((np.exp(p * t) * c) @ V).real),
        _mistake("backwards", lambda np, p, V, c, t: ((np.exp(-p * t) * c) @ V.T).real),
        _mistake("power", lambda np, p, V, c, t: ((p.astype(complex) ** t * c) @ V.T).real),
        _mistake("no_swing", lambda np, p, V, c, t: ((np.exp(p.real * t) * c) @ V.T).real),
        _mistake("straight", lambda np, p, V, c, t: (((1 + p * t) * c) @ V.T).real),
        _mistake("no_parts", lambda np, p, V, c, t: (np.exp(p * t) @ V.T).real),
        _mistake("magnitude", lambda np, p, V, c, t: np.abs((np.exp(p * t) * c) @ V.T)),
        _mistake("times_last", lambda np, p, V, c, t: ((np.exp(p * t) * c) @ V.T).real.T),
        _mistake("complex", lambda np, p, V, c, t: (np.exp(p * t) * c) @ V.T),
    ),
    equation="equation-motion",
)


EXERCISES = (_MOTION,)
