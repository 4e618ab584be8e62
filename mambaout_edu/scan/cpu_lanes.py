"""The innermost loops of both passes, written in vectors of LANES numbers.

Four states of LANES channels stay in registers through a whole tile: per step only dt, x and y pass through memory.
"""

# mypy: allow-untyped-defs
# Numba finds the types of these functions from the signature in `cpu.py`.

import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mambaout_edu.scan.cpu_vectors import (
    AHEAD,
    LANES,
    ask_for,
    data_of,
    exp2,
    lanes_at,
    multiply_add,
    rows_of,
    same,
    silu,
    softplus_and_slope,
    splat,
)

__all__ = [
    "BLOCK",
    "four_states",
    "four_states_bounded",
    "four_states_kept",
    "four_states_kept_bounded",
    "gate_lanes",
    "one_state",
    "one_state_bounded",
    "one_state_kept",
    "one_state_own",
    "prepare_lanes",
    "prepare_lanes_back",
    "prepare_lanes_back_softplus",
    "prepare_lanes_softplus",
]

BLOCK = 64  # channels that go through time together, a multiple of LANES


def _states(count, bounded=False, keep=False, own=False):
    """The loop over steps for `count` states; `keep` writes decays and states down, `own` has weights of channels."""

    def codegen(context, builder, signature, args):
        w, bt, ct = (data_of(context, builder, signature, args, k) for k in range(3))
        dt, x, y, a, h, slot, n, states, steps, row, *more = args[3:]

        def place(start, distance, j):
            return lanes_at(builder, w, builder.add(start, builder.mul(distance, ir.Constant(distance.type, j))))

        def read(start):
            return builder.load(place(start, slot, 0), align=4)

        decays = [builder.load(place(a, slot, j), align=4) for j in range(count)]
        homes = [place(h, slot, j) for j in range(count)]
        held = [cgutils.alloca_once_value(builder, builder.load(home, align=4)) for home in homes]
        channels = [read(start) for start in more] if own else None
        with cgutils.for_range(builder, steps, intp=steps.type) as loop:
            along = builder.mul(loop.index, row)
            row_dt, row_x, row_y = (lanes_at(builder, w, builder.add(start, along)) for start in (dt, x, y))
            step, fed, total = (builder.load(pointer, align=4) for pointer in (row_dt, row_x, row_y))
            weights = builder.add(builder.mul(loop.index, states), n)
            for j in range(count):
                column = builder.add(weights, ir.Constant(n.type, j))
                b, c = (splat(builder, builder.load(builder.gep(rows, [column]))) for rows in (bt, ct))
                if channels:
                    b, c = (builder.fmul(weight, mine) for weight, mine in zip((b, c), channels, strict=True))
                decay = exp2(builder, builder.fmul(step, decays[j]), bounded)
                state = multiply_add(builder, decay, builder.load(held[j]), builder.fmul(fed, b))
                builder.store(state, held[j])
                total = multiply_add(builder, state, c, total)
                if keep:
                    for value, start, distance in ((decay, more[0], more[1]), (state, more[2], more[3])):
                        builder.store(value, place(builder.add(start, along), distance, j), align=4)
            builder.store(total, row_y, align=4)
        for home, held_state in zip(homes, held, strict=True):
            builder.store(builder.load(held_state), home, align=4)
        return context.get_dummy_value()

    return codegen


@intrinsic
def four_states(typingctx, w, bt, ct, dt, x, y, a, h, slot, n, states, steps, row):
    """Take four states of LANES channels through `steps` rows.

    The numbers are places in w: of the first rows of dt, x and y, of the first state's A and h; states are `slot` apart
    and steps `row`. n is the first state's column of bt and ct, which have `states` columns.
    """
    return types.void(w, bt, ct, *(types.intp,) * 10), _states(4)


@intrinsic
def four_states_bounded(typingctx, w, bt, ct, dt, x, y, a, h, slot, n, states, steps, row):
    """`four_states` where every dt A (in units of log 2) is in [-126, 127]."""
    return types.void(w, bt, ct, *(types.intp,) * 10), _states(4, bounded=True)


@intrinsic
def four_states_kept(
    typingctx, w, bt, ct, dt, x, y, a, h, slot, n, states, steps, row, decays, of_decays, past, of_past
):
    """`four_states` that writes decays and new states down, `of_decays` and `of_past` apart for the four."""
    return types.void(w, bt, ct, *(types.intp,) * 14), _states(4, keep=True)


@intrinsic
def four_states_kept_bounded(
    typingctx, w, bt, ct, dt, x, y, a, h, slot, n, states, steps, row, decays, of_decays, past, of_past
):
    """`four_states_kept` where `four_states_bounded` would do."""
    return types.void(w, bt, ct, *(types.intp,) * 14), _states(4, bounded=True, keep=True)


@intrinsic
def one_state_kept(typingctx, w, bt, ct, dt, x, y, a, h, slot, n, states, steps, row, decays, of_decays, past, of_past):
    """`four_states_kept` for one."""
    return types.void(w, bt, ct, *(types.intp,) * 14), _states(1, keep=True)


@intrinsic
def one_state(typingctx, w, bt, ct, dt, x, y, a, h, slot, n, states, steps, row):
    """`four_states` for one."""
    return types.void(w, bt, ct, *(types.intp,) * 10), _states(1)


@intrinsic
def one_state_bounded(typingctx, w, bt, ct, dt, x, y, a, h, slot, n, states, steps, row):
    """`four_states_bounded` for one."""
    return types.void(w, bt, ct, *(types.intp,) * 10), _states(1, bounded=True)


