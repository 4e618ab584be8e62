"""What orders and sizes must be, and what is said when they are not."""

import difflib
import operator
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["as_index", "check_order", "check_size", "check_whole", "unknown_name"]


def check_whole(name: str, value: object, least: int, most: int | None = None) -> int:
    """Return `value` as an int from `least` to `most`.

    Raises TypeError if it is no whole number, ValueError if it is out of range.

    >>> check_whole("window", np.int64(2), least=1)
    2
    """
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be a whole number; got {value!r} of type {type(value).__name__}") from None
    if number < least or (most is not None and number > most):
        wanted = f"{least} or more" if most is None else f"{least} to {most}"
        raise ValueError(f"{name} is {number}; expected {wanted}")
    return number


def check_size(height: object, width: object) -> tuple[int, int]:
    """Return a grid's height and width as ints.

    Raises TypeError or ValueError unless both are whole numbers from 1.

    >>> check_size(2, 3)
    (2, 3)
    """
    return check_whole("height", height, 1), check_whole("width", width, 1)


def unknown_name(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """Return the error for a name that is not known; it lists the known ones and the nearest.

    >>> print(unknown_name("order", "hibert", ["raster", "hilbert"]))
    unknown order 'hibert'; did you mean 'hilbert'? Known are raster, hilbert
    """
    known = list(known)
    near = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}? Known are " if near else "; known are "
    return ValueError(f"unknown {kind} {name!r}{hint}{', '.join(known)}")


def as_index(order: ArrayLike) -> NDArray[np.int64]:
    """Return an order or a path as int64 [L].

    Raises TypeError if it does not hold whole numbers, ValueError for other axes or no entries.

    >>> as_index([2, 0, 1])
    array([2, 0, 1])
    """
    index = np.asarray(order)
    if index.ndim != 1 or index.size == 0:
        raise ValueError(f"an order must be one row of indices [L], L at least 1; got shape {index.shape}")
    if index.dtype.kind not in "iu":
        raise TypeError(f"an order must hold whole numbers; got dtype {index.dtype}")
    return index.astype(np.int64, copy=False)


def check_order(order: ArrayLike, size: int) -> NDArray[np.int64]:
    """Return an order as int64 [size], sure to visit each of the indices 0 ... size - 1 once.

    Raises TypeError if it does not hold whole numbers, ValueError if its length is not `size`, or an index is
    outside, repeated or missing.

    >>> check_order([2, 0, 1], 3)
    array([2, 0, 1])
    """
    index = as_index(order)
    if len(index) != size:
        raise ValueError(f"the order has {len(index)} indices, but there are {size} pixels; each must be visited once")
    outside = index[(index < 0) | (index >= size)]
    if outside.size:
        raise ValueError(f"the order holds index {outside[0]}; expected 0 to {size - 1} for {size} pixels")
    visits = np.bincount(index, minlength=size)
    if visits.max() > 1:
        repeated, missing = int(visits.argmax()), int(visits.argmin())
        raise ValueError(
            f"the order visits index {repeated} {visits[repeated]} times and index {missing} never; "
            "expected each index once"
        )
    return index
