# mypy: disable-error-code="no-untyped-def,assignment"
# ruff: noqa: RUF005, SIM108 (Triton compiles no starred tuples, and both sides of a choice between shapes)
"""What the GPU kernels of the selective scan share: softplus, rows of a sequence, and the pass over chunks.

A kernel's argument is a pointer, a number, or a constant of compilation (tl.constexpr); None stands for a tensor that
was not given, and the code that needs it is left out. Names are those of `reference.py`; exponentials are to the base
2, the one that the hardware has, so A is multiplied by log2(e) once.
"""

import triton
import triton.language as tl

__all__ = [
    "LN2",
    "LOG2E",
    "anew",
    "biased",
    "combine",
    "fetch",
    "load_rows",
    "read",
    "sigmoid",
    "softplus",
    "step_size",
    "turn",
    "weight_row",
]

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x)), without overflow for any x."""
    return 1.0 / (1.0 + tl.exp2(x * -LOG2E))


@triton.jit
def softplus(x):
    """log(1 + exp(x)) = max(x, 0) + log(1 + e) with e = exp(-|x|), as exact for small e as for large.

    log(1 + e) = 2 atanh(s) with s = e / (2 + e) <= 1/3; in float32 atanh(s) / s is a polynomial in s^2 with a relative
    error of 4e-9 (Chebyshev nodes on [0, 1/9]). A plain log2(1 + e) would lose the digits of small steps.
    """
    e = tl.exp2(tl.abs(x) * -LOG2E)
    s = e / (2.0 + e)
    t = s * s
    if x.dtype == tl.float64:
        small = t * (1 / 3 + t * (1 / 5 + t / 7))  # below e = 1e-3 three terms give 1e-16
        log1p = tl.where(e < 1e-3, 2.0 * s * (1.0 + small), tl.log2(1.0 + e) * LN2)
    else:
        high = 0.20012297614909472 + t * (0.13982578878397325 + t * 0.14078889156761287)
        log1p = 2.0 * s * (1.000000003840879 + t * (0.3333316082070072 + t * high))
    return tl.maximum(x, 0.0) + log1p


@triton.jit
def biased(raw, bias, REAL: tl.constexpr):
    """A row of delta plus the bias, if there is one."""
    x = raw.to(REAL)
    if bias is not None:
        x += bias
    return x


@triton.jit
def step_size(raw, bias, SOFTPLUS: tl.constexpr, REAL: tl.constexpr):
    """The step from a row of delta and the bias."""
    x = biased(raw, bias, REAL)
    return softplus(x) if SOFTPLUS else x


@triton.jit
def read(x, mask):
    """Load, with zeros where the mask is off; mask=None loads everything."""
    if mask is None:
        values = tl.load(x)
    else:
        values = tl.load(x, mask=mask, other=0.0)
    return values


@triton.jit
def load_rows(x, stride, d, inside, t, steps, COUNT: tl.constexpr):
    """Rows t, t + 1, ... of x [L, BD]; the last one again where the sequence has ended."""
    rows = ()
    for j in tl.static_range(COUNT):
        rows = rows + (read(x + tl.minimum(t + j, steps - 1) * stride + d, inside),)
    return rows


@triton.jit
def weight_row(x, n, N: tl.constexpr, NP: tl.constexpr):
    """One step's row of B or C, [NP], in float32 where it is stored in 16 bits; zero beyond N."""
    values = read(x + n, None if N == NP else n < N)
    if values.dtype.primitive_bitwidth == 16:
        values = values.to(tl.float32)
    return values


