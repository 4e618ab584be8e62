"""The innermost loop of the forward pass, written in vectors of LANES numbers, so that nothing is left to chance.

Four states of LANES channels stay in registers through a whole tile: per step only dt, x and y pass through memory.
LLVM splits the vectors for processors whose registers are shorter.
"""

# mypy: allow-untyped-defs
# Numba finds the types of these functions from the signature in `cpu.py`.

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["BLOCK", "LANES", "copy_lanes", "four_states", "four_states_back", "four_states_bounded", "four_states_kept"]

LANES = 16
BLOCK = 64  # channels that go through time together, a multiple of LANES
FLOAT, WORD = ir.FloatType(), ir.IntType(32)
VECTOR, WORDS = ir.VectorType(FLOAT, LANES), ir.VectorType(WORD, LANES)
# 2**f on [-0.5, 0.5], highest power first: the same fit as in cpu_math.
POWERS = (
    1.326472731307149e-3,
    9.671512991189957e-3,
    5.550733581185341e-2,
    2.4022242426872253e-1,
    6.931470036506653e-1,
    1.0,
)
ROUNDER = 12582912.0  # 1.5 * 2**23


def _same(value, vector=VECTOR):
    return ir.Constant(vector, [value] * LANES)


def _splat(builder, scalar):
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), scalar, ir.Constant(WORD, 0))
    return builder.shuffle_vector(one, ir.Constant(VECTOR, ir.Undefined), ir.Constant(WORDS, [0] * LANES))


def _multiply_add(builder, a, b, c):
    """Return a b + c, fused where the processor can."""
    return builder.fadd(builder.fmul(a, b, flags=["contract"]), c, flags=["contract"])


def _exp2(builder, x, bounded):
    """2**x; `bounded` promises that x is in [-126, 127]."""
    if not bounded:
        for sign, limit in (("<", -127.0), (">", 128.0)):  # to 0 and to infinity
            x = builder.select(builder.fcmp_ordered(sign, x, _same(limit)), _same(limit), x)
    shifted = builder.fadd(x, _same(ROUNDER))
    f = builder.fsub(x, builder.fsub(shifted, _same(ROUNDER)))
    p = _same(POWERS[0])
    for power in POWERS[1:]:
        p = _multiply_add(builder, p, f, _same(power))
    exponent = builder.shl(builder.bitcast(shifted, WORDS), _same(23, WORDS))
    return builder.bitcast(builder.add(builder.bitcast(p, WORDS), exponent), VECTOR)


def _data(context, builder, signature, args, k):
    return context.make_array(signature.args[k])(context, builder, args[k]).data


def _lanes(builder, data, i, vector=VECTOR):
    """Return a pointer to LANES numbers from place i on."""
    return builder.bitcast(builder.gep(data, [i], inbounds=True), vector.as_pointer())


def _four_states(bounded, keep):
    def codegen(context, builder, signature, args):
        w, bt, ct = (_data(context, builder, signature, args, k) for k in range(3))
        dt, x, y, a, h, slot, n, states, steps, row, *kept = args[3:]

        def place(start, distance, j):
            return _lanes(builder, w, builder.add(start, builder.mul(distance, ir.Constant(distance.type, j))))

        decays = [builder.load(place(a, slot, j), align=4) for j in range(4)]
        homes = [place(h, slot, j) for j in range(4)]
        held = [cgutils.alloca_once_value(builder, builder.load(home, align=4)) for home in homes]
        with cgutils.for_range(builder, steps, intp=steps.type) as loop:
            along = builder.mul(loop.index, row)
            row_dt, row_x, row_y = (_lanes(builder, w, builder.add(start, along)) for start in (dt, x, y))
            step, fed, total = (builder.load(pointer, align=4) for pointer in (row_dt, row_x, row_y))
            weights = builder.add(builder.mul(loop.index, states), n)
            for j in range(4):
                column = builder.add(weights, ir.Constant(n.type, j))
                b, c = (_splat(builder, builder.load(builder.gep(rows, [column]))) for rows in (bt, ct))
                decay = _exp2(builder, builder.fmul(step, decays[j]), bounded)
                state = _multiply_add(builder, decay, builder.load(held[j]), builder.fmul(fed, b))
                builder.store(state, held[j])
                total = _multiply_add(builder, state, c, total)
                if keep:
                    for value, start, distance in ((decay, kept[0], kept[1]), (state, kept[2], kept[3])):
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
    return types.void(w, bt, ct, *(types.intp,) * 10), _four_states(bounded=False, keep=False)


