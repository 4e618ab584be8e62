"""The backward pass of the selective scan in Numba, for one thread, a segment of time at a time.

Within a tile the states are computed again from the saved one at its start, four at a time, and kept with their decays
in the cache. Then time runs backwards with the adjoint g of the state: g_t = C_t dy_t + a_{t+1} g_{t+1}.
"""

# mypy: allow-untyped-defs
# Numba finds the types of these functions from the signature in `cpu.py`.

import numpy as np
from numba import njit, types
from numba.extending import overload

from mambaout_edu.scan.cpu_backward_numbers import back_in_numbers
from mambaout_edu.scan.cpu_lanes import (
    BLOCK,
    four_states_kept,
    four_states_kept_bounded,
    one_state_kept,
    prepare_lanes_back,
    prepare_lanes_back_softplus,
)
from mambaout_edu.scan.cpu_lanes_back import (
    finish_lanes,
    four_states_back,
    gate_back_lanes,
    multiply_lanes,
    one_state_back,
)
from mambaout_edu.scan.cpu_math import claim, get
from mambaout_edu.scan.cpu_saved import TILE
from mambaout_edu.scan.cpu_tiles import PLAIN, ask_for_tile, load_tile, load_weights, places, store_tile
from mambaout_edu.scan.cpu_vectors import LANES, copy_lanes
from mambaout_edu.scan.cpu_work import (
    A_,
    BIAS,
    D_BIAS,
    D_SKIP,
    DA,
    FASTEST,
    SKIP,
    SLOT,
    STATES,
    G,
    H,
    block_of,
    kept_states,
    load_block,
    load_state,
    new_work,
    store_state,
)

__all__ = ["backward"]


# In float32 a tile goes LANES channels at a time: these are the places of its quantities, one vector a step.
ROWS = TILE * LANES
L_DT, L_X, L_Y, L_DY, L_FED, L_PULL, L_SLOPE, L_DGATE, L_U, L_DELTA, L_Z, L_DECAYS = (ROWS * i for i in range(12))
L_PAST = L_DECAYS + 4 * ROWS
OF_PAST = (TILE + 1) * LANES  # the states, one more than steps
L_END = L_PAST + 4 * OF_PAST


@njit(**PLAIN)
def prepare_in_lanes(w, d, steps, through_softplus, u, u_from, u_row, delta, delta_from, delta_row):
    """Write dt, x, y, the slope of dt and zeros for the sums; return whether no decay leaves exp2's range."""
    to = (L_DT, L_X, L_Y, LANES, SKIP * BLOCK + d, BIAS * BLOCK + d, FASTEST * BLOCK + d)
    given = (u, u_from, u_row, delta, delta_from, delta_row, steps, L_SLOPE, L_FED, L_PULL)
    if through_softplus:
        return prepare_lanes_back_softplus(w, *to, *given)
    return prepare_lanes_back(w, *to, *given)


@njit(**PLAIN)
def states_in_lanes(w, d, steps, bt, ct, states, bounded, db, dc):
    """Take all states of LANES channels through a tile, there and back."""
    slot = SLOT * BLOCK
    whole = states // 4 * 4
    for n in range(0, whole, 4):
        s = (STATES + n * SLOT) * BLOCK + d
        for j in range(4):
            copy_lanes(w, L_PAST + j * OF_PAST, w, s + H * BLOCK + j * slot)
        rows = (L_DT, L_X, L_Y, s + A_ * BLOCK, s + H * BLOCK, slot, n, states, steps, LANES)
        if bounded:
            four_states_kept_bounded(w, bt, ct, *rows, L_DECAYS, ROWS, L_PAST + LANES, OF_PAST)
        else:
            four_states_kept(w, bt, ct, *rows, L_DECAYS, ROWS, L_PAST + LANES, OF_PAST)
        back = (L_DT, L_X, L_DY, L_FED, L_PULL, LANES, s + A_ * BLOCK, s + G * BLOCK, s + DA * BLOCK, slot, n, states)
        four_states_back(w, bt, ct, db, dc, *back, steps, L_DECAYS, ROWS, L_PAST, OF_PAST)
    for n in range(whole, states):
        s = (STATES + n * SLOT) * BLOCK + d
        copy_lanes(w, L_PAST, w, s + H * BLOCK)
        rows = (L_DT, L_X, L_Y, s + A_ * BLOCK, s + H * BLOCK, slot, n, states, steps, LANES)
        one_state_kept(w, bt, ct, *rows, L_DECAYS, ROWS, L_PAST + LANES, OF_PAST)
        back = (L_DT, L_X, L_DY, L_FED, L_PULL, LANES, s + A_ * BLOCK, s + G * BLOCK, s + DA * BLOCK, slot, n, states)
        one_state_back(w, bt, ct, db, dc, *back, steps, L_DECAYS, ROWS, L_PAST, OF_PAST)


