"""Vectors of LANES numbers in LLVM's own terms: what the float32 kernels are built from.

Written out, so that no loop depends on whether the compiler sees that it may be vectorised. LLVM splits the vectors for
processors whose registers are shorter.
"""

# mypy: allow-untyped-defs
# Numba finds the types of these functions from the signature in `cpu.py`.

import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["LANES", "copy_lanes", "transpose_lanes"]

LANES = 16
FLOAT, WORD = ir.FloatType(), ir.IntType(32)
VECTOR, WORDS = ir.VectorType(FLOAT, LANES), ir.VectorType(WORD, LANES)
# The same fits as in cpu_math, highest power first: 2**f on [-0.5, 0.5], and log(1 + e) / s in s**2, s = e / (2 + e).
POWERS = (
    1.326472731307149e-3,
    9.671512991189957e-3,
    5.550733581185341e-2,
    2.4022242426872253e-1,
    6.931470036506653e-1,
    1.0,
)
LOG_POWERS = (2.817835807800293e-1, 2.796059846878052e-1, 4.0024909377098083e-1, 6.666631698608398e-1, 2.0)
AHEAD = 32  # steps from a prefetch to its use
ROUNDER = 12582912.0  # 1.5 * 2**23


def same(value, vector=VECTOR):
    return ir.Constant(vector, [value] * LANES)


def splat(builder, scalar):
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), scalar, ir.Constant(WORD, 0))
    return builder.shuffle_vector(one, ir.Constant(VECTOR, ir.Undefined), ir.Constant(WORDS, [0] * LANES))


def multiply_add(builder, a, b, c):
    """Return a b + c, fused where the processor can."""
    return builder.fadd(builder.fmul(a, b, flags=["contract"]), c, flags=["contract"])


def polynomial(builder, powers, x):
    total = same(powers[0])
    for power in powers[1:]:
        total = multiply_add(builder, total, x, same(power))
    return total


def limited(builder, x, sign, limit):
    """Return x where it is not `sign` (< or >) the limit, which NaN never is."""
    return builder.select(builder.fcmp_ordered(sign, x, same(limit)), same(limit), x)


def exp2(builder, x, bounded=False):
    """2**x; `bounded` promises that x is in [-126, 127]."""
    if not bounded:
        x = limited(builder, limited(builder, x, "<", -127.0), ">", 128.0)  # to 0 and to infinity
    shifted = builder.fadd(x, same(ROUNDER))
    f = builder.fsub(x, builder.fsub(shifted, same(ROUNDER)))
    return _scaled(builder, polynomial(builder, POWERS, f), shifted)


def _scaled(builder, p, shifted):
    """Return p 2**k, with k in the low bits of `shifted`."""
    exponent = builder.shl(builder.bitcast(shifted, WORDS), same(23, WORDS))
    return builder.bitcast(builder.add(builder.bitcast(p, WORDS), exponent), VECTOR)


def softplus_and_slope(builder, x):
    """log(1 + exp(x)) and its derivative, 1 / (1 + exp(-x)), from one exponential."""
    size = builder.bitcast(builder.and_(builder.bitcast(x, WORDS), same(0x7FFFFFFF, WORDS)), VECTOR)
    e = exp2(builder, limited(builder, builder.fmul(size, same(-math.log2(math.e))), "<", -126.0), bounded=True)
    s = builder.fdiv(e, builder.fadd(e, same(2.0)))
    log = polynomial(builder, LOG_POWERS, builder.fmul(s, s))
    falling = builder.select(builder.fcmp_ordered("<", x, same(0.0)), e, same(1.0))
    slope = builder.fdiv(falling, builder.fadd(e, same(1.0)))
    return multiply_add(builder, log, s, limited(builder, x, "<", 0.0)), slope


def sigmoid(builder, x):
    e = exp2(builder, builder.fmul(x, same(-math.log2(math.e))))
    return builder.fdiv(same(1.0), builder.fadd(e, same(1.0)))


def silu(builder, z):
    e = exp2(builder, builder.fmul(z, same(-math.log2(math.e))), bounded=False)
    return builder.fdiv(z, builder.fadd(e, same(1.0)))


def data_of(context, builder, signature, args, k):
    return context.make_array(signature.args[k])(context, builder, args[k]).data


def lanes_at(builder, data, i, vector=VECTOR):
    """Return a pointer to LANES numbers from place i on."""
    return builder.bitcast(builder.gep(data, [i], inbounds=True), vector.as_pointer())


def rows_of(builder, loop):
    """Return a function that gives the place of LANES numbers of a step's row, or of one some steps ahead.

    The step is that of `loop`; a row begins at place `first` in the data, the next one `distance` later.
    """

    def at(data, first, distance, ahead=0):
        t = builder.add(loop.index, ir.Constant(loop.index.type, ahead))
        return lanes_at(builder, data, builder.add(first, builder.mul(t, distance)))

    return at


def ask_for(builder, pointer):
    """Prefetch the cache line that a pointer points into, to be read from the second level."""
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), WORD, WORD, WORD])
    call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    place = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    builder.call(call, [place, *(ir.Constant(WORD, v) for v in (0, 2, 1))])


@intrinsic
def copy_lanes(typingctx, target, i, source, j):
    """Copy LANES numbers from place j of one array to place i of another."""

    def codegen(context, builder, signature, args):
        vector = ir.VectorType(context.get_data_type(target.dtype), LANES)
        size = target.dtype.bitwidth // 8
        to, start = (data_of(context, builder, signature, args, k) for k in (0, 2))
        numbers = builder.load(lanes_at(builder, start, args[3], vector), align=size)
        builder.store(numbers, lanes_at(builder, to, args[1], vector), align=size)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp), codegen


@intrinsic
def transpose_lanes(typingctx, target, i, target_row, source, j, source_row):
    """Copy LANES x LANES numbers, `source_row` from row to row at place j, to columns at place i of the target."""

    def codegen(context, builder, signature, args):
        vector = ir.VectorType(context.get_data_type(target.dtype), LANES)
        size = target.dtype.bitwidth // 8
        to, start = (data_of(context, builder, signature, args, k) for k in (0, 3))

        def place(data, first, row, k):
            return lanes_at(builder, data, builder.add(first, builder.mul(row, ir.Constant(row.type, k))), vector)

        rows = [builder.load(place(start, args[4], args[5], k), align=size) for k in range(LANES)]
        half = LANES // 2
        while half:  # swap the off-diagonal halves of ever smaller squares
            for k in range(LANES):
                if not k & half:
                    rows[k], rows[k + half] = _swap_halves(builder, rows[k], rows[k + half], half)
            half //= 2
        for k, row in enumerate(rows):
            builder.store(row, place(to, args[1], args[2], k), align=size)
        return context.get_dummy_value()

    return types.void(target, types.intp, types.intp, source, types.intp, types.intp), codegen


def _swap_halves(builder, a, b, half):
    upper = [LANES + k - half if k & half else k for k in range(LANES)]
    lower = [LANES + k if k & half else k + half for k in range(LANES)]
    return tuple(builder.shuffle_vector(a, b, ir.Constant(WORDS, order)) for order in (upper, lower))
