"""The engine "mamba_ssm": an adapter to mamba-ssm's CUDA kernel, where that package is installed with its extension.

The kernel wants (B, D, L) with time contiguous, starts from zero, and gives no gradient to the last state: this
engine says so instead of returning something else.
"""

import importlib

import torch
from torch import Tensor

__all__ = ["scan"]

LARGEST_STATE = 256


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
    """Return what `reference.scan` returns, by mamba-ssm's `selective_scan_fn`; the last state carries no gradient.

    Raises ValueError for what the kernel cannot do: an initial state, float64, more than 256 states.
    """
    if initial_state is not None:
        raise ValueError("engine 'mamba_ssm' starts from a zero state; give initial_state to another engine")
    if torch.float64 in (u.dtype, A.dtype):
        raise ValueError("engine 'mamba_ssm' computes in float32; use engine 'torch' or 'reference' for float64")
    if A.shape[1] > LARGEST_STATE:
        raise ValueError(f"engine 'mamba_ssm' holds at most {LARGEST_STATE} states a channel; A has N = {A.shape[1]}")
    kernel = importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    out, last = kernel(
        _time_last(u),
        _time_last(delta.to(u.dtype)),
        A.float(),
        _weights(B, u.dtype),
        _weights(C, u.dtype),
        None if D is None else D.float(),
        None if z is None else _time_last(z.to(u.dtype)),
        None if delta_bias is None else delta_bias.float(),
        delta_softplus,
        return_last_state=True,
    )
    return out.transpose(1, 2), last.detach()


def _time_last(x: Tensor) -> Tensor:
    """Return [B, L, D] as (B, D, L), copied only if time is not contiguous then."""
    x = x.transpose(1, 2)
    return x if x.stride(-1) == 1 else x.contiguous()


def _weights(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return [B, L, G, N] as (B, G, N, L) in the sequence's dtype, and a fixed [D, N] in float32."""
    return x.float() if x.ndim == 2 else x.permute(0, 2, 3, 1).to(dtype).contiguous()
