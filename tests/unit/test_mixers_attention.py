"""Attention: fully visible, causal along an order, in shifted windows; against formulas and timm's modules."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.layers import Attention as TimmAttention
from timm.models.swin_transformer import SwinTransformerBlock

from mambaout_edu import flatten
from mambaout_edu.blocks import GatedBlock
from mambaout_edu.mixers import Attention, WindowAttention
from mambaout_edu.models import MambaOut, profile


def heads_apart(linear, x, heads):
    """q, k, v [B, heads, L, c] each."""
    return F.linear(x, linear.weight, linear.bias).view(*x.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("order", [None, "raster", "serpentine_columns", "hilbert", "random"])
@torch.no_grad()
def test_attention_equals_its_formula(order, qkv_bias):
    """softmax(q k' / sqrt(c)) v, where a causal token weighs those before it in the order and itself."""
    kind = {} if order is None else {"causal": True, "order": order}
    mixer = Attention(12, num_heads=3, qkv_bias=qkv_bias, **kind).double()
    x = torch.randn(2, 4, 5, 12, dtype=torch.float64)
    q, k, v = heads_apart(mixer.qkv, x.flatten(1, 2), 3)
    scores = torch.einsum("bhqc,bhkc->bhqk", q, k) / 4**0.5
    if order is not None:
        step = torch.tensor(flatten.inverse(flatten.order(order, 4, 5)))
        scores = scores.masked_fill(step[None, :] > step[:, None], -torch.inf)
    mixed = torch.einsum("bhqk,bhkc->bqhc", scores.softmax(-1), v).flatten(2)
    expected = F.linear(mixed, mixer.proj.weight, mixer.proj.bias).view_as(x)
    torch.testing.assert_close(mixer(x), expected)


@torch.no_grad()
def test_attention_takes_the_weights_of_timms():
    theirs = TimmAttention(16, num_heads=4, qkv_bias=True)
    ours = Attention(16, num_heads=4)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 9, 16)
    torch.testing.assert_close(ours(x), theirs(x))


@torch.no_grad()
def test_a_causal_sequence_is_taken_as_it_comes():
    mixer = Attention(8, causal=True, order="random", seed=3).double()
    x = torch.randn(1, 6, 8, dtype=torch.float64)
    for t in range(1, 7):  # what comes later does not exist for it
        torch.testing.assert_close(mixer(x)[:, :t], mixer(x[:, :t]))


@torch.no_grad()
def test_dropout_acts_in_training_alone():
    for make in (Attention, partial(WindowAttention, window_size=3)):
        x = torch.randn(1, 4, 4, 8)
        for rates in ({"attn_drop": 0.5}, {"proj_drop": 0.5}):
            mixer = make(8, **rates)
            assert not torch.equal(mixer(x), mixer(x))
            mixer.eval()
            assert torch.equal(mixer(x), mixer(x))


