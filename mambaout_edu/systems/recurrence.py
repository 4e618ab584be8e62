"""A discrete system run two ways: step by step as a recurrence, all at once as a convolution."""

import numpy as np
from numpy.typing import ArrayLike

from mambaout_edu.systems.checks import as_vector_or_matrix
from mambaout_edu.systems.discretise import DiscreteStateSpace

__all__ = ["both_ways", "causal_convolution", "convolution_kernel", "input_memory", "run_recurrence"]


def run_recurrence(
    system: DiscreteStateSpace, u: ArrayLike, initial_state: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Step through `h_t = A h_(t-1) + B u_t`, `y_t = C h_t + D u_t`.

    Parameters
    ----------
    system
        The discrete system.
    u
        Inputs [L, M]; [L] where there is one input.
    initial_state
        The state before the first step [N]; zero when left out.

    Returns
    -------
    y
        Outputs [L, P]; [L] where u was [L] and there is one output.
    h
        The states after every step [L, N].

    Raises
    ------
    ValueError
        If u does not have M inputs, or the initial state not N entries.

    Examples
    --------
    >>> y, h = run_recurrence(DiscreteStateSpace([0.5], [1.0], [1.0], None, delta=1.0), [1.0, 0.0, 0.0])
    >>> y
    array([1.  , 0.5 , 0.25])
    """
    u, flat = _inputs(u, system)
    h = np.zeros(system.states) if initial_state is None else as_vector_or_matrix("initial_state", initial_state)
    if h.shape != (system.states,):
        raise ValueError(f"the initial state must be [N] = [{system.states}]; got shape {h.shape}")
    states = np.zeros((len(u), system.states), dtype=np.result_type(system.A, system.B, u, h))
    for t, driven in enumerate(u @ system.B.T):  # [N]
        h = (system.A * h if system.A.ndim == 1 else system.A @ h) + driven
        states[t] = h
    y = states @ system.C.T + u @ system.D.T  # [L, P]
    return (y[:, 0] if flat else y), states


def convolution_kernel(system: DiscreteStateSpace, length: int) -> np.ndarray:
    """Return K_t = C A^t B for t = 0 ... length - 1, [L, P, M]; [L] for one input and one output.

    An input t steps ago is weighted with K_t. The direct path D is not in it. Source: S4, arXiv 2111.00396, eq. 5.

    Raises ValueError if length is not positive.

    >>> convolution_kernel(DiscreteStateSpace([0.5], [1.0], [3.0], None, delta=1.0), 3)
    array([3.  , 1.5 , 0.75])
    """
    K = system.C @ input_memory(system, length)  # [L, P, M]
    return K[:, 0, 0] if K.shape[1:] == (1, 1) else K


def input_memory(system: DiscreteStateSpace, length: int) -> np.ndarray:
    """Return A^t B for t = 0 ... length - 1, [L, N, M]: what an input t steps ago has become in the state.

    Raises ValueError if length is not positive.

    >>> input_memory(DiscreteStateSpace([0.5], [1.0], [3.0], None, delta=1.0), 2)[:, 0, 0]
    array([1. , 0.5])
    """
    if length < 1:
        raise ValueError(f"the length must be at least 1; got {length}")
    left = np.zeros((length, *system.B.shape), dtype=np.result_type(system.A, system.B))
    left[0] = system.B
    for t in range(1, length):
        left[t] = system.A[:, None] * left[t - 1] if system.A.ndim == 1 else system.A @ left[t - 1]
    return left


def causal_convolution(u: ArrayLike, kernel: ArrayLike, method: str = "fft") -> np.ndarray:
    """Return y_t = sum over s of K_s u_(t-s), for s from 0 to t.

    Parameters
    ----------
    u
        Inputs [L].
    kernel
        Weights [K], K_0 for the newest input; it may be shorter or longer than u.
    method
        "fft" takes O(L log L) operations: both are padded with zeros to twice the length, so that nothing wraps
        around. "direct" sums term by term, O(L^2), and loses no digit to the transform.

    Returns
    -------
    y
        Outputs [L].

    Raises
    ------
    ValueError
        For another method, or an input that is empty or not a vector.

    Examples
    --------
    >>> causal_convolution([1.0, 0.0, 2.0], [1.0, 0.5], method="direct")
    array([1. , 0.5, 2. ])
    """
    u = as_vector_or_matrix("u", u, axes=(1,))
    K = as_vector_or_matrix("kernel", kernel, axes=(1,))
    L = len(u)
    if L == 0 or len(K) == 0:
        raise ValueError(f"u and kernel must not be empty; got lengths {L} and {len(K)}")
    if method == "direct":
        return np.convolve(u, K)[:L]
    if method != "fft":
        raise ValueError(f'method must be "fft" or "direct"; got {method!r}')
    padded = L + min(len(K), L)
    if np.iscomplexobj(u) or np.iscomplexobj(K):
        return np.fft.ifft(np.fft.fft(u, padded) * np.fft.fft(K[:L], padded))[:L]
    return np.fft.irfft(np.fft.rfft(u, padded) * np.fft.rfft(K[:L], padded), padded)[:L]


def both_ways(system: DiscreteStateSpace, u: ArrayLike, method: str = "fft") -> tuple[np.ndarray, np.ndarray]:
    """Return the outputs of one system by recurrence and by convolution, each [L]: they are the same numbers.

    The system has one input and one output and starts from rest.

    Raises ValueError for more inputs or outputs, or what `causal_convolution` refuses.

    >>> from mambaout_edu.systems import discretise, mass_spring
    >>> recurred, convolved = both_ways(discretise(mass_spring(), 0.1), np.sin(np.arange(50.0)))
    >>> bool(np.allclose(recurred, convolved, rtol=0, atol=1e-12))
    True
    """
    if (system.inputs, system.outputs) != (1, 1):
        raise ValueError(
            f"both_ways compares systems with one input and one output; got {system.inputs} and {system.outputs}"
        )
    u = as_vector_or_matrix("u", u, axes=(1,))
    recurred, _ = run_recurrence(system, u)
    convolved = causal_convolution(u, convolution_kernel(system, max(len(u), 1)), method) + system.D[0, 0] * u
    return recurred, convolved


def _inputs(u: ArrayLike, system: DiscreteStateSpace) -> tuple[np.ndarray, bool]:
    """Return u as [L, M], and whether the output is to be [L]."""
    u = as_vector_or_matrix("u", u)
    flat = u.ndim == 1 and system.outputs == 1
    u = u[:, None] if u.ndim == 1 else u
    if u.shape[1] != system.inputs:
        raise ValueError(
            f"the system has M = {system.inputs} inputs, so u must be [L, {system.inputs}]; got shape {u.shape}"
        )
    return u, flat
