"""Orders that follow a curve: Hilbert's, Morton's Z-order, and the inward spiral. NumPy only.

A curve takes height and width and returns the row-major indices in the order of the visit, int64 [H*W].
"""

import functools

import numpy as np
from numpy.typing import NDArray

__all__ = ["hilbert", "spiral", "zorder"]


def hilbert(height: int, width: int) -> NDArray[np.int64]:
    """Return the generalised Hilbert curve: every step goes to one of the four neighbours, on every grid.

    On squares of side 2^k it is Hilbert's curve (Ueber die stetige Abbildung einer Linie auf ein Flaechenstueck, 1891)
    from the upper left to the upper right corner. Other grids are halved in the same way; the idea of halving an
    oblong is Cerveny's ("gilbert").

    >>> hilbert(4, 4)
    array([ 0,  1,  5,  4,  8, 12, 13,  9, 10, 14, 15, 11,  7,  6,  2,  3])
    """
    longer, shorter = max(height, width), min(height, width)
    along_rows = width >= height
    if longer % 2 == 1 and shorter % 2 == 0:
        # A chessboard's colours alternate along the curve, so it cannot end beside a corner an even number away.
        along_rows = not along_rows
    if along_rows:
        columns, rows = _halved(width, height).T
    else:
        rows, columns = _halved(height, width).T
    return rows * width + columns


@functools.lru_cache(maxsize=64)
def _halved(length: int, breadth: int) -> NDArray[np.int64]:
    """Return the curve from cell (0, 0) to cell (length - 1, 0) as (along, across), [length * breadth, 2].

    Unit steps need an even length, or a length and a breadth that are both odd; every part keeps to that.
    """
    if breadth == 1:
        return np.stack([np.arange(length), np.zeros(length, dtype=np.int64)], axis=1)
    if 2 * length > 3 * breadth:  # a strip: one part after the other
        first = _even_half(length)
        return np.concatenate([_halved(first, breadth), np.array([first, 0]) + _halved(length - first, breadth)])
    # Hilbert's step: away across the first half, along the far side, and back across the second half.
    near, half = _even_half(breadth), length // 2
    away = _halved(near, half)[:, ::-1]
    along = np.array([0, near]) + _halved(length, breadth - near)
    back = np.array([length - 1, near - 1]) - _halved(near, length - half)[:, ::-1]
    return np.concatenate([away, along, back])


def _even_half(n: int) -> int:
    """Return n // 2, made even by adding 1; but 1 for n = 2."""
    half = n // 2
    return half + 1 if half % 2 == 1 and n > 2 else half


def zorder(height: int, width: int) -> NDArray[np.int64]:
    """Return the Z-order (Morton, 1966): cells sorted by the interleaved bits of row and column, column bit lowest.

    >>> zorder(2, 4)
    array([0, 1, 4, 5, 2, 3, 6, 7])
    """
    rows, columns = np.divmod(np.arange(height * width), width)
    code = np.zeros(height * width, dtype=np.int64)
    for bit in range(max(height, width).bit_length()):
        code |= ((columns >> bit) & 1) << (2 * bit)
        code |= ((rows >> bit) & 1) << (2 * bit + 1)
    return np.argsort(code)


def spiral(height: int, width: int) -> NDArray[np.int64]:
    """Return the inward spiral: clockwise from the upper left corner, first along the top row.

    >>> spiral(3, 3)
    array([0, 1, 2, 5, 8, 7, 6, 3, 4])
    """
    rows, columns = np.divmod(np.arange(height * width), width)
    ring = np.minimum(np.minimum(rows, columns), np.minimum(height - 1 - rows, width - 1 - columns))
    down, right = rows - ring, columns - ring
    bottom, side = height - 1 - 2 * ring, width - 1 - 2 * ring  # the last row and column of the cell's ring
    place = np.select(
        [down == 0, right == side, down == bottom],
        [right, side + down, 2 * side + bottom - right],
        default=2 * (side + bottom) - down,
    )
    return np.lexsort((place, ring))
