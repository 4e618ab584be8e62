"""The engine "gpu": tensors in and out of the Triton kernels, and how many chunks of time run side by side.

What a training step keeps beside its arguments is the state before every `checkpoint_every()`-th step, in float32. With
the default, 8, and N = 16, a step in bfloat16 holds at most 1.6 times what mamba-ssm's kernel holds, in float32 1.25
times. With `checkpoints(64)` it is about 1.1 times: the states between are made again in the backward pass, part of the
batch or of the sequence by part, which costs another pass over time.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mambaout_edu.scan.gpu_gradients import backward
from mambaout_edu.scan.gpu_launch import (
    NEAR,
    Inputs,
    Tile,
    chunk_buffers,
    chunk_length,
    combined,
    dense_like,
    forward_tile,
    given_back,
    step_bias,
    turned,
    vector,
)

__all__ = ["backward", "checkpoint_every", "checkpoints", "forward", "saved_shape"]

_every = NEAR


def checkpoint_every() -> int:
    """Return the distance in steps between the states that the forward pass keeps for the backward pass."""
    return _every


@contextmanager
def checkpoints(every: int) -> Iterator[None]:
    """Keep the state before every `every`-th step within a `with` block: 8 is fastest, 64 keeps an eighth.

    The setting counts when the forward pass runs. Raises ValueError unless `every` is 8, 16, 32, ...

    >>> with checkpoints(every=64):
    ...     saved_shape(2, 1000, 384, 16)
    (2, 16, 384, 16)
    >>> saved_shape(2, 1000, 384, 16)
    (2, 125, 384, 16)
    """
    global _every
    if every < NEAR or every & (every - 1):
        raise ValueError(f"every must be a power of two, at least {NEAR}; got {every}")
    previous, _every = _every, every
    try:
        yield
    finally:
        _every = previous


def saved_shape(batch: int, length: int, channels: int, state: int) -> tuple[int, ...]:
    """Return the shape of what the forward pass keeps: the state before every `checkpoint_every()`-th step."""
    return (batch, (length + _every - 1) // _every, channels, state)


def forward(
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
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return out [B, L, D], last state [B, D, N] and the saved states, as the operator wants them."""
    from mambaout_edu.scan.gpu_kernels import outputs

    x = Inputs(u, delta, A, B, C, z)
    D, bias, start = (
        vector(D, x.real),
        step_bias(delta, delta_bias, x.real),
        turned(initial_state, x.real),
    )
    tile = forward_tile(x.state, x.width)
    chunk = chunk_length(x.programs(tile), x.length, x.state)
    count = math.ceil(x.length / chunk)
    if count == 1:
        tile = forward_tile(x.state, x.width, alone=True)
    out, written = dense_like(u)
    last = u.new_empty((x.batch, x.channels, x.state), dtype=x.real)
    saved = u.new_empty(saved_shape(x.batch, x.length, x.channels, x.state) if save else (0,), dtype=x.real)
    with torch.cuda.device_of(u):
        entering = _entering(x, bias, start, chunk, tile, delta_softplus) if count > 1 else start
        outputs[x.programs(tile), count](
            x.u, x.delta, x.A_turned, x.B_turned, x.C_turned, D, x.z, bias, entering, written, saved if save else None,
            last, *x.strides(x.u, x.delta, x.z, written), x.length, x.channels, x.groups, chunk,
            U=tile.window, EVERY=_every, EVEN_L=x.even(tile.window), **x.fixed, **x.options(tile, delta_softplus),
        )  # fmt: skip
    return given_back(out, written), last, saved


def _entering(x: Inputs, bias: Tensor | None, start: Tensor | None, chunk: int, tile: Tile, softplus: bool) -> Tensor:
    """Return the state [B, chunks, N, D] that enters each chunk."""
    from mambaout_edu.scan.gpu_kernels import chunk_states

    count = math.ceil(x.length / chunk)
    ends, sums = chunk_buffers(x, count)
    chunk_states[x.programs(tile), count - 1](
        x.u, x.delta, x.A_turned, x.B_turned, bias, ends, sums, *x.strides(x.u, x.delta), x.length, x.channels,
        x.groups, chunk, count, U=tile.window, FIXED_B=x.fixed["FIXED_B"], **x.options(tile, softplus),
    )  # fmt: skip
    return combined(x, start, ends, sums, reverse=False)
