# mypy: disable-error-code="no-untyped-def,assignment"
# ruff: noqa: RUF005 (Triton compiles no starred tuples, and both sides of a choice between shapes)
"""The GPU kernels of the selective scan's forward pass: one thread owns a channel and keeps its N states.

Time is walked step by step, in registers, in windows of U steps: while one window is computed, all that the next one
reads is on its way to the cache. Long sequences are cut into chunks that run at the same time, in three passes: what
each chunk makes of an empty state (`chunk_states`), what enters each chunk (`gpu_math.combine`), the outputs
(`outputs`).

glossary
    u, delta, z, out  [B, L, D]      the last axis dense, the others with strides
    A                 [N, D]
    B, C              [B, L, G, N]   dense; or [N, D], fixed
    states            [B, chunks or checkpoints, N, D]
    program_id        (block of channels, group, batch), chunk
"""

import triton
import triton.language as tl

from mambaout_edu.scan.gpu_math import LOG2E, fetch, load_rows, read, sigmoid, step_size, weight_row

__all__ = ["chunk_states", "outputs", "place"]


@triton.jit
def place(channels, groups, BD: tl.constexpr):
    """Return the program's batch entry, group, block, channels, their places in the group, and the group's width."""
    width = channels // groups
    blocks = tl.cdiv(width, BD)
    block = tl.program_id(0) % blocks
    g = (tl.program_id(0) // blocks) % groups
    b = (tl.program_id(0) // (blocks * groups)).to(tl.int64)
    lane = block * BD + tl.arange(0, BD)
    return b, g, block, g * width + lane, lane, width


@triton.jit(
    do_not_specialize=["length", "chunk", "count"],
    do_not_specialize_on_alignment=["A", "ends"],
)
def chunk_states(
    u, delta, A, B, bias, ends, sums, u_b, u_t, delta_b, delta_t, length, channels, groups, chunk, count,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, U: tl.constexpr, SOFTPLUS: tl.constexpr,
    FIXED_B: tl.constexpr, EVEN_D: tl.constexpr, FETCH: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """Write the state [N, BD] at the end of a chunk that began empty, and the sum of its steps.

    Nothing needs those of the last chunk, so every chunk here is whole: a multiple of U.
    """
    b, g, block, d, lane, width = place(channels, groups, BD)
    column = g * width + block * BD
    exists = lane < width
    inside = None if EVEN_D else exists
    c = tl.program_id(1)
    n = tl.arange(0, NP)
    tile = n[:, None] * channels + d[None, :]
    within = (n < N)[:, None] & exists[None, :]
    rate = read(A + tile, within) * LOG2E
    shift = None if bias is None else read(bias + d, exists)
    first = b * length + c * chunk
    u_row = u + b * u_b + c.to(tl.int64) * chunk * u_t
    delta_row = delta + b * delta_b + c.to(tl.int64) * chunk * delta_t
    if FIXED_B:
        B_tile = read(B + tile, within)
    else:
        B_row = B + (first * groups + g) * N
    h = tl.zeros((NP, BD), REAL)
    total = tl.zeros((BD,), REAL)
    for t in range(0, chunk, U):
        us = load_rows(u_row, u_t, d, inside, t, chunk, U)
        deltas = load_rows(delta_row, delta_t, d, inside, t, chunk, U)
        fetch(u_row, u_t, t + U, chunk, column, channels, BD, U, FETCH)
        fetch(delta_row, delta_t, t + U, chunk, column, channels, BD, U, FETCH)
        if not FIXED_B:
            fetch(B_row, groups * N, t + U, chunk, 0, N, NP, U, FETCH)
        for j in tl.static_range(U):
            dt = step_size(deltas[j], shift, SOFTPLUS, REAL)
            total += dt
            fed = dt * us[j].to(REAL)
            if FIXED_B:
                h = tl.exp2(dt[None, :] * rate) * h + fed[None, :] * B_tile
            else:
                weights = weight_row(B_row + (t + j) * groups * N, n, N, NP)
                h = tl.exp2(dt[None, :] * rate) * h + fed[None, :] * weights[:, None]
    at = b * count + c
    tl.store(ends + at * N * channels + tile, h, mask=within)
    tl.store(sums + at * channels + d, total, mask=exists)


@triton.jit(
    do_not_specialize=["length", "chunk"],
    do_not_specialize_on_alignment=["A", "entering", "last"],
)
def outputs(
    u, delta, A, B, C, D, z, bias, entering, out, kept, last,
    u_b, u_t, delta_b, delta_t, z_b, z_t, out_b, out_t, length, channels, groups, chunk,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, U: tl.constexpr, EVERY: tl.constexpr, SOFTPLUS: tl.constexpr,
    FIXED_B: tl.constexpr, FIXED_C: tl.constexpr, EVEN_D: tl.constexpr, EVEN_L: tl.constexpr, FETCH: tl.constexpr,
    REAL: tl.constexpr,
):  # fmt: skip
    """Scan a chunk from the state that enters it: out, the state before every EVERY-th step, and the last state.

    With out=None only the states are made, without C, D and z.
    """
    b, g, block, d, lane, width = place(channels, groups, BD)
    column = g * width + block * BD
    exists = lane < width
    inside = None if EVEN_D else exists
    c = tl.program_id(1)
    n = tl.arange(0, NP)
    start = c * chunk
    steps = tl.minimum(chunk, length - start)
    tile = n[:, None] * channels + d[None, :]
    turned = d[:, None] * N + n[None, :]  # [BD, NP] of [D, N]
    within = (n < N)[:, None] & exists[None, :]
    safe = None if EVEN_D and N == NP else exists[:, None] & (n < N)[None, :]
    rate = read(A + tile, within) * LOG2E
    shift = None if bias is None else read(bias + d, exists)
    skip = None if D is None else read(D + d, exists)
    first = b * length + start
    u_row = u + b * u_b + start.to(tl.int64) * u_t
    delta_row = delta + b * delta_b + start.to(tl.int64) * delta_t
    z_row = None if z is None else z + b * z_b + start.to(tl.int64) * z_t
    out_row = None if out is None else out + b * out_b + start.to(tl.int64) * out_t
    if FIXED_B:
        B_tile = read(B + tile, within)
    else:
        B_row = B + (first * groups + g) * N
    if out is not None and FIXED_C:
        C_tile = read(C + tile, within)
    elif out is not None:
        C_row = C + (first * groups + g) * N
    if entering is None:
        h = tl.zeros((NP, BD), REAL)
    else:
        h = read(entering + (b * tl.num_programs(1) + c) * N * channels + tile, within)
    for t in range(0, steps, U):
        us = load_rows(u_row, u_t, d, inside, t, steps, U)
        deltas = load_rows(delta_row, delta_t, d, inside, t, steps, U)
        fetch(u_row, u_t, t + U, steps, column, channels, BD, U, FETCH)
        fetch(delta_row, delta_t, t + U, steps, column, channels, BD, U, FETCH)
        if out is not None and z is not None:
            zs = load_rows(z_row, z_t, d, inside, t, steps, U)
            fetch(z_row, z_t, t + U, steps, column, channels, BD, U, FETCH)
        if not FIXED_B:
            fetch(B_row, groups * N, t + U, steps, 0, N, NP, U, FETCH)
        if out is not None and not FIXED_C:
            fetch(C_row, groups * N, t + U, steps, 0, N, NP, U, FETCH)
        if kept is not None and (start + t) % EVERY == 0:
            slot = b * tl.cdiv(length, EVERY) + (start + t) // EVERY
            tl.store(kept + slot * N * channels + turned, tl.trans(h), mask=safe)
        ys = ()
        for j in tl.static_range(U):
            x = us[j].to(REAL)
            dt = step_size(deltas[j], shift, SOFTPLUS, REAL)
            if not EVEN_L:
                dt = tl.where(t + j < steps, dt, 0.0)  # a step of size 0 leaves the state alone
            row = (t + j if EVEN_L else tl.minimum(t + j, steps - 1)) * groups * N
            weights = B_tile if FIXED_B else weight_row(B_row + row, n, N, NP)[:, None]
            h = tl.exp2(dt[None, :] * rate) * h + (dt * x)[None, :] * weights
            if out is not None:
                weights = C_tile if FIXED_C else weight_row(C_row + row, n, N, NP)[:, None]
                y = tl.sum(h * weights, axis=0)
                if D is not None:
                    y += skip * x
                if z is not None:
                    gate = zs[j].to(REAL)
                    y *= gate * sigmoid(gate)
                ys = ys + (y,)
        if out is not None:
            for j in tl.static_range(U):  # after the window's last load: see `fetch`
                to_store = exists if EVEN_L else lane < tl.where(t + j < steps, width, 0)
                tl.store(out_row + (t + j) * out_t + d, ys[j], mask=None if EVEN_D and EVEN_L else to_store)
    if last is not None and c == tl.num_programs(1) - 1:
        tl.store(last + (b * channels + d[None, :]) * N + n[:, None], h, mask=within)
