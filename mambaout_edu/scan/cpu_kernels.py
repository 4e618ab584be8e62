"""The selective scan and its backward pass in Numba, for one thread; `cpu.py` runs it on several.

What makes it fast: BLOCK channels go through time together and are the innermost, vectorised loop; all that a step
touches lies in one array in the first- or second-level cache, so that the compiler knows what overlaps; four states
are taken at once, so that inputs and outputs are loaded once for the four; exp2 is a polynomial (`cpu_math.py`).

The work array is made of rows of BLOCK numbers. First come TILE rows for each quantity that has one row a step (dt,
x = dt u, y, ...), then rows for each block, then room for the decays and states that four states go through within a
tile, then one slot of rows for each state: its A, its h, ... Padding channels hold zeros, which stay zeros.
"""

# mypy: allow-untyped-defs
# Numba finds the types of these functions from the signature in `cpu.py`.

import numpy as np
from numba import njit, types
from numba.extending import overload

from mambaout_edu.scan.cpu_lanes import BLOCK, LANES, copy_lanes, four_states, four_states_bounded
from mambaout_edu.scan.cpu_math import claim, exp2, get, prefetch, put, sigmoid, softplus

__all__ = ["BLOCK", "TILE", "forward"]

TILE = 32  # steps from one saved state to the next

# Rows of the work array: TILE for a quantity of the steps, ...
DT, X, Y, U, DY, DZ, FED, PULL, SLOPE, PER_BLOCK = (TILE * i for i in range(10))
# ... one for a quantity of the block, ...
SKIP, BIAS, D_SKIP, D_BIAS, LEAST, MOST = range(PER_BLOCK, PER_BLOCK + 6)
# ... for four states their decays and the states themselves, one more than steps, ...
DECAYS = PER_BLOCK + 6
PAST = DECAYS + 4 * TILE
STATES = PAST + 4 * (TILE + 1)
# ... and SLOT rows for each state.
A_, B_, C_, H, G, DA, DB, DC, SLOT = range(9)

PLAIN = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True}
SUMS = {"fastmath": {"contract", "reassoc", "nsz"}, "error_model": "numpy", "nogil": True}  # sums over channels


@njit(**PLAIN)
def new_work(states, like):
    """A work array of zeros that starts at a whole cache line."""
    size = (STATES + states * SLOT) * BLOCK
    whole = np.zeros(size + 16, like.dtype)
    skip = (-whole.ctypes.data % 64) // whole.itemsize
    return whole[skip : skip + size]


