"""The engine "gpu": tensors in and out of the Triton kernels, and how many chunks of time run side by side.

What a training step keeps beside its arguments is the state before every `checkpoint_every()`-th step, in float32. The
backward pass needs one at every 4th: with the default, 4, they are all there; with more, they are made again, part of
the batch by part, which costs another pass over time and saves most of that memory.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mambaout_edu.scan.gpu_gradients import backward
from mambaout_edu.scan.gpu_launch import (
    WINDOW,
    Inputs,
    Tile,
    chunk_buffers,
    chunk_length,
    combined,
    dense_like,
    forward_tile,
    step_bias,
    turned,
    vector,
)

__all__ = ["backward", "checkpoint_every", "checkpoints", "forward", "saved_shape"]

_every = WINDOW


def checkpoint_every() -> int:
    """Return the distance in steps between the states that the forward pass keeps for the backward pass."""
    return _every


@contextmanager
def checkpoints(every: int) -> Iterator[None]:
    """Keep the state before every `every`-th step within a `with` block: 4 is fastest, 64 keeps a sixteenth.

    The setting counts when the forward pass runs. Raises ValueError unless `every` is 4, 8, 16, ...

    >>> with checkpoints(every=64):
    ...     saved_shape(2, 1000, 384, 16)
    (2, 16, 384, 16)
    >>> saved_shape(2, 1000, 384, 16)
    (2, 250, 384, 16)
    """
    global _every
    if every < WINDOW or every & (every - 1):
        raise ValueError(f"every must be a power of two, at least {WINDOW}; got {every}")
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
        step_bias(delta, delta_bias, delta_softplus, x.real),
        turned(initial_state, x.real),
    )
    tile = forward_tile(x.state, x.width)
    chunk = chunk_length(x.programs(tile), x.length)
    count = math.ceil(x.length / chunk)
    out, written = dense_like(u)
    last = u.new_empty((x.batch, x.channels, x.state), dtype=x.real)
    saved = u.new_empty(saved_shape(x.batch, x.length, x.channels, x.state) if save else (0,), dtype=x.real)
    with torch.cuda.device_of(u):
        entering = _entering(x, bias, start, chunk, tile, delta_softplus) if count > 1 else start
        outputs[x.programs(tile), count](
            x.u, x.delta, x.A_turned, x.B_turned, x.C_turned, D, x.z, bias, entering, written, saved if save else None,
            last, *x.strides(x.u, x.delta, x.z, written), x.length, x.channels, x.groups, chunk,
            U=WINDOW, EVERY=_every, **x.fixed, **x.options(tile, delta_softplus),
        )  # fmt: skip
    if written is not out:
        out.copy_(written)
    return out, last, saved


def _entering(x: Inputs, bias: Tensor | None, start: Tensor | None, chunk: int, tile: Tile, softplus: bool) -> Tensor:
    """Return the state [B, chunks, N, D] that enters each chunk."""
    from mambaout_edu.scan.gpu_kernels import chunk_states

    count = math.ceil(x.length / chunk)
    ends, sums = chunk_buffers(x, count)
    chunk_states[x.programs(tile), count](
        x.u, x.delta, x.A_turned, x.B_turned, bias, ends, sums, *x.strides(x.u, x.delta), x.length, x.channels,
        x.groups, chunk, U=WINDOW, FIXED_B=x.fixed["FIXED_B"], **x.options(tile, softplus),
    )  # fmt: skip
    return combined(x, start, ends, sums, reverse=False)
