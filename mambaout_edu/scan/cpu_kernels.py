"""The selective scan in Numba, for one thread; `cpu.py` runs it on several, `cpu_backward.py` has its backward pass.

What makes it fast: a block of channels goes through time together, LANES of them in one vector; all that a step touches
lies in the first-level cache; four states are taken at once, so that inputs and outputs are loaded once for the four;
exp2, softplus and silu are polynomials in vectors (`cpu_vectors.py`), where no number needs a look at its range if a
look at the whole tile settled that; every line of memory is asked for a tile ahead, one or two lines a step, since the
processor can wait for a few at a time only.
"""

# mypy: allow-untyped-defs
# Numba finds the types of these functions from the signature in `cpu.py`.

import numpy as np
from numba import njit, types
from numba.extending import overload

from mambaout_edu.scan.cpu_lanes import (
    BLOCK,
    four_states,
    four_states_bounded,
    gate_lanes,
    one_state,
    one_state_bounded,
    one_state_own,
    prepare_lanes,
    prepare_lanes_softplus,
)
from mambaout_edu.scan.cpu_math import claim, exp2, get, put, sigmoid, softplus
from mambaout_edu.scan.cpu_saved import TILE
from mambaout_edu.scan.cpu_tiles import PLAIN, ask_for_tile, load_tile, load_weights, places, store_tile
from mambaout_edu.scan.cpu_vectors import LANES
from mambaout_edu.scan.cpu_work import (
    A_,
    B_,
    BIAS,
    C_,
    DT,
    FASTEST,
    SKIP,
    SLOT,
    STATES,
    H,
    U,
    X,
    Y,
    block_of,
    keep_states,
    load_block,
    load_state,
    new_work,
    no_state,
    store_state,
)

__all__ = ["BLOCK", "PLAIN", "TILE", "forward"]


@njit(**PLAIN)
def prepare(w, steps, through_softplus):
    """From u and raw delta, in rows U and DT: dt, x = dt u, y = D u."""
    for t in range(steps):
        for d in range(BLOCK):
            i = t * BLOCK + d
            dt, u = get(w, DT * BLOCK + i) + get(w, BIAS * BLOCK + d), get(w, U * BLOCK + i)
            dt = softplus(dt) if through_softplus else dt
            put(w, DT * BLOCK + i, dt)
            put(w, X * BLOCK + i, dt * u)
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


@njit(**PLAIN)
def gate(w, steps):
    """Multiply y by silu(z), with z in the rows of U."""
    for i in range(steps * BLOCK):
        z = get(w, U * BLOCK + i)
        put(w, Y * BLOCK + i, get(w, Y * BLOCK + i) * (z * sigmoid(z)))


# In float32 a tile goes LANES channels at a time, so that it stays in the first-level cache: these are the places of
# its quantities, one vector a step.
LANES_DT, LANES_X, LANES_Y, LANES_U, LANES_DELTA = (TILE * LANES * i for i in range(5))


@njit(**PLAIN)
def prepare_tile(w, u, delta, b, t0, d0, d, steps, width, through_softplus):
    """Write dt, x and y of the LANES channels from d0 + d on; return whether no decay leaves exp2's range."""
    u_from, u_row, u_column = places(u, b, t0, d0 + d)
    delta_from, delta_row, delta_column = places(delta, b, t0, d0 + d)
    to = (LANES_DT, LANES_X, LANES_Y, LANES, SKIP * BLOCK + d, BIAS * BLOCK + d, FASTEST * BLOCK + d)
    if width == LANES and u_column == 1 and delta_column == 1:
        if through_softplus:
            return prepare_lanes_softplus(w, *to, u, u_from, u_row, delta, delta_from, delta_row, steps)
        return prepare_lanes(w, *to, u, u_from, u_row, delta, delta_from, delta_row, steps)
    ask_for_tile(u, b, t0 + TILE, d0 + d, TILE, width)
    ask_for_tile(delta, b, t0 + TILE, d0 + d, TILE, width)
    load_tile(u, b, t0, d0 + d, steps, width, w, LANES_U, LANES)
    load_tile(delta, b, t0, d0 + d, steps, width, w, LANES_DELTA, LANES)
    if through_softplus:
        return prepare_lanes_softplus(w, *to, w, LANES_U, LANES, w, LANES_DELTA, LANES, steps)
    return prepare_lanes(w, *to, w, LANES_U, LANES, w, LANES_DELTA, LANES, steps)


