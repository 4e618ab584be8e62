"""What the GPU kernels of the selective scan are given: tiles, chunks of time, and tensors in the form they read."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mambaout_edu.scan.reference import state_dtype

__all__ = [
    "NEAR",
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
    "given_back",
    "plain_tile",
    "step_bias",
    "turned",
    "vector",
]

WINDOW = 4  # steps between two fetches into the cache, and that are walked back at once, their states in registers
NEAR = 8  # steps between kept states: the backward kernel walks the way from one to a window's start again
ENOUGH = 640  # programs with which a GPU of 132 multiprocessors is better left without chunks, and their extra passes
WARPS = 4096  # programs to aim at where there are fewer: about 30 for each multiprocessor
SHORTEST, MOST = 64, 32  # steps of a chunk, and chunks: shorter or more of them would cost more than they win
TURNED = 64  # sides of the tiles in which a sequence is copied from time last to channels last
FEW = 4  # states whose weights are cheaper to turn into float32 in every program than once for all
LONGEST = 65536  # steps; so that a chunk's offsets fit into 32 bits


def chunk_length(programs: int, length: int, state: int) -> int:
    """Return the steps that one program scans, if there are so many programs (channel blocks times batch entries).

    The rule, from measurements on an H200: all steps from ENOUGH programs on; below, as many chunks as bring the
    programs up to WARPS, but at most MOST (twice as many for at most 4 states, whose steps are cheap), none shorter
    than SHORTEST, each a multiple of WINDOW.

    >>> chunk_length(programs=64, length=4096, state=16), chunk_length(programs=768, length=196, state=16)
    (128, 196)
    """
    most = MOST if state > 4 else 2 * MOST
    wanted = 1 if programs >= ENOUGH else max(1, min(WARPS // programs, length // SHORTEST, most))
    steps = math.ceil(length / wanted)
    return min(LONGEST, math.ceil(steps / WINDOW) * WINDOW)


@dataclass(frozen=True)
class Tile:
    """Channels that a program takes, padded states, warps, steps between two fetches, and the most registers."""

    channels: int
    state: int
    warps: int
    window: int = WINDOW
    registers: int | None = None


def forward_tile(state: int, width: int, alone: bool = False) -> Tile:
    """Return a tile of one warp, one or two channels a thread; more than 64 states take several warps.

    From measurements on an H200: with two channels a thread fewer rows of B and C are read, and 168 registers let
    three warps share a scheduler. Where programs scan the whole sequence (`alone`) there are enough of them, and one
    channel a thread with longer windows is faster.

    >>> forward_tile(16, width=384)
    Tile(channels=64, state=16, warps=1, window=4, registers=168)
    >>> forward_tile(16, width=384, alone=True)
    Tile(channels=32, state=16, warps=1, window=8, registers=None)
    """
    padded = _power(state)
    if padded > 16 or width < 64:
        return Tile(32, padded, max(1, padded // 64))
    return Tile(32, padded, 1, window=NEAR) if alone else Tile(64, padded, 1, registers=168)


def backward_tile(state: int, width: int) -> Tile:
    """Return a tile with 16 states a thread or fewer: those of a window have to fit into registers."""
    padded = _power(state)
    channels = max(32, min(128, 512 // padded, _power(width))) if padded <= 4 else 32
    return Tile(channels, padded, max(1, padded * channels // 512))


def plain_tile(state: int) -> Tile:
    """Return a tile of one channel a thread, for the passes over chunks and over adjoints."""
    padded = _power(state)
    return Tile(32, padded, max(1, padded // 64))


def _power(x: int) -> int:
    """Return the next power of two."""
    return 1 << (x - 1).bit_length()


class Inputs:
    """The arguments as the kernels take them, for some of the batch entries.

    Sequences keep their dtype and strides, but their last axis is dense (a copy is made where it is not: channels
    must lie side by side to be read at full speed). Weights are dense and of the state's dtype, but for B and C of at
    most FEW states, which a kernel turns into it sooner than a copy is made; where B and C have different numbers of
    groups, both get the least common multiple.
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
        if x.ndim == 2:
            x = x.to(self.real)
            return x.contiguous(), x.t().contiguous()
        if self.state > FEW:
            x = x.to(self.real)
        if x.shape[2] != self.groups:
            x = x.repeat_interleave(self.groups // x.shape[2], dim=2)
        x = x.contiguous()
        return x, x

    def part(self, entries: slice, steps: slice) -> "Inputs":
        """Return the same for some batch entries and some of the steps: views, but B and C dense."""
        part: Inputs = object.__new__(Inputs)
        part.__dict__.update(self.__dict__)
        part.u, part.delta = self.u[entries, steps], self.delta[entries, steps]
        part.z = None if self.z is None else self.z[entries, steps]
        part.batch, part.length = part.u.shape[:2]
        if not self.fixed["FIXED_B"]:
            part.B = part.B_turned = self.B[entries, steps].contiguous()
        if not self.fixed["FIXED_C"]:
            part.C = part.C_turned = self.C[entries, steps].contiguous()
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
            "FETCH": self.u.is_cuda and torch.version.cuda is not None,
            "REAL": tl.float64 if self.real == torch.float64 else tl.float32,
            "num_warps": tile.warps,
            "maxnreg": tile.registers,
            "num_stages": 1,
            "enable_fp_fusion": True,
        }

    def even(self, window: int) -> bool:
        """Return whether the sequence is a whole number of windows of so many steps."""
        return self.length % window == 0

    def strides(self, *sequences: Tensor | None) -> list[int]:
        """Return the strides over batch and time of each sequence; zeros for None."""
        return [s for x in sequences for s in ((0, 0) if x is None else x.stride()[:2])]


