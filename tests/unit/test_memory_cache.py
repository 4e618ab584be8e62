"""The KV cache: what it holds, how it grows, that copies of it do not disturb each other, and what it refuses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambaout_edu.memory import Bytes, KVCache, check_free, count_bytes, free_memory, sizes
from mambaout_edu.memory.cache import FIRST_SLOTS, reserved_slots


def entries(count, first=0):
    """Keys and values [2, 1, count, 3] whose numbers tell their position."""
    numbers = torch.arange(first, first + count, dtype=torch.float32)
    return numbers.view(1, 1, -1, 1).expand(2, 1, count, 3), -numbers.view(1, 1, -1, 1).expand(2, 1, count, 3)


@given(
    pieces=st.lists(st.integers(0, 40), max_size=8),
    window=st.none() | st.integers(1, 30),
    capacity=st.integers(0, 70),
)
@settings(max_examples=60)
def test_a_cache_holds_the_newest_tokens_in_order_whatever_the_pieces(pieces, window, capacity):
    cache, position = KVCache(2, 1, 3, window=window, capacity=capacity), 0
    for count in pieces:
        cache = cache.append(*entries(count, position))
        position += count
        kept = position if window is None else min(position, window)
        assert cache.keys[0, 0, :, 0].tolist() == list(range(position - kept, position))
        assert torch.equal(cache.values, -cache.keys)
        assert cache.position == position
        assert cache.slots == reserved_slots(position, window, capacity)
        token = 2 * 2 * 1 * 3 * 4  # keys and values, batch, heads, channels, float32
        assert tuple(cache.bytes()) == (kept * token, cache.slots * token)
        assert tuple(count_bytes([cache, None])) == tuple(cache.bytes())


@given(st.integers(0, 10_000), st.none() | st.integers(1, 300))
def test_room_is_enough_and_less_than_twice_what_is_needed(position, window):
    slots = reserved_slots(position, window)
    needed = position if window is None else min(position, window)
    assert needed <= slots <= max(2 * needed, FIRST_SLOTS)


def count_copied(window, tokens):
    """Append token by token; return how many entries were copied to a new bank, and how many banks there were."""
    cache, copied, banks = KVCache(2, 1, 3, window=window), 0, 1
    for position in range(tokens):
        after = cache.append(*entries(1, position))
        if after._bank is not cache._bank:
            banks, copied = banks + 1, copied + len(after.keys[0, 0]) - 1
        cache = after
    return copied, banks


@pytest.mark.parametrize("window", [None, 50])
def test_growing_copies_each_entry_less_than_twice_in_all(window):
    copied, banks = count_copied(window, 3000)
    assert copied < 2 * 3000
    assert banks < (15 if window is None else 3000 / 40)


def test_a_token_does_not_move_what_is_there():
    cache = KVCache(1, 1, 3, capacity=100)
    addresses = set()
    for position in range(100):
        cache = cache.append(*(part[:1] for part in entries(1, position)))
        addresses.add(cache.keys.data_ptr())
    assert len(addresses) == 1


@pytest.mark.parametrize("window", [None, 4])
def test_two_continuations_do_not_disturb_each_other(window):
    prompt = KVCache(2, 1, 3, window=window).append(*entries(6))
    one = prompt.append(*entries(1, 100))
    other = prompt.append(*entries(1, 200))
    for _ in range(20):
        one, other = one.append(*entries(1, 101)), other.append(*entries(1, 201))
    assert set(one.keys[0, 0, -4:, 0].tolist()) == {101}
    assert set(other.keys[0, 0, -4:, 0].tolist()) == {201}
    assert prompt.keys[0, 0, :, 0].tolist() == ([0, 1, 2, 3, 4, 5] if window is None else [2, 3, 4, 5])
    assert prompt.position == 6


def test_the_older_of_two_caches_still_reads_what_it_held():
    older = KVCache(2, 1, 3, window=3).append(*entries(3))
    newer = older
    for position in range(3, 40):
        newer = newer.append(*entries(1, position))
    assert older.keys[0, 0, :, 0].tolist() == [0, 1, 2]


def test_dtype_of_the_cache_and_its_bytes():
    cache = KVCache(1, 2, 4, dtype=torch.bfloat16).append(torch.ones(1, 2, 5, 4), torch.ones(1, 2, 5, 4))
    assert cache.keys.dtype == torch.bfloat16
    assert cache.bytes() == Bytes(2 * 2 * 5 * 4 * 2, 2 * 2 * 16 * 4 * 2)


def test_wrong_sizes_are_refused_in_words():
    with pytest.raises(ValueError, match="heads must be at least 1; got 0"):
        KVCache(1, 0, 3)
    with pytest.raises(ValueError, match="window is at least 1 or None"):
        KVCache(1, 1, 3, window=0)
    with pytest.raises(ValueError, match=r"keys must be \[B, G, L, c\] = \(2, 1, L, 3\)"):
        KVCache(2, 1, 3).append(torch.zeros(1, 1, 1, 3), torch.zeros(1, 1, 1, 3))
    with pytest.raises(ValueError, match="values must be"):
        KVCache(2, 1, 3).append(torch.zeros(2, 1, 2, 3), torch.zeros(2, 1, 1, 3))
    with pytest.raises(TypeError, match="got str"):
        count_bytes("state")


def test_what_does_not_fit_is_refused_with_the_sum_before_it_is_allocated(monkeypatch):
    made = []
    monkeypatch.setattr(sizes, "free_memory", lambda device: 10 * 2**20)
    empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *a, **k: made.append(a[1:]) or empty(*a, **k))
    cache = KVCache(1, 8, 64)
    with pytest.raises(MemoryError) as refused:
        cache.fill(10_000)
    said = str(refused.value)
    assert "16,384 tokens (1 x 8 heads x 16,384 x 64 x 4 bytes) 32.00 MiB + values 32.00 MiB = 64.00 MiB" in said
    assert "10.00 MiB is free on cpu" in said
    assert len(made) == 1  # the small one, at the beginning
    assert cache.fill(2000).position == 2000
    grown = cache.fill(2048)
    with pytest.raises(MemoryError, match="Nothing was allocated"):
        grown.append(torch.zeros(1, 8, 1, 64), torch.zeros(1, 8, 1, 64))
    assert grown.position == 2048


def test_the_largest_size_that_fits_is_taken():
    check_free({"one": 600, "two": 400}, free=1000)
    with pytest.raises(MemoryError, match="one 600 bytes \\+ two 401 bytes = 1001 bytes, and 1000 bytes is free"):
        check_free({"one": 600, "two": 401}, free=1000)


def test_free_memory_follows_the_container(tmp_path):
    for name, said in (
        ("memory.max", "5000\n"),
        ("memory.current", "3000"),
        ("memory.stat", "anon 1\ninactive_file 700"),
    ):
        (tmp_path / name).write_text(said)
    assert sizes._free_in_container(tmp_path) == 2700
    (tmp_path / "memory.max").write_text("max\n")
    assert sizes._free_in_container(tmp_path) is None
    assert sizes._free_in_container(tmp_path / "none") is None
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:     2 kB\n")
    assert sizes._free_by_meminfo(tmp_path / "meminfo") == 2048
    assert free_memory("meta") is None


def test_a_slice_counts_what_it_keeps_alive():
    whole = torch.zeros(4, 1000)
    assert tuple(count_bytes({"a": whole[:, -1], "b": whole[:, :1]})) == (32, 16_000)
    assert tuple(count_bytes((torch.empty(2, device="meta"), torch.empty(3, device="meta")))) == (20, 20)
