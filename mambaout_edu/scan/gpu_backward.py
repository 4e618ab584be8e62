# mypy: disable-error-code="no-untyped-def,assignment"
# ruff: noqa: RUF005, SIM108 (Triton compiles no starred tuples, and both sides of a choice between shapes)
"""The GPU kernels of the selective scan's backward pass: the adjoint recurrence, walked from the last step.

With g the gradient of the state h_t: g += C_t dy_t, then dB_t, du_t and dC_t from g and h, then g *= exp(dt_t A). The
states come back window by window from the ones that the forward pass kept, and stay in registers. Chunks run at the
same time, in three passes, as forward. Gradients that are sums over channels (dB, dC) or over time and batch (dA, dD,
d bias) are written as one partial sum for each block of channels or chunk, and added up afterwards in a fixed order:
two runs give the same bits.

glossary: that of `gpu_kernels.py`, and
    dy                [B, L, D]          gradient of out
    dB, dC partials   [blocks, B, L, G, N]
    dA partials       [B, chunks, D, N], here A is [D, N] too
"""

import triton
import triton.language as tl

from mambaout_edu.scan.gpu_kernels import place
from mambaout_edu.scan.gpu_math import (
    LN2,
    LOG2E,
    anew,
    biased,
    fetch,
    load_rows,
    read,
    sigmoid,
    step_size,
    weight_row,
)

__all__ = ["chunk_adjoints", "gradients"]


@triton.jit(
    do_not_specialize=["length", "chunk", "count"],
    do_not_specialize_on_alignment=["A", "ends"],
)
def chunk_adjoints(
    delta, A, C, z, bias, dy, ends, sums, delta_b, delta_t, z_b, z_t, dy_b, dy_t, length, channels, groups, chunk,
    count, N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, U: tl.constexpr, SOFTPLUS: tl.constexpr,
    FIXED_C: tl.constexpr, EVEN_D: tl.constexpr, EVEN_L: tl.constexpr, FETCH: tl.constexpr, REAL: tl.constexpr,
):  # fmt: skip
    """Write the adjoint [N, BD] that leaves a chunk at its start if none entered at its end, and the sum of steps.

    Nothing needs those of the first chunk.
    """
    b, g, block, d, lane, width = place(channels, groups, BD)
    column = g * width + block * BD
    exists = lane < width
    inside = None if EVEN_D else exists
    c = tl.program_id(1) + 1
    n = tl.arange(0, NP)
    steps = tl.minimum(chunk, length - c * chunk)
    tile = n[:, None] * channels + d[None, :]
    within = (n < N)[:, None] & exists[None, :]
    rate = read(A + tile, within) * LOG2E
    shift = None if bias is None else read(bias + d, exists)
    start = c.to(tl.int64) * chunk
    delta_row = delta + b * delta_b + start * delta_t
    dy_row = dy + b * dy_b + start * dy_t
    z_row = None if z is None else z + b * z_b + start * z_t
    if FIXED_C:
        C_tile = read(C + tile, within)
    else:
        C_row = C + ((b * length + start) * groups + g) * N
    adjoint = tl.zeros((NP, BD), REAL)
    total = tl.zeros((BD,), REAL)
    t = (tl.cdiv(steps, U) - 1) * U
    for _window in range(0, steps, U):
        ahead = tl.maximum(t - U, 0)
        deltas = load_rows(delta_row, delta_t, d, inside, t, steps, U)
        dys = load_rows(dy_row, dy_t, d, inside, t, steps, U)
        fetch(delta_row, delta_t, ahead, steps, column, channels, BD, U, FETCH)
        fetch(dy_row, dy_t, ahead, steps, column, channels, BD, U, FETCH)
        if z is not None:
            zs = load_rows(z_row, z_t, d, inside, t, steps, U)
            fetch(z_row, z_t, ahead, steps, column, channels, BD, U, FETCH)
        if not FIXED_C:
            fetch(C_row, groups * N, ahead, steps, 0, N, NP, U, FETCH)
        for j in tl.static_range(U - 1, -1, -1):
            dt = step_size(deltas[j], shift, SOFTPLUS, REAL)
            slope = dys[j].to(REAL)
            if z is not None:
                gate = zs[j].to(REAL)
                slope *= gate * sigmoid(gate)
            if not EVEN_L:
                dt = tl.where(t + j < steps, dt, 0.0)
                slope = tl.where(t + j < steps, slope, 0.0)
            total += dt
            row = (t + j if EVEN_L else tl.minimum(t + j, steps - 1)) * groups * N
            weights = C_tile if FIXED_C else weight_row(C_row + row, n, N, NP)[:, None]
            adjoint = (adjoint + slope[None, :] * weights) * tl.exp2(dt[None, :] * rate)
        t = ahead
    at = b * count + c
    tl.store(ends + at * N * channels + tile, adjoint, mask=within)
    tl.store(sums + at * channels + d, total, mask=exists)


