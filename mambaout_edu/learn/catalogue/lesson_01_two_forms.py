"""Exercises of lesson 01 on one system as two programs: the recurrence, and its convolution kernel."""

import random
from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _system(rng: Any, states: int) -> Any:
    """Return a stable discrete system with one input, one output and a direct path; A is far from symmetric."""
    import numpy as np

    from mambaout_edu.systems import DiscreteStateSpace

    A = rng.normal(size=(states, states))
    A *= 0.9 / np.abs(np.linalg.eigvals(A)).max()
    B, C, D = rng.normal(size=states), rng.normal(size=states), rng.uniform(0.5, 2)
    return DiscreteStateSpace(A, B, C, D, delta=1.0)


def _run_cases(seed: int) -> list[Case]:
    import numpy as np

    rng = np.random.default_rng(seed)
    cases = [Case((_system(rng, N), rng.normal(size=L), None), {}) for N, L in ((2, 6), (3, 9))]
    return [*cases, Case((_system(rng, 2), rng.normal(size=5), rng.normal(size=2)), {})]


def _run_mistake(key: str, step: Any, finish: Any = None) -> Diagnosis:
    """Build a diagnosis from `step(A, B, C, D, h, u, before)`, which returns (h, y); `finish` works on the arrays."""

    def implementation(system: Any, u: Any, initial_state: Any = None) -> Any:
        import numpy as np

        A, B, C, D = system.A, system.B[:, 0], system.C[0], system.D[0, 0]
        h = np.zeros(system.states) if initial_state is None else initial_state
        outputs, states = [], []
        for t in range(len(u)):
            h, y = step(A, B, C, D, h, u[t], u[t - 1] if t else 0.0)
            outputs.append(y)
            states.append(h)
        return finish(np.array(outputs), np.array(states)) if finish else (np.array(outputs), np.array(states))

    return Diagnosis(key, implementation)


def _step(A: Any, B: Any, C: Any, D: Any, h: Any, u: float, before: float) -> Any:
    h = A @ h + B * u
    return h, C @ h + D * u


def _late(A: Any, B: Any, C: Any, D: Any, h: Any, u: float, before: float) -> Any:
    return A @ h + B * u, C @ h + D * u


def _with(change: Any) -> Any:
    """Return a step whose new state is `change(A, B, h, u, before)`."""

    def step(A: Any, B: Any, C: Any, D: Any, h: Any, u: float, before: float) -> Any:
        h = change(A, B, h, u, before)
        return h, C @ h + D * u

    return step


def _no_direct_path(A: Any, B: Any, C: Any, D: Any, h: Any, u: float, before: float) -> Any:
    h = A @ h + B * u
    return h, C @ h


def _last_state(outputs: Any, states: Any) -> Any:
    states[:] = states[-1]
    return outputs, states


_RUN = Exercise(
    id="systems.run_recurrence",
    lesson="01",
    objective="01.two_forms",
    kind="completion",
    difficulty=2,
    minutes=8,
    stub='''\
def my_recurrence(system, u, initial_state=None):
    """Return the outputs y [L] and the states h [L, N], for inputs u [L].

    h_t = A h_(t-1) + B u_t and y_t = C h_t + D u_t; A is [N, N], B [N, 1], C [1, N], D [1, 1].
    """
    h = np.zeros(system.states) if initial_state is None else initial_state
    outputs, states = [], []
    for u_t in u:
        ...  # Missing: the new h, [N], from the old one and u_t. Then append h, and y_t, a number.
    # Then return both lists as arrays.
    return ...
''',
    reference="mambaout_edu.systems.run_recurrence",
    cases=_run_cases,
    diagnoses=(
        _run_mistake("read_too_early", _late),
        _run_mistake("input_too_late", _with(lambda A, B, h, u, before: A @ h + B * before)),
        _run_mistake("no_direct_path", _no_direct_path),
        _run_mistake("no_memory", _with(lambda A, B, h, u, before: B * u)),
        _run_mistake("transposed", _with(lambda A, B, h, u, before: h @ A + B * u)),
        _run_mistake("no_b", _with(lambda A, B, h, u, before: A @ h + u)),
        _run_mistake("stepped_twice", _with(lambda A, B, h, u, before: h + A @ h + B * u)),
        _run_mistake("changed_in_place", _step, _last_state),
        _run_mistake("output_axis", _step, lambda y, h: (y[:, None], h)),
        _run_mistake("swapped", _step, lambda y, h: (h, y)),
        _run_mistake("only_outputs", _step, lambda y, h: y),
    ),
    equation="equation-recurrence",
)


def _kernel_cases(seed: int) -> list[Case]:
    import numpy as np

    rng, draw = np.random.default_rng(seed), random.Random(seed)
    return [Case((_system(rng, states), draw.randint(4, 30)), {}) for states in (2, 3)] + [
        Case((_system(rng, 2), 1), {})
    ]


def _kernel_mistake(key: str, build: Any) -> Diagnosis:
    """Build a diagnosis from `build(np, M, system)`; M [length + 1, N, 1] holds A^t B for t = 0 ... length."""

    def implementation(system: Any, length: int) -> Any:
        import numpy as np

        powers = [system.B]
        for _ in range(length):
            powers.append(system.A @ powers[-1])
        return build(np, np.array(powers), system)

    return Diagnosis(key, implementation)


def _each_entry(system: Any, length: int) -> Any:
    """Raise every entry of A to the power, as `A ** t` does."""
    import numpy as np

    return np.array([(system.C @ system.A**t @ system.B).item() for t in range(length)])


def _with_direct_path(np: Any, M: Any, system: Any) -> Any:
    K = (system.C @ M)[:-1, 0, 0]
    K[0] += system.D[0, 0]
    return K


_KERNEL = Exercise(
    id="systems.convolution_kernel",
    lesson="01",
    objective="01.two_forms",
    kind="free",
    difficulty=3,
    minutes=10,
    stub='''\
def my_kernel(system, length):
    """Return the convolution kernel K [length] of a discrete system: K_t = C A^t B.

    A is [N, N], B [N, 1], C [1, N]. K_0 is the weight of the newest input. D is not part of it.
    """
    return ...
''',
    reference="mambaout_edu.systems.convolution_kernel",
    cases=_kernel_cases,
    diagnoses=(
        _kernel_mistake("one_step_late", lambda np, M, s: (s.C @ M)[1:, 0, 0]),
        _kernel_mistake("reversed", lambda np, M, s: (s.C @ M)[-2::-1, 0, 0]),
        _kernel_mistake("direct_path", _with_direct_path),
        _kernel_mistake("one_too_many", lambda np, M, s: (s.C @ M)[:, 0, 0]),
        _kernel_mistake("extra_axes", lambda np, M, s: (s.C @ M)[:-1]),
        _kernel_mistake("no_output", lambda np, M, s: M[:-1, :, 0]),
        _kernel_mistake("summed", lambda np, M, s: np.cumsum((s.C @ M)[:-1, 0, 0])),
        Diagnosis("each_entry", _each_entry),
        _kernel_mistake("same_everywhere", lambda np, M, s: np.full(len(M) - 1, (s.C @ s.B).item())),
    ),
    equation="equation-kernel",
)


EXERCISES = (_RUN, _KERNEL)
