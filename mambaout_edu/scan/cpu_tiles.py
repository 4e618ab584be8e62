"""Copies between tensors of any strides and the work arrays of the kernels, in vectors where an axis allows it."""

# mypy: allow-untyped-defs
# Numba finds the types of these functions from the signature in `cpu.py`.

from numba import njit

from mambaout_edu.scan.cpu_math import get, prefetch, put
from mambaout_edu.scan.cpu_vectors import LANES, copy_lanes, transpose_lanes

__all__ = ["ask_for_tile", "copy_plane", "load_tile", "load_weights", "places", "store_tile"]

PLAIN = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True}


@njit(**PLAIN)
def copy_numbers(to, i, i_row, i_column, source, j, j_row, j_column, rows, columns):
    for r in range(rows):
        for c in range(columns):
            put(to, i + r * i_row + c * i_column, get(source, j + r * j_row + c * j_column))


@njit(**PLAIN)
def copy_plane(to, i, i_row, i_column, source, j, j_row, j_column, rows, columns):
    """Copy rows x columns numbers from place j of one array to place i of another, each with its own strides."""
    upright = i_column == 1 and j_row == 1
    whole = columns // LANES * LANES
    if i_column == 1 and j_column == 1:
        for r in range(rows):
            for c in range(0, whole, LANES):
                copy_lanes(to, i + r * i_row + c, source, j + r * j_row + c)
    elif upright or (i_row == 1 and j_column == 1):
        squares = rows // LANES * LANES
        for r in range(0, squares, LANES):
            for c in range(0, whole, LANES):
                if upright:
                    transpose_lanes(to, i + r * i_row + c, i_row, source, j + r + c * j_column, j_column)
                else:
                    transpose_lanes(to, i + r + c * i_column, i_column, source, j + r * j_row + c, j_row)
        below_i, below_j = i + squares * i_row, j + squares * j_row
        copy_numbers(to, below_i, i_row, i_column, source, below_j, j_row, j_column, rows - squares, whole)
    else:
        whole = 0
    i, j = i + whole * i_column, j + whole * j_column
    copy_numbers(to, i, i_row, i_column, source, j, j_row, j_column, rows, columns - whole)


@njit(**PLAIN)
def places(array, b, t0, d0):
    """Return the place of array[b, t0, d0], and how far apart steps and channels are, counted in numbers."""
    size = array.itemsize
    over_time, over_channels = array.strides[1] // size, array.strides[2] // size
    return b * (array.strides[0] // size) + t0 * over_time + d0 * over_channels, over_time, over_channels


@njit(**PLAIN)
def load_tile(source, b, t0, d0, steps, width, w, place, row):
    """Copy source[b, t0:t0+steps, d0:d0+width] to a place of w, `row` from step to step."""
    first, over_time, over_channels = places(source, b, t0, d0)
    copy_plane(w, place, row, 1, source, first, over_time, over_channels, steps, width)


@njit(**PLAIN)
def store_tile(w, place, row, target, b, t0, d0, steps, width):
    """The way back of `load_tile`."""
    first, over_time, over_channels = places(target, b, t0, d0)
    copy_plane(target, first, over_time, over_channels, w, place, row, 1, steps, width)


@njit(**PLAIN)
def ask_for_tile(source, b, t0, d0, steps, width):
    """Prefetch the cache lines of a tile, if it is a whole one."""
    if t0 < 0 or t0 + steps > source.shape[1]:
        return
    first, over_time, over_channels = places(source, b, t0, d0)
    line = 64 // source.itemsize
    if over_channels == 1:
        for t in range(steps):
            for d in range(0, width, line):
                prefetch(source, first + t * over_time + d)
    else:
        for d in range(width):
            for t in range(0, steps, line):
                prefetch(source, first + t * over_time + d * over_channels)


@njit(**PLAIN)
def load_weights(source, b, t0, g, steps, into):
    """Copy B or C of a tile, [steps, N], so that a step's numbers lie together."""
    size = source.itemsize
    over_batch, over_time, over_groups, over_states = source.strides
    first = (b * over_batch + t0 * over_time + g * over_groups) // size
    row, column = over_time // size, over_states // size
    copy_plane(into, 0, into.shape[1], 1, source, first, row, column, steps, source.shape[3])
