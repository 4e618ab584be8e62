"""The memory bank's traits, its numbers against `memory.accounting`, its recurrence, its strings."""

import re
from importlib.resources import files

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from traitlets import TraitError

from mambaout_edu.memory import CausalAttention, count_bytes, decoder
from mambaout_edu.scan import selective_scan
from mambaout_edu.widgets import MemoryBank
from mambaout_edu.widgets.memory_bank import PLACES, known_places, machine_places
from mambaout_edu.widgets.memory_bank import _uniform as uniform
from mambaout_edu.widgets.memory_bank import _words as words

FILES = ("count.js", "state.js", "pictures.js", "charts.js", "widget.js")


def source() -> str:
    folder = files("mambaout_edu.widgets.memory_bank")
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in FILES)


def test_the_bank_is_as_large_as_real_tensors():
    bank = MemoryBank(tokens=37, layers=3, dim=64, heads=4, kv_heads=2, dtype="float32", batch=2)
    reader = decoder(CausalAttention(64, num_heads=4, num_kv_heads=2))
    _, state = reader.prefill(torch.zeros(2, 37, 64))
    attention, mamba = bank.accounts()
    assert attention.used == 3 * count_bytes(state).used
    bank.tokens = 1_000_000
    assert bank.accounts()[1].used == mamba.used


@pytest.mark.parametrize("by", ["multiply_adds", "moved", "used"])
def test_at_the_crossing_attention_becomes_dearer(by):
    bank = MemoryBank(dim=256, heads=8, kv_heads=2, d_state=32)
    bank.tokens = bank.crossing(by)
    attention, mamba = bank.accounts()
    assert getattr(attention, by) > getattr(mamba, by)
    bank.tokens -= 1
    attention, mamba = bank.accounts()
    assert getattr(attention, by) <= getattr(mamba, by)


def test_a_long_sequence_is_six_times_the_channels():
    assert MemoryBank(dim=384).long_sequence == 6 * 384


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), tokens=st.integers(1, 40), d_state=st.integers(1, 20))
def test_the_cells_are_the_state_of_the_selective_scan(seed, tokens, d_state):
    bank = MemoryBank(seed=seed, tokens=tokens, d_state=d_state)
    read, n = words(seed, tokens)[:, None], torch.arange(1, d_state + 1, dtype=torch.float64)
    x, B = uniform(seed, read, np.arange(24)), uniform(seed, read, 24 + np.arange(d_state))  # [L, D], [L, N]
    delta = torch.logspace(-3, -1, 24, dtype=torch.float64)[:, None].expand(24, tokens)
    u, B = torch.from_numpy(x.T), torch.from_numpy(B.T.copy())
    A = -n.expand(24, d_state)
    _, last = selective_scan(u[None], delta[None], A, B[None], B[None], return_last_state=True, engine="reference")
    np.testing.assert_allclose(bank.state(), last[0].numpy(), rtol=1e-9, atol=1e-13)


def test_the_sentence_comes_first_and_then_the_rest_of_the_vocabulary():
    assert [word for word, _ in MemoryBank().strings["sentence"]] == list("我想吃苹果")
    read = words(7, 20_000)
    assert read[:5].tolist() == [0, 1, 2, 3, 4]
    assert set(read[5:].tolist()) == set(range(5, 64))
    assert words(8, 100).tolist() != words(7, 100).tolist()


def test_embeddings_are_uniform():
    x = uniform(3, np.arange(64)[:, None], np.arange(280))
    assert abs(x.mean()) < 0.02
    assert x.var() == pytest.approx(1 / 3, abs=0.01)
    assert -1 <= x.min() < x.max() < 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"heads": 7}, "heads must divide dim; got dim = 768, heads = 7"),
        ({"heads": 12, "kv_heads": 5}, "kv_heads must divide heads"),
        ({"tokens": 1_000_001}, "tokens"),
        ({"tokens": -1}, "tokens"),
        ({"dtype": "int8"}, "dtype"),
        ({"d_state": 0}, "d_state"),
        ({"places": [{"name": "a", "bytes": 0, "source": "b"}]}, 'a whole number of "bytes"'),
        ({"places": [{"name": "a", "bytes": 5}]}, 'the "source" of it'),
    ],
)
def test_what_does_not_fit_is_refused(wrong, message):
    with pytest.raises(TraitError, match=re.escape(message)):
        MemoryBank(**wrong)


def test_unknown_names_are_refused():
    with pytest.raises(TypeError, match=r"MemoryBank got depth, which it does not have\. It takes .*layers"):
        MemoryBank(depth=3)


def test_sizes_that_belong_together_are_set_together():
    bank = MemoryBank()
    with pytest.raises(TraitError, match="Set them together"):
        bank.dim = 64
    assert bank.dim == 768
    with bank.hold_trait_notifications():
        bank.dim, bank.heads, bank.kv_heads = 64, 4, 2
    assert (bank.dim, bank.heads, bank.kv_heads) == (64, 4, 2)
    assert MemoryBank(dim=64, heads=4).kv_heads == 4


def test_places_are_sorted_and_each_says_its_source():
    shuffled = list(reversed(known_places()))
    assert MemoryBank(places=shuffled).places == known_places() == MemoryBank().places
    assert sorted(PLACES.values()) == list(PLACES.values())
    assert all(place["source"] for place in known_places())


def test_caches_are_read_as_linux_tells_them(tmp_path):
    told = {"index0": ("1", "Data", "32K"), "index1": ("1", "Instruction", "32K"), "index2": ("2", "Unified", "512K")}
    for folder, values in {**told, "index3": ("3", "Unified", "16M"), "index4": ("4", "Unified", "odd")}.items():
        (tmp_path / folder).mkdir()
        for name, value in zip(("level", "type", "size"), values, strict=True):
            (tmp_path / folder / name).write_text(value + "\n", encoding="ascii")
    own = [(place["name"], place["bytes"]) for place in machine_places(tmp_path) if "cache" in place["name"]]
    assert own[:2] == [("this machine's L2 cache", 512 * 2**10), ("this machine's L3 cache", 16 * 2**20)]
    without = machine_places(tmp_path / "nothing")
    assert not any("L3" in place["name"] for place in without)
    assert MemoryBank(places=machine_places(tmp_path)).places


def test_strings_and_page_agree():
    """No key is missing, and none is left over that would have to be translated."""
    table, text = MemoryBank().strings, source()
    assert set(re.findall(r'say\(model, "(\w+)"', text)) <= set(table)
    composed = {f"{kind}_{part}" for kind in ("bank", "state") for part in ("picture", "title", "big")}
    python = {key for key in table if key.startswith(("place_", "source_", "own_"))}
    unread = [key for key in table if f'"{key}"' not in text and f"strings.{key}" not in text.replace('")', "")]
    unread = [key for key in unread if not re.search(rf'get\("strings"\)\.{key}\b', text)]
    assert set(unread) - composed - python == set()
    assert {f"{kind}_{key}" for key in PLACES for kind in ("place", "source")} <= set(table)


def test_sizes_have_their_names():
    sizes = re.search(r"const SIZES = \[(.*?)\]", source()).group(1)
    named = re.findall(r'"(\w+)"', sizes)
    assert named == ["layers", "dim", "heads", "kv_heads", "d_state", "batch", "dtype"]
    assert set(named) <= set(MemoryBank().strings)


def test_data_never_becomes_markup():
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|https?://", source())
