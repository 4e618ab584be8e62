"""The three sums behind the comparison, one line each: bytes of a bank, the crossing point, one step of a state.

`accounting` counts every mixer with all its parts; these are what the counts come down to.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["bank_bytes", "crossing_position", "ssm_step"]


def bank_bytes(
    tokens: int, depth: int, num_kv_heads: int, head_dim: int, item: int = 2, batch: int = 1, window: int | None = None
) -> int:
    """Return the bytes of a KV cache: a key and a value for every token, layer and key-value head.

    Parameters
    ----------
    tokens
        Tokens read so far.
    depth, num_kv_heads, head_dim
        Layers, key-value heads of a layer, channels of a head.
    item
        Bytes of a number: 2 in bfloat16, 4 in float32.
    batch
        Sequences that are read side by side.
    window
        The most tokens that are kept; None keeps all.

    Raises
    ------
    ValueError
        If tokens is negative or another number below 1.

    Examples
    --------
    >>> bank_bytes(4096, depth=12, num_kv_heads=12, head_dim=64) / 2**20  # in MiB
    144.0
    """
    if tokens < 0 or min(depth, num_kv_heads, head_dim, item, batch, 1 if window is None else window) < 1:
        raise ValueError(
            f"tokens is 0 or more and all sizes are at least 1; got {tokens}, {depth}, {num_kv_heads}, {head_dim}, "
            f"{item}, {batch} and {window}"
        )
    kept = tokens if window is None else min(tokens, window)
    return 2 * batch * depth * num_kv_heads * head_dim * item * kept


def crossing_position(dim: int, state_cost: int, mlp_ratio: int = 0) -> int:
    """Return the first position at which a token costs more multiply-adds with attention than `state_cost`.

    After p tokens, attention takes 4 D^2 multiply-adds for its four products and 2 D (p + 1) for scores and sums; an
    MLP takes 2 r D^2 more.

    Parameters
    ----------
    dim
        Channels D.
    state_cost
        Multiply-adds of a token in what stands in attention's place, the same at every position.
    mlp_ratio
        Hidden channels r D of the MLP behind attention; 0 for none.

    Raises
    ------
    ValueError
        If dim is below 1 or another number is negative.

    Examples
    --------
    >>> crossing_position(768, 2 * 4_000_000, mlp_ratio=4)
    600
    """
    if dim < 1 or state_cost < 0 or mlp_ratio < 0:
        raise ValueError(
            f"dim is at least 1, the others are 0 or more; got dim = {dim}, state_cost = {state_cost}, "
            f"mlp_ratio = {mlp_ratio}"
        )
    left = state_cost - (4 + 2 * mlp_ratio) * dim**2  # for scores and sums
    return max(0, left // (2 * dim))


def ssm_step(state: Tensor, u: Tensor, A_bar: Tensor, B_bar: Tensor, C: Tensor, D: Tensor) -> tuple[Tensor, Tensor]:
    """Return one token's output and the state after it, for a diagonal SSM with complex states, as in S4D.

        h = A_bar state + B_bar u
        y = 2 Re(C h) + D u

    One state stands for itself and its conjugate: hence the 2. The state that is given stays as it is.

    Parameters
    ----------
    state
        Complex [B, D, N].
    u
        The token, real [B, D].
    A_bar, B_bar, C
        Complex [D, N], already discretised.
    D
        The skip, real [D].

    Returns
    -------
    y
        Real [B, D].
    state
        Complex [B, D, N].

    Raises
    ------
    ValueError
        If the shapes do not fit each other.

    Examples
    --------
    >>> import torch
    >>> half = torch.full((1, 1), 0.5 + 0j)
    >>> y, state = ssm_step(torch.ones(1, 1, 1) + 0j, torch.ones(1, 1), half, half, half, torch.zeros(1))
    >>> y.item(), state.item()
    (1.0, (1+0j))
    """
    if state.ndim != 3 or u.shape != state.shape[:2] or D.shape != u.shape[1:]:
        raise ValueError(
            f"state must be [B, D, N], u [B, D] and D [D]; got {tuple(state.shape)}, {tuple(u.shape)}, {tuple(D.shape)}"
        )
    if any(w.shape != state.shape[1:] for w in (A_bar, B_bar, C)):
        raise ValueError(
            f"A_bar, B_bar and C must be [D, N] = {tuple(state.shape[1:])}; got {tuple(A_bar.shape)}, "
            f"{tuple(B_bar.shape)} and {tuple(C.shape)}"
        )
    h = A_bar * state + B_bar * u[..., None]  # [B, D, N]
    y = 2 * (C * h).sum(-1).real + D * u  # [B, D]
    return y, h
