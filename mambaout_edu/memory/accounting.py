"""What a mixer remembers and what a token costs, in closed form: bytes, multiply-adds, bytes moved.

Everything is counted for one new token of every sequence of the batch, after `position` tokens, in `depth` layers of
the mixer alone (no embedding, norm, MLP or head). Multiply-adds are those of the products with weights and of the work
on what is remembered; no activations, softmax or norms. A scan's state counts 9 operations an element, so 4.5
multiply-adds, and its skip and gate 1 operation each, as in `models.profile`; half a multiply-add is rounded down.
Bytes moved are the weights once, and the memory that is read and written: what a step that computes nothing would cost.

glossary
    D   channels (`dim`)         d   inner channels, int(expand * D)      N   states (`d_state`)
    H   heads                    G   key-value heads                      c   channels of a head
    P   `headdim` of Mamba-2     R   rank of the steps                    k   window of the convolution (`d_conv`)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mambaout_edu import mixers
from mambaout_edu.memory.attention import CausalAttention
from mambaout_edu.memory.cache import reserved_slots
from mambaout_edu.memory.convolution import GatedConv
from mambaout_edu.memory.sizes import readable
from mambaout_edu.mixers.attention import head_count
from mambaout_edu.mixers.s4d import S4D
from mambaout_edu.mixers.selective import check_rank

__all__ = ["DTYPES", "MIXERS", "Account", "accounting", "build", "crossing", "long_sequence", "quadratic_share"]

DTYPES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number."""

WINDOW = 256
"""Tokens that "window" keeps, if nothing else is said."""


@dataclass(frozen=True)
class _Layer:
    """One layer, for one sequence: counts, from which everything else follows."""

    parameters: int
    products: int  # multiply-adds with weights
    memory_operations: int  # operations on what is remembered, two for a multiply-add
    used: int  # bytes
    reserved: int
    read: int
    written: int


@dataclass(frozen=True)
class Account:
    """What `accounting` returns; all of it for the whole batch and all layers.

    Attributes
    ----------
    mixer, position
        As given.
    used, reserved
        Bytes of the memory after `position` tokens: remembered, and held by its tensors.
    parameters
        Numbers of weights.
    multiply_adds
        Of the next token.
    weight_bytes, read, written
        Bytes moved for the next token: weights, memory that is read, memory that is written.
    """

    mixer: str
    position: int
    used: int
    reserved: int
    parameters: int
    multiply_adds: int
    weight_bytes: int
    read: int
    written: int

    @property
    def moved(self) -> int:
        """Bytes moved for the next token, all together."""
        return self.weight_bytes + self.read + self.written

    @property
    def intensity(self) -> float:
        """Multiply-adds for each byte that is moved: where it is small, decoding waits for the memory."""
        return self.multiply_adds / self.moved

    def __repr__(self) -> str:
        return (
            f"{self.mixer} after {self.position:,} tokens: {readable(self.used)} remembered, "
            f"{self.multiply_adds:,} multiply-adds and {readable(self.moved)} moved for the next"
        )


def accounting(
    mixer: str,
    dim: int,
    position: int = 0,
    *,
    depth: int = 1,
    batch: int = 1,
    dtype: str = "float32",
    capacity: int = 0,
    **sizes: Any,
) -> Account:
    """Count what a mixer remembers after `position` tokens, and what the next token costs.

    Parameters
    ----------
    mixer
        A name in `MIXERS`.
    dim
        Channels D.
    position
        Tokens read so far.
    depth, batch
        Layers of the mixer, and sequences that are read side by side.
    dtype
        Of weights and activations, a name in `DTYPES`. The state of S4D and Mamba is in float32 at least.
    capacity
        Tokens that a cache reserves room for from the beginning.
    **sizes
        The mixer's own: `num_heads`, `num_kv_heads`, `window`, `d_state`, `headdim`, `expand`, `d_conv`, ..., with the
        defaults of its class.

    Raises
    ------
    ValueError
        If a size is out of range, or the mixer or dtype is unknown.
    TypeError
        If the mixer has no such size.

    Examples
    --------
    >>> accounting("attention", 768, 4096, depth=12, num_heads=12, dtype="float16")
    attention after 4,096 tokens: 144.00 MiB remembered, 103,827,456 multiply-adds and 198.04 MiB moved for the next
    >>> accounting("mamba1", 768, 4096, depth=24, dtype="float16").used == accounting("mamba1", 768, 0, depth=24,
    ...     dtype="float16").used
    True
    """
    _check(mixer, dtype, dim=dim, depth=depth, batch=batch)
    if position < 0 or capacity < 0:
        raise ValueError(f"position and capacity must be 0 or more; got {position} and {capacity}")
    try:
        layer = MIXERS[mixer][1](dim, position, DTYPES[dtype], capacity, **sizes)
    except TypeError as error:
        given = ", ".join(sizes)
        raise TypeError(f"{mixer!r} has other sizes than {given}; see {MIXERS[mixer][0].__name__}: {error}") from error
    rows = depth * batch
    return Account(
        mixer=mixer,
        position=position,
        used=rows * layer.used,
        reserved=rows * layer.reserved,
        parameters=depth * layer.parameters,
        multiply_adds=rows * (2 * layer.products + layer.memory_operations) // 2,
        weight_bytes=depth * layer.parameters * DTYPES[dtype],
        read=rows * layer.read,
        written=rows * layer.written,
    )


