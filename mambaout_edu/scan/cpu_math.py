"""What the CPU kernels compute with: exponentials that the compiler can vectorise, and plain loads and stores.

The C library's exp is a call for every number. For float32 these are polynomials instead, made for this file:
minimax fits of relative error below 1e-7, exact at 0, so that a state that hardly decays keeps its decay. In float64,
which serves gradient checks, the library's functions are used.
"""

# mypy: allow-untyped-defs
# Numba finds the types of these functions from the signature in `cpu.py`.

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

__all__ = ["claim", "exp2", "get", "prefetch", "put", "sigmoid", "softplus"]

f4 = np.float32
# Multiply-add may be fused; nothing else, since exp2 rounds by adding a number and taking it away again.
FUSED = {"fastmath": {"contract"}, "forceinline": True, "error_model": "numpy"}


@intrinsic
def get(typingctx, array, i):
    """The number i places after an array's first, without a look at sign or range: those looks stop vectorisation."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]], inbounds=True))

    return array.dtype(array, types.intp), codegen


@intrinsic
def put(typingctx, array, i, value):
    """Write where `get` reads."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        builder.store(args[2], builder.gep(data, [args[1]], inbounds=True))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), codegen


@intrinsic
def prefetch(typingctx, array, i):
    """Ask for the cache line of `get(array, i)`, and go on."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.bitcast(builder.gep(data, [args[1]], inbounds=False), ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, word, word, word])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(call, [place, *(ir.Constant(word, v) for v in (0, 2, 1))])  # to read, into the second level
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@intrinsic
def claim(typingctx, counter):
    """Return counter[0] and add one to it, in one step that no other thread can come between."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(counter), codegen


@intrinsic
def _add_to_exponent(typingctx, p, shifted):
    """Return p * 2**k for float32, with k in the low bits of `shifted` = k + 1.5 * 2**23."""

    def codegen(context, builder, signature, args):
        word = ir.IntType(32)
        bits, k = (builder.bitcast(a, word) for a in args)
        bits = builder.add(bits, builder.shl(k, ir.Constant(word, 23)))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.float32, types.float32), codegen


@njit(**FUSED)
def _exp2_single(x):
    x = f4(-127.0) if x < f4(-127.0) else x  # gives 0
    x = f4(128.0) if x > f4(128.0) else x  # gives infinity
    shifted = x + f4(12582912.0)  # 1.5 * 2**23: the sum has no digits after the point
    f = x - (shifted - f4(12582912.0))  # in [-0.5, 0.5]
    p = f4(1.326472731307149e-3)
    p = p * f + f4(9.671512991189957e-3)
    p = p * f + f4(5.550733581185341e-2)
    p = p * f + f4(2.4022242426872253e-1)
    p = p * f + f4(6.931470036506653e-1)
    p = p * f + f4(1.0)
    return _add_to_exponent(p, shifted)


@njit(**FUSED)
def _log1p_single(e):
    """log(1 + e) for e in [0, 1], by 2 artanh(e / (2 + e))."""
    s = e / (f4(2.0) + e)
    q = s * s
    p = f4(2.817835807800293e-1)
    p = p * q + f4(2.796059846878052e-1)
    p = p * q + f4(4.0024909377098083e-1)
    p = p * q + f4(6.666631698608398e-1)
    p = p * q + f4(2.0)
    return p * s


@njit(**FUSED)
def _softplus_single(x):
    log = _log1p_single(_exp2_single(abs(x) * f4(-1.4426950408889634)))
    return (x if x > f4(0.0) else f4(0.0)) + log


@njit(**FUSED)
def _sigmoid_single(x):
    return f4(1.0) / (f4(1.0) + _exp2_single(x * f4(-1.4426950408889634)))  # 1 / infinity is 0


def exp2(x):
    """2**x."""


def softplus(x):
    """log(1 + exp(x))."""


def sigmoid(x):
    """1 / (1 + exp(-x))."""


@overload(exp2, jit_options=FUSED)
def _exp2(x):
    return (lambda x: _exp2_single(x)) if x == types.float32 else (lambda x: np.exp2(x))


@overload(softplus, jit_options=FUSED)
def _softplus(x):
    if x == types.float32:
        return lambda x: _softplus_single(x)
    return lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@overload(sigmoid, jit_options=FUSED)
def _sigmoid(x):
    if x == types.float32:
        return lambda x: _sigmoid_single(x)
    return lambda x: (1.0 if x > 0.0 else math.exp(x)) / (1.0 + math.exp(-abs(x)))