@njit(**PLAIN)
def back_straight(w, d, b, t0, d0, steps, bt, ct, states, flags, db, dc, tensors, gradients):
    """Take LANES channels through a tile, from tensors to gradients whose channels lie together."""
    (u, delta, dout, z), (du, ddelta, dz) = tensors, gradients
    u_from, u_row, _ = places(u, b, t0, d0 + d)
    delta_from, delta_row, _ = places(delta, b, t0, d0 + d)
    if flags[1]:
        dout_from, dout_row, _ = places(dout, b, t0, d0 + d)
        z_from, z_row, _ = places(z, b, t0, d0 + d)
        gate_back_lanes(w, L_DY, L_DGATE, LANES, dout, dout_from, dout_row, z, z_from, z_row, steps)
    else:
        load_tile(dout, b, t0, d0 + d, steps, LANES, w, L_DY, LANES)
    bounded = prepare_in_lanes(w, d, steps, flags[0], u, u_from, u_row, delta, delta_from, delta_row)
    states_in_lanes(w, d, steps, bt, ct, states, bounded, db, dc)
    du_to, du_row, _ = places(du, b, t0, d0 + d)
    ddelta_to, ddelta_row, _ = places(ddelta, b, t0, d0 + d)
    targets = (du, du_to, du_row, ddelta, ddelta_to, ddelta_row, u, u_from, u_row)
    sums = (SKIP * BLOCK + d, D_SKIP * BLOCK + d, D_BIAS * BLOCK + d)
    finish_lanes(*targets, w, L_DT, L_FED, L_PULL, L_DY, L_SLOPE, LANES, *sums, steps)
    if flags[1]:
        dz_to, dz_row, _ = places(dz, b, t0, d0 + d)
        multiply_lanes(dz, dz_to, dz_row, w, L_DGATE, L_Y, LANES, steps)


@njit(**PLAIN)
def back_copied(w, d, b, t0, d0, steps, width, bt, ct, states, flags, db, dc, tensors, gradients):
    """`back_straight` through copies, where channels do not lie together or are fewer than LANES."""
    (u, delta, dout, z), (du, ddelta, dz) = tensors, gradients
    if width < LANES:
        w[:L_END] = 0  # what is past the last channel must add nothing to the sums over channels
    for source, place in ((u, L_U), (delta, L_DELTA), (dout, L_DY)):
        ask_for_tile(source, b, t0 - TILE, d0 + d, TILE, width)
        load_tile(source, b, t0, d0 + d, steps, width, w, place, LANES)
    if flags[1]:
        ask_for_tile(z, b, t0 - TILE, d0 + d, TILE, width)
        load_tile(z, b, t0, d0 + d, steps, width, w, L_Z, LANES)
        gate_back_lanes(w, L_DY, L_DGATE, LANES, w, L_DY, LANES, w, L_Z, LANES, steps)
    bounded = prepare_in_lanes(w, d, steps, flags[0], w, L_U, LANES, w, L_DELTA, LANES)
    states_in_lanes(w, d, steps, bt, ct, states, bounded, db, dc)
    sums = (SKIP * BLOCK + d, D_SKIP * BLOCK + d, D_BIAS * BLOCK + d)
    targets = (w, L_FED, LANES, w, L_PULL, LANES, w, L_U, LANES)
    finish_lanes(*targets, w, L_DT, L_FED, L_PULL, L_DY, L_SLOPE, LANES, *sums, steps)
    for place, target in ((L_FED, du), (L_PULL, ddelta)):
        ask_for_tile(target, b, t0 - TILE, d0 + d, TILE, width)
        store_tile(w, place, LANES, target, b, t0, d0 + d, steps, width)
    if flags[1]:
        multiply_lanes(w, L_DGATE, LANES, w, L_DGATE, L_Y, LANES, steps)
        store_tile(w, L_DGATE, LANES, dz, b, t0, d0 + d, steps, width)