@intrinsic
def four_states_bounded(typingctx, w, bt, ct, dt, x, y, a, h, slot, n, states, steps, row):
    """`four_states` where every dt A (in units of log 2) is in [-126, 127]."""
    return types.void(w, bt, ct, *(types.intp,) * 10), _four_states(bounded=True, keep=False)


@intrinsic
def four_states_kept(
    typingctx, w, bt, ct, dt, x, y, a, h, slot, n, states, steps, row, decays, of_decays, past, of_past
):
    """`four_states` that writes decays and new states down, `of_decays` and `of_past` apart for the four."""
    return types.void(w, bt, ct, *(types.intp,) * 14), _four_states(bounded=False, keep=True)


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
        w, bt, ct, db, dc = (_data(context, builder, signature, args, k) for k in range(5))
        dt, x, dy, fed, pull, a, g, da, slot, n, states, step, decays, of_decays, past, of_past = args[5:]

        def row(start, lane, distance=None, j=0):
            shift = ir.Constant(start.type, lane)
            if distance is not None:
                shift = builder.add(shift, builder.mul(distance, ir.Constant(start.type, j)))
            return _lanes(builder, w, builder.add(start, shift))

        def read(*place):
            return builder.load(row(*place), align=4)

        weights = builder.add(builder.mul(step, states), n)
        columns = [builder.add(weights, ir.Constant(n.type, j)) for j in range(4)]
        b, c = ([_splat(builder, builder.load(builder.gep(m, [k]))) for k in columns] for m in (bt, ct))
        sum_b, sum_c = [_same(0.0)] * 4, [_same(0.0)] * 4
        for lane in range(0, BLOCK, LANES):
            row_dt, row_x, row_dy = read(dt, lane), read(x, lane), read(dy, lane)
            total_fed, total_pull = read(fed, lane), read(pull, lane)
            for j in range(4):
                adjoint = _multiply_add(builder, c[j], row_dy, read(g, lane, slot, j))
                sum_b[j] = _multiply_add(builder, adjoint, row_x, sum_b[j])
                after = builder.add(past, ir.Constant(past.type, BLOCK))
                sum_c[j] = _multiply_add(builder, row_dy, read(after, lane, of_past, j), sum_c[j])
                total_fed = _multiply_add(builder, adjoint, b[j], total_fed)
                adjoint = builder.fmul(adjoint, read(decays, lane, of_decays, j))
                builder.store(adjoint, row(g, lane, slot, j), align=4)
                v = builder.fmul(adjoint, read(past, lane, of_past, j))
                total_pull = _multiply_add(builder, v, read(a, lane, slot, j), total_pull)
                builder.store(
                    _multiply_add(builder, v, row_dt, read(da, lane, slot, j)), row(da, lane, slot, j), align=4
                )
            builder.store(total_fed, row(fed, lane), align=4)
            builder.store(total_pull, row(pull, lane), align=4)
        for k, of_b, of_c in zip(columns, sum_b, sum_c, strict=True):
            builder.store(_sum(builder, of_b), builder.gep(db, [k]))
            builder.store(_sum(builder, of_c), builder.gep(dc, [k]))
        return context.get_dummy_value()

    return types.void(w, bt, ct, db, dc, *(types.intp,) * 16), codegen


@intrinsic
def copy_lanes(typingctx, target, i, source, j):
    """Copy LANES numbers from place j of one array to place i of another."""

    def codegen(context, builder, signature, args):
        vector = ir.VectorType(context.get_data_type(target.dtype), LANES)
        size = target.dtype.bitwidth // 8
        numbers = builder.load(
            _lanes(builder, _data(context, builder, signature, args, 2), args[3], vector), align=size
        )
        builder.store(
            numbers, _lanes(builder, _data(context, builder, signature, args, 0), args[1], vector), align=size
        )
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp), codegen