def crossing(
    mixer: str, other: str, dim: int, by: str = "multiply_adds", *, limit: int = 2**40,
    sizes: dict[str, Any] | None = None, other_sizes: dict[str, Any] | None = None, **shared: Any,
) -> int | None:  # fmt: skip
    """Return the first position at which a token costs more with one mixer than with another; None if there is none.

    Parameters
    ----------
    mixer, other
        Names in `MIXERS`; the cost of the first grows with the position, as attention's does, or stays.
    dim, **shared
        As in `accounting`, for both.
    by
        "multiply_adds", "moved" or "used".
    limit
        How far to look, in tokens.
    sizes, other_sizes
        Further arguments of `accounting` for one mixer each.

    Raises
    ------
    ValueError
        If `by` is unknown, or what `accounting` raises.

    Examples
    --------
    >>> crossing("attention", "mamba1", 768, sizes={"depth": 12, "num_heads": 12}, other_sizes={"depth": 24})
    3482
    """
    if by not in ("multiply_adds", "moved", "used"):
        raise ValueError(f"by must be 'multiply_adds', 'moved' or 'used'; got {by!r}")

    def dearer(position: int) -> bool:
        one = accounting(mixer, dim, position, **shared, **(sizes or {}))
        two = accounting(other, dim, position, **shared, **(other_sizes or {}))
        return bool(getattr(one, by) > getattr(two, by))

    low, high = 0, 1
    if dearer(low):
        return low
    while not dearer(high):
        low, high = high, 2 * high
        if low >= limit:
            return None
    while high - low > 1:  # the costs cross once, so halving finds where
        middle = (low + high) // 2
        low, high = (low, middle) if dearer(middle) else (middle, high)
    return high


def long_sequence(dim: int) -> int:
    """Return the length from which a sequence is long for a Transformer of D channels: 6 D tokens.

    There, attention's quadratic part costs as much as all the rest of the block, with an MLP of ratio 4. Source:
    MambaOut, arXiv 2405.07992, eq. 6-7.

    >>> long_sequence(384), long_sequence(768)
    (2304, 4608)
    """
    _check(None, None, dim=dim)
    return 6 * dim


def quadratic_share(length: int, dim: int) -> float:
    """Return the quadratic part of a Transformer block's operations over the linear one: 4 D L^2 / 24 D^2 L = L / 6 D.

    Source: MambaOut, arXiv 2405.07992, eq. 7.

    >>> quadratic_share(196, 768) < 0.05, quadratic_share(4608, 768)
    (True, 1.0)
    """
    _check(None, None, dim=dim, length=length)
    return 4 * dim * length**2 / (24 * dim**2 * length)


def build(
    mixer: str, dim: int, dtype: str = "float32", device: torch.device | str | None = None, **sizes: Any
) -> nn.Module:
    """Return the mixer that `accounting` counts, with random weights.

    Raises ValueError for an unknown mixer or dtype, and what its class raises.

    >>> sum(p.numel() for p in build("lstm", 8).parameters()) == accounting("lstm", 8).parameters
    True
    """
    _check(mixer, dtype, dim=dim)
    made: nn.Module = MIXERS[mixer][0](dim, **{**MIXERS[mixer][2], **sizes})
    return made.to(device=device, dtype=getattr(torch, dtype))


