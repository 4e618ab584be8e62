"""Closed forms against what the real modules and tensors say: equal exactly."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from mambaout_edu.memory import accounting, build, crossing, decoder, long_sequence, quadratic_share
from mambaout_edu.memory.accounting import DTYPES, MIXERS

SIZES = {
    "attention": ({"num_heads": 4}, {"num_heads": 8, "num_kv_heads": 2}, {"num_heads": 2, "qkv_bias": True}),
    "window": ({"num_heads": 2, "window": 5}, {"num_heads": 4, "num_kv_heads": 1, "window": 40}),
    "rnn": ({}, {"num_layers": 2}),
    "gru": ({}, {"num_layers": 2}),
    "lstm": ({}, {"num_layers": 3}),
    "s4d": ({}, {"d_state": 4}),
    "mamba1": ({}, {"d_state": 3, "d_conv": 2, "expand": 3, "dt_rank": 2, "bias": True}, {"conv_bias": False}),
    "mamba2": (
        {"headdim": 16},
        {"d_state": 3, "headdim": 4, "ngroups": 2, "d_conv": 3, "bias": True},
        {"headdim": 8, "conv_bias": False, "expand": 1},
    ),
    "conv": ({}, {"d_conv": 9, "expand": 3, "bias": True, "conv_bias": False}),
}
CASES = [(name, sizes) for name, all_sizes in SIZES.items() for sizes in all_sizes]
FIXED = set(MIXERS) - {"attention", "window"}


def test_every_mixer_is_tried():
    assert set(SIZES) == set(MIXERS)


@pytest.mark.parametrize(("name", "sizes"), CASES)
@given(position=st.integers(0, 100), batch=st.integers(1, 3), dim=st.sampled_from([16, 48]), dtype=st.sampled_from(
    ["float32", "float64", "bfloat16"]))  # fmt: skip
@settings(max_examples=6)
def test_bytes_equal_those_of_the_real_tensors(name, sizes, position, batch, dim, dtype):
    """Of a state that was read: prefilled to the middle, then token by token."""
    reader = decoder(build(name, dim, dtype, **sizes))
    x = torch.randn(batch, position, dim, dtype=getattr(torch, dtype))
    middle = max(0, position - 3)
    _, state = reader.prefill(x[:, :middle])
    for token in x[:, middle:].unbind(1):
        _, state = reader.step(token, state)
    counted = accounting(name, dim, position, batch=batch, dtype=dtype, **sizes)
    assert tuple(reader.bytes(state)) == (counted.used, counted.reserved)
    assert counted.parameters == sum(p.numel() for p in reader.mixer.parameters())
    assert counted.weight_bytes == sum(p.numel() * p.element_size() for p in reader.mixer.parameters())


@pytest.mark.parametrize(("name", "sizes"), CASES)
def test_products_equal_what_torch_counts_in_a_step(name, sizes):
    """The products are counted; a convolution's step and a state's are elementwise there, so they are not.

    But for Mamba-2's readout C h, which is a product there: d N multiply-adds.
    """
    mixer = build(name, 48, "float64", **sizes)  # in float32 a CPU may have one operator for a whole LSTM
    reader = decoder(mixer)
    for position in (0, 4, 60):
        state = reader.filled(2, position)
        with FlopCounterMode(display=False) as counter:
            reader.step(torch.randn(2, 48, dtype=torch.float64), state)
        layer = MIXERS[name][1](48, position, 4, 0, **{**MIXERS[name][2], **sizes} if name == "window" else sizes)
        window = mixer.conv1d.weight.numel() if hasattr(mixer, "conv1d") else 0
        seen = layer.memory_operations if name in ("attention", "window") else 0
        readout = mixer.inner * mixer.d_state if name == "mamba2" else 0
        assert counter.get_total_flops() == 2 * (2 * (layer.products - window + readout) + seen)


@pytest.mark.parametrize("name", ["mamba1", "attention", "conv"])
def test_multiply_adds_equal_what_torch_counts_in_a_sequence_of_one(name):
    """There the convolution and the scan are operators with a count of their own; a gate by itself has none."""
    mixer = build(name, 48)
    with FlopCounterMode(display=False) as counter:
        mixer(torch.randn(3, 1, 48))
    gate = 3 * 96 if name == "conv" else 0
    assert accounting(name, 48, batch=3).multiply_adds == (counter.get_total_flops() + gate) // 2


@pytest.mark.parametrize(("name", "sizes"), CASES)
def test_bytes_moved_follow_the_memory(name, sizes):
    at, after = (accounting(name, 48, p, dtype="float16", **sizes) for p in (70, 71))
    if name in FIXED:
        assert at.read == at.written == at.used
        assert (at.multiply_adds, at.moved, at.reserved) == (after.multiply_adds, after.moved, after.reserved)
    elif name == "attention":
        assert at.read == at.used
        assert at.written == after.used - at.used > 0
        assert after.moved - at.moved == at.written
    else:
        assert at.used == after.used
        assert at.written == at.used / sizes["window"]
        assert at.read == at.used - at.written
    assert at.moved == at.weight_bytes + at.read + at.written
    assert at.intensity == at.multiply_adds / at.moved


def test_layers_and_batch_multiply_but_weights_are_read_once():
    one, many = accounting("attention", 64, 100), accounting("attention", 64, 100, depth=3, batch=5)
    assert (many.used, many.read, many.multiply_adds) == tuple(15 * n for n in (one.used, one.read, one.multiply_adds))
    assert (many.parameters, many.weight_bytes) == (3 * one.parameters, 3 * one.weight_bytes)
    assert many.intensity > one.intensity


def test_a_state_keeps_full_precision_where_weights_are_short():
    half, full = (accounting("mamba1", 64, 10, dtype=dtype) for dtype in ("float16", "float32"))
    assert half.used == 128 * 16 * 4 + 128 * 4 * 2
    assert full.used == 128 * 16 * 4 + 128 * 4 * 4


def test_a_bank_of_a_known_model():
    """A model of 32 layers and 32 heads of 128 channels in 16 bits: half a mebibyte a token, a quarter with 8 heads."""
    sizes = {"depth": 32, "num_heads": 32, "dtype": "float16"}
    assert accounting("attention", 4096, 1, **sizes).used == 2 * 32 * 4096 * 2 == 2**19
    assert accounting("attention", 4096, 1, num_kv_heads=8, **sizes).used == 2**17


@given(dim=st.sampled_from([64, 128, 512]), by=st.sampled_from(["multiply_adds", "moved", "used"]),
       d_state=st.integers(1, 64), depth=st.integers(1, 4))  # fmt: skip
@settings(max_examples=30)
def test_the_crossing_is_where_the_costs_cross(dim, by, d_state, depth):
    sizes, other = {"num_heads": 8}, {"d_state": d_state, "depth": depth}
    at = crossing("attention", "mamba1", dim, by, sizes=sizes, other_sizes=other)

    def costs(position):
        attention = accounting("attention", dim, position, **sizes)
        return getattr(attention, by), getattr(accounting("mamba1", dim, position, **other), by)

    assert costs(at)[0] > costs(at)[1]
    assert at == 0 or costs(at - 1)[0] <= costs(at - 1)[1]


def test_crossings_that_are_none_or_at_once():
    assert crossing("mamba1", "attention", 64, other_sizes={"depth": 4}) is None
    assert crossing("window", "mamba1", 64, "used", sizes={"window": 4}) is None
    assert crossing("lstm", "conv", 64) == 0


def test_the_paper_s_threshold():
    assert [long_sequence(dim) for dim in (192, 384, 768)] == [1152, 2304, 4608]
    assert quadratic_share(4096, 384) == pytest.approx(1.78, abs=0.005)  # ADE20K, a small model
    assert quadratic_share(196, 384) == pytest.approx(0.085, abs=0.0005)  # ImageNet


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: accounting("mamba3", 64), ValueError, "mixer must be one of attention, window"),
        (lambda: accounting("conv", 64, dtype="int8"), ValueError, "dtype must be one of float64"),
        (lambda: accounting("conv", 0), ValueError, "dim must be at least 1"),
        (lambda: accounting("conv", 64, -1), ValueError, "0 or more"),
        (lambda: accounting("conv", 64, num_heads=2), TypeError, "other sizes than num_heads; see GatedConv"),
        (lambda: accounting("attention", 64, num_heads=3), ValueError, "num_heads may be"),
        (lambda: accounting("attention", 64, num_kv_heads=3), ValueError, "divide the 8 heads"),
        (lambda: accounting("s4d", 64, d_state=3), ValueError, "must be even"),
        (lambda: accounting("mamba2", 24), ValueError, "headdim must divide the 48"),
        (lambda: crossing("attention", "conv", 64, "time"), ValueError, "by must be"),
        (lambda: long_sequence(0), ValueError, "dim must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_dtypes_are_torch_s():
    assert {name: getattr(torch, name).itemsize for name in DTYPES} == DTYPES
