"""The array that a kernel works in: its rows, and what fills and empties those that do not change from step to step.

It is made of rows of BLOCK numbers. First come TILE rows for each quantity that has one row a step (dt, x = dt u, y,
...), then rows for each block, then room for what one state goes through within a tile, then one
slot of rows for each state: its A, its h, ... Padding channels hold zeros, which stay zeros.
"""

# mypy: allow-untyped-defs
# Numba finds the types of these functions from the signature in `cpu.py`.

import numpy as np
from numba import njit

from mambaout_edu.scan.cpu_lanes import BLOCK
from mambaout_edu.scan.cpu_math import get, put
from mambaout_edu.scan.cpu_saved import TILE
from mambaout_edu.scan.cpu_tiles import PLAIN, copy_plane, places

__all__ = ["block_of", "keep_states", "kept_states", "load_block", "load_state", "new_work", "no_state", "store_state"]

# Rows of the work array: TILE for a quantity of the steps, ...
DT, X, Y, U, DY, DZ, FED, PULL, SLOPE, PER_BLOCK = (TILE * i for i in range(10))
# ... one for a quantity of the block, ...
SKIP, BIAS, FASTEST, D_SKIP, D_BIAS = range(PER_BLOCK, PER_BLOCK + 5)
# ... for one state its decays and the state itself, one more than steps, ...
DECAYS = PER_BLOCK + 5
PAST = DECAYS + TILE
STATES = PAST + TILE + 1
# ... and SLOT rows for each state.
A_, B_, C_, H, G, DA, DB, DC, SLOT = range(9)


@njit(**PLAIN)
def new_work(states, like):
    """A work array of zeros that starts at a whole cache line."""
    size = (STATES + states * SLOT) * BLOCK
    whole = np.zeros(size + 16, like.dtype)
    skip = (-whole.ctypes.data % 64) // whole.itemsize
    return whole[skip : skip + size]


@njit(**PLAIN)
def load_columns(source, first, over_channels, over_states, states, width, w, row):
    """Copy numbers [D, N] from place `first` on to one row of each state."""
    place = (STATES * BLOCK) + row * BLOCK
    copy_plane(w, place, SLOT * BLOCK, 1, source, first, over_states, over_channels, states, width)


@njit(**PLAIN)
def load_block(A, fixed_B, fixed_C, fixed, skip, bias, d0, width, w):
    """Fill the rows that stay the same through time."""
    states = A.shape[1]
    multiplied = fixed or w.itemsize == 8  # in float64 the channels' weights always count
    for source, row in ((A, A_), (fixed_B, B_), (fixed_C, C_)):
        if multiplied or row == A_:
            over_channels, over_states = source.strides[0] // source.itemsize, source.strides[1] // source.itemsize
            load_columns(source, d0 * over_channels, over_channels, over_states, states, width, w, row)
    for d in range(width):
        put(w, SKIP * BLOCK + d, skip[d0 + d])
        put(w, BIAS * BLOCK + d, bias[d0 + d])
    note_fastest(w, states)


@njit(**PLAIN)
def note_fastest(w, states):
    """Write every channel's most negative A, or 1 if some A of it is positive."""
    zero, one = w.dtype.type(0), w.dtype.type(1)
    for d in range(BLOCK):
        put(w, FASTEST * BLOCK + d, zero)
    for n in range(states):
        for d in range(BLOCK):
            a, fastest = get(w, (STATES + n * SLOT + A_) * BLOCK + d), get(w, FASTEST * BLOCK + d)
            fastest = a if a < fastest else fastest
            put(w, FASTEST * BLOCK + d, one if a > zero or get(w, FASTEST * BLOCK + d) > zero else fastest)


@njit(**PLAIN)
def load_state(source, b, d0, width, w, row):
    """Copy source[b, d0:d0+width], [B, D, N], to one row of each state."""
    first, over_channels, over_states = places(source, b, d0, 0)
    load_columns(source, first, over_channels, over_states, source.shape[2], width, w, row)


@njit(**PLAIN)
def store_state(w, row, target, b, d0, width):
    """The way back of `load_state`."""
    first, over_channels, over_states = places(target, b, d0, 0)
    place = (STATES + row) * BLOCK
    copy_plane(target, first, over_states, over_channels, w, place, SLOT * BLOCK, 1, target.shape[2], width)


@njit(**PLAIN)
def no_state(w, row, states):
    """Write zeros where `load_state` writes."""
    for n in range(states):
        for d in range(BLOCK):
            put(w, (STATES + n * SLOT + row) * BLOCK + d, w.dtype.type(0))


@njit(**PLAIN)
def keep_states(w, row, saved, tile, b, d0, width):
    """Copy one row of each state to saved[tile, b, :, d0:d0+width], [tiles, B, N, D]."""
    _, batch, states, channels = saved.shape
    first = (tile * batch + b) * states * channels + d0
    copy_plane(saved, first, channels, 1, w, (STATES + row) * BLOCK, SLOT * BLOCK, 1, states, width)


@njit(**PLAIN)
def kept_states(saved, tile, b, d0, width, w, row):
    """The way back of `keep_states`."""
    _, batch, states, channels = saved.shape
    first = (tile * batch + b) * states * channels + d0
    copy_plane(w, (STATES + row) * BLOCK, SLOT * BLOCK, 1, saved, first, channels, 1, states, width)


@njit(**PLAIN)
def block_of(task, channels, groups):
    """Return batch entry, group, first channel and number of channels of a task."""
    each = channels // groups
    blocks = (each + BLOCK - 1) // BLOCK
    b, rest = divmod(task, groups * blocks)
    g, block = divmod(rest, blocks)
    d0 = g * each + block * BLOCK
    return b, g, d0, min(BLOCK, (g + 1) * each - d0)
