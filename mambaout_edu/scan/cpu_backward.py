"""The backward pass of the selective scan in Numba, for one thread, a segment of time at a time.

Within a tile the states are computed again from the saved one at its start, four at a time, and kept with their decays
in the cache. Then time runs backwards with the adjoint g of the state: g_t = C_t dy_t + a_{t+1} g_{t+1}.
"""

# mypy: allow-untyped-defs
# Numba finds the types of these functions from the signature in `cpu.py`.

import numpy as np
from numba import njit, types
from numba.extending import overload

from mambaout_edu.scan.cpu_kernels import prepare
from mambaout_edu.scan.cpu_lanes import (
    BLOCK,
    finish_lanes,
    finish_lanes_softplus,
    four_states_back,
    four_states_kept,
    four_states_kept_bounded,
)
from mambaout_edu.scan.cpu_math import claim, exp2, get, put, sigmoid
from mambaout_edu.scan.cpu_tiles import PLAIN, ask_for_tile, load_tile, load_weights, store_tile
from mambaout_edu.scan.cpu_vectors import LANES, copy_lanes
from mambaout_edu.scan.cpu_work import (
    A_,
    B_,
    BIAS,
    C_,
    D_BIAS,
    D_SKIP,
    DA,
    DB,
    DC,
    DECAYS,
    DT,
    DY,
    DZ,
    FED,
    PAST,
    PULL,
    SKIP,
    SLOPE,
    SLOT,
    STATES,
    TILE,
    G,
    H,
    U,
    X,
    Y,
    block_of,
    kept_states,
    load_block,
    new_work,
)

__all__ = ["backward"]

SUMS = {"fastmath": {"contract", "reassoc", "nsz"}, "error_model": "numpy", "nogil": True}  # sums over channels


def again_four(w, steps, bt, ct, n, bounded):
    """Take the states n ... n + 3 through a tile as the forward pass does, and keep decays and states."""


@overload(again_four, jit_options=PLAIN)
def _again_four(w, steps, bt, ct, n, bounded):
    def in_lanes(w, steps, bt, ct, n, bounded):
        s, states = (STATES + n * SLOT) * BLOCK, bt.shape[1]
        dt, x, y, a, h, slot = DT * BLOCK, X * BLOCK, Y * BLOCK, s + A_ * BLOCK, s + H * BLOCK, SLOT * BLOCK
        decays, past, of_decays, of_past = DECAYS * BLOCK, PAST * BLOCK, TILE * BLOCK, (TILE + 1) * BLOCK
        for d in range(0, BLOCK, LANES):
            for j in range(4):
                copy_lanes(w, past + j * of_past + d, w, h + j * slot + d)
            rows = (dt + d, x + d, y + d, a + d, h + d)
            kept = (decays + d, of_decays, past + BLOCK + d, of_past)
            if bounded:
                four_states_kept_bounded(w, bt, ct, *rows, slot, n, states, steps, BLOCK, *kept)
            else:
                four_states_kept(w, bt, ct, *rows, slot, n, states, steps, BLOCK, *kept)

    def one_by_one(w, steps, bt, ct, n, bounded):
        for j in range(4):
            keep_one(w, steps, bt, ct, n + j, DECAYS + j * TILE, PAST + j * (TILE + 1))

    return in_lanes if w.dtype == types.float32 else one_by_one


def back_four(w, steps, bt, ct, n, db, dc):
    """Run the states n ... n + 3 of a tile backwards: g, and what it adds to every gradient."""


@overload(back_four, jit_options=PLAIN)
def _back_four(w, steps, bt, ct, n, db, dc):
    def in_lanes(w, steps, bt, ct, n, db, dc):
        s, states = (STATES + n * SLOT) * BLOCK, bt.shape[1]
        a, g, da, slot = s + A_ * BLOCK, s + G * BLOCK, s + DA * BLOCK, SLOT * BLOCK
        of_decays, of_past = TILE * BLOCK, (TILE + 1) * BLOCK
        for t in range(steps - 1, -1, -1):
            rows = ((DT + t) * BLOCK, (X + t) * BLOCK, (DY + t) * BLOCK, (FED + t) * BLOCK, (PULL + t) * BLOCK)
            kept = ((DECAYS + t) * BLOCK, of_decays, (PAST + t) * BLOCK, of_past)
            four_states_back(w, bt, ct, db, dc, *rows, a, g, da, slot, n, states, t, *kept)

    def one_by_one(w, steps, bt, ct, n, db, dc):
        for j in range(4):
            back_one(w, steps, bt, ct, n + j, db, dc, DECAYS + j * TILE, PAST + j * (TILE + 1))

    return in_lanes if w.dtype == types.float32 else one_by_one


