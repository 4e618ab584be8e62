"""The torch operator `mambaout_edu::selective_scan`: fake, backward and FLOP count, around the engines' kernels.

torch.compile and torch.export keep the operator whole in their graphs, autograd and the FLOP counter know it.
All tensors are [B, L, D] (time before channels) with any strides; the wrapper in `op.py` makes the views.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from mambaout_edu.scan.engines import load, saved_shape
from mambaout_edu.scan.reference import state_dtype

__all__ = ["flops", "operator"]


@torch.library.custom_op("mambaout_edu::selective_scan", mutates_args=())
def operator(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    delta_softplus: bool,
    engine: str,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return out [B, L, D], the last state [B, D, N], and what the backward pass needs (empty unless `save`)."""
    tensors = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    out, last, saved = load(engine).forward(*tensors, delta_softplus=delta_softplus, save=save)
    # One axis, so that no axis of it may be of length one: torch.export with a free length would ask.
    return out, last, saved.view(-1)


@operator.register_fake
def _(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    delta_softplus: bool,
    engine: str,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = state_dtype(u, delta, A, B, C)
    batch, length, channels = u.shape
    state = A.shape[1]
    saved = math.prod(saved_shape(engine, batch, length, channels, state)) if save else 0
    last = u.new_empty((batch, channels, state), dtype=dtype)
    return torch.empty_like(u), last, u.new_empty((saved,), dtype=dtype)


@torch.library.custom_op("mambaout_edu::selective_scan_backward", mutates_args=())
def backward_operator(
    grad_out: Tensor,
    grad_last: Tensor | None,
    saved: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    delta_softplus: bool,
    engine: str,
) -> list[Tensor]:
    """Return the gradients of the nine tensors of the forward pass; one that was None has an empty gradient."""
    tensors = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    grads = load(engine).backward(grad_out, grad_last, saved, *tensors, delta_softplus=delta_softplus)
    return [u.new_empty(0) if g is None else g for g in grads]


@backward_operator.register_fake
def _(
    grad_out: Tensor,
    grad_last: Tensor | None,
    saved: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    delta_softplus: bool,
    engine: str,
) -> list[Tensor]:
    tensors = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    return [u.new_empty(0) if t is None else torch.empty_like(t) for t in tensors]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, ctx.delta_softplus, ctx.engine, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(output[2], *tensors)


def _backward(ctx: Any, grad_out: Tensor | None, grad_last: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    saved, *tensors = ctx.saved_tensors
    if saved.numel() == 0:
        raise RuntimeError(
            "selective_scan ran without saving what its backward pass needs; run it with gradients enabled "
            "(outside torch.no_grad and torch.inference_mode)"
        )
    if grad_out is None:
        grad_out = torch.zeros_like(tensors[0])
    grads = backward_operator(grad_out, grad_last, saved, *tensors, ctx.delta_softplus, ctx.engine)
    return (*(None if t is None else g for t, g in zip(tensors, grads, strict=True)), None, None, None)


operator.register_autograd(_backward, setup_context=_setup_context)


def flops(u_shape: Sequence[int], state: int, skip: bool = False, gate: bool = False) -> int:
    """Return the operations of a scan as papers on vision count them: 9 B L D N, and B L D each for D and z.

    `u_shape` is B, L, D in any order.

    >>> flops((1, 196, 384), 16, skip=True)
    10913280
    """
    positions = math.prod(u_shape)
    return positions * (9 * state + skip + gate)


@register_flop_formula(torch.ops.mambaout_edu.selective_scan)
def _(
    u_shape: Sequence[int],
    delta_shape: Sequence[int],
    A_shape: Sequence[int],
    B_shape: Sequence[int],
    C_shape: Sequence[int],
    D_shape: Sequence[int] | None,
    z_shape: Sequence[int] | None,
    *args: Any,
    **kwargs: Any,
) -> int:
    return flops(u_shape, A_shape[1], D_shape is not None, z_shape is not None)


@register_flop_formula(torch.ops.mambaout_edu.selective_scan_backward)
def _(
    grad_out_shape: Sequence[int],
    grad_last_shape: Sequence[int] | None,
    kept_shape: Sequence[int],
    u_shape: Sequence[int],
    delta_shape: Sequence[int],
    A_shape: Sequence[int],
    B_shape: Sequence[int],
    C_shape: Sequence[int],
    D_shape: Sequence[int] | None,
    z_shape: Sequence[int] | None,
    *args: Any,
    **kwargs: Any,
) -> int:
    return 2 * flops(u_shape, A_shape[1], D_shape is not None, z_shape is not None)  # two products for each one
