"""One way to read any causal mixer token by token: `start`, `prefill`, `step`, and the bytes of what it remembers.

bank    a KV cache, all of it or a window     attention
state   one or a few tensors of fixed size    RNN, GRU, LSTM, S4D, Mamba-1, Mamba-2
window  the last k inputs                     gated convolution (and Mamba, beside its state)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mambaout_edu.memory.attention import CausalAttention, attend_cached
from mambaout_edu.memory.cache import KVCache
from mambaout_edu.memory.convolution import GatedConv
from mambaout_edu.memory.sizes import Bytes, check_free, count_bytes, readable
from mambaout_edu.mixers import Attention, Mamba1, Mamba2, Recurrent, SelectiveSSM
from mambaout_edu.mixers.s4d import S4D

__all__ = ["Decoder", "RecurrentState", "decoder"]

State = Any  # KVCache, MixerState, S4DState, ConvState, RecurrentState: what the mixer's own `step` takes


class RecurrentState(NamedTuple):
    """The state of an RNN, GRU or LSTM: hidden [layers, B, C], and in an LSTM cell [layers, B, C]."""

    hidden: Tensor
    cell: Tensor | None = None


class Decoder:
    """Read a mixer token by token. No gradients are kept, and no state that is given is changed.

    Parameters
    ----------
    mixer
        A causal mixer with `run(x, state)`, `step(token, state)` and `initial_state(batch)`; `decoder` makes one of
        those that have none.
    channels
        D, of input and output.

    Examples
    --------
    >>> reader = decoder(Mamba1(16))
    >>> x = torch.randn(2, 7, 16)
    >>> y, state = reader.prefill(x[:, :6])
    >>> last, state = reader.step(x[:, 6], state)
    >>> y.shape, last.shape
    (torch.Size([2, 6, 16]), torch.Size([2, 16]))
    >>> reader.bytes(state) == reader.bytes(reader.start(batch=2))  # it does not grow
    True
    """

    def __init__(self, mixer: Any, channels: int) -> None:
        self.mixer, self.channels = mixer, channels

    def __repr__(self) -> str:
        return f"Decoder({type(self.mixer).__name__}, {self.channels} channels)"

    @torch.no_grad()
    def start(self, batch: int, capacity: int = 0) -> State:
        """Return the state before the first token; a cache reserves room for `capacity` tokens at once."""
        if batch < 1:
            raise ValueError(f"batch must be at least 1; got {batch}")
        return self._start(batch, capacity)

    @torch.no_grad()
    def prefill(self, x: Tensor, state: State = None, capacity: int = 0) -> tuple[Tensor, State]:
        """Read a sequence [B, L, D] at once, L = 0 among them, after a state (the first if None).

        Returns its outputs [B, L, D] and the state after it. Raises ValueError for another shape.
        """
        if x.ndim != 3 or x.shape[-1] != self.channels:
            raise ValueError(f"prefill takes [B, L, D] with D = {self.channels}; got shape {tuple(x.shape)}")
        if state is None:
            state = self.start(len(x), capacity)
        if x.shape[1] == 0:
            return x.clone(), state
        y, state = self._run(x, state)
        return y, _own(state)

    @torch.no_grad()
    def step(self, token: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one token [B, D]; return its output [B, D] and the state after it. Raises ValueError otherwise."""
        if token.ndim != 2 or token.shape[-1] != self.channels:
            raise ValueError(f"step takes one token [B, D] with D = {self.channels}; got shape {tuple(token.shape)}")
        return self._step(token, state)

    def bytes(self, state: State) -> Bytes:
        """Return the bytes of a state, used and reserved."""
        return count_bytes(state)

    @torch.no_grad()
    def filled(self, batch: int, position: int, capacity: int = 0, generator: torch.Generator | None = None) -> State:
        """Return a state as after `position` tokens, with random numbers in it: to measure on without reading so many.

        Raises MemoryError if it does not fit into the free memory, before it is allocated.
        """
        state = self.start(batch)
        if isinstance(state, KVCache):
            state.capacity = capacity
            return state.fill(position, generator)
        check_free({f"the state ({readable(self.bytes(state).reserved)})": self.bytes(state).reserved}, _device(state))
        return type(state)(*(None if part is None else part.normal_(generator=generator) for part in state))

    def _start(self, batch: int, capacity: int) -> State:
        if isinstance(self.mixer, CausalAttention):
            return self.mixer.initial_state(batch, capacity)
        return self.mixer.initial_state(batch)

    def _run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self.mixer.run(x, state)

    def _step(self, token: Tensor, state: State) -> tuple[Tensor, State]:
        return self.mixer.step(token, state)