@triton.jit
def anew(x, ON: tl.constexpr):
    """Return x as a number that the compiler takes for another one.

    It would keep what it has made from x in registers for a second use, thousands of bytes that spill to memory, where
    making it again is cheaper.
    """
    if ON and x.dtype == tl.float32:
        x = tl.inline_asm_elementwise("mov.b32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=False, pack=1)
    return x


@triton.jit
def fetch(x, stride, t, steps, column, columns, WIDTH: tl.constexpr, COUNT: tl.constexpr, ON: tl.constexpr):
    """Ask for rows t ... t + COUNT - 1 of x, columns `column` ... + WIDTH, to be brought into the L1 cache.

    A window's stores stand between its loads and those of the next: the compiler cannot know that they do not overlap,
    so it keeps their order, and without this each load would wait for the memory.
    """
    if ON:
        size: tl.constexpr = x.dtype.element_ty.primitive_bitwidth // 8
        LINES: tl.constexpr = (WIDTH * size + 127) // 128
        rows = tl.minimum(t + tl.arange(0, COUNT), steps - 1)
        lines = tl.minimum(column + tl.arange(0, LINES) * (128 // size), columns - 1)
        tl.inline_asm_elementwise(
            "prefetch.global.L1 [$1]; mov.b32 $0, 0;",
            "=r,l",
            [x + rows[:, None] * stride + lines[None, :]],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )


@triton.jit(do_not_specialize=["count"], do_not_specialize_on_alignment=["A", "start", "ends", "entering"])
def combine(
    A, start, ends, sums, entering, channels, count, N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr,
    GROUP: tl.constexpr, REVERSE: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """Walk over the chunks: what enters each of them, from what each of them makes of nothing.

    A chunk's whole decay is exp(A sum(delta)), one exponential. A [N, D]; start [B, N, D]; ends and entering
    [B, count, N, D]; sums [B, count, D]. There are at least 2 chunks, and nothing is read of the walk's last one.
    REVERSE walks from the last chunk, for adjoints, and writes entering as [B, count, D, N].
    """
    blocks = tl.cdiv(channels, BD)
    b = (tl.program_id(0) // blocks).to(tl.int64)
    d = (tl.program_id(0) % blocks) * BD + tl.arange(0, BD)
    n = tl.arange(0, NP)
    inside = d < channels
    tile = n[:, None] * channels + d[None, :]
    turned = d[None, :] * N + n[:, None]
    within = (n < N)[:, None] & inside[None, :]
    rate = read(A + tile, within) * LOG2E
    if start is None:
        h = tl.zeros((NP, BD), REAL)
    else:
        h = read(start + b * N * channels + tile, within)
    first = b * count + (count - 1 if REVERSE else 0)
    way = -1 if REVERSE else 1
    for i in range(0, count - 1, GROUP):
        loaded = ()  # of a group, before its stores, which they would wait for
        sizes = ()
        for j in tl.static_range(GROUP):
            here = first + tl.minimum(i + j, count - 2) * way
            loaded = loaded + (read(ends + here * N * channels + tile, within),)
            sizes = sizes + (read(sums + here * channels + d, inside),)
        for j in tl.static_range(GROUP):
            here = first + (i + j) * way
            exists = (n < tl.where(i + j < count - 1, N, 0))[:, None] & inside[None, :]
            tl.store(entering + here * N * channels + (turned if REVERSE else tile), h, mask=exists)
            h = tl.where(exists, tl.exp2(sizes[j][None, :] * rate) * h + loaded[j], h)
    here = first + (count - 1) * way
    tl.store(entering + here * N * channels + (turned if REVERSE else tile), h, mask=within)


@triton.jit(do_not_specialize=["rows", "columns"])
def turn(source, target, source_b, source_r, target_b, target_c, rows, columns, BLOCK: tl.constexpr):
    """Copy x [B, rows, columns] with dense columns to [B, columns, rows] with dense rows, a square tile a program."""
    across = tl.cdiv(columns, BLOCK)
    tiles = across * tl.cdiv(rows, BLOCK)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    place = tl.program_id(0) % tiles
    r = (place // across).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    c = (place % across).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = (r < rows)[:, None] & (c < columns)[None, :]
    x = tl.load(source + b * source_b + r[:, None] * source_r + c[None, :], mask=inside)
    tl.store(target + b * target_b + c[:, None] * target_c + r[None, :], tl.trans(x), mask=tl.trans(inside))
