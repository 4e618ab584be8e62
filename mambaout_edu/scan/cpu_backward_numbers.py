"""The backward pass through a tile in any dtype, number by number: float64, and weights B or C of channels.

The float32 pass with weights of steps has vectors instead, in `cpu_backward.py`.
"""

# mypy: allow-untyped-defs
# Numba finds the types of these functions from the signature in `cpu.py`.

from numba import njit

from mambaout_edu.scan.cpu_kernels import prepare
from mambaout_edu.scan.cpu_lanes import BLOCK
from mambaout_edu.scan.cpu_math import exp2, get, put, sigmoid
from mambaout_edu.scan.cpu_tiles import PLAIN, load_tile, store_tile
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
    G,
    H,
    U,
    X,
    Y,
)

__all__ = ["back_in_numbers"]

SUMS = {"fastmath": {"contract", "reassoc", "nsz"}, "error_model": "numpy", "nogil": True}  # sums over channels


@njit(**PLAIN)
def keep_one(w, steps, bt, ct, n):
    """Run state n as `run_one` does, and keep its decays and states in rows DECAYS and PAST."""
    s = (STATES + n * SLOT) * BLOCK
    for d in range(BLOCK):
        put(w, PAST * BLOCK + d, get(w, s + H * BLOCK + d))
    for t in range(steps):
        b, c = bt[t, n], ct[t, n]
        for d in range(BLOCK):
            i = t * BLOCK + d
            decay = exp2(get(w, DT * BLOCK + i) * get(w, s + A_ * BLOCK + d))
            v = decay * get(w, PAST * BLOCK + i) + get(w, X * BLOCK + i) * (b * get(w, s + B_ * BLOCK + d))
            put(w, DECAYS * BLOCK + i, decay)
            put(w, (PAST + 1) * BLOCK + i, v)
            put(w, Y * BLOCK + i, get(w, Y * BLOCK + i) + v * (c * get(w, s + C_ * BLOCK + d)))


@njit(**SUMS)
def back_one(w, steps, bt, ct, n, db, dc):
    """Run one state backwards, with the gradients of the channels' own B and C too."""
    s = (STATES + n * SLOT) * BLOCK
    for t in range(steps - 1, -1, -1):
        b, c = bt[t, n], ct[t, n]
        dbt = dct = w.dtype.type(0)
        for d in range(BLOCK):
            i = t * BLOCK + d
            dy, own_b, own_c = get(w, DY * BLOCK + i), get(w, s + B_ * BLOCK + d), get(w, s + C_ * BLOCK + d)
            g = get(w, s + G * BLOCK + d) + dy * (c * own_c)
            of_b, of_c = g * get(w, X * BLOCK + i), dy * get(w, (PAST + 1) * BLOCK + i)
            dbt += of_b * own_b
            dct += of_c * own_c
            put(w, s + DB * BLOCK + d, get(w, s + DB * BLOCK + d) + of_b * b)
            put(w, s + DC * BLOCK + d, get(w, s + DC * BLOCK + d) + of_c * c)
            put(w, FED * BLOCK + i, get(w, FED * BLOCK + i) + g * (b * own_b))
            g = g * get(w, DECAYS * BLOCK + i)
            put(w, s + G * BLOCK + d, g)
            v = g * get(w, PAST * BLOCK + i)
            put(w, PULL * BLOCK + i, get(w, PULL * BLOCK + i) + v * get(w, s + A_ * BLOCK + d))
            put(w, s + DA * BLOCK + d, get(w, s + DA * BLOCK + d) + v * get(w, DT * BLOCK + i))
        db[t, n], dc[t, n] = dbt, dct


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
def finish_back(w, steps, through_softplus, gated, ln2):
    """From the sums over states: du in rows FED, ddelta in rows PULL, dz in rows DZ, and the sums over time."""
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
    if gated:
        for i in range(steps * BLOCK):
            put(w, DZ * BLOCK + i, get(w, DZ * BLOCK + i) * get(w, Y * BLOCK + i))


@njit(**PLAIN)
def back_in_numbers(w, b, t0, d0, steps, width, bt, ct, states, flags, ln2, db, dc, tensors, gradients):
    """Take a block through a tile, in any dtype and with weights B or C of channels."""
    (u, delta, dout, z), (du, ddelta, dz) = tensors, gradients
    load_tile(u, b, t0, d0, steps, width, w, U * BLOCK, BLOCK)
    load_tile(delta, b, t0, d0, steps, width, w, DT * BLOCK, BLOCK)
    load_tile(dout, b, t0, d0, steps, width, w, DY * BLOCK, BLOCK)
    if flags[1]:
        load_tile(z, b, t0, d0, steps, width, w, DZ * BLOCK, BLOCK)
    prepare_back(w, steps, flags[0], flags[1])
    prepare(w, steps, flags[0])
    for n in range(states):
        keep_one(w, steps, bt, ct, n)
        back_one(w, steps, bt, ct, n, db, dc)
    finish_back(w, steps, flags[0], flags[1], ln2)
    store_tile(w, FED * BLOCK, BLOCK, du, b, t0, d0, steps, width)
    store_tile(w, PULL * BLOCK, BLOCK, ddelta, b, t0, d0, steps, width)
    if flags[1]:
        store_tile(w, DZ * BLOCK, BLOCK, dz, b, t0, d0, steps, width)
