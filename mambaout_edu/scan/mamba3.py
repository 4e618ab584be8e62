"""Mamba-3 with a single input, in plain torch: the trapezoid rule and a state that rotates.

Compared with Mamba-2 two things change. The input of a step is averaged over both of its ends (trapezoid rule), and
the state turns by an angle that depends on the input (complex poles, written in real numbers). Both fold into
Mamba-2's form: the trapezoid into the size of the inputs, the rotation into B and C.

glossary
    B, L, H, P, N   batch, length, heads, channels of a head, states (even); G groups of B and C
    lam  [B, L, H]            share of the new input, 0 ... 1; 1 is Mamba-2's rule
    theta  [B, L, H, N / 2]   angle by which each pair of states turns in a step, in radians; 0 does not turn
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from mambaout_edu.scan.dual import spread_over_heads, ssd_chunks

__all__ = ["mamba3_chunked", "mamba3_recurrence", "rotate"]


def rotate(x: Tensor, angle: Tensor) -> Tensor:
    """Turn the pairs (x_0, x_1), (x_2, x_3), ... of x [..., N] by `angle` [..., N / 2], in radians.

    Raises ValueError if N is odd or there is not one angle for each pair.

    >>> rotate(torch.tensor([1.0, 0.0]), torch.tensor([torch.pi / 2])).round(decimals=4).abs()
    tensor([0., 1.])
    """
    if x.shape[-1] % 2 or angle.shape[-1] != x.shape[-1] // 2:
        raise ValueError(
            f"rotate turns pairs: x must be [..., N] with an even N and angle [..., N / 2]; got {tuple(x.shape)} and "
            f"{tuple(angle.shape)}"
        )
    even, odd = x[..., ::2], x[..., 1::2]
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * even - sin * odd, sin * even + cos * odd], dim=-1).flatten(-2)


def mamba3_recurrence(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, lam: Tensor, theta: Tensor) -> Tensor:
    """Mamba-3 step by step, with the state itself rotating.

    With alpha_t = exp(delta_t A_t), R_t the rotation by theta_t, and x B^T the input of a step:
    h_t = alpha_t R_t (h_(t-1) + (1 - lam_t) delta_t x_(t-1) B_(t-1)^T) + lam_t delta_t x_t B_t^T, y_t = h_t C_t.
    Source: "Mamba-3", arXiv 2603.15569. The released code turns the other way, which is theta with its sign changed;
    theta is delta times a rate there.

    Parameters
    ----------
    x
        Inputs [B, L, H, P].
    delta
        Steps [B, L, H], after bias and softplus.
    A
        Decays [H] or [B, L, H], negative.
    B, C
        [B, L, G, N], after norm and bias; group g serves the heads g H / G ... (g + 1) H / G - 1.
    lam, theta
        As in the glossary above.

    Returns
    -------
    y
        Outputs [B, L, H, P].

    Raises
    ------
    ValueError
        If a shape does not fit.

    Examples
    --------
    >>> x, half = torch.ones(1, 3, 1, 1), torch.full((1, 3, 1), 0.5)
    >>> B = C = torch.ones(1, 3, 1, 2)
    >>> mamba3_recurrence(x, half * 2, torch.tensor([-1.0]), B, C, half, torch.zeros(1, 3, 1, 1)).flatten()
    tensor([1.0000, 1.7358, 2.0064])
    """
    B, C = _check(x, delta, A, B, C, lam, theta)  # [B, L, H, N]
    alpha = (delta * A).exp()[..., None, None]  # [B, L, H, 1, 1]
    new, old = (share[..., None, None] for share in (lam * delta, (1 - lam) * delta))
    h = last = x.new_zeros(*x[:, 0].shape, B.shape[-1])  # [B, H, P, N]
    outputs = []
    for t in range(x.shape[1]):
        driven = x[:, t, :, :, None] * B[:, t, :, None, :]
        h = alpha[:, t] * rotate(h + old[:, t] * last, theta[:, t, :, None, :]) + new[:, t] * driven
        last = driven
        outputs.append(torch.einsum("bhpn,bhn->bhp", h, C[:, t]))
    return torch.stack(outputs, dim=1)


def mamba3_chunked(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, lam: Tensor, theta: Tensor, chunk: int = 64
) -> Tensor:
    """Mamba-3 through Mamba-2's chunks: the same outputs as `mamba3_recurrence`, nearly all of it matrix products.

    The rotations of a state from step s to t depend on the difference of two summed angles, so they can be given to
    B_s and C_t instead, as rotary position embeddings that depend on the data. An input counts lam_s delta_s in its
    own step and (1 - lam_(s+1)) delta_(s+1) in the next; both decay alike from there on, so they are added before
    the chunks, and what the second adds too early, in its own step, is taken out after them.

    Arguments, result and errors as for `mamba3_recurrence`; `chunk` is the number of steps in a chunk.

    >>> x, half = torch.ones(1, 3, 1, 1), torch.full((1, 3, 1), 0.5)
    >>> B = C = torch.ones(1, 3, 1, 2)
    >>> mamba3_chunked(x, half * 2, torch.tensor([-1.0]), B, C, half, torch.zeros(1, 3, 1, 1), chunk=2).flatten()
    tensor([1.0000, 1.7358, 2.0064])
    """
    B, C = _check(x, delta, A, B, C, lam, theta)  # [B, L, H, N]
    turned = -theta.cumsum(dim=1)  # [B, L, H, N / 2]
    later = pad(((1 - lam) * delta)[:, 1:], (0, 0, 0, 1))  # [B, L, H]: what the next step will take
    counted = (lam * delta + later)[..., None] * x
    state = x.new_zeros(*x[:, 0].shape, B.shape[-1])
    y, _ = ssd_chunks(counted, delta * A, rotate(B, turned), rotate(C, turned), state, chunk)
    too_early = later * (B * C).sum(dim=-1)  # [B, L, H]
    return y - too_early[..., None] * x


def _check(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, lam: Tensor, theta: Tensor
) -> tuple[Tensor, Tensor]:
    """Return B and C spread over the heads [B, L, H, N]."""
    B, C = spread_over_heads(x, delta, A, B, C)
    states = B.shape[-1]
    if states % 2:
        raise ValueError(f"B and C must have an even number of states N, which turn in pairs; got {states}")
    if lam.shape != x.shape[:3]:
        raise ValueError(f"lam must be [B, L, H] = {tuple(x.shape[:3])} from x; got shape {tuple(lam.shape)}")
    if theta.shape != (*x.shape[:3], states // 2):
        raise ValueError(f"theta must be [B, L, H, N / 2] = {(*x.shape[:3], states // 2)}; got {tuple(theta.shape)}")
    return B, C
