"""The engine "cpu": tensors in and out of the Numba kernels, compiled once and cached, and the threads they run on.

Results do not depend on the number of threads: a task is one batch entry and one block of channels, whichever thread
takes it, and sums over blocks and batch entries are added up afterwards in a fixed order. What a training step keeps
is the state at every TILE-th step; the backward pass goes through time in segments, so that the sums that wait to be
added up stay small.
"""

import contextlib
import functools
import hashlib
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba import njit, types
from numba.core.caching import FunctionCache
from torch import Tensor

from mambaout_edu.scan import (
    cpu_backward,
    cpu_backward_numbers,
    cpu_kernels,
    cpu_lanes,
    cpu_lanes_back,
    cpu_math,
    cpu_saved,
    cpu_tiles,
    cpu_vectors,
    cpu_work,
)
from mambaout_edu.scan.cpu_lanes import BLOCK
from mambaout_edu.scan.cpu_saved import TILE, saved_shape
from mambaout_edu.scan.cpu_threads import run_on_threads
from mambaout_edu.scan.cpu_tiles import PLAIN
from mambaout_edu.scan.reference import state_dtype

__all__ = ["backward", "forward"]

SEGMENT = 16 * TILE  # steps of a backward pass between two summations
KERNELS = (cpu_kernels, cpu_lanes, cpu_backward, cpu_backward_numbers, cpu_lanes_back)
SOURCES = (*KERNELS, cpu_math, cpu_saved, cpu_tiles, cpu_vectors, cpu_work)
_compiling = threading.Lock()


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
    dtype = state_dtype(u, delta, A, B, C)
    batch, length, channels = u.shape
    size = (batch, channels, A.shape[1])
    inputs = _Inputs(dtype, u, delta, A, B, C, D, z, delta_bias)
    start = u.new_zeros((1, 1, 1), dtype=dtype) if initial_state is None else initial_state.to(dtype)
    out = torch.empty_like(u, dtype=dtype)
    last = u.new_empty(size, dtype=dtype)
    saved = u.new_empty(saved_shape(batch, length, channels, A.shape[1]) if save else (0,), dtype=dtype)
    arrays = (start, out, last, saved if save else u.new_empty((1, 1, 1, 1), dtype=dtype))
    flags = (delta_softplus, z is not None, inputs.fixed, save, initial_state is not None)
    kernel = _compiled("forward", dtype)
    counter = np.zeros(1, np.int64)
    run_on_threads(kernel, counter, inputs.tasks, flags, *inputs.arrays, *_numpy(arrays), tasks=inputs.tasks)
    return out.to(u.dtype), last, saved


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
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the nine tensors, None for those that are None."""
    dtype = saved.dtype
    batch, length, channels = u.shape
    state = A.shape[1]
    saved = saved.view(saved_shape(batch, length, channels, state))
    inputs = _Inputs(dtype, u, delta, A, B, C, D, z, delta_bias)
    du, ddelta = torch.empty_like(u, dtype=dtype), torch.empty_like(delta, dtype=dtype)
    dz = ddelta if z is None else torch.empty_like(z, dtype=dtype)
    sums = u.new_zeros((4, batch, channels, state), dtype=dtype)  # the adjoint, dA, and dB and dC of fixed ones
    if grad_last is not None:
        sums[0] = grad_last
    channel_sums = u.new_zeros((2, batch, channels), dtype=dtype)  # dD, dbias
    varying = [torch.empty_like(x, dtype=dtype) if x.ndim == 4 else None for x in (B, C)]
    parts = [u.new_empty((inputs.tasks, min(length, SEGMENT), state), dtype=dtype) for _ in range(2)]
    arrays = _numpy((saved, grad_out.to(dtype), du, ddelta, dz, sums, channel_sums, *parts))
    flags = (delta_softplus, z is not None, inputs.fixed)
    ln2 = (np.float64 if dtype == torch.float64 else np.float32)(math.log(2))
    kernel = _compiled("backward", dtype)
    for begin in range((length - 1) // SEGMENT * SEGMENT, -1, -SEGMENT):
        end = min(length, begin + SEGMENT)
        counter = np.zeros(1, np.int64)
        segment = (counter, inputs.tasks, begin, end, ln2, flags)
        run_on_threads(kernel, *segment, *inputs.arrays, *arrays, tasks=inputs.tasks)
        for gradient, part in zip(varying, parts, strict=True):
            if gradient is not None:
                _add_blocks(gradient[:, begin:end], part)
    dA, *fixed = (x.sum(dim=0) for x in sums[1:])  # over batch entries
    dB, dC = (own if own is not None else shared for own, shared in zip(varying, fixed, strict=True))
    dD, dbias = (x.sum(dim=0) for x in channel_sums)
    gradients = (du, ddelta, dA, dB, dC, dD, dz, dbias, sums[0].clone())
    tensors = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    return tuple(None if x is None else g.to(x.dtype) for g, x in zip(gradients, tensors, strict=True))


class _Inputs:
    """The tensors that both passes read, as the kernels want them: one dtype, a number for what is None."""

    def __init__(
        self,
        dtype: torch.dtype,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        z: Tensor | None,
        bias: Tensor | None,
    ) -> None:
        batch, length, channels = u.shape
        groups = max(B.shape[2] if B.ndim == 4 else 1, C.shape[2] if C.ndim == 4 else 1)
        self.fixed = B.ndim == 2 or C.ndim == 2
        ones = A.new_ones((), dtype=dtype).expand(A.shape)
        one = u.new_ones((), dtype=dtype).expand(batch, length, groups, A.shape[1])
        self.B, self.C = ((one if x.ndim == 2 else x.to(dtype).expand(-1, -1, groups, -1)) for x in (B, C))
        own_B, own_C = ((x.to(dtype) if x.ndim == 2 else ones) for x in (B, C))
        none = u.new_zeros(channels, dtype=dtype)
        skip, shift = ((none if x is None else x.to(dtype).contiguous()) for x in (D, bias))
        u, delta = u.to(dtype), delta.to(dtype)
        gate = u if z is None else z.to(dtype)
        self.tasks = batch * groups * math.ceil(channels // groups / BLOCK)
        halving = A.to(dtype) * math.log2(math.e)  # exp(x) = exp2(x log2(e))
        self.arrays = _numpy((u, delta, halving, self.B, self.C, own_B, own_C, skip, gate, shift))


def _numpy(tensors: Any) -> list[np.ndarray]:
    return [t.detach().numpy() for t in tensors]


def _add_blocks(gradient: Tensor, parts: Tensor) -> None:
    """Sum the tasks' parts [tasks, steps, N] over the blocks of a group, in order, into [B, steps, G, N].

    Where all groups share one row (G = 1), the blocks of all groups are its blocks.
    """
    batch, steps, groups, _ = gradient.shape
    parts = parts[:, :steps].unflatten(0, (batch, groups, -1))
    total = parts[:, :, 0].clone()  # [B, G, steps, N]
    for block in range(1, parts.shape[2]):
        total += parts[:, :, block]
    gradient.copy_(total.transpose(1, 2))


@functools.cache
def _signature(name: str, dtype: torch.dtype) -> Any:
    """One signature for all memory layouts, so that a kernel is compiled once for each dtype."""
    number = types.float64 if dtype == torch.float64 else types.float32
    line = types.Array(number, 1, "C")
    plane, sequence, weights = (types.Array(number, n, "A") for n in (2, 3, 4))
    counter, flag = types.Array(types.int64, 1, "C"), types.boolean
    inputs = [sequence, sequence, plane, weights, weights, plane, plane, line, sequence, line]
    if name == "forward":
        head = [counter, types.int64, types.UniTuple(flag, 5)]
        tail = [sequence, sequence, sequence, weights]
    else:
        head = [counter, types.int64, types.int64, types.int64, number, types.UniTuple(flag, 3)]
        tail = [weights, sequence, sequence, sequence, sequence, weights, sequence, sequence, sequence]
    return types.void(*head, *inputs, *tail)


class _Cache(FunctionCache):
    """Numba's cache on disk looks at one source file only; ours are several, so their contents are in the key."""

    @staticmethod
    @functools.cache
    def _sources() -> str:
        return hashlib.sha256(b"".join(Path(str(m.__file__)).read_bytes() for m in SOURCES)).hexdigest()

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), self._sources())


@functools.cache
def _compiled_once(name: str, dtype: torch.dtype) -> Callable[..., None]:
    source = (cpu_kernels.forward if name == "forward" else cpu_backward.backward).py_func
    kernel = njit(**PLAIN)(source)
    # The cache is beside the package, or in the user's cache folder where that cannot be written (or NUMBA_CACHE_DIR);
    # where neither can, or a source cannot be read, the kernel is compiled in every process.
    with contextlib.suppress(RuntimeError, OSError):
        kernel._cache = _Cache(source)
    kernel.compile(_signature(name, dtype))
    kernel.disable_compile()
    return kernel


def _compiled(name: str, dtype: torch.dtype) -> Callable[..., None]:
    with _compiling:
        return _compiled_once(name, dtype)
