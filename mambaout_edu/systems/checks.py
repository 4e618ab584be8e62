"""What the systems ask of their arrays, and what they say when they get something else."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["as_vector_or_matrix", "check_times", "freeze_system", "state_matrix"]


def as_vector_or_matrix(name: str, value: ArrayLike, axes: tuple[int, ...] = (1, 2)) -> np.ndarray:
    """Return `value` as float64 or complex128 with an allowed number of axes.

    Raises TypeError if it does not hold numbers, ValueError for other axes, NaN or infinity.

    >>> as_vector_or_matrix("B", [1, 2])
    array([1., 2.])
    """
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} must be a rectangular array; its rows have different lengths") from None
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name} must hold numbers; got {type(value).__name__} of dtype {array.dtype}")
    if array.ndim not in axes:
        allowed = " or ".join(str(axis) for axis in axes)
        raise ValueError(f"{name} must have {allowed} axes; got {array.ndim}, shape {array.shape}")
    array = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite; it holds NaN or infinity")
    return array


def freeze_system(system: Any, A: ArrayLike, B: ArrayLike, C: ArrayLike, D: ArrayLike | None) -> None:
    """Check A, B, C, D against each other and store them on a frozen dataclass as read-only arrays.

    Raises ValueError if the shapes do not fit: A [N, N] or [N], B [N, M], C [P, N], D [P, M].
    """
    A = as_vector_or_matrix("A", A)
    if A.ndim == 2 and A.shape[0] != A.shape[1]:
        raise ValueError(f"A must be square [N, N], or a diagonal [N]; got shape {A.shape}")
    N = len(A)
    B = as_vector_or_matrix("B", B)
    B = B[:, None] if B.ndim == 1 else B  # [N, M]
    C = as_vector_or_matrix("C", C)
    C = C[None, :] if C.ndim == 1 else C  # [P, N]
    if B.shape[0] != N:
        raise ValueError(f"A has N = {N} states, so B must be [N, M] = [{N}, M]; got shape {B.shape}")
    if C.shape[1] != N:
        raise ValueError(f"A has N = {N} states, so C must be [P, N] = [P, {N}]; got shape {C.shape}")
    P, M = C.shape[0], B.shape[1]
    D = np.zeros((P, M)) if D is None else as_vector_or_matrix("D", D, axes=(0, 1, 2))
    D = D.reshape(1, 1) if D.size == 1 else D
    if D.shape != (P, M):
        raise ValueError(f"C has P = {P} outputs and B has M = {M} inputs, so D must be [{P}, {M}]; got {D.shape}")
    for name, array in {"A": A, "B": B, "C": C, "D": D}.items():
        array.setflags(write=False)
        object.__setattr__(system, name, array)


def state_matrix(A: np.ndarray) -> np.ndarray:
    """Return A as a matrix [N, N], also where it is stored as a diagonal [N].

    >>> state_matrix(np.array([1.0, 2.0]))
    array([[1., 0.],
           [0., 2.]])
    """
    return np.diag(A) if A.ndim == 1 else A


def check_times(name: str, values: ArrayLike, at_least: float = 0.0) -> np.ndarray:
    """Return `values` as a real vector [T] of numbers not below `at_least`.

    Raises ValueError or TypeError otherwise.

    >>> check_times("times", [0, 1])
    array([0., 1.])
    """
    array = as_vector_or_matrix(name, values, axes=(1,))
    if np.iscomplexobj(array) or np.any(array < at_least):
        raise ValueError(f"{name} must be real and at least {at_least:g}; the smallest given is {array.real.min():g}")
    return array
