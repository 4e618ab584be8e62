"""Scan orders: which pixel of a grid is read at which step. NumPy only.

An order of a grid of H x W pixels is an int64 array [H*W]: entry t is the row-major index r*W + c visited at step t.
"""

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mambaout_edu.flatten.checks import as_index, check_order, check_size, check_whole, unknown_name
from mambaout_edu.flatten.curves import hilbert, spiral, zorder

__all__ = ["OPTIONS", "ORDERS", "atrous_groups", "check_options", "inverse", "made", "order"]

Index = NDArray[np.int64]

_DEFAULTS = {"window": 2, "skip": 2, "seed": 0}
OPTIONS = {"window": ("window",), "window_columns": ("window",), "atrous": ("skip",), "random": ("seed",)}
"""The options that a name uses; names that are not here use none."""


def raster(height: int, width: int) -> Index:
    """Rows from the top, each from left to right."""
    return np.arange(height * width)


def serpentine(height: int, width: int) -> Index:
    """Rows from the top, every second one from right to left."""
    grid = np.arange(height * width).reshape(height, width)
    grid[1::2] = grid[1::2, ::-1].copy()
    return grid.ravel()


def antidiagonal(height: int, width: int) -> Index:
    """Groups of equal r + c, rows ascending inside a group."""
    rows, columns = _cells(height, width)
    return np.lexsort((rows, rows + columns))


def diagonal(height: int, width: int) -> Index:
    """The same from the upper right corner: groups of equal r + (W - 1 - c)."""
    rows, columns = _cells(height, width)
    return np.lexsort((rows, rows - columns))


def zigzag(height: int, width: int) -> Index:
    """Groups of equal r + c, read up and down in turn, as JPEG reads its coefficients."""
    rows, columns = _cells(height, width)
    group = rows + columns
    return np.lexsort((np.where(group % 2 == 0, -rows, rows), group))


