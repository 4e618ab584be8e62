"""The memory bank of attention: keys and values of all past tokens, or of those in a sliding window.

A cache grows by doubling, so a token costs no copy of those before it but when the size doubles: each entry is copied
less than twice in all. With a window the oldest entries are dropped in the same way, once in a window's length.

glossary
    B   batch    G   key-value heads    c   channels of a head    w   window in tokens
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mambaout_edu.memory.sizes import Bytes, check_free

__all__ = ["FIRST_SLOTS", "KVCache", "reserved_slots"]

FIRST_SLOTS = 16
"""What an empty cache reserves, in tokens."""


def reserved_slots(position: int, window: int | None = None, capacity: int = 0) -> int:
    """Return for how many tokens a cache has reserved room after `position` tokens.

    `FIRST_SLOTS` or `capacity`, where that is enough, else the next power of two; two windows at most.

    >>> [reserved_slots(position) for position in (0, 16, 17, 100)]
    [16, 16, 32, 128]
    >>> reserved_slots(100, window=24), reserved_slots(100, capacity=300)
    (48, 300)
    """
    first = max(FIRST_SLOTS, capacity)
    slots = first if position <= first else 1 << (position - 1).bit_length()
    return slots if window is None else min(slots, 2 * window)


@dataclass
class _Bank:
    """The tensor that caches share, keys and values [2, B, G, slots, c], and how many slots were written."""

    entries: Tensor
    written: int = 0


class KVCache:
    """Keys and values of past tokens. It is not changed by what follows: `append` returns the cache after it.

    The two share one tensor. A cache that is continued a second time (two continuations of one prompt) gets a tensor
    of its own then, so neither disturbs the other.

    Parameters
    ----------
    batch, heads, head_dim
        B, key-value heads G, channels c of a head.
    window
        How many tokens are kept, the newest; None keeps all.
    capacity
        Tokens to reserve room for from the beginning; with it, the cache does not grow before.
    dtype, device
        Of the entries.

    Raises
    ------
    ValueError
        If a size is below 1.
    MemoryError
        If the entries do not fit into the free memory, before they are allocated.

    Examples
    --------
    >>> cache = KVCache(batch=1, heads=2, head_dim=4)
    >>> for _ in range(20):
    ...     cache = cache.append(torch.ones(1, 2, 1, 4), torch.zeros(1, 2, 1, 4))
    >>> cache.position, cache.keys.shape
    (20, torch.Size([1, 2, 20, 4]))
    >>> tuple(cache.bytes())  # 20 tokens in room for 32
    (1280, 2048)
    """

    def __init__(
        self,
        batch: int,
        heads: int,
        head_dim: int,
        *,
        window: int | None = None,
        capacity: int = 0,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        for name, size in (("batch", batch), ("heads", heads), ("head_dim", head_dim), ("window", window or 1)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1; got {size}")
        if window == 0 or capacity < 0:
            raise ValueError(f"window is at least 1 or None, capacity at least 0; got {window} and {capacity}")
        self.window, self.capacity = window, capacity
        self.position = self._start = self._stop = 0
        like = torch.empty(0, dtype=dtype, device=device)
        self._bank = _new_bank(like, (batch, heads, head_dim), reserved_slots(0, window, capacity))

    def __repr__(self) -> str:
        kept = f"{self._stop - self._start} kept, " if self.window else ""
        return f"KVCache(position {self.position}, {kept}{self.bytes()})"

    @property
    def keys(self) -> Tensor:
        """The keys that are kept, oldest first, [B, G, tokens, c]: a view."""
        return self._bank.entries[0, :, :, self._start : self._stop]

    @property
    def values(self) -> Tensor:
        """The values that are kept, oldest first, [B, G, tokens, c]: a view."""
        return self._bank.entries[1, :, :, self._start : self._stop]

    @property
    def slots(self) -> int:
        """For how many tokens there is room."""
        return self._bank.entries.shape[3]

    def append(self, keys: Tensor, values: Tensor) -> KVCache:
        """Return the cache after further tokens: keys and values [B, G, L, c] of any number L.

        Raises ValueError if the shapes do not fit the cache.
        """
        _, batch, heads, _, head_dim = self._bank.entries.shape
        count = keys.shape[2] if keys.ndim == 4 else -1
        for name, new in (("keys", keys), ("values", values)):
            if new.shape != (batch, heads, count, head_dim):
                raise ValueError(
                    f"{name} must be [B, G, L, c] = ({batch}, {heads}, L, {head_dim}) with one L for both; "
                    f"got {tuple(new.shape)}"
                )
        after = object.__new__(KVCache)
        after.window, after.capacity, after.position = self.window, self.capacity, self.position + count
        kept = count if self.window is None else min(count, self.window)
        slots = reserved_slots(after.position, self.window, self.capacity)
        bank, stop = self._bank, self._stop
        if slots != self.slots or stop + kept > slots or bank.written != stop:
            bank, stop = self._moved(slots, kept)
        entries = bank.entries
        entries[0, :, :, stop : stop + kept] = keys[:, :, count - kept :]
        entries[1, :, :, stop : stop + kept] = values[:, :, count - kept :]
        after._bank, after._stop = bank, stop + kept
        bank.written = after._stop
        after._start = 0 if self.window is None else max(0, after._stop - self.window)
        if bank is self._bank:
            after._start = max(after._start, self._start)
        return after

    def bytes(self) -> Bytes:
        """Return the bytes of the tokens that are kept, and of the tensor that holds them."""
        ((entries, used),) = self.held()
        return Bytes(used, entries.untyped_storage().nbytes())

    def held(self) -> Iterator[tuple[Tensor, int]]:
        """Yield the tensor behind the cache and the bytes of it that are in use."""
        entries = self._bank.entries
        token = entries.numel() // self.slots * entries.element_size()
        yield entries, token * (self._stop - self._start)

    def fill(self, position: int, generator: torch.Generator | None = None) -> KVCache:
        """Return a cache of this kind as it is after `position` tokens, with random entries: something to measure on.

        Raises MemoryError if it does not fit.
        """
        _, batch, heads, _, head_dim = self._bank.entries.shape
        filled = object.__new__(KVCache)
        filled.window, filled.capacity, filled.position = self.window, self.capacity, position
        kept = position if self.window is None else min(position, self.window)
        slots = reserved_slots(position, self.window, self.capacity)
        filled._bank = _new_bank(self._bank.entries, (batch, heads, head_dim), slots)
        filled._bank.entries[:, :, :, :kept].normal_(generator=generator)
        filled._start, filled._stop = 0, kept
        filled._bank.written = kept
        return filled

    def _moved(self, slots: int, coming: int) -> tuple[_Bank, int]:
        """Return a new bank that begins with those entries that stay when `coming` more arrive, and their number."""
        stay = self._stop - self._start
        if self.window is not None:
            stay = min(stay, self.window - coming)
        _, batch, heads, _, head_dim = self._bank.entries.shape
        bank = _new_bank(self._bank.entries, (batch, heads, head_dim), slots)
        bank.entries[:, :, :, :stay] = self._bank.entries[:, :, :, self._stop - stay : self._stop]
        return bank, stay


def _new_bank(like: Tensor, sizes: tuple[int, int, int], slots: int) -> _Bank:
    """Return an empty bank for B, G, c = `sizes`, if it fits into the free memory."""
    batch, heads, head_dim = sizes
    each = batch * heads * head_dim * slots * like.element_size()
    what = f"of {slots:,} tokens ({batch} x {heads} heads x {slots:,} x {head_dim} x {like.element_size()} bytes)"
    check_free({f"keys {what}": each, "values": each}, like.device)
    return _Bank(like.new_empty(2, batch, heads, slots, head_dim))
