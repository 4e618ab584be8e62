"""From continuous to discrete: four ways to take a step of length delta."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mambaout_edu.systems.checks import as_vector_or_matrix, freeze_system, state_matrix
from mambaout_edu.systems.continuous import StateSpace
from mambaout_edu.systems.responses import expm

__all__ = [
    "METHODS",
    "DiscreteStateSpace",
    "bilinear",
    "discretise",
    "euler",
    "first_order",
    "hold_ratio",
    "largest_stable_euler_step",
    "zero_order_hold",
]


@dataclass(frozen=True, eq=False)
class DiscreteStateSpace:
    """A discrete linear system, in Mamba's timing: `h_t = A h_(t-1) + B u_t`, `y_t = C h_t + D u_t`.

    The state already holds the input of its own step. Control theory's textbooks write `h_(t+1) = A h_t + B u_t`
    instead; there this system has the matrices (A, B, C A, C B + D).

    Parameters
    ----------
    A, B, C, D
        As in `StateSpace`: A [N, N] or its diagonal [N], B [N, M], C [P, N], D [P, M].
    delta
        Length of a step, in the unit of time of the continuous system; positive.

    Raises
    ------
    ValueError
        If shapes do not fit each other, a number is not finite, or delta is not positive.

    Examples
    --------
    >>> DiscreteStateSpace([0.5], [1.0], [1.0], None, delta=0.1).is_stable
    True
    """

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray
    delta: float

    def __init__(self, A: ArrayLike, B: ArrayLike, C: ArrayLike, D: ArrayLike | None, delta: float) -> None:
        freeze_system(self, A, B, C, D)
        object.__setattr__(self, "delta", _check_delta(delta))

    @property
    def states(self) -> int:
        """N, the number of states."""
        return len(self.A)

    @property
    def inputs(self) -> int:
        """M, the number of inputs."""
        return self.B.shape[1]

    @property
    def outputs(self) -> int:
        """P, the number of outputs."""
        return self.C.shape[0]

    @property
    def poles(self) -> np.ndarray:
        """The eigenvalues of A [N]: every motion of the state is a sum of pole ** t."""
        poles = self.A if self.A.ndim == 1 else np.linalg.eigvals(self.A)
        return np.sort_complex(poles)

    @property
    def is_stable(self) -> bool:
        """Whether every motion dies out: all poles lie inside the unit circle."""
        return bool(np.all(np.abs(self.poles) < 1))


def discretise(system: StateSpace, delta: float, method: str = "zoh") -> DiscreteStateSpace:
    """Return the system that steps by `delta`; C and D stay.

    Parameters
    ----------
    system
        A continuous system; a diagonal A [N] stays a diagonal.
    delta
        Length of a step, in the system's unit of time.
    method
        "euler", "bilinear", "zoh" (exact for an input held during the step) or "first_order" (exact A, first-order
        B: what released Mambas run).

    Raises
    ------
    ValueError
        For another method, a delta that is not positive, or a bilinear step that meets a pole at 2 / delta.

    Examples
    --------
    >>> system = StateSpace([-1.0], [1.0], [1.0])
    >>> [float(discretise(system, 1.0, method).B[0, 0].round(3)) for method in METHODS]
    [1.0, 0.667, 0.632, 1.0]
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    A, B = METHODS[method](system.A, system.B, delta)
    return DiscreteStateSpace(A, B, system.C, system.D, delta)