def windows(height: int, width: int, window: int) -> Index:
    """Windows row by row, their cells row by row; those at the right and lower edge are cut."""
    rows, columns = _cells(height, width)
    return np.lexsort((columns % window, rows % window, columns // window, rows // window))


def atrous(height: int, width: int, skip: int) -> Index:
    """The groups of the atrous scan one after the other."""
    return np.concatenate(atrous_groups(height, width, skip))


def atrous_groups(height: int, width: int, skip: int) -> list[Index]:
    """Return the phases of the atrous scan, empty ones left out (EfficientVMamba, arXiv 2403.09977).

    Phase (i, j) holds rows i, i + skip, … and columns j, j + skip, …; it is read by rows where i is even, by columns
    where i is odd. j is the outer loop.

    >>> atrous_groups(2, 4, 2)
    [array([0, 2]), array([4, 6]), array([1, 3]), array([5, 7])]
    """
    grid = np.arange(height * width).reshape(height, width)
    phases = [(i, grid[i::skip, j::skip]) for j in range(min(skip, width)) for i in range(min(skip, height))]
    groups = [(cells.T if i % 2 else cells).ravel() for i, cells in phases]
    for group in groups:
        group.setflags(write=False)
    return groups


def shuffled(height: int, width: int, seed: int) -> Index:
    """Sort indices by a 32-bit hash of index and seed, so that any language can repeat it exactly."""
    x = np.arange(height * width, dtype=np.uint64) * np.uint64(0x9E3779B1)
    x = _low32(x + np.uint64(seed * 0x85EBCA77 % 2**32) + np.uint64(0x165667B1))
    x ^= x >> np.uint64(16)
    x = _low32(x * np.uint64(0x7FEB352D))
    x ^= x >> np.uint64(15)
    x = _low32(x * np.uint64(0x846CA68B))
    x ^= x >> np.uint64(16)
    return np.argsort(x, kind="stable")


def _low32(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return x & np.uint64(0xFFFFFFFF)


def _cells(height: int, width: int) -> tuple[Index, Index]:
    rows, columns = np.divmod(np.arange(height * width), width)
    return rows, columns


def _by_columns(make: Callable[..., Index]) -> Callable[..., Index]:
    """Return the order that reads the transposed grid as `make` reads the grid."""

    def transposed(height: int, width: int, *options: int) -> Index:
        columns, rows = np.divmod(make(width, height, *options), height)
        return rows * width + columns

    return transposed


_MAKERS: dict[str, Callable[..., Index]] = {
    "raster": raster,
    "column": _by_columns(raster),
    "serpentine": serpentine,
    "serpentine_columns": _by_columns(serpentine),
    "antidiagonal": antidiagonal,
    "diagonal": diagonal,
    "zigzag": zigzag,
    "spiral": spiral,
    "zorder": zorder,
    "hilbert": hilbert,
    "window": windows,
    "window_columns": _by_columns(windows),
    "atrous": atrous,
    "random": shuffled,
}
ORDERS = tuple(_MAKERS)
"""The names that `order` knows."""


def check_options(name: str, used: tuple[str, ...], *, window: int, skip: int, seed: int) -> tuple[int, int, int]:
    """Return the three options as ints, once each is in range, and at its default where `name` does not use it.

    Raises TypeError or ValueError otherwise.

    >>> check_options("window", ("window",), window=7, skip=2, seed=0)
    (7, 2, 0)
    """
    given = {
        "window": check_whole("window", window, 1),
        "skip": check_whole("skip", skip, 1),
        "seed": check_whole("seed", seed, 0, 2**32 - 1),
    }
    for option, value in given.items():
        if option not in used and value != _DEFAULTS[option]:
            uses = f"it uses {' and '.join(used)}" if used else "it has no options"
            raise ValueError(f"{name!r} has no use for {option}={value}; {uses}. Leave {option} out")
    return given["window"], given["skip"], given["seed"]


def order(
    name: str, height: int, width: int, *, reverse: bool = False, window: int = 2, skip: int = 2, seed: int = 0
) -> NDArray[np.int64]:
    """Return the order in which a scan reads a grid, as row-major indices int64 [height * width], read-only.

    Parameters
    ----------
    name
        One of `ORDERS`. raster, column: plain rows or columns. serpentine, serpentine_columns: there and back
        (PlainMamba, arXiv 2403.17695). antidiagonal, diagonal, zigzag: along diagonals. spiral: inward, clockwise.
        zorder: interleaved bits. hilbert: halved again and again, unit steps on every grid. window, window_columns:
        inside square windows first (LocalMamba, arXiv 2403.09338). atrous: every `skip`-th pixel first
        (EfficientVMamba, arXiv 2403.09977). random: shuffled.
    height, width
        Of the grid, 1 or more.
    reverse
        Read it backwards.
    window
        Side of a window in pixels, for window and window_columns.
    skip
        Distance in pixels, for atrous.
    seed
        For random, 0 to 2^32 - 1.

    Raises
    ------
    ValueError
        If the name is not known (with the nearest one), a number is out of range, or an option is given that the
        order does not use.
    TypeError
        If a size or an option is no whole number.

    Examples
    --------
    >>> order("serpentine", 2, 3)
    array([0, 1, 2, 5, 4, 3])
    >>> order("window", 2, 4, window=2, reverse=True)
    array([7, 6, 3, 2, 5, 4, 1, 0])
    """
    if not isinstance(name, str) or name not in _MAKERS:
        raise unknown_name("order", name, ORDERS)
    height, width = check_size(height, width)
    used = OPTIONS.get(name, ())
    window, skip, seed = check_options(name, used, window=window, skip=skip, seed=seed)
    values = {"window": window, "skip": skip, "seed": seed}
    return made(name, height, width, bool(reverse), tuple(values[option] for option in used))


def made(name: str, height: int, width: int, reverse: bool, options: tuple[int, ...]) -> Index:
    """Return the order of arguments that were checked; `flatten.gather` has torch.compile keep what it returns."""
    return _cached(name, height, width, reverse, options)


@functools.lru_cache(maxsize=64)
def _cached(name: str, height: int, width: int, reverse: bool, options: tuple[int, ...]) -> Index:
    index = _MAKERS[name](height, width, *options)
    index = np.array(index[::-1] if reverse else index, dtype=np.int64, order="C")  # a copy, of positive stride
    index.setflags(write=False)  # every caller gets this very array
    return index


def inverse(order: ArrayLike) -> NDArray[np.int64]:
    """Return the inverse of an order, int64 [L]: entry i is the step at which index i is visited.

    Raises ValueError if an index is outside, repeated or missing, TypeError if the order holds no whole numbers.

    >>> inverse([2, 0, 1])
    array([1, 2, 0])
    """
    index = check_order(order, len(as_index(order)))
    steps = np.empty_like(index)
    steps[index] = np.arange(len(index))
    return steps