def back_tile(w, b, t0, d0, steps, width, bt, ct, states, flags, ln2, db, dc, tensors, gradients):
    """Take a block through a tile, from tensors to gradients."""


@overload(back_tile, jit_options=PLAIN)
def _back_tile(w, b, t0, d0, steps, width, bt, ct, states, flags, ln2, db, dc, tensors, gradients):
    def in_lanes(w, b, t0, d0, steps, width, bt, ct, states, flags, ln2, db, dc, tensors, gradients):
        if flags[2]:
            back_in_numbers(w, b, t0, d0, steps, width, bt, ct, states, flags, ln2, db, dc, tensors, gradients)
            return
        db[:steps], dc[:steps] = 0, 0
        straight = True
        for tensor in (*tensors, *gradients):
            straight &= tensor.strides[2] == tensor.itemsize
        for d in range(0, width, LANES):
            if straight and d + LANES <= width:
                back_straight(w, d, b, t0, d0, steps, bt, ct, states, flags, db, dc, tensors, gradients)
            else:
                lanes = min(LANES, width - d)
                back_copied(w, d, b, t0, d0, steps, lanes, bt, ct, states, flags, db, dc, tensors, gradients)

    return in_lanes if w.dtype == types.float32 else back_in_numbers.py_func


@njit(**PLAIN)
def load_sums(sums, b, d0, width, w):
    """Take up the sums of later segments: the adjoint and dA, dB, dC of fixed weights."""
    for j in range(4):
        load_state(sums[j], b, d0, width, w, G + j)


@njit(**PLAIN)
def store_sums(w, sums, b, d0, width):
    """The way back of `load_sums`."""
    for j in range(4):
        store_state(w, G + j, sums[j], b, d0, width)


@njit(**PLAIN)
def ask_for_last_tiles(arrays, b, end, d0, width):
    """Prefetch what no loop over an earlier tile does: the last tile, and the one before where that is a short one."""
    t0 = (end - 1) // TILE * TILE
    for array in arrays:
        ask_for_tile(array, b, t0, d0, end - t0, width)
        if end - t0 < TILE:
            ask_for_tile(array, b, t0 - TILE, d0, TILE, width)


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
    fixed = flags[2]
    tensors, gradients = (u, delta, dout, z), (du, ddelta, dz)
    w = new_work(states, A)
    bt, ct = np.empty((TILE, states), A.dtype), np.empty((TILE, states), A.dtype)
    while True:
        task = claim(counter)
        if task >= tasks:
            return
        b, g, d0, width = block_of(task, channels, groups)
        if width < BLOCK:
            w[:] = 0
        w[D_SKIP * BLOCK : (D_BIAS + 1) * BLOCK] = 0
        ask_for_last_tiles((*tensors, *gradients), b, end, d0, width)
        load_block(A, fixed_B, fixed_C, fixed, skip, bias, d0, width, w)
        load_sums(sums, b, d0, width, w)
        for tile in range((end - 1) // TILE, begin // TILE - 1, -1):
            t0 = tile * TILE
            steps = min(TILE, length - t0)
            kept_states(saved, tile, b, d0, width, w, H)
            load_weights(B, b, t0, g, steps, bt)
            load_weights(C, b, t0, g, steps, ct)
            db, dc = part_B[task, t0 - begin :], part_C[task, t0 - begin :]
            back_tile(w, b, t0, d0, steps, width, bt, ct, states, flags, ln2, db, dc, tensors, gradients)
        store_sums(w, sums, b, d0, width)
        for d in range(width):
            channel_sums[0, b, d0 + d] += get(w, D_SKIP * BLOCK + d)
            channel_sums[1, b, d0 + d] += get(w, D_BIAS * BLOCK + d)
