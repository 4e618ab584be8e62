"""Multi-path strategies: several scans of one picture, whose results are added. NumPy only."""

import numpy as np
from numpy.typing import NDArray

from mambaout_edu.flatten.checks import check_size, unknown_name
from mambaout_edu.flatten.orders import OPTIONS, ORDERS, atrous_groups, check_options
from mambaout_edu.flatten.orders import order as order_of

__all__ = ["PATHS", "paths"]

PATHS = ("bidirectional", "cross", "plainmamba", "eight", "atrous")
"""The names that only `paths` knows, and atrous, whose groups it keeps apart."""

_FORWARD = {
    "cross": ("raster", "column"),
    "eight": ("raster", "column", "antidiagonal", "diagonal"),
}


def paths(
    name: str, height: int, width: int, *, order: str = "raster", window: int = 2, skip: int = 2, seed: int = 0
) -> list[NDArray[np.int64]]:
    """Return the paths of a multi-path strategy, each a read-only int64 array of row-major indices.

    Parameters
    ----------
    name
        One of `PATHS`, or of `ORDERS` for a single path. bidirectional: an order and its reverse (Vim, arXiv
        2401.09417). cross: raster, column, and the reverses of both (VMamba, arXiv 2401.10166). plainmamba: the two
        serpentines, each followed by its reverse (arXiv 2403.17695). eight: raster, column and both diagonals, then
        the four reverses (after RS-Mamba, arXiv 2404.02668). atrous: the phases of `skip`, which share the pixels
        among them and may differ in length (EfficientVMamba, arXiv 2403.09977).
    height, width
        Of the grid, 1 or more.
    order
        The order that bidirectional reads both ways.
    window, skip, seed
        As in `order`.

    Raises
    ------
    ValueError
        If the name is not known (with the nearest one), a number is out of range, or an option is given that the
        strategy does not use.
    TypeError
        If a size or an option is no whole number.

    Examples
    --------
    >>> for path in paths("cross", 2, 3):
    ...     print(path)
    [0 1 2 3 4 5]
    [0 3 1 4 2 5]
    [5 4 3 2 1 0]
    [5 2 4 1 3 0]
    """
    if not isinstance(name, str) or name not in (*PATHS, *ORDERS):
        raise unknown_name("strategy", name, (*PATHS, *(single for single in ORDERS if single not in PATHS)))
    if name != "bidirectional" and order != "raster":
        raise ValueError(f"{name!r} has no use for order={order!r}; only 'bidirectional' has. Leave order out")
    height, width = check_size(height, width)
    if name == "bidirectional":
        options = {"window": window, "skip": skip, "seed": seed}
        return [order_of(order, height, width, reverse=reverse, **options) for reverse in (False, True)]
    window, skip, seed = check_options(name, OPTIONS.get(name, ()), window=window, skip=skip, seed=seed)
    if name == "atrous":
        return atrous_groups(height, width, skip)
    if name == "plainmamba":
        both = [(base, reverse) for base in ("serpentine", "serpentine_columns") for reverse in (False, True)]
    elif name in _FORWARD:
        both = [(base, reverse) for reverse in (False, True) for base in _FORWARD[name]]
    else:
        return [order_of(name, height, width, window=window, skip=skip, seed=seed)]
    return [order_of(base, height, width, reverse=reverse) for base, reverse in both]
