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

from mambaout_edu.scan.cpu_vectors import FLOAT, LANES, VECTOR, data_of, exp2, lanes_at, multiply_add, same, splat

__all__ = [
    "BLOCK",
    "finish_lanes",
    "finish_lanes_softplus",
    "four_states",
    "four_states_back",
    "four_states_bounded",
    "four_states_kept",
    "four_states_kept_bounded",
    "one_state",
    "one_state_bounded",
    "one_state_own",
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


def _finish(through_softplus):
    def codegen(context, builder, signature, args):
        w = data_of(context, builder, signature, args, 0)
        steps = args[11]
        gain = builder.load(lanes_at(builder, w, args[7]), align=4)
        homes = [lanes_at(builder, w, args[k]) for k in (8, 9)]
        sums = [cgutils.alloca_once_value(builder, builder.load(home, align=4)) for home in homes]
        with cgutils.for_range(builder, steps, intp=steps.type) as loop:
            along = builder.mul(loop.index, args[10])
            pointers = [lanes_at(builder, w, builder.add(args[k], along)) for k in (3, 4)]
            u, dt, fed, pull, dy = (
                builder.load(lanes_at(builder, w, builder.add(args[k], along)), align=4) for k in range(1, 6)
            )
            ddelta = multiply_add(builder, pull, same(math.log(2)), builder.fmul(fed, u))
            if through_softplus:
                slope = builder.load(lanes_at(builder, w, builder.add(args[6], along)), align=4)
                ddelta = builder.fmul(ddelta, slope)
            builder.store(multiply_add(builder, fed, dt, builder.fmul(dy, gain)), pointers[0], align=4)
            builder.store(ddelta, pointers[1], align=4)
            of_skip = multiply_add(builder, dy, u, builder.load(sums[0]))
            builder.store(of_skip, sums[0])
            builder.store(builder.fadd(builder.load(sums[1]), ddelta), sums[1])
        for home, total in zip(homes, sums, strict=True):
            builder.store(builder.load(total), home, align=4)
        return context.get_dummy_value()

    return codegen


@intrinsic
def finish_lanes(typingctx, w, u, dt, fed, pull, dy, slope, skip, d_skip, d_bias, row, steps):
    """From the sums over states in rows fed and pull: du and ddelta there; add to the sums over time.

    All numbers but `steps` and `row` are places in w.
    """
    return types.void(w, *(types.intp,) * 11), _finish(through_softplus=False)


@intrinsic
def finish_lanes_softplus(typingctx, w, u, dt, fed, pull, dy, slope, skip, d_skip, d_bias, row, steps):
    """`finish_lanes` where steps went through a softplus of this slope."""
    return types.void(w, *(types.intp,) * 11), _finish(through_softplus=True)


def _sum(builder, vector):
    """Return the sum of the lanes, in pairs of pairs: always in the same order on one processor."""
    kind = ir.FunctionType(FLOAT, [FLOAT, VECTOR])
    total = cgutils.get_or_insert_function(builder.module, kind, "llvm.vector.reduce.fadd.v16f32")
    return builder.call(total, [ir.Constant(FLOAT, -0.0), vector], fastmath=("reassoc",))


@intrinsic
def four_states_back(
    typingctx,
    w,
    bt,
    ct,
    db,
    dc,
    dt,
    x,
    dy,
    fed,
    pull,
    a,
    g,
    da,
    slot,
    n,
    states,
    step,
    decays,
    of_decays,
    past,
    of_past,
):
    """Take the adjoints of four states of BLOCK channels one step back, and add to every gradient.

    As in `four_states`, but for one step: its number, and places of its rows dt, x, dy, fed and pull. `decays` and
    `past` are the step's rows of what was kept, `past` the state before the step.
    """

    def codegen(context, builder, signature, args):
        w, bt, ct, db, dc = (data_of(context, builder, signature, args, k) for k in range(5))
        dt, x, dy, fed, pull, a, g, da, slot, n, states, step, decays, of_decays, past, of_past = args[5:]

        def row(start, lane, distance=None, j=0):
            shift = ir.Constant(start.type, lane)
            if distance is not None:
                shift = builder.add(shift, builder.mul(distance, ir.Constant(start.type, j)))
            return lanes_at(builder, w, builder.add(start, shift))

        def read(*place):
            return builder.load(row(*place), align=4)

        weights = builder.add(builder.mul(step, states), n)
        columns = [builder.add(weights, ir.Constant(n.type, j)) for j in range(4)]
        b, c = ([splat(builder, builder.load(builder.gep(m, [k]))) for k in columns] for m in (bt, ct))
        sum_b, sum_c = [same(0.0)] * 4, [same(0.0)] * 4
        for lane in range(0, BLOCK, LANES):
            row_dt, row_x, row_dy = read(dt, lane), read(x, lane), read(dy, lane)
            total_fed, total_pull = read(fed, lane), read(pull, lane)
            for j in range(4):
                adjoint = multiply_add(builder, c[j], row_dy, read(g, lane, slot, j))
                sum_b[j] = multiply_add(builder, adjoint, row_x, sum_b[j])
                after = builder.add(past, ir.Constant(past.type, BLOCK))
                sum_c[j] = multiply_add(builder, row_dy, read(after, lane, of_past, j), sum_c[j])
                total_fed = multiply_add(builder, adjoint, b[j], total_fed)
                adjoint = builder.fmul(adjoint, read(decays, lane, of_decays, j))
                builder.store(adjoint, row(g, lane, slot, j), align=4)
                v = builder.fmul(adjoint, read(past, lane, of_past, j))
                total_pull = multiply_add(builder, v, read(a, lane, slot, j), total_pull)
                builder.store(
                    multiply_add(builder, v, row_dt, read(da, lane, slot, j)), row(da, lane, slot, j), align=4
                )
            builder.store(total_fed, row(fed, lane), align=4)
            builder.store(total_pull, row(pull, lane), align=4)
        for k, of_b, of_c in zip(columns, sum_b, sum_c, strict=True):
            builder.store(_sum(builder, of_b), builder.gep(db, [k]))
            builder.store(_sum(builder, of_c), builder.gep(dc, [k]))
        return context.get_dummy_value()

    return types.void(w, bt, ct, db, dc, *(types.intp,) * 16), codegen
