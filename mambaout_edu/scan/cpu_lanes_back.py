"""The innermost loops of the backward pass, written in vectors of LANES numbers.

A tile of LANES channels lies in the first-level cache. Adjoints and the sums over time stay in registers through it;
what is summed over channels (dB and dC) is added up across lanes for all states at hand together.
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
    FLOAT,
    LANES,
    WORDS,
    ask_for,
    data_of,
    lanes_at,
    multiply_add,
    rows_of,
    same,
    sigmoid,
    splat,
)

__all__ = [
    "finish_lanes",
    "four_states_back",
    "gate_back_lanes",
    "multiply_lanes",
    "one_state_back",
]


@intrinsic
def gate_back_lanes(typingctx, w, dy, dgate, row, dout, dout_from, dout_row, z, z_from, z_row, steps):
    """From dout and z of LANES channels write dy = dout silu(z) and dgate = dout silu'(z), `row` from step to step."""

    def codegen(context, builder, signature, args):
        w, dout, z = (data_of(context, builder, signature, args, k) for k in (0, 4, 7))
        steps = args[10]
        with cgutils.for_range(builder, steps, intp=steps.type) as loop:
            at = rows_of(builder, loop)
            for k, data in ((4, dout), (7, z)):
                if signature.args[k].ndim > 1:
                    ask_for(builder, at(data, args[k + 1], args[k + 2], -AHEAD))
            gradient = builder.load(at(dout, args[5], args[6]), align=4)
            value = builder.load(at(z, args[8], args[9]), align=4)
            opened = sigmoid(builder, value)
            silu = builder.fmul(value, opened)
            slope = multiply_add(builder, silu, builder.fsub(same(1.0), opened), opened)
            builder.store(builder.fmul(gradient, silu), at(w, args[1], args[3]), align=4)
            builder.store(builder.fmul(gradient, slope), at(w, args[2], args[3]), align=4)
        return context.get_dummy_value()

    place = types.intp
    return types.void(w, *(place,) * 3, dout, place, place, z, place, place, place), codegen


@intrinsic
def multiply_lanes(typingctx, target, to, to_row, w, a, b, row, steps):
    """Write the product of LANES channels of rows a and b to `target`, which may be w."""

    def codegen(context, builder, signature, args):
        target, w = (data_of(context, builder, signature, args, k) for k in (0, 3))
        steps = args[7]
        with cgutils.for_range(builder, steps, intp=steps.type) as loop:
            at = rows_of(builder, loop)
            if signature.args[0].ndim > 1:
                ask_for(builder, at(target, args[1], args[2], -AHEAD))
            a, b = (builder.load(at(w, args[k], args[6]), align=4) for k in (4, 5))
            builder.store(builder.fmul(a, b), at(target, args[1], args[2]), align=4)
        return context.get_dummy_value()

    return types.void(target, types.intp, types.intp, w, *(types.intp,) * 4), codegen


@intrinsic
def finish_lanes(
    typingctx,
    du,
    du_to,
    du_row,
    ddelta,
    ddelta_to,
    ddelta_row,
    u,
    u_from,
    u_row,
    w,
    dt,
    fed,
    pull,
    dy,
    slope,
    row,
    skip,
    d_skip,
    d_bias,
    steps,
):
    """From the sums over states in rows fed and pull write du and ddelta; add to the sums over time.

    All numbers from dt on, but `row` and `steps`, are places in w, which du, ddelta and u may be too. `slope` is what
    ddelta is multiplied by: the slope of softplus, or ones.
    """

    def codegen(context, builder, signature, args):
        du, ddelta, u, w = (data_of(context, builder, signature, args, k) for k in (0, 3, 6, 9))
        row, steps = args[15], args[19]
        gain = builder.load(lanes_at(builder, w, args[16]), align=4)
        homes = [lanes_at(builder, w, place) for place in args[17:19]]
        of_skip, of_bias = (cgutils.alloca_once_value(builder, builder.load(home, align=4)) for home in homes)
        with cgutils.for_range(builder, steps, intp=steps.type) as loop:
            at = rows_of(builder, loop)
            for k, target in ((0, du), (3, ddelta)):
                if signature.args[k].ndim > 1:
                    ask_for(builder, at(target, args[k + 1], args[k + 2], -AHEAD))
            fed_in = builder.load(at(u, args[7], args[8]), align=4)
            dt, fed, pull, dy, slope = (builder.load(at(w, place, row), align=4) for place in args[10:15])
            step = multiply_add(builder, pull, same(math.log(2)), builder.fmul(fed, fed_in))
            step = builder.fmul(step, slope)
            builder.store(multiply_add(builder, fed, dt, builder.fmul(dy, gain)), at(du, args[1], args[2]), align=4)
            builder.store(step, at(ddelta, args[4], args[5]), align=4)
            builder.store(multiply_add(builder, dy, fed_in, builder.load(of_skip)), of_skip)
            builder.store(builder.fadd(builder.load(of_bias), step), of_bias)
        for home, total in zip(homes, (of_skip, of_bias), strict=True):
            builder.store(builder.load(total), home, align=4)
        return context.get_dummy_value()

    place = types.intp
    return types.void(du, place, place, ddelta, place, place, u, place, place, w, *(place,) * 10), codegen


