"""One token at a time: what a scan and a causal convolution do at a single step, their memory passed in and out.

This is how a recurrent model generates: the state has a fixed size, however many tokens came before.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mambaout_edu.scan.reference import discretise, per_channel

__all__ = ["causal_conv1d_update", "recurrence_step", "selective_state_update"]


def recurrence_step(state: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """Return one step of the selective recurrence and the state after it: h = exp(delta A) state + delta B u, y = C h.

    The state that is given stays as it is. A complex A gives y = 2 Re(C h), as in `selective_scan`. Source: Gu and
    Dao, arXiv 2312.00752, algorithm 2, with B discretised to first order as in every released Mamba.

    Parameters
    ----------
    state
        (B, D, N), the state before the step.
    u, delta
        (B, D): the token's input, and its step, positive.
    A
        (D, N), negative for states that decay.
    B, C
        (B, N), or (B, G, N) with G groups of D / G channels each.

    Returns
    -------
    y
        The output (B, D), in the dtype that the arguments promote to.
    state
        The state after the step (B, D, N).

    Raises
    ------
    ValueError
        If the shapes do not fit each other.

    Examples
    --------
    A state that is halved, and to which 2 is added:

    >>> one = torch.ones(1, 1)
    >>> recurrence_step(torch.ones(1, 1, 1), 2 * one, one, -0.6931472 * one, one, one)
    (tensor([[2.5000]]), tensor([[[2.5000]]]))
    """
    _check_step(state, {"u": u, "delta": delta}, A, B, C)
    decay = torch.exp(delta[..., None] * A)  # [B, D, N]
    fed = (delta * u)[..., None] * _for_channels(B, state)  # [B, D, N]
    state = decay * state + fed
    y = (_for_channels(C, state) * state).sum(dim=-1)  # [B, D]
    return (2 * y.real if y.is_complex() else y), state


def _for_channels(rows: Tensor, state: Tensor) -> Tensor:
    """Return B or C of one step, (B, N) or (B, G, N), as [B, D, N], or as [B, 1, N] where all channels share it."""
    return per_channel(rows if rows.ndim == 3 else rows[:, None], state.shape[1])


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
) -> Tensor:
    """Take one step of `selective_scan`: return the step's output, and change `state` in place.

    Parameters
    ----------
    state
        (B, D, N), the state before the step; holds the state after it when the call returns.
    x, dt, z
        (B, D): one step of the scan's u, delta and z.
    A
        (D, N).
    B, C
        (B, N), or (B, G, N) with G groups of D / G channels each.
    D, dt_bias
        (D,) or None.
    dt_softplus
        Whether the step goes through softplus, after the bias.

    Returns
    -------
    Tensor
        (B, D), in x's dtype. Arithmetic is done in the state's dtype.

    Raises
    ------
    ValueError
        If the shapes do not fit each other.

    Examples
    --------
    >>> state = torch.ones(1, 1, 1)
    >>> one = torch.ones(1, 1)
    >>> selective_state_update(state, 2 * one, one, -0.6931472 * one, one, one)
    tensor([[2.5000]])
    >>> state
    tensor([[[2.5000]]])
    """
    _check_step(state, {"x": x, "dt": dt, "z": z}, A, B, C, {"D": D, "dt_bias": dt_bias})
    real = state.real.dtype if state.is_complex() else state.dtype
    step = discretise(dt.to(real), None if dt_bias is None else dt_bias.to(real), dt_softplus)  # [B, D]
    out, after = recurrence_step(state, x.to(real), step, *(w.to(state.dtype) for w in (A, B, C)))
    state.copy_(after)
    if D is not None:
        out = out + D.to(real) * x
    if z is not None:
        out = out * F.silu(z.to(real))
    return out.to(x.dtype)


def _check_step(
    state: Tensor,
    tokens: dict[str, Tensor | None],
    A: Tensor,
    B: Tensor,
    C: Tensor,
    weights: dict[str, Tensor | None] | None = None,
) -> None:
    """Raise ValueError unless tokens are (B, D), weights (D,) and the others fit the state (B, D, N)."""
    if state.ndim != 3 or 0 in state.shape:
        raise ValueError(f"state must be (B, D, N) with no side 0; got shape {tuple(state.shape)}")
    batch, channels, size = state.shape
    expected: list[tuple[str, Tensor | None, tuple[int, ...]]] = [("A", A, (channels, size))]
    expected += [(name, x, (batch, channels)) for name, x in tokens.items()]
    expected += [(name, x, (channels,)) for name, x in (weights or {}).items()]
    for name, tensor, shape in expected:
        if tensor is not None and tensor.shape != shape:
            raise ValueError(
                f"{name} must be {shape} beside a state (B, D, N) = {tuple(state.shape)}; got {tuple(tensor.shape)}"
            )
    for name, w in (("B", B), ("C", C)):
        if (
            w.ndim not in (2, 3)
            or w.shape[0] != batch
            or w.shape[-1] != size
            or (w.ndim == 3 and channels % w.shape[1])
        ):
            raise ValueError(
                f"{name} must be (B, N) = ({batch}, {size}) or (B, G, N) with a G that divides D = {channels}; "
                f"got {tuple(w.shape)}"
            )


def causal_conv1d_update(
    x: Tensor, conv_state: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None
) -> Tensor:
    """Take one step of a causal depthwise convolution: return its output, and shift x into `conv_state` in place.

    Parameters
    ----------
    x
        (B, D), the newest step.
    conv_state
        (B, D, W), the last W inputs, oldest first; all zero before the first step.
    weight
        (D, W); the last column meets the newest step.
    bias
        (D,) or None.
    activation
        None, or "silu" ("swish" is the same).

    Returns
    -------
    Tensor
        (B, D), in x's dtype.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, or the activation is unknown.

    Examples
    --------
    >>> memory = torch.tensor([[[0.0, 3.0]]])
    >>> causal_conv1d_update(torch.tensor([[5.0]]), memory, torch.tensor([[10.0, 1.0]]))
    tensor([[35.]])
    >>> memory
    tensor([[[3., 5.]]])
    """
    if activation not in (None, "silu", "swish"):
        raise ValueError(f"activation must be None, 'silu' or 'swish'; got {activation!r}")
    if conv_state.ndim != 3 or x.shape != conv_state.shape[:2] or weight.shape != conv_state.shape[1:]:
        raise ValueError(
            "conv_state must be (B, D, W), x (B, D) and weight (D, W); "
            f"got {tuple(conv_state.shape)}, {tuple(x.shape)} and {tuple(weight.shape)}"
        )
    conv_state.copy_(torch.cat((conv_state[..., 1:], x[..., None].to(conv_state.dtype)), dim=-1))
    out = (conv_state * weight).sum(dim=-1)  # [B, D]
    if bias is not None:
        out = out + bias
    return (out if activation is None else F.silu(out)).to(x.dtype)
