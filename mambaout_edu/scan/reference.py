"""The selective scan as a loop over time: slow, short, any dtype, complex A too. The other engines are held to it.

glossary
    u, delta, z  [B, L, D]     input, step before bias and softplus, gate
    A            [D, N]        continuous decay of each state, negative; complex for oscillating states
    B, C         [B, L, G, N]  input and output weights, one row for each group of D / G channels; or [D, N], fixed
    D, bias      [D]           weight of the input that passes by, bias of delta
    h            [B, D, N]     the state
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["discretise", "per_channel", "scan", "state_dtype"]


def state_dtype(*tensors: Tensor | None) -> torch.dtype:
    """Return the real dtype that the state is kept in: float64 if any tensor has it, float32 otherwise.

    >>> state_dtype(torch.zeros(1, dtype=torch.bfloat16), None)
    torch.float32
    """
    double = (torch.float64, torch.complex128)
    return torch.float64 if any(t is not None and t.dtype in double for t in tensors) else torch.float32


def discretise(delta: Tensor, delta_bias: Tensor | None, delta_softplus: bool) -> Tensor:
    """Return the step sizes: delta plus bias, through softplus if asked for (the identity above 20)."""
    if delta_bias is not None:
        delta = delta + delta_bias
    return F.softplus(delta) if delta_softplus else delta


def per_channel(weights: Tensor, channels: int) -> Tensor:
    """Spread one step's rows of B or C over the channels: [B, G, N] becomes [B, D, N], a fixed [D, N] stays.

    Group g serves the channels g D / G ... (g + 1) D / G - 1.

    >>> per_channel(torch.tensor([[[1.0], [2.0]]]), channels=4)[0, :, 0]
    tensor([1., 1., 2., 2.])
    """
    if weights.ndim == 2:
        return weights
    return weights.repeat_interleave(channels // weights.shape[1], dim=1) if weights.shape[1] > 1 else weights


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
    """Run the recurrence of Mamba (Gu and Dao, 2023, algorithm 2) one step after the other.

    h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t, y_t = C_t h_t + D u_t, out_t = y_t silu(z_t); a complex A
    gives y_t = 2 Re(C_t h_t) + D u_t. Shapes as in the glossary above; returns out [B, L, D] in u's dtype and
    the last state [B, D, N]. All of it is ordinary torch, so gradients of any order come from autograd.
    """
    real = state_dtype(u, delta, A, B, C)
    wide = torch.promote_types(real, A.dtype) if A.is_complex() else real
    batch, length, channels = u.shape
    x = u.to(real)  # [B, L, D]
    dt = discretise(delta.to(real), None if delta_bias is None else delta_bias.to(real), delta_softplus)
    A, B, C = A.to(wide), B.to(wide), C.to(wide)
    h = A.new_zeros(batch, channels, A.shape[1]) if initial_state is None else initial_state.to(wide)
    outputs = []
    for t in range(length):
        B_t = per_channel(B if B.ndim == 2 else B[:, t], channels)  # [B, D, N], or it broadcasts to that
        C_t = per_channel(C if C.ndim == 2 else C[:, t], channels)
        h = torch.exp(dt[:, t, :, None] * A) * h + (dt[:, t] * x[:, t])[..., None] * B_t  # [B, D, N]
        y = (h * C_t).sum(dim=-1)  # [B, D]
        outputs.append(2 * y.real if A.is_complex() else y)
    out = torch.stack(outputs, dim=1)  # [B, L, D]
    if D is not None:
        out = out + D.to(real) * x
    if z is not None:
        out = out * F.silu(z.to(real))
    return out.to(u.dtype), h