def _states_back(count):
    """The loop backwards over steps for `count` states, a power of two."""

    def codegen(context, builder, signature, args):
        w, bt, ct, db, dc = (data_of(context, builder, signature, args, k) for k in range(5))
        dt, x, dy, fed, pull, row, a, g, da, slot, n, states, steps, decays, of_decays, past, of_past = args[5:]

        def place(start, distance, j):
            return lanes_at(builder, w, builder.add(start, builder.mul(distance, ir.Constant(distance.type, j))))

        rates = [builder.load(place(a, slot, j), align=4) for j in range(count)]
        homes = [place(start, slot, j) for start in (g, da) for j in range(count)]
        held = [cgutils.alloca_once_value(builder, builder.load(home, align=4)) for home in homes]
        adjoints, of_rates = held[:count], held[count:]
        last = builder.sub(steps, ir.Constant(steps.type, 1))
        with cgutils.for_range(builder, steps, intp=steps.type) as loop:
            t = builder.sub(last, loop.index)
            along = builder.mul(t, row)
            step, scaled, gradient = (
                builder.load(lanes_at(builder, w, builder.add(start, along)), align=4) for start in (dt, x, dy)
            )
            totals = [lanes_at(builder, w, builder.add(start, along)) for start in (fed, pull)]
            total_fed, total_pull = (builder.load(pointer, align=4) for pointer in totals)
            column = builder.add(builder.mul(t, states), n)
            of_b, of_c = [], []
            for j in range(count):
                k = builder.add(column, ir.Constant(n.type, j))
                b, c = (splat(builder, builder.load(builder.gep(rows, [k]))) for rows in (bt, ct))
                before, after = (
                    builder.load(place(builder.add(start, along), of_past, j), align=4)
                    for start in (past, builder.add(past, row))
                )
                decay = builder.load(place(builder.add(decays, along), of_decays, j), align=4)
                adjoint = multiply_add(builder, c, gradient, builder.load(adjoints[j]))
                of_b.append(builder.fmul(adjoint, scaled))
                of_c.append(builder.fmul(gradient, after))
                total_fed = multiply_add(builder, adjoint, b, total_fed)
                adjoint = builder.fmul(adjoint, decay)
                builder.store(adjoint, adjoints[j])
                v = builder.fmul(adjoint, before)
                total_pull = multiply_add(builder, v, rates[j], total_pull)
                builder.store(multiply_add(builder, v, step, builder.load(of_rates[j])), of_rates[j])
            builder.store(total_fed, totals[0], align=4)
            builder.store(total_pull, totals[1], align=4)
            _add_sums(builder, of_b + of_c, (db, dc), column)
        for home, value in zip(homes, held, strict=True):
            builder.store(builder.load(value), home, align=4)
        return context.get_dummy_value()

    return codegen


def _add_sums(builder, vectors, targets, column):
    """Add each vector's sum across lanes to a number: the first half of them to those from `column` on of one target.

    The other half goes to the second target. Two vectors become one whose halves hold what is left of each to add up,
    and so on: always in the same order.
    """
    shares = 1  # how many vectors' sums share the lanes of one
    while len(vectors) > 1:
        run = LANES // shares // 2  # lanes of a half
        lower = [k + half for k in range(0, LANES * 2, 2 * run) for half in range(run)]
        upper = [k + run for k in lower]
        vectors = [
            builder.fadd(*(builder.shuffle_vector(p, q, ir.Constant(WORDS, order)) for order in (lower, upper)))
            for p, q in zip(vectors[::2], vectors[1::2], strict=True)
        ]
        shares *= 2
    (total,) = vectors
    run = LANES // shares
    half = run // 2
    while half:
        swapped = [k ^ half for k in range(LANES)]
        total = builder.fadd(total, builder.shuffle_vector(total, total, ir.Constant(WORDS, swapped)))
        half //= 2
    each = shares // 2
    kind = ir.VectorType(FLOAT, each)
    for part, target in enumerate(targets):
        lanes = [(part * each + j) * run for j in range(each)]
        found = builder.shuffle_vector(total, total, ir.Constant(ir.VectorType(ir.IntType(32), each), lanes))
        pointer = builder.bitcast(builder.gep(target, [column]), kind.as_pointer())
        builder.store(builder.fadd(builder.load(pointer, align=4), found), pointer, align=4)


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
    row,
    a,
    g,
    da,
    slot,
    n,
    states,
    steps,
    decays,
    of_decays,
    past,
    of_past,
):
    """Take the adjoints of four states of LANES channels back through `steps` rows, and add to every gradient.

    Arguments are as in `four_states`; decays and states are where `four_states_kept` put them, `past` the row of the
    state before the first step.
    """
    return types.void(w, bt, ct, db, dc, *(types.intp,) * 17), _states_back(4)


@intrinsic
def one_state_back(
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
    row,
    a,
    g,
    da,
    slot,
    n,
    states,
    steps,
    decays,
    of_decays,
    past,
    of_past,
):
    """`four_states_back` for one."""
    return types.void(w, bt, ct, db, dc, *(types.intp,) * 17), _states_back(1)