def _attention(
    dim: int, position: int, item: int, capacity: int, num_heads: int | None = None, head_dim: int | None = None,
    num_kv_heads: int | None = None, window: int | None = None, rope: bool = True, qkv_bias: bool = False,
) -> _Layer:  # fmt: skip
    """Keys and values of G c channels a token; the new token weighs all that it sees, itself among them."""
    heads = head_count(dim, num_heads, head_dim)
    groups = heads if num_kv_heads is None else num_kv_heads
    if groups < 1 or heads % groups or (window is not None and window < 1):
        raise ValueError(
            f"num_kv_heads must divide the {heads} heads and window be at least 1; got {num_kv_heads}, {window}"
        )
    kv = groups * (dim // heads)  # G c
    seen = position + 1 if window is None else min(position + 1, window)
    kept = position if window is None else min(position, window)
    products = dim * (dim + 2 * kv) + dim * dim
    token = 2 * kv * item
    return _Layer(
        parameters=products + (dim + 2 * kv + dim if qkv_bias else 0),
        products=products,
        memory_operations=2 * 2 * seen * dim,  # q k' and the weighted sum of v
        used=kept * token,
        reserved=reserved_slots(position, window, capacity) * token,
        read=(seen - 1) * token,
        written=token,
    )


def _sliding(dim: int, position: int, item: int, capacity: int, window: int = WINDOW, **heads: Any) -> _Layer:
    return _attention(dim, position, item, capacity, window=window, **heads)


def _recurrent(gates: int, states: int) -> Callable[..., _Layer]:
    def count(dim: int, position: int, item: int, capacity: int, num_layers: int = 1) -> _Layer:
        """Return the counts of as many D x D products as there are gates, twice: for input and state."""
        products = 2 * gates * dim * dim
        state = num_layers * states * dim * item
        parameters = num_layers * (products + 2 * gates * dim)
        return _Layer(parameters, num_layers * products, 0, state, state, state, state)

    return count


def _s4d(dim: int, position: int, item: int, capacity: int, d_state: int = 64, **start: Any) -> _Layer:
    """N / 2 complex states a channel; a complex multiply-add is four real ones, and C h needs two: its real part."""
    if d_state < 2 or d_state % 2:
        raise ValueError(f"complex poles come in conjugate pairs, so d_state must be even; got {d_state}")
    state = dim * (d_state // 2) * 2 * max(item, 4)
    elements = dim * (d_state // 2)
    parameters = dim * (1 + 4 * (d_state // 2) + 1) + dim * dim + dim
    # A_bar h: 4 multiply-adds; B_bar u: 2; Re(C h): 2; the skip: 1 operation a channel
    return _Layer(parameters, dim * dim, 2 * 8 * elements + dim, state, state, state, state)


def _mamba1(
    dim: int, position: int, item: int, capacity: int, d_state: int = 16, d_conv: int = 4, expand: float = 2,
    dt_rank: int | str = "auto", conv_bias: bool = True, bias: bool = False, **ssm: Any,
) -> _Layer:  # fmt: skip
    """A state of d N numbers in float32, and the last k inputs of d channels."""
    d, R, N = int(expand * dim), check_rank(dt_rank, dim), d_state
    products = dim * 2 * d + d * d_conv + d * (R + 2 * N) + R * d + d * dim
    parameters = products + d + d * N + d + (d if conv_bias else 0) + (2 * d + dim if bias else 0)
    state = d * N * max(item, 4) + d * d_conv * item
    return _Layer(parameters, products, d * (9 * N + 2), state, state, state, state)


def _mamba2(
    dim: int, position: int, item: int, capacity: int, d_state: int = 128, headdim: int = 64, expand: float = 2,
    ngroups: int = 1, d_conv: int = 4, conv_bias: bool = True, bias: bool = False, **start: Any,
) -> _Layer:  # fmt: skip
    """A state of d N numbers in float32; B and C go through the convolution too, and into its window."""
    d = int(expand * dim)
    heads, convolved = d // headdim, d + 2 * ngroups * d_state
    if heads < 1 or d % headdim or heads % ngroups:
        raise ValueError(
            f"headdim must divide the {d} inner channels, and ngroups the heads; got headdim = {headdim}, "
            f"ngroups = {ngroups}"
        )
    expanded = d + convolved + heads
    products = dim * expanded + convolved * d_conv + d * dim
    parameters = products + 3 * heads + d + (convolved if conv_bias else 0) + (expanded + dim if bias else 0)
    state = d * d_state * max(item, 4) + convolved * d_conv * item
    return _Layer(parameters, products, d * (9 * d_state + 2), state, state, state, state)


def _conv(
    dim: int, position: int, item: int, capacity: int, d_conv: int = 4, expand: float = 2, conv_bias: bool = True,
    bias: bool = False,
) -> _Layer:  # fmt: skip
    """The last k inputs of d channels, and the gate's product."""
    d = int(expand * dim)
    products = dim * 2 * d + d * d_conv + d * dim
    parameters = products + (d if conv_bias else 0) + (2 * d + dim if bias else 0)
    state = d * d_conv * item
    return _Layer(parameters, products, d, state, state, state, state)


MIXERS: dict[str, tuple[Callable[..., nn.Module], Callable[..., _Layer], dict[str, Any]]] = {
    "attention": (CausalAttention, _attention, {}),
    "window": (CausalAttention, _sliding, {"window": WINDOW}),
    "rnn": (mixers.Recurrent, _recurrent(1, 1), {"cell": "rnn"}),
    "gru": (mixers.Recurrent, _recurrent(3, 1), {"cell": "gru"}),
    "lstm": (mixers.Recurrent, _recurrent(4, 2), {"cell": "lstm"}),
    "s4d": (S4D, _s4d, {}),
    "mamba1": (mixers.Mamba1, _mamba1, {}),
    "mamba2": (mixers.Mamba2, _mamba2, {}),
    "conv": (GatedConv, _conv, {}),
}
"""By name: the mixer's class, its counts, and arguments that the class gets by default."""


def _check(mixer: str | None, dtype: str | None, **sizes: int) -> None:
    if mixer is not None and mixer not in MIXERS:
        raise ValueError(f"mixer must be one of {', '.join(MIXERS)}; got {mixer!r}")
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1; got {size}")
