"""Initial states that remember: HiPPO-LegS, its diagonal relatives S4D, and what of the past they hold."""

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import ArrayLike

from mambaout_edu.systems.checks import as_vector_or_matrix
from mambaout_edu.systems.continuous import StateSpace
from mambaout_edu.systems.discretise import DiscreteStateSpace, zero_order_hold
from mambaout_edu.systems.recurrence import input_memory

__all__ = [
    "hippo_legs",
    "legs_memory",
    "legs_reconstruct",
    "memory_curve",
    "s4d_inv",
    "s4d_lin",
    "s4d_real",
    "with_conjugates",
]


def hippo_legs(states: int) -> tuple[np.ndarray, np.ndarray]:
    """Return HiPPO-LegS: A [N, N], lower triangular with poles -1 ... -N, and B [N, 1].

    A[n, k] = -sqrt((2n + 1)(2k + 1)) below the diagonal, -(n + 1) on it; B[n] = sqrt(2n + 1). Source: Gu et al.,
    "HiPPO: recurrent memory with optimal polynomial projections", arXiv 2008.07669, theorem 2.

    Raises ValueError if `states` is not positive.

    >>> A, B = hippo_legs(2)
    >>> A.round(3)
    array([[-1.   ,  0.   ],
           [-1.732, -2.   ]])
    """
    n = np.arange(_check_states(states))
    root = np.sqrt(2.0 * n + 1)
    A = np.tril(np.outer(-root, root), -1) - np.diag(n + 1.0)
    return A, root[:, None]


def s4d_real(states: int) -> np.ndarray:
    """Return the poles -1, -2, ..., -N of S4D-Real, [N]: the diagonal of HiPPO-LegS and Mamba's initial A.

    Source: Gu et al., "On the parameterization and initialization of diagonal state space models", arXiv 2206.11893.

    Raises ValueError if `states` is not positive.

    >>> s4d_real(3)
    array([-1., -2., -3.])
    """
    return -(np.arange(_check_states(states)) + 1.0)