class _FromRun(Decoder):
    """A mixer that has `run` alone: one token is a sequence of length 1."""

    def _step(self, token: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self._run(token[:, None], state)
        return y[:, 0], state


class _PlainAttention(_FromRun):
    """`mixers.Attention`, causal: every head has keys and values, and nothing tells positions apart."""

    mixer: Attention

    def _start(self, batch: int, capacity: int) -> KVCache:
        like, heads = self.mixer.qkv.weight, self.mixer.num_heads
        size = self.channels // heads
        return KVCache(batch, heads, size, capacity=capacity, dtype=like.dtype, device=like.device)

    def _run(self, x: Tensor, state: KVCache) -> tuple[Tensor, KVCache]:
        qkv = self.mixer.qkv(x).unflatten(-1, (3, self.mixer.num_heads, -1))  # [B, L, 3, heads, c]
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y, state = attend_cached(q, k, v, state)
        return self.mixer.proj(y), state


class _RecurrentNet(_FromRun):
    """`mixers.Recurrent` in one direction."""

    mixer: Recurrent

    def _start(self, batch: int, capacity: int) -> RecurrentState:
        net = self.mixer.net
        zeros = [net.weight_hh_l0.new_zeros(net.num_layers, batch, self.channels) for _ in range(2)]
        return RecurrentState(*zeros) if self.mixer.cell == "lstm" else RecurrentState(zeros[0])

    def _run(self, x: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        y, last = self.mixer.net(x, tuple(state) if state.cell is not None else state.hidden)
        return y, RecurrentState(*last) if state.cell is not None else RecurrentState(last)


class _BareState(NamedTuple):
    """The state of a selective SSM without a convolution: ssm [B, D, N]."""

    ssm: Tensor


class _BareSSM(Decoder):
    """`mixers.SelectiveSSM` by itself."""

    mixer: SelectiveSSM

    def _start(self, batch: int, capacity: int) -> _BareState:
        return _BareState(self.mixer.A.new_zeros(batch, *self.mixer.A.shape))

    def _run(self, x: Tensor, state: _BareState) -> tuple[Tensor, _BareState]:
        y, last = self.mixer.scan(x, state=state.ssm)
        return y, _BareState(last)

    def _step(self, token: Tensor, state: _BareState) -> tuple[Tensor, _BareState]:
        y, last = self.mixer.scan_step(token, None, state.ssm)
        return y, _BareState(last)


DECODERS: dict[type[nn.Module], tuple[Callable[[Any, int], Decoder], str]] = {
    CausalAttention: (Decoder, "channels"),
    Attention: (_PlainAttention, "channels"),
    Recurrent: (_RecurrentNet, "channels"),
    S4D: (Decoder, "dim"),
    Mamba1: (Decoder, "dim"),
    Mamba2: (Decoder, "dim"),
    GatedConv: (Decoder, "dim"),
    SelectiveSSM: (_BareSSM, "channels"),
}
"""For each mixer how it is read, and which attribute holds its channels."""


def decoder(mixer: nn.Module) -> Decoder:
    """Return what reads a causal mixer token by token.

    Raises
    ------
    TypeError
        If the mixer is of no kind that is known here; it is said which are.
    ValueError
        If the mixer sees later tokens, so that no output is ready before the last token came.

    Examples
    --------
    >>> decoder(Recurrent(8, cell="lstm"))
    Decoder(Recurrent, 8 channels)
    """
    found = DECODERS.get(type(mixer))
    if found is None:
        known = ", ".join(kind.__name__ for kind in DECODERS)
        raise TypeError(f"no way is known to read a {type(mixer).__name__} token by token; known are {known}")
    if isinstance(mixer, Attention) and not mixer.causal:
        raise ValueError("this attention sees later tokens; build it with causal=True to read it token by token")
    if isinstance(mixer, Recurrent) and mixer.net.bidirectional:
        raise ValueError("this network also reads from the end; build it with bidirectional=False")
    kind, attribute = found
    return kind(mixer, getattr(mixer, attribute))


def _own(state: State) -> State:
    """Return the state with tensors of its own: a slice of a prefilled sequence would keep all of that alive."""
    if isinstance(state, KVCache):
        return state
    parts = (
        part.clone(memory_format=torch.contiguous_format)
        if part is not None and part.untyped_storage().nbytes() != part.numel() * part.element_size()
        else part
        for part in state
    )
    return type(state)(*parts)


def _device(state: tuple[Tensor | None, ...]) -> torch.device:
    return next(part.device for part in state if part is not None)
