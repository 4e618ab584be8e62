"""Recurrent networks along an order, pooling, identity; and what all mixers of one constructor share."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mambaout_edu import flatten
from mambaout_edu.blocks import GatedBlock
from mambaout_edu.mixers import (
    Attention,
    ConvSSM,
    DepthwiseConv,
    Identity,
    OrderedMixer,
    Pooling,
    Recurrent,
    ScannedSSM,
    WindowAttention,
)
from mambaout_edu.models import MambaOut, profile

CELLS = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}
BOTH_FACES = [
    ScannedSSM,
    partial(ScannedSSM, paths="bidirectional"),
    Attention,
    partial(Attention, causal=True),
    WindowAttention,
    Recurrent,
    partial(Recurrent, cell="rnn", bidirectional=True),
    Pooling,
    Identity,
]


def stepped(net, suffix, cell, x):
    """Step torch's cell, with the weights of one direction of a layer, over [B, L, C]."""
    single = CELLS[cell](x.shape[-1], x.shape[-1]).double()
    single.load_state_dict({name: getattr(net, f"{name}_{suffix}") for name in single.state_dict()})
    state, outputs = None, []
    for token in x.unbind(1):
        state = single(token, state)
        outputs.append(state[0] if cell == "lstm" else state)
    return torch.stack(outputs, 1)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
@torch.no_grad()
def test_recurrent_steps_its_cell_along_the_order(cell, bidirectional):
    mixer = Recurrent(5, cell, order="hilbert", bidirectional=bidirectional).double()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    path = torch.tensor(flatten.order("hilbert", 3, 4))
    tokens = x.flatten(1, 2)[:, path]
    y = stepped(mixer.net, "l0", cell, tokens)
    if bidirectional:
        y = y + stepped(mixer.net, "l0_reverse", cell, tokens.flip(1)).flip(1)
    expected = torch.zeros_like(tokens)
    expected[:, path] = y
    torch.testing.assert_close(mixer(x), expected.view_as(x))
    torch.testing.assert_close(mixer(tokens), y)


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_recurrent_parameters_in_closed_form(cell, gates):
    """A gate: input and state matrix C C each, and torch's two biases C; twice for two directions."""
    for channels in (8, 33):
        for directions in (1, 2):
            mixer = Recurrent(channels, cell, bidirectional=directions == 2)
            expected = directions * gates * (2 * channels**2 + 2 * channels)
            assert sum(p.numel() for p in mixer.parameters()) == expected


@torch.no_grad()
def test_pooling_is_the_mean_of_the_neighbours_less_the_pixel():
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    y = Pooling(3, kernel_size=3)(x)
    for r in range(4):
        for c in range(5):
            near = x[:, max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].flatten(1, 2)
            torch.testing.assert_close(y[:, r, c], near.mean(1) - x[:, r, c])
    torch.testing.assert_close(Pooling(3)(torch.ones(1, 4, 4, 3)), torch.zeros(1, 4, 4, 3))  # no edge is darker


def test_pooling_and_identity_cost_nothing():
    sizes = {"depths": (1,), "dims": (16,), "num_classes": 4, "in_chans": 1, "stem_stride": 1}
    for mixer in (Pooling, Identity):
        assert not list(mixer(8).parameters())
        assert not [part for part in profile(MambaOut(**sizes, mixer=mixer), 8) if part.name == "token mixing"]
    x = torch.randn(1, 2, 3, 8)
    assert Identity(8)(x) is x


@pytest.mark.parametrize("mixer", [*BOTH_FACES, DepthwiseConv, ConvSSM, partial(ScannedSSM, paths="eight", conv=3)])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (5, 3)])
@torch.no_grad()
def test_any_image_size_in_a_block(mixer, size):
    x = torch.randn(2, *size, 16)
    y = GatedBlock(16, mixer=mixer)(x)
    assert y.shape == x.shape
    assert y.isfinite().all()


@pytest.mark.parametrize("mixer", BOTH_FACES)
@torch.no_grad()
def test_a_sequence_is_an_image_of_one_row(mixer):
    module = mixer(8).double()
    x = torch.randn(2, 11, 8, dtype=torch.float64)
    torch.testing.assert_close(module(x), module(x.unsqueeze(1)).squeeze(1))


@pytest.mark.parametrize("mixer", [*BOTH_FACES, DepthwiseConv, ConvSSM])
def test_costs_are_booked_as_token_mixing(mixer):
    sizes = {"depths": (1,), "dims": (16,), "num_classes": 4, "in_chans": 1, "stem_stride": 1}
    cost = {part.name: part for part in profile(MambaOut(**sizes, mixer=mixer), 8)}
    own = sum(p.numel() for p in mixer(16).parameters())
    assert (cost["token mixing"].parameters if own else 0) == own
    assert "other" not in cost
    if own:
        assert cost["token mixing"].multiply_adds > 0


@pytest.mark.parametrize("mixer", [*BOTH_FACES, DepthwiseConv, ConvSSM])
def test_a_small_model_takes_a_step_with_it(mixer):
    torch.manual_seed(0)
    model = MambaOut(depths=(1,), dims=(8,), num_classes=4, in_chans=1, stem_stride=1, mixer=mixer)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    images, labels = torch.randn(8, 1, 6, 6), torch.arange(8) % 4
    losses = []
    for _ in range(6):
        loss = F.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.01
    restored = MambaOut(depths=(1,), dims=(8,), num_classes=4, in_chans=1, stem_stride=1, mixer=mixer)
    restored.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(restored(images), model(images))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recurrent(0), "channels must be at least 1; got 0"),
        (lambda: Recurrent(8, cell="elman"), "cell must be one of rnn, lstm, gru; got 'elman'"),
        (lambda: Recurrent(8, order="spirale"), "spiral"),
        (lambda: Recurrent(8, num_layers=0), "num_layers must be at least 1; got 0"),
        (lambda: Recurrent(8)(torch.zeros(1, 0, 8)), r"Recurrent expects .* no side 0; got shape \(1, 0, 8\)"),
        (lambda: Recurrent(8)(torch.zeros(1, 8, 4, 4)), r"C = 8 last .* got shape \(1, 8, 4, 4\)"),
        (lambda: Pooling(8, kernel_size=2), "kernel_size must be odd and positive.*got 2. Use 3"),
        (lambda: Pooling(8)(torch.zeros(1, 0, 3, 8)), "Pooling expects .* no side 0"),
        (lambda: Identity(0), "channels must be at least 1"),
        (lambda: Identity(8)(torch.zeros(1, 3, 9)), r"Identity expects .* C = 8 last .* got shape \(1, 3, 9\)"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_mixer_must_say_how_it_mixes():
    with pytest.raises(NotImplementedError, match=r"OrderedMixer must say in mix\(x\)"):
        OrderedMixer(4)(torch.zeros(1, 3, 4))
