"""Exercises of lesson 05 on scan orders: the inverse of an order, the serpentine, and the Z-order."""

import random
from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _inverse_cases(seed: int) -> list[Case]:
    import numpy as np

    shuffles = np.random.default_rng(seed)
    # Rasters and serpentines undo themselves, so they would tell nothing.
    orders = [np.arange(10).reshape(2, 5).T.ravel(), shuffles.permutation(7), np.roll(shuffles.permutation(12), 1)]
    return [Case((order,), {}) for order in (*orders, np.array([1, 2, 0]))]


def _undone(order: Any) -> Any:
    import numpy as np

    return np.argsort(order)


def _sorted(order: Any) -> Any:
    import numpy as np

    return np.sort(order)


_INVERSE = Exercise(
    id="flatten.inverse",
    lesson="05",
    objective="05.orders",
    kind="worked",
    difficulty=1,
    minutes=5,
    stub='''\
def my_inverse(order):
    """Return for every pixel the step at which it is read: whole numbers [L], as order [L]."""
    # Worked for order = [2, 0, 3, 1]:
    #     steps[2] = 0        step 0 reads pixel 2
    #     steps[0] = 1        step 1 reads pixel 0
    #     steps[3] = 2        and so on
    #     steps[1] = 3        so steps = [1, 3, 0, 2]
    # Now for any order. np.empty_like(order) makes room for the steps.
    return ...
''',
    reference="mambaout_edu.flatten.inverse",
    cases=_inverse_cases,
    diagnoses=(
        Diagnosis("order_itself", lambda order: order),
        Diagnosis("read_backwards", lambda order: order[::-1]),
        Diagnosis("applied_twice", lambda order: order[order]),
        Diagnosis("sorted", _sorted),
        Diagnosis("from_one", lambda order: _undone(order) + 1),
        Diagnosis("from_the_end", lambda order: len(order) - 1 - _undone(order)),
        Diagnosis("fractions", lambda order: _undone(order).astype(float)),
    ),
    equation="equation-inverse",
)


def _grid_cases(seed: int) -> list[Case]:
    draw = random.Random(seed)
    return [Case(size, {}) for size in ((3, 4), (4, 3), (1, 5), (5, 2), (draw.randint(2, 8), draw.randint(6, 9)))]


def _indices(height: int, width: int) -> Any:
    import numpy as np

    return np.arange(height * width).reshape(height, width)


def _turned(height: int, width: int, first: int = 1, every: int = 2) -> Any:
    """Return the grid [H, W] with every so many rows turned around, beginning with `first`."""
    grid = _indices(height, width)
    grid[first::every] = grid[first::every, ::-1].copy()
    return grid


def _by_columns(height: int, width: int) -> Any:
    rows, columns = divmod(_turned(width, height).ravel(), height)[::-1]
    return rows * width + columns


def _wrong_stride(height: int, width: int) -> Any:
    rows, columns = divmod(_turned(height, width).ravel(), width)
    return rows * height + columns


_SERPENTINE = Exercise(
    id="flatten.serpentine",
    lesson="05",
    objective="05.orders",
    kind="completion",
    difficulty=2,
    minutes=6,
    stub='''\
def my_serpentine(height, width):
    """Return the serpentine order, row-major indices [height * width].

    Rows from the top; row 0 from left to right, row 1 from right to left, and so on.
    """
    grid = np.arange(height * width).reshape(height, width)  # the index of every pixel
    # One line is missing: turn every second row around, beginning with row 1.
    # Then the rows, one after the other, are the order.
    return ...
''',
    reference="mambaout_edu.flatten.orders.serpentine",
    cases=_grid_cases,
    diagnoses=(
        Diagnosis("raster", lambda height, width: _indices(height, width).ravel()),
        Diagnosis("even_rows", lambda height, width: _turned(height, width, first=0).ravel()),
        Diagnosis("every_row", lambda height, width: _turned(height, width, first=0, every=1).ravel()),
        Diagnosis("by_columns", _by_columns),
        Diagnosis("from_below", lambda height, width: _turned(height, width)[::-1].ravel()),
        Diagnosis("backwards", lambda height, width: _turned(height, width).ravel()[::-1]),
        Diagnosis("wrong_stride", _wrong_stride),
        Diagnosis("still_a_grid", lambda height, width: _turned(height, width)),
    ),
    equation="equation-index",
)


def _zorder_cases(seed: int) -> list[Case]:
    draw = random.Random(seed)
    sizes = ((8, 8), (3, 9), (9, 3), (6, 4), (1, 3), (draw.randint(3, 9), draw.randint(5, 12)))
    return [Case(size, {}) for size in sizes]


def _code(height: int, width: int, place: Any, bits: Any = max) -> Any:
    """Return the number of every cell [H*W] whose bit b of row and column goes to `place(b)`, a pair."""
    import numpy as np

    rows, columns = divmod(np.arange(height * width), width)
    code = np.zeros(height * width, dtype=np.int64)
    for bit in range(bits(height, width).bit_length()):
        row, column = place(bit)
        code |= ((rows >> bit) & 1) << row | ((columns >> bit) & 1) << column
    return code


def _by_code(height: int, width: int, place: Any, bits: Any = max) -> Any:
    import numpy as np

    return np.argsort(_code(height, width, place, bits), kind="stable")


def _woven(bit: int) -> tuple[int, int]:
    return 2 * bit + 1, 2 * bit


def _low_bits_alone(bit: int) -> tuple[int, int]:
    """Weave the lowest bits and put the others behind each other: windows of 2 x 2, row by row."""
    return (1, 0) if bit == 0 else (20 + bit, 2 + bit)


_ZORDER = Exercise(
    id="flatten.zorder",
    lesson="05",
    objective="05.orders",
    kind="free",
    difficulty=4,
    minutes=15,
    stub='''\
def my_zorder(height, width):
    """Return the Z-order, row-major indices [height * width], for any height and width.

    Weave the bits of row and column of a cell into one number, the column's bit lowest:
    row 2 = 10 and column 3 = 11 in binary give 1101 = 13. Cells are read in ascending order of it.
    """
    rows, columns = np.divmod(np.arange(height * width), width)  # of every cell
    return ...
''',
    reference="mambaout_edu.flatten.curves.zorder",
    cases=_zorder_cases,
    diagnoses=(
        Diagnosis("row_bit_lowest", lambda height, width: _by_code(height, width, lambda bit: (2 * bit, 2 * bit + 1))),
        Diagnosis("numbers_themselves", lambda height, width: _code(height, width, _woven)),
        Diagnosis("steps_of_pixels", lambda height, width: _undone(_by_code(height, width, _woven))),
        Diagnosis("one_after_the_other", lambda height, width: _by_code(height, width, lambda bit: (bit, 20 + bit))),
        Diagnosis("low_bits_alone", lambda height, width: _by_code(height, width, _low_bits_alone)),
        Diagnosis("shorter_side", lambda height, width: _by_code(height, width, _woven, bits=min)),
        Diagnosis("descending", lambda height, width: _by_code(height, width, _woven)[::-1]),
    ),
    equation="equation-zorder",
)


EXERCISES = (_INVERSE, _SERPENTINE, _ZORDER)