@intrinsic
def one_state_own(typingctx, w, bt, ct, dt, x, y, a, h, slot, n, states, steps, row, b, c):
    """`one_state` whose B and C are a step's number times a channel's; b and c are places of the latter."""
    return types.void(w, bt, ct, *(types.intp,) * 12), _states(1, own=True)


def _prepare(through_softplus, back=False):
    """The loop over steps; `back` also writes what the backward pass wants, and asks for earlier lines, not later."""
    ahead = -AHEAD if back else AHEAD

    def codegen(context, builder, signature, args):
        w, u, delta = (data_of(context, builder, signature, args, k) for k in (0, 8, 11))
        dt_to, x_to, y_to, row, skip, bias, fastest = args[1:8]
        (u_from, u_row), (delta_from, delta_row), steps, more = args[9:11], args[12:14], args[14], args[15:]
        gain, shift, fast = (builder.load(lanes_at(builder, w, place), align=4) for place in (skip, bias, fastest))
        least, most = (cgutils.alloca_once_value(builder, same(v)) for v in (math.inf, -math.inf))
        with cgutils.for_range(builder, steps, intp=steps.type) as loop:
            at = rows_of(builder, loop)
            if signature.args[8].ndim > 1:
                ask_for(builder, at(u, u_from, u_row, ahead))
                ask_for(builder, at(delta, delta_from, delta_row, ahead))
            fed = builder.load(at(u, u_from, u_row), align=4)
            step = builder.fadd(builder.load(at(delta, delta_from, delta_row), align=4), shift)
            step, slope = softplus_and_slope(builder, step) if through_softplus else (step, same(1.0))
            for value, to in zip((slope, same(0.0), same(0.0)), more, strict=False):
                builder.store(value, at(w, to, row), align=4)
            for value, to in ((step, dt_to), (builder.fmul(step, fed), x_to), (builder.fmul(gain, fed), y_to)):
                builder.store(value, at(w, to, row), align=4)
            for sign, seen in (("<", least), (">", most)):
                old = builder.load(seen)
                builder.store(builder.select(builder.fcmp_ordered(sign, step, old), step, old), seen)
        largest = builder.fmul(builder.load(most), fast)
        inside = builder.fcmp_ordered(">=", builder.load(least), same(0.0))
        inside = builder.and_(inside, builder.fcmp_ordered("<=", fast, same(0.0)))
        inside = builder.and_(inside, builder.fcmp_ordered(">=", largest, same(-126.0)))
        bits = ir.IntType(LANES)
        return builder.icmp_unsigned("==", builder.bitcast(inside, bits), ir.Constant(bits, 2**LANES - 1))

    return codegen


def _prepare_signature(w, u, delta, more=0):
    place = types.intp
    return types.boolean(w, *(place,) * 7, u, place, place, delta, place, place, place, *(place,) * more)


@intrinsic
def prepare_lanes(
    typingctx, w, dt, x, y, row, skip, bias, fastest, u, u_from, u_row, delta, delta_from, delta_row, steps
):
    """From u and raw delta write dt = delta + bias, x = dt u, y = D u for LANES channels, `row` from step to step.

    All but the arrays w, u and delta are places in them, or distances between steps. Returns whether no decay dt A
    (in units of log 2) can leave the range of float32's exponent, so that exp2 need not look; `fastest` is the place
    of the channels' most negative A, positive where some A is.
    """
    return _prepare_signature(w, u, delta), _prepare(through_softplus=False)


@intrinsic
def prepare_lanes_softplus(
    typingctx, w, dt, x, y, row, skip, bias, fastest, u, u_from, u_row, delta, delta_from, delta_row, steps
):
    """`prepare_lanes` with dt = softplus(delta + bias)."""
    return _prepare_signature(w, u, delta), _prepare(through_softplus=True)


@intrinsic
def prepare_lanes_back(
    typingctx,
    w,
    dt,
    x,
    y,
    row,
    skip,
    bias,
    fastest,
    u,
    u_from,
    u_row,
    delta,
    delta_from,
    delta_row,
    steps,
    slope,
    fed,
    pull,
):
    """`prepare_lanes` for the backward pass: ones in rows `slope`, the slope of dt; zeros in rows fed and pull."""
    return _prepare_signature(w, u, delta, 3), _prepare(through_softplus=False, back=True)


@intrinsic
def prepare_lanes_back_softplus(
    typingctx,
    w,
    dt,
    x,
    y,
    row,
    skip,
    bias,
    fastest,
    u,
    u_from,
    u_row,
    delta,
    delta_from,
    delta_row,
    steps,
    slope,
    fed,
    pull,
):
    """`prepare_lanes_back` with dt = softplus(delta + bias)."""
    return _prepare_signature(w, u, delta, 3), _prepare(through_softplus=True, back=True)


@intrinsic
def gate_lanes(typingctx, out, out_from, out_row, z, z_from, z_row, w, y, row, steps):
    """Write y silu(z) of LANES channels to `out`, which may be w."""

    def codegen(context, builder, signature, args):
        out, z, w = (data_of(context, builder, signature, args, k) for k in (0, 3, 6))
        steps = args[9]
        with cgutils.for_range(builder, steps, intp=steps.type) as loop:
            at = rows_of(builder, loop)
            if signature.args[3].ndim > 1:
                ask_for(builder, at(z, args[4], args[5], AHEAD))
                ask_for(builder, at(out, args[1], args[2], AHEAD))
            gate = silu(builder, builder.load(at(z, args[4], args[5]), align=4))
            y = builder.load(at(w, args[7], args[8]), align=4)
            builder.store(builder.fmul(y, gate), at(out, args[1], args[2]), align=4)
        return context.get_dummy_value()

    place = types.intp
    return types.void(out, place, place, z, place, place, w, place, place, place), codegen