@pytest.mark.parametrize(("height", "width"), [(9, 6), (5, 8), (4, 4), (3, 7), (2, 9), (1, 5), (1, 1)])
@pytest.mark.parametrize("shift", [0, 1, 2])
@torch.no_grad()
def test_window_attention_equals_its_formula(height, width, shift):
    """All pairs at once: a bias by distance, and a pair counts where both pixels share a window."""
    w, heads = 3, 2
    mixer = WindowAttention(8, num_heads=heads, window_size=w, shift_size=shift).double()
    mixer.attn.relative_position_bias_table.mul_(50)  # so that a wrong bias shows
    x = torch.randn(2, height, width, 8, dtype=torch.float64)
    row, column = (torch.tensor(place) for place in np.divmod(np.arange(height * width), width))
    window = (row - (shift if height > w else 0)) // w * 100 + (column - (shift if width > w else 0)) // w
    together = window[:, None] == window
    away = [(place[:, None] - place).clamp(1 - w, w - 1) + w - 1 for place in (row, column)]
    bias = mixer.attn.relative_position_bias_table[away[0] * (2 * w - 1) + away[1]].permute(2, 0, 1)
    q, k, v = heads_apart(mixer.attn.qkv, x.flatten(1, 2), heads)
    scores = torch.einsum("bhqc,bhkc->bhqk", q, k) / (8 // heads) ** 0.5 + bias
    weights = scores.masked_fill(~together, -torch.inf).softmax(-1)
    mixed = torch.einsum("bhqk,bhkc->bqhc", weights, v).flatten(2)
    expected = F.linear(mixed, mixer.attn.proj.weight, mixer.attn.proj.bias).view_as(x)
    torch.testing.assert_close(mixer(x), expected)


@pytest.mark.parametrize("shift", [0, 3])
@torch.no_grad()
def test_window_attention_takes_the_weights_of_a_swin_block(shift):
    block = SwinTransformerBlock(32, (14, 21), num_heads=4, window_size=7, shift_size=shift)
    ours = WindowAttention(32, num_heads=4, shift_size=shift)
    ours.attn.load_state_dict(block.attn.state_dict())
    x = torch.randn(2, 14, 21, 32)
    torch.testing.assert_close(ours(x), block._attn(x), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_padding_is_never_seen():
    """What a pixel gives does not depend on how much room is left in its window."""
    mixer = WindowAttention(8, num_heads=2, window_size=4).double()
    x = torch.randn(1, 4, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(mixer(x)[:, :, :4], mixer(x[:, :, :4]))
    torch.testing.assert_close(mixer(x)[:, :, 4:], mixer(x[:, :, 4:]))


def test_gradients_reach_every_parameter():
    for mixer in (Attention, partial(Attention, causal=True, order="zorder"), partial(WindowAttention, shift_size=3)):
        block = GatedBlock(16, mixer=mixer)
        block(torch.randn(2, 9, 8, 16)).square().mean().backward()
        for name, parameter in block.named_parameters():
            assert parameter.grad is not None, name
            if not name.endswith("qkv.bias"):  # the bias of k moves no softmax
                assert parameter.grad.abs().max() > 0, name


def test_heads_from_their_channels():
    assert [Attention(c, head_dim=32).num_heads for c in (32, 96, 384)] == [1, 3, 12]
    assert WindowAttention(96, head_dim=32).attn.num_heads == 3
    assert Attention(96, num_heads=3, head_dim=32).num_heads == 3
    assert Attention(16).num_heads == 8


@pytest.mark.parametrize("channels", [16, 64])
def test_parameters_in_closed_form(channels):
    """qkv 3 C C + 3 C, proj C C + C; in windows also a bias a head for each of (2w - 1)^2 distances."""
    attention = 4 * channels**2 + 4 * channels
    count = [sum(p.numel() for p in mixer(channels).parameters()) for mixer in (Attention, WindowAttention)]
    assert count == [attention, attention + 13**2 * 8]
    assert sum(p.numel() for p in Attention(channels, qkv_bias=False).parameters()) == attention - 3 * channels


def test_the_profile_counts_attention():
    """4 L C C for the projections and 2 L L C for the scores and sums, in windows 2 L w w C."""
    sizes = {"depths": (1,), "dims": (32,), "num_classes": 4, "in_chans": 1, "stem_stride": 1}
    for mixer, partners in ((Attention, 14 * 14), (WindowAttention, 7 * 7)):
        cost = profile(MambaOut(**sizes, mixer=mixer), 14)["token mixing"]
        assert cost.multiply_adds == 196 * (4 * 32 * 32 + 2 * partners * 32)


@pytest.mark.parametrize(
    "mixer", [partial(Attention, causal=True, order="spiral"), partial(WindowAttention, shift_size=2)]
)
def test_they_export_and_compile(mixer):
    module, x = mixer(8).eval(), torch.randn(1, 9, 8, 8)
    with torch.no_grad():
        expected = module(x)
        torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), expected)
        torch._dynamo.reset()
        torch.testing.assert_close(torch.compile(module, backend="aot_eager", fullgraph=True)(x), expected)


@torch.no_grad()
def test_half_precision():
    for mixer in (Attention(16, causal=True), WindowAttention(16, window_size=4, shift_size=2)):
        x = torch.randn(2, 7, 6, 16)
        expected = mixer(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = mixer(x)
        y = mixer.bfloat16()(x.bfloat16())
        assert y.dtype == torch.bfloat16
        for result in (y, mixed):
            torch.testing.assert_close(result.float(), expected, rtol=0.1, atol=0.05 * expected.abs().max().item())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Attention(0), "channels must be at least 1; got 0"),
        (
            lambda: Attention(12),
            r"channels = 12 must be num_heads \* head_dim; got neither, so num_heads = 8.*1, 2, 3, 4",
        ),
        (lambda: Attention(12, num_heads=5), "got num_heads = 5. num_heads may be 1, 2, 3, 4, 6, 12"),
        (lambda: Attention(12, num_heads=-1), "got num_heads = -1"),
        (lambda: Attention(12, head_dim=0), "got head_dim = 0"),
        (lambda: Attention(12, head_dim=5), "got head_dim = 5"),
        (lambda: Attention(12, head_dim=24), "got head_dim = 24"),
        (lambda: Attention(12, num_heads=2, head_dim=4), "got num_heads = 2, head_dim = 4"),
        (lambda: Attention(8, causal=True, order="hilbart"), "hilbert"),
        (lambda: Attention(8, causal=True, order="raster", skip=3), "skip"),
        (lambda: Attention(8, order="hilbert"), "'hilbert' .*no effect on attention that sees all tokens"),
        (lambda: Attention(8, reverse=True), "no effect on attention that sees all tokens"),
        (lambda: Attention(8)(torch.zeros(2, 0, 8)), r"no side 0; got shape \(2, 0, 8\)"),
        (lambda: WindowAttention(12), "num_heads = 8"),
        (lambda: WindowAttention(8, window_size=0), "window_size = 0"),
        (lambda: WindowAttention(8, shift_size=7), "from 0 to window_size - 1; got window_size = 7, shift_size = 7"),
        (lambda: WindowAttention(8, shift_size=-1), "shift_size = -1"),
        (lambda: WindowAttention(8)(torch.zeros(2, 8, 4, 4)), r"WindowAttention expects .* got shape \(2, 8, 4, 4\)"),
        (lambda: WindowAttention(8)(torch.zeros(2, 4, 0, 8)), "no side 0"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