def dense(x: Tensor) -> Tensor:
    """Return a sequence with its channels side by side: itself where they are, else a copy."""
    if x.stride(2) == 1 or x.shape[2] == 1:
        return x
    if x.stride(1) != 1:
        return x.contiguous()
    return copy_turned(x, x.new_empty(x.shape))


def copy_turned(x: Tensor, target: Tensor) -> Tensor:
    """Copy a sequence whose time is dense in memory to one whose channels are, or the other way; return the target.

    Torch's own copy is several times slower.
    """
    from mambaout_edu.scan.gpu_math import turn

    back = x.stride(2) == 1  # then x is [B, L, D] as rows and columns, else its transpose is
    batch, rows, columns = x.shape if back else x.transpose(1, 2).shape
    tiles = batch * math.ceil(rows / TURNED) * math.ceil(columns / TURNED)
    strides = (x.stride(0), x.stride(1 if back else 2), target.stride(0), target.stride(2 if back else 1))
    with torch.cuda.device_of(x):
        turn[(tiles,)](x, target, *strides, rows, columns, BLOCK=TURNED, num_warps=8)
    return target


def vector(x: Tensor | None, real: torch.dtype) -> Tensor | None:
    """Return D or the bias dense and of the state's dtype."""
    return None if x is None else x.to(real).contiguous()


def step_bias(delta: Tensor, bias: Tensor | None, real: torch.dtype) -> Tensor | None:
    """Return the bias of delta, or zeros where there is none and delta has 16 bits.

    Triton 3.6 fails to compile the backward pass where a delta is only cast (3.9 compiles it).
    """
    if bias is None and delta.element_size() == 2:
        return delta.new_zeros(delta.shape[2], dtype=real)
    return vector(bias, real)


def turned(state: Tensor | None, real: torch.dtype) -> Tensor | None:
    """Return a state [B, D, N] as [B, N, D]."""
    return None if state is None else state.to(real).transpose(1, 2).contiguous()


def dense_like(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return an empty tensor as `empty_like` makes it, and one whose last axis is dense: the same if it is."""
    plain = torch.empty_like(x)
    return plain, plain if plain.stride(2) == 1 or x.shape[2] == 1 else x.new_empty(x.shape)


def given_back(plain: Tensor, written: Tensor) -> Tensor:
    """Return the first of a pair of `dense_like` with what was written into the second."""
    if written is plain:
        return plain
    return copy_turned(written, plain) if plain.stride(1) == 1 else plain.copy_(written)


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
    for name in ("SOFTPLUS", "EVEN_D", "FETCH"):
        del options[name]
    programs = x.batch * math.ceil(x.channels / tile.channels)
    count, group = ends.shape[1], max(1, min(8, 64 // tile.state))
    combine[(programs,)](
        x.A_turned, start, ends, sums, entering, x.channels, count, GROUP=group, REVERSE=reverse, **options
    )
    return entering
