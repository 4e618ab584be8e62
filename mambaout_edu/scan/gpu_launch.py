"""What the GPU kernels of the selective scan are given: tiles, chunks of time, and tensors in the form they read."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mambaout_edu.scan.reference import state_dtype

__all__ = [
    "WINDOW",
    "Inputs",
    "Tile",
    "backward_tile",
    "chunk_buffers",
    "chunk_length",
    "combined",
    "dense",
    "dense_like",
    "forward_tile",
    "step_bias",
    "turned",
    "vector",
]

WINDOW = 4  # steps between two fetches into the cache, and that are walked back from one kept state
ENOUGH = 640  # programs with which a GPU of 132 multiprocessors is better left without chunks, and their extra passes
WARPS = 4096  # programs to aim at where there are fewer: about 30 for each multiprocessor
SHORTEST, MOST = 64, 48  # steps of a chunk, and chunks: shorter or more of them would cost more than they win
LONGEST = 65536  # steps; so that a chunk's offsets fit into 32 bits


def chunk_length(programs: int, length: int) -> int:
    """Return the steps that one program scans, if there are so many programs (channel blocks times batch entries).

    The rule, from measurements on an H200: all steps from ENOUGH programs on; below, as many chunks as bring the
    programs up to WARPS, but at most MOST, none shorter than SHORTEST, each a multiple of WINDOW.

    >>> chunk_length(programs=64, length=4096), chunk_length(programs=768, length=196)
    (88, 196)
    """
    wanted = 1 if programs >= ENOUGH else max(1, min(WARPS // programs, length // SHORTEST, MOST))
    steps = math.ceil(length / wanted)
    return min(LONGEST, math.ceil(steps / WINDOW) * WINDOW)


@dataclass(frozen=True)
class Tile:
    """Channels that a program takes, padded states, and warps."""

    channels: int
    state: int
    warps: int


def forward_tile(state: int, width: int) -> Tile:
    """Return a tile of one warp, one or two channels a thread; more than 64 states take several warps."""
    padded = _power(state)
    two = padded <= 16 and width >= 64
    return Tile(64 if two else 32, padded, max(1, padded // 64))


def backward_tile(state: int, width: int) -> Tile:
    """Return a tile with 16 states a thread or fewer: those of a window have to fit into registers."""
    padded = _power(state)
    channels = max(32, min(128, 512 // padded, _power(width))) if padded <= 4 else 32
    return Tile(channels, padded, max(1, padded * channels // 512))


def plain_tile(state: int) -> Tile:
    """Return a tile of one channel a thread, for the pass over chunks."""
    padded = _power(state)
    return Tile(32, padded, max(1, padded // 64))


def _power(x: int) -> int:
    """Return the next power of two."""
    return 1 << (x - 1).bit_length()


class Inputs:
    """The arguments as the kernels take them, for some of the batch entries.

    Sequences keep their dtype and strides, but their last axis is dense (a copy is made where it is not: channels
    must lie side by side to be read at full speed). Weights are dense and of the state's dtype; where B and C have
    different numbers of groups, both get the least common multiple.
    """

    def __init__(self, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, z: Tensor | None) -> None:
        self.real = state_dtype(u, delta, A, B, C)
        self.batch, self.length, self.channels = u.shape
        self.state = A.shape[1]
        self.u, self.delta = dense(u), dense(delta)
        self.z = None if z is None else dense(z)
        self.A = A.to(self.real).contiguous()  # [D, N]
        self.A_turned = self.A.t().contiguous()  # [N, D]
        self.groups = math.lcm(*(w.shape[2] for w in (B, C) if w.ndim == 4))
        self.fixed = {"FIXED_B": B.ndim == 2, "FIXED_C": C.ndim == 2}
        self.B, self.B_turned = self._weights(B)
        self.C, self.C_turned = self._weights(C)

    def _weights(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return B or C [B, L, G, N] twice, or if fixed as [D, N] and [N, D]."""
        x = x.to(self.real)
        if x.ndim == 2:
            return x.contiguous(), x.t().contiguous()
        if x.shape[2] != self.groups:
            x = x.repeat_interleave(self.groups // x.shape[2], dim=2)
        x = x.contiguous()
        return x, x

    def entries(self, first: int, last: int) -> "Inputs":
        """Return the same for the batch entries first ... last - 1: views."""
        part: Inputs = object.__new__(Inputs)
        part.__dict__.update(self.__dict__)
        part.batch = last - first
        part.u, part.delta = self.u[first:last], self.delta[first:last]
        part.z = None if self.z is None else self.z[first:last]
        if not self.fixed["FIXED_B"]:
            part.B = part.B_turned = self.B[first:last]
        if not self.fixed["FIXED_C"]:
            part.C = part.C_turned = self.C[first:last]
        return part

    @property
    def width(self) -> int:
        """Channels in a group."""
        return self.channels // self.groups

    def blocks(self, tile: Tile) -> int:
        """Return how many programs share the channels of a group."""
        return math.ceil(self.width / tile.channels)

    def programs(self, tile: Tile) -> int:
        """Return how many programs scan one chunk of everything."""
        return self.batch * self.groups * self.blocks(tile)

    def options(self, tile: Tile, softplus: bool) -> dict[str, Any]:
        """Return the kernels' constants and the compiler's options.

        Multiply-adds are asked for: they are half of the kernels, and Triton leaves them out by default from 3.10.
        """
        import triton.language as tl

        return {
            "N": self.state,
            "NP": tile.state,
            "BD": tile.channels,
            "SOFTPLUS": softplus,
            "EVEN_D": self.width % tile.channels == 0,
            "EVEN_L": self.length % WINDOW == 0,
            "FETCH": self.u.is_cuda and torch.version.cuda is not None,
            "REAL": tl.float64 if self.real == torch.float64 else tl.float32,
            "num_warps": tile.warps,
            "num_stages": 1,
            "enable_fp_fusion": True,
        }

    def strides(self, *sequences: Tensor | None) -> list[int]:
        """Return the strides over batch and time of each sequence; zeros for None."""
        return [s for x in sequences for s in ((0, 0) if x is None else x.stride()[:2])]


def dense(x: Tensor) -> Tensor:
    """Return a sequence with its channels side by side: itself where they are, else a copy."""
    return x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()


def vector(x: Tensor | None, real: torch.dtype) -> Tensor | None:
    """Return D or the bias dense and of the state's dtype."""
    return None if x is None else x.to(real).contiguous()


def step_bias(delta: Tensor, bias: Tensor | None, softplus: bool, real: torch.dtype) -> Tensor | None:
    """Return the bias of delta, or zeros where a 16-bit delta would be used as it is.

    Triton 3.6 fails to compile the backward pass if nothing but a cast is between the two (3.9 compiles it).
    """
    if bias is None and not softplus and delta.element_size() == 2:
        return delta.new_zeros(delta.shape[2], dtype=real)
    return vector(bias, real)


def turned(state: Tensor | None, real: torch.dtype) -> Tensor | None:
    """Return a state [B, D, N] as [B, N, D]."""
    return None if state is None else state.to(real).transpose(1, 2).contiguous()


def dense_like(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return an empty tensor as `empty_like` makes it, and one whose last axis is dense: the same if it is."""
    plain = torch.empty_like(x)
    return plain, plain if dense(plain) is plain else x.new_empty(x.shape)


def chunk_buffers(x: Inputs, count: int) -> tuple[Tensor, Tensor]:
    """Return room for what each chunk makes of nothing, [B, chunks, N, D], and for the sums of its steps."""
    ends = x.u.new_empty((x.batch, count, x.state, x.channels), dtype=x.real)
    return ends, x.u.new_empty((x.batch, count, x.channels), dtype=x.real)


def combined(x: Inputs, start: Tensor | None, ends: Tensor, sums: Tensor, reverse: bool) -> Tensor:
    """Return what enters each chunk, [B, chunks, N, D], from what each chunk makes of nothing."""
    from mambaout_edu.scan.gpu_math import combine

    entering = torch.empty_like(ends)  # in reverse it is read as [B, chunks, D, N]
    tile = plain_tile(x.state)
    options = x.options(tile, softplus=False)
    for name in ("SOFTPLUS", "EVEN_D", "EVEN_L", "FETCH"):
        del options[name]
    programs = x.batch * math.ceil(x.channels / tile.channels)
    count = ends.shape[1]
    combine[(programs,)](x.A_turned, start, ends, sums, entering, x.channels, count, REVERSE=reverse, **options)
    return entering
