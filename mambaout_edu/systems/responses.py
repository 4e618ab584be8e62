"""What a continuous system answers to a tap, a step, a sine wave or an initial state; exact, not stepped."""

import math

import numpy as np
from numpy.typing import ArrayLike

from mambaout_edu.systems.checks import as_vector_or_matrix, check_times, state_matrix
from mambaout_edu.systems.continuous import StateSpace

__all__ = ["expm", "frequency_response", "impulse_response", "initial_response", "step_response"]

_DEGREE = 13  # of numerator and denominator of the Pade approximant
_LARGEST_NORM = 5.37  # up to this 1-norm, degree 13 is exact to double precision (Higham 2005)
# Coefficients of the numerator; the denominator has the same with alternating signs.
_COEFFICIENTS = [
    math.comb(_DEGREE, k) * math.factorial(2 * _DEGREE - k) / math.factorial(2 * _DEGREE) for k in range(_DEGREE + 1)
]


def expm(X: ArrayLike) -> np.ndarray:
    """Return the matrix exponential of X, or of every matrix of a stack [..., N, N].

    Method: scaling and squaring with the degree-13 Pade approximant. The matrix is halved until its 1-norm is at
    most 5.37, exponentiated, and squared as often as it was halved. Source: Higham, "The scaling and squaring
    method for the matrix exponential revisited", SIAM J. Matrix Anal. Appl. 26 (2005).

    Raises
    ------
    ValueError
        If X is not square, not finite, or its exponential is beyond double precision.
    TypeError
        If X does not hold numbers.

    Examples
    --------
    >>> expm([[0.0, 1.0], [0.0, 0.0]])
    array([[1., 1.],
           [0., 1.]])
    """
    X = as_vector_or_matrix("X", X, axes=tuple(range(2, max(np.ndim(X), 2) + 1)))
    if X.shape[-1] != X.shape[-2]:
        raise ValueError(f"the matrix exponential needs square matrices [..., N, N]; got shape {X.shape}")
    norm = np.abs(X).sum(axis=-2).max(axis=-1, initial=0.0)  # [...]
    halvings = np.ceil(np.log2(np.maximum(norm / _LARGEST_NORM, 1.0))).astype(int)  # [...]
    Y = _pade(X * np.exp2(-halvings)[..., None, None])
    with np.errstate(over="ignore", invalid="ignore"):
        for done in range(halvings.max(initial=0)):
            Y = np.where((halvings > done)[..., None, None], Y @ Y, Y)
    if not np.all(np.isfinite(Y)):
        raise ValueError(
            f"the matrix exponential overflows: the largest 1-norm is {norm.max():g}. Where the system is unstable, "
            "ask for shorter times."
        )
    return Y


def _pade(X: np.ndarray) -> np.ndarray:
    """Approximate exp(X) [..., N, N] for a small norm: even and odd powers, then one solve."""
    square = X @ X
    power = np.broadcast_to(np.eye(X.shape[-1]), X.shape)
    even, odd = np.zeros_like(X), np.zeros_like(X)
    for k in range(0, _DEGREE, 2):
        even = even + _COEFFICIENTS[k] * power
        odd = odd + _COEFFICIENTS[k + 1] * power
        power = power @ square
    odd = X @ odd
    return np.linalg.solve(even - odd, even + odd)


def impulse_response(system: StateSpace, times: ArrayLike) -> np.ndarray:
    """Return C exp(A t) B for every time t: what a short, sharp tap of area 1 leaves behind, [T, P, M].

    The direct path D would add an infinitely short spike at t = 0, which is left out.

    Parameters
    ----------
    system
        The system that is tapped at t = 0, at rest before.
    times
        Times t >= 0 [T], in the system's unit (s).

    Raises
    ------
    ValueError
        If a time is negative or not finite, or the response overflows.

    Examples
    --------
    >>> from mambaout_edu.systems import StateSpace
    >>> impulse_response(StateSpace([-1.0], [1.0], [1.0]), [0.0, 1.0])[:, 0, 0].round(4)
    array([1.    , 0.3679])
    """
    return system.C @ _powers(system.A, check_times("times", times)) @ system.B


def step_response(system: StateSpace, times: ArrayLike) -> np.ndarray:
    """Return the output at every time after the input was switched from 0 to 1 at t = 0, [T, P, M].

    The integral of exp(A s) B over s is read off the exponential of [[A, B], [0, 0]] t, so A may be singular.
    Source: Van Loan, "Computing integrals involving the matrix exponential", IEEE Trans. Autom. Control 23 (1978).

    Raises ValueError if a time is negative or not finite, or the response overflows.

    >>> from mambaout_edu.systems import StateSpace
    >>> step_response(StateSpace([-1.0], [1.0], [1.0]), [0.0, 1.0])[:, 0, 0].round(4)
    array([0.    , 0.6321])
    """
    N, M = system.states, system.inputs
    held = np.zeros((N + M, N + M), dtype=np.result_type(system.A, system.B))
    held[:N, :N] = state_matrix(system.A)
    held[:N, N:] = system.B
    reached = _powers(held, check_times("times", times))[:, :N, N:]  # [T, N, M]
    return system.C @ reached + system.D


def initial_response(system: StateSpace, state: ArrayLike, times: ArrayLike) -> np.ndarray:
    """Return the state at every time when it is let go from `state` [N] with no input, [T, N].

    Raises ValueError if `state` has another length than N, a time is negative, or the response overflows.

    >>> from mambaout_edu.systems import mass_spring
    >>> initial_response(mass_spring(1.0, 0.0, 1.0), [1.0, 0.0], [0.0, np.pi]).round(4)[:, 0]
    array([ 1., -1.])
    """
    state = as_vector_or_matrix("state", state, axes=(1,))
    if len(state) != system.states:
        raise ValueError(f"the system has {system.states} states; got an initial state of length {len(state)}")
    return _powers(system.A, check_times("times", times)) @ state


def frequency_response(system: StateSpace, omega: ArrayLike) -> np.ndarray:
    """Return the transfer matrix at j omega for every angular frequency, complex [W, P, M].

    Its absolute value is the gain of a sine wave, its angle the phase by which the sine comes out early.

    Parameters
    ----------
    system
        The system that the sine waves pass.
    omega
        Angular frequencies [W], in rad/s.

    Raises
    ------
    ValueError
        If a frequency is negative or meets a pole on the imaginary axis.

    Examples
    --------
    >>> from mambaout_edu.systems import StateSpace
    >>> abs(frequency_response(StateSpace([-1.0], [1.0], [1.0]), [0.0, 1.0]))[:, 0, 0].round(4)
    array([1.    , 0.7071])
    """
    omega = check_times("omega", omega)
    if len(omega) == 0:
        return np.zeros((0, system.outputs, system.inputs), dtype=complex)
    return np.stack([system.transfer(1j * w) for w in omega])


def _powers(A: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return exp(A t) for every time, [T, N, N]; A [N, N] or its diagonal [N]."""
    if A.ndim == 2:
        return expm(A * times[:, None, None])
    with np.errstate(over="ignore", invalid="ignore"):
        diagonal = np.exp(times[:, None] * A)  # [T, N]
    if not np.all(np.isfinite(diagonal)):
        raise ValueError("the response overflows: the system is unstable, ask for shorter times")
    return diagonal[:, :, None] * np.eye(len(A))