@njit(**PLAIN)
def places(array, b, t0, d0):
    """Return the place of array[b, t0, d0], and how far apart steps and channels are, counted in numbers."""
    size = array.itemsize
    over_time, over_channels = array.strides[1] // size, array.strides[2] // size
    return b * (array.strides[0] // size) + t0 * over_time + d0 * over_channels, over_time, over_channels


@njit(**PLAIN)
def load_tile(source, b, t0, d0, steps, width, w, row):
    """Copy source[b, t0:t0+steps, d0:d0+width] into rows, whichever of its axes is contiguous."""
    first, over_time, over_channels = places(source, b, t0, d0)
    if over_channels == 1 and width == BLOCK:
        for t in range(steps):
            for d in range(0, BLOCK, LANES):
                copy_lanes(w, (row + t) * BLOCK + d, source, first + t * over_time + d)
    elif over_channels == 1:
        for t in range(steps):
            for d in range(width):
                put(w, (row + t) * BLOCK + d, get(source, first + t * over_time + d))
    else:
        for d in range(width):
            for t in range(steps):
                put(w, (row + t) * BLOCK + d, get(source, first + t * over_time + d * over_channels))


@njit(**PLAIN)
def store_tile(w, row, target, b, t0, d0, steps, width):
    """The way back of `load_tile`."""
    first, over_time, over_channels = places(target, b, t0, d0)
    if over_channels == 1 and width == BLOCK:
        for t in range(steps):
            for d in range(0, BLOCK, LANES):
                copy_lanes(target, first + t * over_time + d, w, (row + t) * BLOCK + d)
    elif over_channels == 1:
        for t in range(steps):
            for d in range(width):
                put(target, first + t * over_time + d, get(w, (row + t) * BLOCK + d))
    else:
        for d in range(width):
            for t in range(steps):
                put(target, first + t * over_time + d * over_channels, get(w, (row + t) * BLOCK + d))


@njit(**PLAIN)
def ask_for_tile(source, b, t0, d0, width):
    """Prefetch the cache lines of a tile, if it is a whole one."""
    if t0 < 0 or t0 + TILE > source.shape[1]:
        return
    first, over_time, over_channels = places(source, b, t0, d0)
    line = 64 // source.itemsize
    if over_channels == 1:
        for t in range(TILE):
            for d in range(0, width, line):
                prefetch(source, first + t * over_time + d)
    else:
        for d in range(width):
            for t in range(0, TILE, line):
                prefetch(source, first + t * over_time + d * over_channels)


@njit(**PLAIN)
def load_weights(source, b, t0, g, steps, into):
    """Copy B or C of a chunk, [steps, N], so that a step's numbers lie together."""
    part = source[b, t0 : t0 + steps, g]
    for t in range(steps):
        for n in range(part.shape[1]):
            into[t, n] = part[t, n]


@njit(**PLAIN)
def load_block(A, fixed_B, fixed_C, skip, bias, d0, width, w):
    """Fill the rows that stay the same through time."""
    for n in range(A.shape[1]):
        base = (STATES + n * SLOT) * BLOCK
        for d in range(width):
            put(w, base + A_ * BLOCK + d, A[d0 + d, n])
            put(w, base + B_ * BLOCK + d, fixed_B[d0 + d, n])
            put(w, base + C_ * BLOCK + d, fixed_C[d0 + d, n])
    for d in range(width):
        put(w, SKIP * BLOCK + d, skip[d0 + d])
        put(w, BIAS * BLOCK + d, bias[d0 + d])


@njit(**PLAIN)
def load_state(source, b, d0, width, w, row):
    for n in range(source.shape[2]):
        base = (STATES + n * SLOT + row) * BLOCK
        for d in range(width):
            put(w, base + d, source[b, d0 + d, n])


@njit(**PLAIN)
def store_state(w, row, target, b, d0, width):
    for n in range(target.shape[2]):
        base = (STATES + n * SLOT + row) * BLOCK
        for d in range(width):
            target[b, d0 + d, n] = get(w, base + d)


@njit(**PLAIN)
def prepare(w, steps, through_softplus):
    """From u and raw delta, in rows U and DT: dt, x = dt u, y = D u."""
    if through_softplus:
        for t in range(steps):
            for d in range(BLOCK):
                i = (DT + t) * BLOCK + d
                put(w, i, softplus(get(w, i) + get(w, BIAS * BLOCK + d)))
    else:
        for t in range(steps):
            for d in range(BLOCK):
                i = (DT + t) * BLOCK + d
                put(w, i, get(w, i) + get(w, BIAS * BLOCK + d))
    for t in range(steps):
        for d in range(BLOCK):
            i = t * BLOCK + d
            u = get(w, U * BLOCK + i)
            put(w, X * BLOCK + i, get(w, DT * BLOCK + i) * u)
            put(w, Y * BLOCK + i, get(w, SKIP * BLOCK + d) * u)


@njit(**PLAIN)
def run_one(w, steps, bt, ct, n):
    """Take state n through a tile; B and C are a step's number times a channel's, one of which may be one."""
    s = (STATES + n * SLOT) * BLOCK
    a, h = s + A_ * BLOCK, s + H * BLOCK
    for t in range(steps):
        b, c = bt[t, n], ct[t, n]
        for d in range(BLOCK):
            i = t * BLOCK + d
            fed = get(w, X * BLOCK + i) * (b * get(w, s + B_ * BLOCK + d))
            v = exp2(get(w, DT * BLOCK + i) * get(w, a + d)) * get(w, h + d) + fed
            put(w, h + d, v)
            put(w, Y * BLOCK + i, get(w, Y * BLOCK + i) + v * (c * get(w, s + C_ * BLOCK + d)))


def run_four(w, steps, bt, ct, n, bounded):
    """Take the states n ... n + 3 through a tile."""


@overload(run_four, jit_options=PLAIN)
def _run_four(w, steps, bt, ct, n, bounded):
    def in_lanes(w, steps, bt, ct, n, bounded):
        s, states = (STATES + n * SLOT) * BLOCK, bt.shape[1]
        dt, x, y, a, h, slot = DT * BLOCK, X * BLOCK, Y * BLOCK, s + A_ * BLOCK, s + H * BLOCK, SLOT * BLOCK
        for d in range(0, BLOCK, LANES):
            if bounded:
                four_states_bounded(w, bt, ct, dt + d, x + d, y + d, a + d, h + d, slot, n, states, steps, BLOCK)
            else:
                four_states(w, bt, ct, dt + d, x + d, y + d, a + d, h + d, slot, n, states, steps, BLOCK)

    def one_by_one(w, steps, bt, ct, n, bounded):
        for j in range(n, n + 4):
            run_one(w, steps, bt, ct, j)

    return in_lanes if w.dtype == types.float32 else one_by_one


@njit(**PLAIN)
def fastest_decay(A, d0, width):
    """Return the most negative A of a block, or 1 if some A is positive."""
    part = A[d0 : d0 + width]
    return A.dtype.type(1) if part.max() > 0 else part.min()


@njit(**PLAIN)
def is_bounded(w, steps, fastest):
    """Whether no decay of a tile can leave the range of float32's exponent, so that exp2 need not look."""
    for d in range(BLOCK):
        put(w, LEAST * BLOCK + d, get(w, DT * BLOCK + d))
        put(w, MOST * BLOCK + d, get(w, DT * BLOCK + d))
    for t in range(1, steps):
        for d in range(BLOCK):
            dt, least, most = get(w, (DT + t) * BLOCK + d), get(w, LEAST * BLOCK + d), get(w, MOST * BLOCK + d)
            put(w, LEAST * BLOCK + d, dt if dt < least else least)
            put(w, MOST * BLOCK + d, dt if dt > most else most)
    least, most = get(w, LEAST * BLOCK), get(w, MOST * BLOCK)
    for d in range(BLOCK):
        least, most = min(least, get(w, LEAST * BLOCK + d)), max(most, get(w, MOST * BLOCK + d))
    return fastest <= 0 and least >= 0 and most * fastest >= -126


@njit(**PLAIN)
def run_tile(w, steps, bt, ct, states, fixed, fastest):
    """Take all states through the steps of a tile."""
    whole = 0 if fixed else states // 4 * 4
    bounded = whole > 0 and is_bounded(w, steps, fastest)
    for n in range(0, whole, 4):
        run_four(w, steps, bt, ct, n, bounded)
    for n in range(whole, states):
        run_one(w, steps, bt, ct, n)


@njit(**PLAIN)
def gate_tile(w, steps):
    """Multiply y by silu(z), with z in the rows of U."""
    for i in range(steps * BLOCK):
        z = get(w, U * BLOCK + i)
        put(w, Y * BLOCK + i, get(w, Y * BLOCK + i) * (z * sigmoid(z)))


@njit(**PLAIN)
def block_of(task, channels, groups):
    """Return batch entry, group, first channel and number of channels of a task."""
    each = channels // groups
    blocks = (each + BLOCK - 1) // BLOCK
    b, rest = divmod(task, groups * blocks)
    g, block = divmod(rest, blocks)
    d0 = g * each + block * BLOCK
    return b, g, d0, min(BLOCK, (g + 1) * each - d0)


@njit(**PLAIN)
def forward(counter, tasks, flags, u, delta, A, B, C, fixed_B, fixed_C, skip, z, bias, start, out, last, saved):
    """Take tasks (a batch entry and a block of channels) until none is left."""
    length, channels = u.shape[1], u.shape[2]
    states, groups = A.shape[1], B.shape[2]
    through_softplus, gated, fixed, save = flags[0], flags[1], flags[2], flags[3]
    w = new_work(states, A)
    bt, ct = np.empty((TILE, states), A.dtype), np.empty((TILE, states), A.dtype)
    while True:
        task = claim(counter)
        if task >= tasks:
            return
        b, g, d0, width = block_of(task, channels, groups)
        if width < BLOCK:
            w[:] = 0  # what an earlier block left in the padding
        load_block(A, fixed_B, fixed_C, skip, bias, d0, width, w)
        fastest = fastest_decay(A, d0, width)
        load_state(start, b, d0, width, w, H)
        for t0 in range(0, length, TILE):
            steps = min(TILE, length - t0)
            if save:
                store_state(w, H, saved[t0 // TILE], b, d0, width)
            load_tile(u, b, t0, d0, steps, width, w, U)
            load_tile(delta, b, t0, d0, steps, width, w, DT)
            load_weights(B, b, t0, g, steps, bt)
            load_weights(C, b, t0, g, steps, ct)
            for x in (u, delta, out, z):
                ask_for_tile(x, b, t0 + TILE, d0, width)
            prepare(w, steps, through_softplus)
            run_tile(w, steps, bt, ct, states, fixed, fastest)
            if gated:
                load_tile(z, b, t0, d0, steps, width, w, U)
                gate_tile(w, steps)
            store_tile(w, Y, out, b, t0, d0, steps, width)
        store_state(w, H, last, b, d0, width)