def s4d_lin(states: int) -> np.ndarray:
    """Return the poles -1/2 + i pi n of S4D-Lin, n = 0 ... N/2 - 1, complex [N/2].

    Each stands for a pair of conjugate poles (see `with_conjugates`), so N is even. Source: arXiv 2206.11893.

    Raises ValueError if `states` is not positive and even.

    >>> s4d_lin(4).round(3)
    array([-0.5+0.j   , -0.5+3.142j])
    """
    return -0.5 + 1j * np.pi * np.arange(_check_even(states) // 2)


def s4d_inv(states: int) -> np.ndarray:
    """Return the poles -1/2 + i N/pi (N / (2n + 1) - 1) of S4D-Inv, n = 0 ... N/2 - 1, complex [N/2].

    They approach the poles of HiPPO-LegS's normal part. Each stands for a pair of conjugate poles, so N is even.
    Source: arXiv 2206.11893.

    Raises ValueError if `states` is not positive and even.

    >>> s4d_inv(4).round(3)
    array([-0.5+3.82j , -0.5+0.424j])
    """
    n = np.arange(_check_even(states) // 2)
    return -0.5 + 1j * states / np.pi * (states / (2 * n + 1) - 1)


def with_conjugates(system: StateSpace) -> StateSpace:
    """Add the conjugate of every state of a diagonal complex system: the output for a real input becomes real.

    It is then twice the real part of the half system's output, as S4D and complex Mamba compute it. The direct path
    stays as it is.

    Raises ValueError if A is not a diagonal [N], or D is not real.

    >>> half = StateSpace(s4d_lin(4), [1, 1], [1, 1])
    >>> with_conjugates(half).poles.imag.round(3) + 0.0
    array([-3.142,  0.   ,  0.   ,  3.142])
    """
    if system.A.ndim != 1:
        raise ValueError(f"with_conjugates takes a diagonal A [N]; got shape {system.A.shape}")
    if np.any(np.imag(system.D)):
        raise ValueError("with_conjugates takes a real D, because the output is to be real")
    return StateSpace(
        np.concatenate([system.A, system.A.conj()]),
        np.vstack([system.B, system.B.conj()]),
        np.hstack([system.C, system.C.conj()]),
        system.D.real,
    )


def legs_memory(u: ArrayLike, states: int) -> np.ndarray:
    """Return what HiPPO-LegS remembers after every input, [L, N]: coefficients of Legendre polynomials.

    The state follows `dh/dt = (A h + B u) / t`, the time-varying system of HiPPO, with the input held for one unit
    of time each. With log t for the time it is time-invariant, so each step is an exact hold of length log(t/(t-1)):
    the state is exactly the best approximation, in the mean square, of all of the past by a polynomial of degree
    N - 1. Source: arXiv 2008.07669, theorem 2.

    Parameters
    ----------
    u
        The signal [L].
    states
        N, how many coefficients are kept.

    Raises
    ------
    ValueError
        If `states` is not positive or u is not a vector.

    Examples
    --------
    >>> legs_memory([2.0, 2.0, 2.0], states=2)[-1].round(6) + 0.0  # a constant is its own first coefficient
    array([2., 0.])
    """
    u = as_vector_or_matrix("u", u, axes=(1,))
    A, B = hippo_legs(states)
    h = np.zeros((len(u), states), dtype=u.dtype)
    for t, held in enumerate(u):
        if t == 0:
            h[0, 0] = held  # the past is a constant: the limit -A^-1 B u of an endless hold
            continue
        A_bar, B_bar = zero_order_hold(A, B, float(np.log1p(1 / t)))
        h[t] = A_bar @ h[t - 1] + B_bar[:, 0] * held
    return h


def legs_reconstruct(state: ArrayLike, position: ArrayLike) -> np.ndarray:
    """Read the past back from a HiPPO-LegS state: sum over n of h_n sqrt(2n + 1) P_n(2x - 1).

    Parameters
    ----------
    state
        Coefficients h [N].
    position
        Where in the past to look, x from 0 to 1. For the state of `legs_memory` x is the share of the time so far: 0
        is the beginning, 1 is now. For the time-invariant system (A, B) of `hippo_legs`, S4's, an input s ago lies at
        x = exp(-s).

    Returns
    -------
    past
        The remembered signal, in the shape of `position`.

    Raises
    ------
    ValueError
        If a position lies outside 0 ... 1.

    Examples
    --------
    >>> state = legs_memory(np.arange(100.0), states=2)[-1]
    >>> legs_reconstruct(state, [0.0, 0.5, 1.0]).round(1)  # a straight line needs two coefficients
    array([-0.5, 49.5, 99.5])
    """
    h = as_vector_or_matrix("state", state, axes=(1,))
    x = as_vector_or_matrix("position", position, axes=(0, 1, 2))
    if np.iscomplexobj(x) or np.any((x < 0) | (x > 1)):
        raise ValueError("positions in the past run from 0 (the beginning) to 1 (now); some lie outside")
    return legendre.legval(2 * x - 1, h * np.sqrt(2.0 * np.arange(len(h)) + 1))


def memory_curve(system: DiscreteStateSpace, length: int) -> np.ndarray:
    """Return the weight in the state of an input 0 ... length - 1 steps ago: the norm of A^k B, [L].

    With several inputs it is the Frobenius norm. What the output can see of it is `convolution_kernel`.

    Raises ValueError if length is not positive.

    >>> memory_curve(DiscreteStateSpace([0.5], [2.0], [1.0], None, delta=1.0), 3)
    array([2. , 1. , 0.5])
    """
    return np.linalg.norm(input_memory(system, length), axis=(1, 2))


def _check_states(states: int) -> int:
    if not isinstance(states, int | np.integer):
        raise TypeError(f"states must be a whole number; got {states!r}")
    if states < 1:
        raise ValueError(f"states, the size N of the memory, must be at least 1; got {states}")
    return int(states)


def _check_even(states: int) -> int:
    if _check_states(states) % 2:
        raise ValueError(f"complex poles come in conjugate pairs, so states must be even; got {states}")
    return int(states)