@triton.jit(do_not_specialize=["length", "chunk", "batch"])
def gradients(
    u, delta, A, B, C, D, z, bias, dy, kept, entering, du, ddelta, dz, dA, dB, dC, dD, dbias, dstart,
    u_b, u_t, delta_b, delta_t, z_b, z_t, dy_b, dy_t, du_b, du_t, ddelta_b, ddelta_t, dz_b, dz_t,
    length, channels, groups, chunk, batch,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, K: tl.constexpr, EVERY: tl.constexpr, SOFTPLUS: tl.constexpr,
    FIXED_B: tl.constexpr, FIXED_C: tl.constexpr, EVEN_D: tl.constexpr, EVEN_L: tl.constexpr, FETCH: tl.constexpr,
    REAL: tl.constexpr,
):  # fmt: skip
    """Walk a chunk backwards, K steps at a time, from the adjoint that enters its end.

    `kept` holds the state before every EVERY-th step; the way from there to a window's start is walked again.
    """
    b, g, block, d, lane, width = place(channels, groups, BD)
    exists = lane < width
    inside = None if EVEN_D else exists
    c = tl.program_id(1)
    n = tl.arange(0, NP)
    start = c * chunk
    steps = tl.minimum(chunk, length - start)
    tile = d[:, None] * N + n[None, :]  # [BD, NP] of [D, N]
    within = exists[:, None] & (n < N)[None, :]
    safe = None if EVEN_D and N == NP else within
    rate = read(A + tile, within) * LOG2E
    shift = None if bias is None else read(bias + d, exists)
    skip = None if D is None else read(D + d, exists)
    start_64 = start.to(tl.int64)
    u_row = u + b * u_b + start_64 * u_t
    delta_row = delta + b * delta_b + start_64 * delta_t
    dy_row = dy + b * dy_b + start_64 * dy_t
    du_row = du + b * du_b + start_64 * du_t
    ddelta_row = ddelta + b * ddelta_b + start_64 * ddelta_t
    z_row = None if z is None else z + b * z_b + start_64 * z_t
    dz_row = None if z is None else dz + b * dz_b + start_64 * dz_t
    rows = ((b * length + start) * groups + g) * N
    partial = block.to(tl.int64) * batch * length * groups * N
    at = b * tl.num_programs(1) + c
    if FIXED_B:
        B_tile = read(B + tile, within)
        B_sum = tl.zeros((BD, NP), REAL)
    else:
        B_row = B + rows
        dB_row = dB + partial + rows
    if FIXED_C:
        C_tile = read(C + tile, within)
        C_sum = tl.zeros((BD, NP), REAL)
    else:
        C_row = C + rows
        dC_row = dC + partial + rows
    if entering is None:
        adjoint = tl.zeros((BD, NP), REAL)
    else:
        adjoint = read(entering + at * N * channels + tile, within)
    A_sum = tl.zeros((BD, NP), REAL)
    D_sum = tl.zeros((BD,), REAL)
    bias_sum = tl.zeros((BD,), REAL)
    slot = N * channels
    kept_row = kept + b * tl.cdiv(length, EVERY) * slot
    column = g * width + block * BD
    windows = tl.cdiv(steps, K)
    for w in range(0, windows):
        t = (windows - 1 - w) * K
        h = read(kept_row + ((start + t) // EVERY).to(tl.int64) * slot + tile, safe)
        if EVERY > K:
            for s in range(t - (start + t) % EVERY, t, K):
                early_xs = load_rows(u_row, u_t, d, inside, s, t, K)
                early_raws = load_rows(delta_row, delta_t, d, inside, s, t, K)
                for j in tl.static_range(K):
                    early_dt = step_size(early_raws[j], shift, SOFTPLUS, REAL)
                    early_B = B_tile if FIXED_B else weight_row(B_row + (s + j) * groups * N, n, N, NP)[None, :]
                    h = tl.exp2(early_dt[:, None] * rate) * h + (early_dt * early_xs[j].to(REAL))[:, None] * early_B
        xs = load_rows(u_row, u_t, d, inside, t, steps, K)
        raws = load_rows(delta_row, delta_t, d, inside, t, steps, K)
        dts = ()
        for j in tl.static_range(K):
            dt = step_size(raws[j], shift, SOFTPLUS, REAL)
            if not EVEN_L:
                dt = tl.where(t + j < steps, dt, 0.0)  # a step of size 0 and slope 0 leaves the adjoint alone
            dts = dts + (dt,)
        before = (h,)  # the states before every other step of the window; those between are made again when needed
        for j in tl.static_range(K - 2):
            row = t + j if EVEN_L else tl.minimum(t + j, steps - 1)
            B_now = B_tile if FIXED_B else weight_row(B_row + row * groups * N, n, N, NP)[None, :]
            h = tl.exp2(dts[j][:, None] * rate) * h + (dts[j] * xs[j].to(REAL))[:, None] * B_now
            if j % 2 == 1:
                before = before + (h,)
        ahead = tl.maximum(t - K, 0)
        walked = tl.maximum(t - 2 * K, 0) if EVERY > K else ahead  # the way to the next window begins there
        fetch(u_row, u_t, walked, steps, column, channels, BD, K, FETCH)
        fetch(delta_row, delta_t, walked, steps, column, channels, BD, K, FETCH)
        fetch(dy_row, dy_t, ahead, steps, column, channels, BD, K, FETCH)
        if z is not None:
            fetch(z_row, z_t, ahead, steps, column, channels, BD, K, FETCH)
        fetch(kept_row + ((start + ahead) // EVERY).to(tl.int64) * slot, 0, 0, 1, column * N, slot, BD * NP, 1, FETCH)
        if not FIXED_B:
            fetch(B_row, groups * N, walked, steps, 0, N, NP, K, FETCH)
        if not FIXED_C:
            fetch(C_row, groups * N, ahead, steps, 0, N, NP, K, FETCH)
        for j in tl.static_range(K - 1, -1, -1):
            row = t + j if EVEN_L else tl.minimum(t + j, steps - 1)
            live = t + j < steps
            to_store = inside if EVEN_L else lane < tl.where(live, width, 0)
            of_state = None if EVEN_L and N == NP else n < tl.where(live, N, 0)
            x = xs[j].to(REAL)
            dt = anew(dts[j], FETCH)
            fed = dt * x
            slope = read(dy_row + row * dy_t + d, inside).to(REAL)
            if not EVEN_L:
                slope = tl.where(live, slope, 0.0)
            B_now = B_tile if FIXED_B else weight_row(B_row + row * groups * N, n, N, NP)[None, :]
            C_now = C_tile if FIXED_C else weight_row(C_row + row * groups * N, n, N, NP)[None, :]
            if j % 2 == 1:
                sooner = t + j - 1 if EVEN_L else tl.minimum(t + j - 1, steps - 1)
                B_sooner = B_tile if FIXED_B else weight_row(B_row + sooner * groups * N, n, N, NP)[None, :]
                dt_sooner = anew(dts[j - 1], FETCH)
                decay_sooner = tl.exp2(dt_sooner[:, None] * rate)
                now = decay_sooner * before[j // 2] + (dt_sooner * xs[j - 1].to(REAL))[:, None] * B_sooner
                decay = tl.exp2(dt[:, None] * rate)
                if j == K - 1:
                    after = decay * now + fed[:, None] * B_now
            else:
                now = before[j // 2]
                decay = decay_sooner
            if z is not None:
                gate = read(z_row + row * z_t + d, inside).to(REAL)
                open_ = sigmoid(gate)
                y = tl.sum(after * C_now, axis=1)
                if D is not None:
                    y += skip * x
                tl.store(dz_row + row * dz_t + d, slope * y * open_ * (1.0 + gate * (1.0 - open_)), mask=to_store)
                slope *= gate * open_
            if FIXED_C:
                C_sum += after * slope[:, None]
            else:
                tl.store(dC_row + row * groups * N + n, tl.sum(after * slope[:, None], axis=0), mask=of_state)
            adjoint += slope[:, None] * C_now
            if FIXED_B:
                B_sum += adjoint * fed[:, None]
            else:
                tl.store(dB_row + row * groups * N + n, tl.sum(adjoint * fed[:, None], axis=0), mask=of_state)
            into = tl.sum(adjoint * B_now, axis=1)
            adjoint *= decay
            moved = adjoint * now
            A_sum += moved * dt[:, None]
            d_step = into * x + tl.sum(moved * rate, axis=1) * LN2
            if SOFTPLUS:
                d_step *= sigmoid(biased(raws[j], shift, REAL))
            d_input = into * dt
            if D is not None:
                d_input += skip * slope
                D_sum += slope * x
            if dbias is not None:
                bias_sum += d_step if EVEN_L else tl.where(live, d_step, 0.0)
            tl.store(du_row + row * du_t + d, d_input, mask=to_store)
            tl.store(ddelta_row + row * ddelta_t + d, d_step, mask=to_store)
            after = now
    tl.store(dA + at * slot + tile, A_sum, mask=within)
    if FIXED_B:
        tl.store(dB + at * slot + tile, B_sum, mask=within)
    if FIXED_C:
        tl.store(dC + at * slot + tile, C_sum, mask=within)
    if D is not None:
        tl.store(dD + at * channels + d, D_sum, mask=exists)
    if dbias is not None:
        tl.store(dbias + at * channels + d, bias_sum, mask=exists)
    if dstart is not None and c == 0:
        tl.store(dstart + b * slot + tile, adjoint, mask=within)