@njit(**PLAIN)
def keep_one(w, steps, bt, ct, n, decays, past):
    """Run state n as `run_one` does, and keep its decays and states in the rows from `decays` and `past` on."""
    s = (STATES + n * SLOT) * BLOCK
    for d in range(BLOCK):
        put(w, past * BLOCK + d, get(w, s + H * BLOCK + d))
    for t in range(steps):
        b, c = bt[t, n], ct[t, n]
        for d in range(BLOCK):
            i = t * BLOCK + d
            decay = exp2(get(w, DT * BLOCK + i) * get(w, s + A_ * BLOCK + d))
            v = decay * get(w, past * BLOCK + i) + get(w, X * BLOCK + i) * (b * get(w, s + B_ * BLOCK + d))
            put(w, decays * BLOCK + i, decay)
            put(w, (past + 1) * BLOCK + i, v)
            put(w, Y * BLOCK + i, get(w, Y * BLOCK + i) + v * (c * get(w, s + C_ * BLOCK + d)))


@njit(**SUMS)
def back_one(w, steps, bt, ct, n, db, dc, decays, past):
    """Run one state backwards as `back_four` does, with the gradients of the channels' own B and C too."""
    s = (STATES + n * SLOT) * BLOCK
    for t in range(steps - 1, -1, -1):
        b, c = bt[t, n], ct[t, n]
        dbt = dct = w.dtype.type(0)
        for d in range(BLOCK):
            i = t * BLOCK + d
            dy, own_b, own_c = get(w, DY * BLOCK + i), get(w, s + B_ * BLOCK + d), get(w, s + C_ * BLOCK + d)
            g = get(w, s + G * BLOCK + d) + dy * (c * own_c)
            of_b, of_c = g * get(w, X * BLOCK + i), dy * get(w, (past + 1) * BLOCK + i)
            dbt += of_b * own_b
            dct += of_c * own_c
            put(w, s + DB * BLOCK + d, get(w, s + DB * BLOCK + d) + of_b * b)
            put(w, s + DC * BLOCK + d, get(w, s + DC * BLOCK + d) + of_c * c)
            put(w, FED * BLOCK + i, get(w, FED * BLOCK + i) + g * (b * own_b))
            g = g * get(w, decays * BLOCK + i)
            put(w, s + G * BLOCK + d, g)
            v = g * get(w, past * BLOCK + i)
            put(w, PULL * BLOCK + i, get(w, PULL * BLOCK + i) + v * get(w, s + A_ * BLOCK + d))
            put(w, s + DA * BLOCK + d, get(w, s + DA * BLOCK + d) + v * get(w, DT * BLOCK + i))
        db[t, n], dc[t, n] = dbt, dct


@njit(**PLAIN)
def back_tile(w, steps, bt, ct, states, fixed, bounded, db, dc, next_tile, tensors):
    """Take all states through the steps of a tile, there and back; meanwhile ask for the next tile of all tensors."""
    rounds = states if fixed else bt.shape[1] // 4
    each = (len(tensors) + rounds - 1) // rounds
    for k in range(rounds):
        for asked in range(k * each, min((k + 1) * each, len(tensors))):
            ask_for_tile(tensors[asked], *next_tile)
        if fixed:
            keep_one(w, steps, bt, ct, k, DECAYS, PAST)
            back_one(w, steps, bt, ct, k, db, dc, DECAYS, PAST)
        else:
            again_four(w, steps, bt, ct, 4 * k, bounded)
            back_four(w, steps, bt, ct, 4 * k, db, dc)


@njit(**PLAIN)
def prepare_back(w, steps, through_softplus, gated):
    """From dout and z, in rows DY and DZ: dy = dout silu(z) and dout silu'(z); the slope of softplus; clean sums."""
    zero, one = w.dtype.type(0), w.dtype.type(1)
    for i in range(steps * BLOCK):
        put(w, FED * BLOCK + i, zero)
        put(w, PULL * BLOCK + i, zero)
    if gated:
        for i in range(steps * BLOCK):
            z, dout = get(w, DZ * BLOCK + i), get(w, DY * BLOCK + i)
            open_ = sigmoid(z)
            silu = z * open_
            put(w, DY * BLOCK + i, dout * silu)
            put(w, DZ * BLOCK + i, dout * (open_ + silu * (one - open_)))
    if through_softplus:
        for t in range(steps):
            for d in range(BLOCK):
                i = t * BLOCK + d
                put(w, SLOPE * BLOCK + i, sigmoid(get(w, DT * BLOCK + i) + get(w, BIAS * BLOCK + d)))


@njit(**PLAIN)
def finish_numbers(w, steps, through_softplus, ln2):
    """`finish_sums` in any dtype."""
    for t in range(steps):
        for d in range(BLOCK):
            i = t * BLOCK + d
            u, dy, fed = get(w, U * BLOCK + i), get(w, DY * BLOCK + i), get(w, FED * BLOCK + i)
            ddelta = get(w, PULL * BLOCK + i) * ln2 + fed * u
            if through_softplus:
                ddelta *= get(w, SLOPE * BLOCK + i)
            put(w, PULL * BLOCK + i, ddelta)
            put(w, FED * BLOCK + i, fed * get(w, DT * BLOCK + i) + dy * get(w, SKIP * BLOCK + d))
            put(w, D_SKIP * BLOCK + d, get(w, D_SKIP * BLOCK + d) + dy * u)
            put(w, D_BIAS * BLOCK + d, get(w, D_BIAS * BLOCK + d) + ddelta)


