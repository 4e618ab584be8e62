"""The backward pass of the engine "gpu": which kernels run, on what, and how partial sums are added up."""

import itertools
import math

import torch
from torch import Tensor

from mambaout_edu.scan.gpu_launch import (
    WINDOW,
    Inputs,
    backward_tile,
    chunk_buffers,
    chunk_length,
    combined,
    dense,
    dense_like,
    forward_tile,
    step_bias,
    turned,
    vector,
)

__all__ = ["backward"]

PARTS = 4  # of a batch, for which kept states are made again one part after the other


def backward(
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
    *,
    delta_softplus: bool,
) -> list[Tensor | None]:
    """Return the gradients of the nine tensors of the forward pass, in their dtypes; None where one was None."""
    x = Inputs(u, delta, A, B, C, z)
    skip, bias = vector(D, x.real), step_bias(delta, delta_bias, delta_softplus, x.real)
    dy, last = dense(grad_out), None if grad_last is None else grad_last.to(x.real).contiguous()
    sequences = [None if s is None else dense_like(s) for s in (u, delta, z)]
    du, ddelta, dz = (None if pair is None else pair[1] for pair in sequences)
    sums = _Sums()
    every = _distance(saved.shape[1], x.length)
    parts = 1 if every == WINDOW else min(x.batch, PARTS)
    bounds = [x.batch * i // parts for i in range(parts + 1)]
    with torch.cuda.device_of(u):
        for low, high in itertools.pairwise(bounds):
            part = x.entries(low, high)
            kept = saved[low:high]
            if every != WINDOW:
                kept = _closer_states(part, bias, kept, every, delta_softplus)
            found = tuple(None if s is None else s[low:high] for s in (du, ddelta, dz))
            entering = None if last is None else last[low:high]
            wanted = initial_state is not None
            _walk_back(part, skip, bias, dy[low:high], kept, entering, found, sums, wanted, delta_softplus)
    for pair in sequences:
        if pair is not None and pair[0] is not pair[1]:
            pair[0].copy_(pair[1])
    d_u, d_delta, d_z = (None if pair is None else pair[0] for pair in sequences)
    grads = (d_u, d_delta, sums.A, sums.B, sums.C, sums.D, d_z, sums.bias, sums.start)
    asked = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    return [None if t is None or g is None else _like(g, t) for g, t in zip(grads, asked, strict=True)]


def _like(grad: Tensor, x: Tensor) -> Tensor:
    """Return a gradient in the dtype, groups and strides of what it belongs to."""
    if grad.shape != x.shape:  # both B and C were given the least common multiple of their groups
        grad = grad.unflatten(2, (x.shape[2], -1)).sum(dim=3)
    result = torch.empty_like(x)
    if grad.dtype == x.dtype and grad.stride() == result.stride():
        return grad
    return result.copy_(grad)


def _distance(kept: int, length: int) -> int:
    """Return how many steps are between kept states, of which there are so many."""
    every = WINDOW
    while math.ceil(length / every) > kept:
        every *= 2
    return every


class _Sums:
    """Gradients that are sums: over batch and time (A, D, bias, fixed B and C) or over channels (B and C)."""

    def __init__(self) -> None:
        self.A: Tensor | None = None
        self.B: Tensor | None = None
        self.C: Tensor | None = None
        self.D: Tensor | None = None
        self.bias: Tensor | None = None
        self.start: Tensor | None = None

    def add(self, name: str, partial: Tensor | None, batch_first: bool) -> None:
        """Add up partial sums [batch, chunks, ...] or [blocks, batch, ...] in their order; join or add parts."""
        if partial is None:
            return
        so_far: Tensor | None = getattr(self, name)
        if batch_first:
            total = partial.sum(dim=(0, 1))
            setattr(self, name, total if so_far is None else so_far + total)
        else:
            total = partial.sum(dim=0) if partial.shape[0] > 1 else partial[0]
            setattr(self, name, total if so_far is None else torch.cat((so_far, total)))


def _closer_states(x: Inputs, bias: Tensor | None, kept: Tensor, every: int, softplus: bool) -> Tensor:
    """Return the state before every WINDOW-th step, by scans that start from those before every `every`-th."""
    from mambaout_edu.scan.gpu_kernels import outputs

    tile = forward_tile(x.state, x.width)
    closer = kept.new_empty((x.batch, math.ceil(x.length / WINDOW), x.channels, x.state))
    entering = kept.transpose(2, 3).contiguous()
    outputs[x.programs(tile), kept.shape[1]](
        x.u, x.delta, x.A_turned, x.B_turned, x.C_turned, None, None, bias, entering, None, closer, None,
        *x.strides(x.u, x.delta, None, None), x.length, x.channels, x.groups, every, U=WINDOW, EVERY=WINDOW,
        **x.fixed, **x.options(tile, softplus),
    )  # fmt: skip
    return closer


def _walk_back(
    x: Inputs,
    D: Tensor | None,
    bias: Tensor | None,
    dy: Tensor,
    kept: Tensor,
    last: Tensor | None,
    found: tuple[Tensor | None, ...],
    sums: _Sums,
    start_wanted: bool,
    softplus: bool,
) -> None:
    """Run the kernels for a part of the batch: gradients of u, delta, z go into `found`, the others into `sums`."""
    from mambaout_edu.scan.gpu_backward import gradients

    tile = backward_tile(x.state, x.width)
    chunk = chunk_length(x.programs(tile), x.length)
    count = math.ceil(x.length / chunk)
    entering = _entering(x, bias, dy, last, chunk, softplus) if count > 1 else last
    du, ddelta, dz = found

    def new(*shape: int) -> Tensor:
        return dy.new_empty(shape, dtype=x.real)

    per_row = (x.blocks(tile), x.batch, x.length, x.groups, x.state)
    per_state = (x.batch, count, x.channels, x.state)
    dA = new(*per_state)
    dB, dC = (new(*(per_state if x.fixed[name] else per_row)) for name in ("FIXED_B", "FIXED_C"))
    dD, dbias = (None if t is None else new(x.batch, count, x.channels) for t in (D, bias))
    dstart = new(x.batch, x.channels, x.state) if start_wanted else None
    gradients[x.programs(tile), count](
        x.u, x.delta, x.A, x.B, x.C, D, x.z, bias, dy, kept, entering, du, ddelta, dz, dA, dB, dC, dD, dbias, dstart,
        *x.strides(x.u, x.delta, x.z, dy, du, ddelta, dz), x.length, x.channels, x.groups, chunk, x.batch, K=WINDOW,
        **x.fixed, **x.options(tile, softplus),
    )  # fmt: skip
    for name, partial in (("A", dA), ("D", dD), ("bias", dbias)):
        sums.add(name, partial, batch_first=True)
    sums.add("B", dB, batch_first=x.fixed["FIXED_B"])
    sums.add("C", dC, batch_first=x.fixed["FIXED_C"])
    sums.add("start", None if dstart is None else dstart[None], batch_first=False)


def _entering(x: Inputs, bias: Tensor | None, dy: Tensor, last: Tensor | None, chunk: int, softplus: bool) -> Tensor:
    """Return the adjoint [B, chunks, N, D] that enters the end of each chunk."""
    from mambaout_edu.scan.gpu_backward import chunk_adjoints

    tile = forward_tile(x.state, x.width)
    count = math.ceil(x.length / chunk)
    ends, sums = chunk_buffers(x, count)
    chunk_adjoints[x.programs(tile), count](
        x.delta, x.A_turned, x.C_turned, x.z, bias, dy, ends, sums, *x.strides(x.delta, x.z, dy), x.length,
        x.channels, x.groups, chunk, U=WINDOW, FIXED_C=x.fixed["FIXED_C"], **x.options(tile, softplus),
    )  # fmt: skip
    return combined(x, turned(last, x.real), ends, sums, reverse=True)