def euler(A: np.ndarray, B: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """Follow the tangent: (I + delta A, delta B). Unstable once delta is too long for the fastest pole.

    A [N, N] or diagonal [N], B [N, M].

    >>> euler(np.array([-1.0]), np.array([[1.0]]), 0.5)
    (array([0.5]), array([[0.5]]))
    """
    A, B, delta = _check(A, B, delta)
    return (1 + delta * A if A.ndim == 1 else np.eye(len(A)) + delta * A), delta * B


def bilinear(A: np.ndarray, B: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """Trapezoid rule on the state: ((I - delta/2 A)^-1 (I + delta/2 A), (I - delta/2 A)^-1 delta B).

    Stable exactly where the continuous system is. This is S4's form (Gu et al., arXiv 2111.00396, eq. 3): the input
    is taken at the step's end. Control theory's Tustin rule also averages the input over both ends of the step, as
    Mamba-3 does again. A [N, N] or diagonal [N], B [N, M].

    >>> bilinear(np.array([-1.0]), np.array([[1.0]]), 2.0)
    (array([0.]), array([[1.]]))
    """
    A, B, delta = _check(A, B, delta)
    half = delta / 2 * A
    if A.ndim == 1:
        if np.any(half == 1):
            raise ValueError(f"delta = {delta:g} meets a pole at 2 / delta = {2 / delta:g}; take another delta")
        return (1 + half) / (1 - half), delta * B / (1 - half)[:, None]
    eye = np.eye(len(A))
    try:
        both = np.linalg.solve(eye - half, np.hstack([eye + half, delta * B]))
    except np.linalg.LinAlgError:
        raise ValueError(f"delta = {delta:g} meets a pole at 2 / delta = {2 / delta:g}; take another delta") from None
    return both[:, : len(A)], both[:, len(A) :]


def zero_order_hold(A: np.ndarray, B: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """Exact for an input held during the step: (exp(delta A), (delta A)^-1 (exp(delta A) - I) delta B).

    A may be singular. Source: Mamba, arXiv 2312.00752, eq. 4 (MambaOut, eq. 1). A [N, N] or diagonal [N], B [N, M].

    >>> zero_order_hold(np.array([0.0]), np.array([[1.0]]), 0.5)
    (array([1.]), array([[0.5]]))
    """
    A, B, delta = _check(A, B, delta)
    if A.ndim == 1:
        return np.exp(delta * A), delta * B * hold_ratio(delta * A)[:, None]
    N, M = B.shape
    held = np.zeros((N + M, N + M), dtype=np.result_type(A, B))
    held[:N, :N] = A
    held[:N, N:] = B
    held = expm(delta * held)  # Van Loan 1978: [[exp(delta A), integral of exp(A s) B], [0, I]]
    return held[:N, :N], held[:N, N:]


def first_order(A: np.ndarray, B: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """Exact state, first-order input: (exp(delta A), delta B), as every released Mamba computes it.

    `hold_ratio(delta A)` tells how far this B is from the exact hold. A [N, N] or diagonal [N], B [N, M].

    >>> first_order(np.array([0.0]), np.array([[2.0]]), 0.5)
    (array([1.]), array([[1.]]))
    """
    A, B, delta = _check(A, B, delta)
    return (np.exp(delta * A) if A.ndim == 1 else expm(delta * A)), delta * B


METHODS: dict[str, Callable[[np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray]]] = {
    "euler": euler,
    "bilinear": bilinear,
    "zoh": zero_order_hold,
    "first_order": first_order,
}


def hold_ratio(x: ArrayLike) -> np.ndarray:
    """Return (exp(x) - 1) / x with its limit 1 at x = 0: the exact hold's B over the first-order B, for x = delta A.

    >>> hold_ratio([0.0, -0.1, -1.6]).round(3)
    array([1.   , 0.952, 0.499])
    """
    x = as_vector_or_matrix("x", x, axes=(0, 1, 2))
    return np.divide(np.expm1(x), x, out=np.ones_like(x), where=x != 0)


def largest_stable_euler_step(system: StateSpace) -> float:
    """Return the step from which on Euler's method is unstable: the least -2 Re(p) / |p|^2 over the poles p.

    At this delta, |1 + delta p| = 1 for the worst pole.

    Raises ValueError if the system itself is unstable: then no step is short enough.

    >>> largest_stable_euler_step(StateSpace([-1.0, -50.0], [1.0, 1.0], [1.0, 1.0]))
    0.04
    """
    if not system.is_stable:
        raise ValueError(f"no step is short enough: the system is not stable, its poles are {system.poles}")
    poles = system.poles
    return float(np.min(-2 * poles.real / np.abs(poles) ** 2, initial=np.inf))


def _check(A: np.ndarray, B: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray, float]:
    A = as_vector_or_matrix("A", A)
    B = as_vector_or_matrix("B", B, axes=(2,))
    if B.shape[0] != len(A) or state_matrix(A).shape != (len(A), len(A)):
        raise ValueError(f"expected A [N, N] or [N] and B [N, M]; got shapes {A.shape} and {B.shape}")
    return A, B, _check_delta(delta)


def _check_delta(delta: float) -> float:
    if isinstance(delta, complex) or np.ndim(delta) != 0:
        raise TypeError(f"delta must be one real number; got {delta!r}")
    if not delta > 0 or not np.isfinite(delta):
        raise ValueError(f"delta, the length of a step, must be positive and finite; got {delta}")
    return float(delta)
