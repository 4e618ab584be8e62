"""The backward pass of the engine "gpu": which kernels run, on what, and how partial sums are added up."""

import itertools
import math

import torch
from torch import Tensor

from mambaout_edu.scan.gpu_launch import (
    NEAR,
    WINDOW,
    Inputs,
    backward_tile,
    chunk_buffers,
    chunk_length,
    combined,
    dense,
    dense_like,
    forward_tile,
    given_back,
    plain_tile,
    step_bias,
    turned,
    vector,
)

__all__ = ["backward"]

PARTS = 32  # in which states that were kept farther apart than NEAR are made again, one part after the other
SEGMENT = 512  # steps that a part has at least where a sequence is cut: fewer would leave multiprocessors idle


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
    skip, bias = vector(D, x.real), step_bias(delta, delta_bias, x.real)
    dy, last = dense(grad_out), None if grad_last is None else grad_last.to(x.real).contiguous()
    sequences = [None if s is None else dense_like(s) for s in (u, delta, z)]
    du, ddelta, dz = (None if pair is None else pair[1] for pair in sequences)
    saved = saved.view(x.batch, -1, x.channels, x.state)
    every = _distance(saved.shape[1], x.length)
    sums = _Sums(x, initial_state is not None)
    with torch.cuda.device_of(u):
        for entries, segments in _parts(x, every):
            entering = None if last is None else last[entries]
            for steps in segments:
                part = x.part(entries, steps)
                kept = saved[entries, steps.start // every : math.ceil(steps.stop / every)].contiguous()
                if every > NEAR:
                    kept = _closer_states(part, bias, kept, every, delta_softplus)
                found = tuple(None if s is None else s[entries, steps] for s in (du, ddelta, dz))
                entering = _walk_back(
                    part, skip, bias, dy[entries, steps], kept, min(every, NEAR), entering, found,
                    sums.rows(entries, steps), sums, steps.start > 0 or sums.start is not None, delta_softplus,
                )  # fmt: skip
            if sums.start is not None and entering is not None:
                sums.start[entries] = entering
    d_u, d_delta, d_z = (None if pair is None else given_back(*pair) for pair in sequences)
    grads = (d_u, d_delta, sums.of("A"), *sums.weights(), sums.of("D"), d_z, sums.of("bias"), sums.start)
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
    every = NEAR
    while math.ceil(length / every) > kept:
        every *= 2
    return every


def _parts(x: Inputs, every: int) -> list[tuple[slice, list[slice]]]:
    """Return which batch entries, and which of their steps, the last ones first, are walked back together.

    All of them; but where states have to be made again, about PARTS parts, so that few are there at a time.
    """
    if every <= NEAR:
        return [(slice(0, x.batch), [slice(0, x.length)])]
    count = min(x.batch, PARTS)
    pieces = max(1, min(PARTS // count, x.length // SEGMENT))
    bounds = [x.batch * i // count for i in range(count + 1)]
    ends = [min(x.length, math.ceil(x.length * i / pieces / every) * every) for i in range(pieces + 1)]
    segments = [slice(*pair) for pair in itertools.pairwise(ends)][::-1]
    return [(slice(*pair), segments) for pair in itertools.pairwise(bounds)]


class _Sums:
    """Gradients that are sums: over batch and time (A, D, bias, fixed B and C) or over channels (B and C).

    The kernels write partial sums; they are added up here in their order, so that two runs give the same bits.
    """

    def __init__(self, x: Inputs, start_wanted: bool) -> None:
        per_row, fixed = (x.batch, x.length, x.groups, x.state), x.fixed
        self.dB = None if fixed["FIXED_B"] else x.A.new_empty(per_row)
        self.dC = None if fixed["FIXED_C"] else x.A.new_empty(per_row)
        self.start = x.A.new_empty(x.batch, x.channels, x.state) if start_wanted else None
        self._totals: dict[str, Tensor] = {}

    def rows(self, entries: slice, steps: slice) -> tuple[Tensor | None, Tensor | None]:
        """Return where the gradients of B and C of a part belong."""
        return tuple(None if s is None else s[entries, steps] for s in (self.dB, self.dC))  # type: ignore[return-value]

    def add(self, name: str, partial: Tensor | None) -> None:
        """Add partial sums [batch, chunks, ...]."""
        if partial is not None:
            total = partial.sum(dim=(0, 1))
            self._totals[name] = self._totals[name] + total if name in self._totals else total

    def of(self, name: str) -> Tensor | None:
        """Return a sum over batch and time."""
        return self._totals.get(name)

    def weights(self) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of B and C, fixed or not."""
        return self.of("B") if self.dB is None else self.dB, self.of("C") if self.dC is None else self.dC


def _closer_states(x: Inputs, bias: Tensor | None, kept: Tensor, every: int, softplus: bool) -> Tensor:
    """Return the state before every NEAR-th step, by scans that start from those before every `every`-th."""
    from mambaout_edu.scan.gpu_kernels import outputs

    tile = forward_tile(x.state, x.width)
    closer = kept.new_empty((x.batch, math.ceil(x.length / NEAR), x.channels, x.state))
    entering = kept.transpose(2, 3).contiguous()
    outputs[x.programs(tile), kept.shape[1]](
        x.u, x.delta, x.A_turned, x.B_turned, x.C_turned, None, None, bias, entering, None, closer, None,
        *x.strides(x.u, x.delta, None, None), x.length, x.channels, x.groups, every, U=tile.window, EVERY=NEAR,
        EVEN_L=x.even(tile.window), **x.fixed, **x.options(tile, softplus),
    )  # fmt: skip
    return closer


def _walk_back(
    x: Inputs,
    D: Tensor | None,
    bias: Tensor | None,
    dy: Tensor,
    kept: Tensor,
    every: int,
    last: Tensor | None,
    found: tuple[Tensor | None, ...],
    rows: tuple[Tensor | None, Tensor | None],
    sums: _Sums,
    start_wanted: bool,
    softplus: bool,
) -> Tensor | None:
    """Run the kernels for a part: gradients go into `found`, `rows` and `sums`. Return that of the state before it."""
    from mambaout_edu.scan.gpu_backward import gradients

    tile = backward_tile(x.state, x.width)
    chunk = chunk_length(x.programs(tile), x.length, x.state)
    count = math.ceil(x.length / chunk)
    entering = _entering(x, bias, dy, last, chunk, softplus) if count > 1 else last
    du, ddelta, dz = found

    def new(*shape: int) -> Tensor:
        return dy.new_empty(shape, dtype=x.real)

    per_row = (x.blocks(tile), x.batch, x.length, x.groups, x.state)
    per_state = (x.batch, count, x.channels, x.state)
    # With chunks, a program reads its place in `entering` once, before all else, and leaves its partial sum there.
    dA = new(*per_state) if count == 1 or entering is None else entering.view(per_state)
    dB, dC = (new(*(per_state if s is None else per_row)) for s in rows)
    dD, dbias = (None if t is None else new(x.batch, count, x.channels) for t in (D, bias))
    dstart = new(x.batch, x.channels, x.state) if start_wanted else None
    gradients[x.programs(tile), count](
        x.u, x.delta, x.A, x.B, x.C, D, x.z, bias, dy, kept, entering, du, ddelta, dz, dA, dB, dC, dD, dbias, dstart,
        *x.strides(x.u, x.delta, x.z, dy, du, ddelta, dz), x.length, x.channels, x.groups, chunk, x.batch, K=WINDOW,
        EVERY=every, EVEN_L=x.even(WINDOW), **x.fixed, **x.options(tile, softplus),
    )  # fmt: skip
    for name, partial in (("A", dA), ("D", dD), ("bias", dbias)):
        sums.add(name, partial)
    for name, partial, total in (("B", dB, rows[0]), ("C", dC, rows[1])):
        if total is None:
            sums.add(name, partial)
        else:
            torch.sum(partial, dim=0, out=total)
    return dstart


def _entering(x: Inputs, bias: Tensor | None, dy: Tensor, last: Tensor | None, chunk: int, softplus: bool) -> Tensor:
    """Return the adjoint [B, chunks, D, N] that enters the end of each chunk."""
    from mambaout_edu.scan.gpu_backward import chunk_adjoints

    tile = plain_tile(x.state)
    count = math.ceil(x.length / chunk)
    ends, sums = chunk_buffers(x, count)
    chunk_adjoints[x.programs(tile), count - 1](
        x.delta, x.A_turned, x.C_turned, x.z, bias, dy, ends, sums, *x.strides(x.delta, x.z, dy), x.length,
        x.channels, x.groups, chunk, count, U=tile.window, EVEN_L=x.even(tile.window), FIXED_C=x.fixed["FIXED_C"],
        **x.options(tile, softplus),
    )  # fmt: skip
    return combined(x, turned(last, x.real), ends, sums, reverse=True)
