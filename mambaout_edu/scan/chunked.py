"""The engine "torch": chunks of the sequence in parallel, in ordinary torch operations.

For Apple's GPUs, GPUs without Triton, and exports that must hold no operator of ours. The sequence is cut into about
sqrt(L) chunks. First all chunks run at once, from a zero state, to find where each would end; then the true states
pass from chunk to chunk; then all chunks run again from their true starts. So about 3 sqrt(L) steps are taken instead
of L, and every exponent is a product of a decay and a time, never a difference of large sums: nothing overflows where
A is negative.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mambaout_edu.scan.reference import discretise, per_channel, state_dtype

__all__ = ["scan"]


def scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    initial_state: Tensor | None = None,
    delta_softplus: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return what `reference.scan` returns, from the same arguments, for real A."""
    real = state_dtype(u, delta, A, B, C)
    batch, length, channels = u.shape
    size = math.isqrt(length - 1) + 1  # steps in a chunk
    chunks = -(-length // size)
    x = u.to(real)  # [B, L, D]
    dt = discretise(delta.to(real), None if delta_bias is None else delta_bias.to(real), delta_softplus)
    A = A.to(real)
    steps = _in_chunks(dt, chunks, size)  # [B, M, K, D]; padding has step 0: it neither decays nor adds
    fed = _in_chunks(dt * x, chunks, size)
    rows_B, rows_C = (w.to(real) if w.ndim == 2 else _in_chunks(w.to(real), chunks, size) for w in (B, C))

    zero = x.new_zeros(batch, chunks, channels, A.shape[1])  # [B, M, D, N]
    ends, _ = _run(zero, steps, fed, A, rows_B, None)
    decays = torch.exp(steps.sum(dim=2)[..., None] * A)  # of whole chunks, [B, M, D, N]
    starts = [zero[:, 0] if initial_state is None else initial_state.to(real)]
    for m in range(chunks):
        starts.append(decays[:, m] * starts[-1] + ends[:, m])
    last = starts.pop()
    _, y = _run(torch.stack(starts, dim=1), steps, fed, A, rows_B, rows_C)

    out = y.flatten(1, 2)[:, :length]  # [B, L, D]
    if D is not None:
        out = out + D.to(real) * x
    if z is not None:
        out = out * F.silu(z.to(real))
    return out.to(u.dtype), last


def _in_chunks(x: Tensor, chunks: int, size: int) -> Tensor:
    """Cut [B, L, ...] into [B, M, K, ...], with zeros after the end."""
    missing = chunks * size - x.shape[1]
    x = F.pad(x, (0, 0) * (x.ndim - 2) + (0, missing))
    return x.unflatten(1, (chunks, size))


def _run(h: Tensor, steps: Tensor, fed: Tensor, A: Tensor, B: Tensor, C: Tensor | None) -> tuple[Tensor, Tensor]:
    """Take all chunks through their steps at once; return their states at the end, and y [B, M, K, D] if C is given."""
    channels, outputs = A.shape[0], []
    for k in range(steps.shape[2]):
        h = torch.exp(steps[:, :, k, :, None] * A) * h + fed[:, :, k, :, None] * _rows(B, k, channels)
        if C is not None:
            outputs.append((h * _rows(C, k, channels)).sum(dim=-1))  # [B, M, D]
    return h, torch.stack(outputs, dim=2) if outputs else h


def _rows(w: Tensor, k: int, channels: int) -> Tensor:
    """Return step k of B or C for every channel: [B, M, K, G, N] becomes [B, M, D, N], a fixed [D, N] stays."""
    if w.ndim == 2:
        return w
    rows = w[:, :, k]
    return per_channel(rows.flatten(0, 1), channels).unflatten(0, rows.shape[:2])