def finish_sums(w, steps, through_softplus, ln2):
    """From the sums over states: du in rows FED, ddelta in rows PULL, and the sums over time."""


@overload(finish_sums, jit_options=PLAIN)
def _finish_sums(w, steps, through_softplus, ln2):
    def in_lanes(w, steps, through_softplus, ln2):
        for d in range(0, BLOCK, LANES):
            rows = (U * BLOCK + d, DT * BLOCK + d, FED * BLOCK + d, PULL * BLOCK + d, DY * BLOCK + d, SLOPE * BLOCK + d)
            sums = (SKIP * BLOCK + d, D_SKIP * BLOCK + d, D_BIAS * BLOCK + d)
            if through_softplus:
                finish_lanes_softplus(w, *rows, *sums, BLOCK, steps)
            else:
                finish_lanes(w, *rows, *sums, BLOCK, steps)

    return in_lanes if w.dtype == types.float32 else finish_numbers.py_func


@njit(**PLAIN)
def finish_back(w, steps, through_softplus, gated, ln2):
    """From the sums over states: du in rows FED, ddelta in rows PULL, dz in rows DZ, and the sums over time."""
    finish_sums(w, steps, through_softplus, ln2)
    if gated:
        for i in range(steps * BLOCK):
            put(w, DZ * BLOCK + i, get(w, DZ * BLOCK + i) * get(w, Y * BLOCK + i))


@njit(**PLAIN)
def load_sums(sums, b, d0, width, w):
    """Take up the sums of later segments: the adjoint and dA, dB, dC of fixed weights; dD and dbias."""
    for n in range(sums.shape[3]):
        for j in range(4):
            for d in range(width):
                put(w, (STATES + n * SLOT + G + j) * BLOCK + d, sums[j, b, d0 + d, n])


@njit(**PLAIN)
def store_sums(w, sums, b, d0, width):
    """The way back of `load_sums`."""
    for n in range(sums.shape[3]):
        for j in range(4):
            for d in range(width):
                sums[j, b, d0 + d, n] = get(w, (STATES + n * SLOT + G + j) * BLOCK + d)


@njit(**PLAIN)
def backward(
    counter,
    tasks,
    begin,
    end,
    ln2,
    flags,
    u,
    delta,
    A,
    B,
    C,
    fixed_B,
    fixed_C,
    skip,
    z,
    bias,
    saved,
    dout,
    du,
    ddelta,
    dz,
    sums,
    channel_sums,
    part_B,
    part_C,
):
    """Take tasks, as `forward` does, through the steps end - 1 ... begin."""
    length, channels = u.shape[1], u.shape[2]
    states, groups = A.shape[1], B.shape[2]
    through_softplus, gated, fixed = flags[0], flags[1], flags[2]
    room = part_B.shape[2]  # N rounded up to fours; what is too many has zero weights, and adds nothing
    tensors = (u, delta, dout, z, du, ddelta, dz)
    w = new_work(room, A)
    bt, ct = np.zeros((TILE, room), A.dtype), np.zeros((TILE, room), A.dtype)
    while True:
        task = claim(counter)
        if task >= tasks:
            return
        b, g, d0, width = block_of(task, channels, groups)
        if width < BLOCK:
            w[:] = 0
        w[D_SKIP * BLOCK : (D_BIAS + 1) * BLOCK] = 0
        load_block(A, fixed_B, fixed_C, fixed, skip, bias, d0, width, w)
        load_sums(sums, b, d0, width, w)
        for tile in range((end - 1) // TILE, begin // TILE - 1, -1):
            t0 = tile * TILE
            steps = min(TILE, length - t0)
            kept_states(saved, tile, b, d0, width, w, H)
            load_tile(u, b, t0, d0, steps, width, w, U * BLOCK, BLOCK)
            load_tile(delta, b, t0, d0, steps, width, w, DT * BLOCK, BLOCK)
            load_tile(dout, b, t0, d0, steps, width, w, DY * BLOCK, BLOCK)
            if gated:
                load_tile(z, b, t0, d0, steps, width, w, DZ * BLOCK, BLOCK)
            load_weights(B, b, t0, g, steps, bt)
            load_weights(C, b, t0, g, steps, ct)
            prepare_back(w, steps, through_softplus, gated)
            bounded = prepare(w, steps, through_softplus)
            rows = t0 - begin
            next_tile = (b, t0 - TILE, d0, TILE, width)
            back_tile(
                w, steps, bt, ct, states, fixed, bounded, part_B[task, rows:], part_C[task, rows:], next_tile, tensors
            )
            finish_back(w, steps, through_softplus, gated, ln2)
            store_tile(w, FED * BLOCK, BLOCK, du, b, t0, d0, steps, width)
            store_tile(w, PULL * BLOCK, BLOCK, ddelta, b, t0, d0, steps, width)
            if gated:
                store_tile(w, DZ * BLOCK, BLOCK, dz, b, t0, d0, steps, width)
        store_sums(w, sums, b, d0, width)
        for d in range(width):
            channel_sums[0, b, d0 + d] += get(w, D_SKIP * BLOCK + d)
            channel_sums[1, b, d0 + d] += get(w, D_BIAS * BLOCK + d)