@njit(**PLAIN)
def run_states(w, d, steps, bt, ct, states, fixed, bounded):
    """Take all states of LANES channels through the steps of a tile."""
    slot, columns = SLOT * BLOCK, bt.shape[1]
    whole = 0 if fixed else states // 4 * 4
    for n in range(0, whole, 4):
        s = (STATES + n * SLOT) * BLOCK + d
        rows = (LANES_DT, LANES_X, LANES_Y, s + A_ * BLOCK, s + H * BLOCK, slot, n, columns, steps, LANES)
        if bounded:
            four_states_bounded(w, bt, ct, *rows)
        else:
            four_states(w, bt, ct, *rows)
    for n in range(whole, states):
        s = (STATES + n * SLOT) * BLOCK + d
        rows = (LANES_DT, LANES_X, LANES_Y, s + A_ * BLOCK, s + H * BLOCK, slot, n, columns, steps, LANES)
        if fixed:
            one_state_own(w, bt, ct, *rows, s + B_ * BLOCK, s + C_ * BLOCK)
        elif bounded:
            one_state_bounded(w, bt, ct, *rows)
        else:
            one_state(w, bt, ct, *rows)


@njit(**PLAIN)
def finish_tile(w, z, out, b, t0, d0, steps, width, gated):
    """Write y, times silu(z) if gated, to out."""
    to, to_row, to_column = places(out, b, t0, d0)
    z_from, z_row, z_column = places(z, b, t0, d0)
    if gated and width == LANES and to_column == 1 and z_column == 1:
        gate_lanes(out, to, to_row, z, z_from, z_row, w, LANES_Y, LANES, steps)
        return
    ask_for_tile(out, b, t0 + TILE, d0, TILE, width)
    if gated:
        ask_for_tile(z, b, t0 + TILE, d0, TILE, width)
        load_tile(z, b, t0, d0, steps, width, w, LANES_U, LANES)
        gate_lanes(w, LANES_Y, LANES, w, LANES_U, LANES, w, LANES_Y, LANES, steps)
    store_tile(w, LANES_Y, LANES, out, b, t0, d0, steps, width)


def run_tile(w, u, delta, z, out, b, t0, d0, steps, width, bt, ct, states, flags):
    """Take a block through the steps of a tile, from inputs to outputs."""


@overload(run_tile, jit_options=PLAIN)
def _run_tile(w, u, delta, z, out, b, t0, d0, steps, width, bt, ct, states, flags):
    def in_lanes(w, u, delta, z, out, b, t0, d0, steps, width, bt, ct, states, flags):
        for d in range(0, width, LANES):
            lanes = min(LANES, width - d)
            bounded = prepare_tile(w, u, delta, b, t0, d0, d, steps, lanes, flags[0])
            run_states(w, d, steps, bt, ct, states, flags[2], bounded)
            finish_tile(w, z, out, b, t0, d0 + d, steps, lanes, flags[1])

    def one_by_one(w, u, delta, z, out, b, t0, d0, steps, width, bt, ct, states, flags):
        load_tile(u, b, t0, d0, steps, width, w, U * BLOCK, BLOCK)
        load_tile(delta, b, t0, d0, steps, width, w, DT * BLOCK, BLOCK)
        prepare(w, steps, flags[0])
        for n in range(states):
            run_one(w, steps, bt, ct, n)
        if flags[1]:
            load_tile(z, b, t0, d0, steps, width, w, U * BLOCK, BLOCK)
            gate(w, steps)
        store_tile(w, Y * BLOCK, BLOCK, out, b, t0, d0, steps, width)

    return in_lanes if w.dtype == types.float32 else one_by_one


@njit(**PLAIN)
def forward(counter, tasks, flags, u, delta, A, B, C, fixed_B, fixed_C, skip, z, bias, start, out, last, saved):
    """Take tasks (a batch entry and a block of channels) until none is left.

    `flags` tell: steps through softplus, gate, weights B or C of channels, whether to save, whether `start` counts.
    """
    length, channels = u.shape[1], u.shape[2]
    states, groups = A.shape[1], B.shape[2]
    fixed, save, started = flags[2], flags[3], flags[4]
    w = new_work(states, A)
    bt, ct = np.empty((TILE, states), A.dtype), np.empty((TILE, states), A.dtype)
    while True:
        task = claim(counter)
        if task >= tasks:
            return
        b, g, d0, width = block_of(task, channels, groups)
        if width < BLOCK:
            w[:] = 0  # what an earlier block left in the padding
        for tensor in (u, delta, z, out):  # the first tile, which no loop over an earlier one asks for
            ask_for_tile(tensor, b, 0, d0, min(TILE, length), width)
        load_block(A, fixed_B, fixed_C, fixed, skip, bias, d0, width, w)
        if started:
            load_state(start, b, d0, width, w, H)
        else:
            no_state(w, H, states)
        for t0 in range(0, length, TILE):
            steps = min(TILE, length - t0)
            if save:
                keep_states(w, H, saved, t0 // TILE, b, d0, width)
            load_weights(B, b, t0, g, steps, bt)
            load_weights(C, b, t0, g, steps, ct)
            run_tile(w, u, delta, z, out, b, t0, d0, steps, width, bt, ct, states, flags)
        store_state(w, H, last, b, d0, width)
