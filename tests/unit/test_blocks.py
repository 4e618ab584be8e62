"""The gated block: equal to its formula, honest about bad input, counted right, local where it should be."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mambaout_edu.blocks import (
    GatedBlock,
    GatedCNNBlock,
    block_multiply_adds,
    block_parameters,
    gated_product,
    split_gate,
)
from mambaout_edu.mixers import DepthwiseConv

sizes = st.integers(min_value=1, max_value=9)


@settings(max_examples=25, deadline=None)
@given(height=sizes, width=sizes, dim=st.integers(3, 12), kernel=st.sampled_from([1, 3, 5, 7]), all_mixed=st.booleans())
def test_block_is_equation_9(height, width, dim, kernel, all_mixed):
    torch.manual_seed(0)
    block = GatedCNNBlock(dim, kernel_size=kernel, conv_ratio=None if all_mixed else 1.0).double()
    x = torch.randn(2, height, width, dim, dtype=torch.float64)
    hidden, kept, mixed = block.split_indices
    w2, w1 = block.fc1.weight[:hidden], block.fc1.weight[hidden:]  # the gate's W2 comes first
    b2, b1 = block.fc1.bias[:hidden], block.fc1.bias[hidden:]
    normed = F.layer_norm(x, (dim,), block.norm.weight, block.norm.bias, 1e-6)
    value = normed @ w1.T + b1
    window = F.conv2d(
        value[..., kept:].permute(0, 3, 1, 2), block.mixer.weight, block.mixer.bias, padding=kernel // 2, groups=mixed
    ).permute(0, 2, 3, 1)
    value = torch.cat([value[..., :kept], window], -1)
    expected = (value * F.gelu(normed @ w2.T + b2)) @ block.fc2.weight.T + block.fc2.bias + x
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    height=sizes,
    width=sizes,
    dim=st.integers(3, 40),
    kernel=st.sampled_from([1, 3, 7]),
    expansion=st.sampled_from([1.0, 2.5, 8 / 3, 3.0]),
    conv_ratio=st.sampled_from([0.5, 1.0, None]),
)
def test_closed_forms_count_the_real_block(height, width, dim, kernel, expansion, conv_ratio):
    options = {"expansion_ratio": expansion, "conv_ratio": conv_ratio, "kernel_size": kernel}
    with torch.device("meta"):
        block = GatedCNNBlock(dim, **options)
        x = torch.zeros(1, height, width, dim)
    assert block_parameters(dim, **options) == sum(p.numel() for p in block.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        block(x)
    assert block_multiply_adds(height, width, dim, **options) == counter.get_total_flops() // 2


def test_published_block_sizes():
    published = {48: 21_232, 96: 79_328, 192: 306_112, 288: 680_352, 384: 1_202_048, 576: 2_687_808}
    published |= {128: 138_410, 256: 538_708, 512: 2_126_506, 768: 4_763_392}
    assert {dim: block_parameters(dim) for dim in published} == published


def test_a_position_sees_its_window_and_no_further():
    torch.manual_seed(0)
    block = GatedCNNBlock(8, kernel_size=5)
    x = torch.randn(1, 11, 11, 8)
    moved = x.clone()
    moved[0, 5, 5] += torch.randn(8)  # a constant would vanish in the norm
    changed = (block(moved) - block(x)).abs().amax(-1)[0] > 0
    expected = torch.zeros(11, 11, dtype=torch.bool)
    expected[3:8, 3:8] = True
    assert torch.equal(changed, expected)


def test_any_module_can_be_the_mixer():
    seen = []

    def mixer(channels):
        seen.append(channels)
        return nn.Identity()

    block = GatedBlock(12, mixer=mixer, conv_ratio=0.5)
    assert seen == [6]
    assert block(torch.randn(1, 1, 1, 12)).shape == (1, 1, 1, 12)


def test_layer_scale_starts_at_the_value_given():
    block = GatedCNNBlock(4, ls_init_value=0.25)
    assert torch.equal(block.ls.gamma, torch.full((4,), 0.25))


def test_drop_path_drops_whole_samples_in_training_only():
    torch.manual_seed(0)
    block = GatedCNNBlock(4, drop_path=0.5)
    x = torch.randn(64, 2, 2, 4)
    kept = (block(x) != x).flatten(1).any(1)
    assert 0 < kept.sum() < 64
    block.eval()
    assert (block(x) != x).flatten(1).any(1).all()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: GatedCNNBlock(0), "dim = 0"),
        (lambda: GatedCNNBlock(8, conv_ratio=3.0), "24 mixed channels.*21 hidden"),
        (lambda: GatedCNNBlock(8, conv_ratio=0.01), "0 mixed channels"),
        (lambda: GatedCNNBlock(8, kernel_size=4), "odd and positive.*got 4"),
        (lambda: GatedCNNBlock(8)(torch.zeros(1, 8, 5, 5)), r"C = 8 last; got shape \(1, 8, 5, 5\)"),
        (lambda: GatedCNNBlock(8)(torch.zeros(5, 5, 8)), r"got shape \(5, 5, 8\)"),
        (lambda: DepthwiseConv(4)(torch.zeros(1, 4, 5, 5)), r"DepthwiseConv\(4\).*got shape"),
        (lambda: split_gate(torch.zeros(2, 7), 3, 1), r"2 \* hidden = 6 channels; got shape \(2, 7\)"),
        (lambda: split_gate(torch.zeros(2, 6), 3, 4), r"0 \.\.\. hidden = 3; got 4"),
        (lambda: gated_product(torch.zeros(5), torch.zeros(2), torch.zeros(2)), r"gate's 5 channels.*2 \+ 2"),
    ],
)
def test_bad_input_is_refused_in_words(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_sliced_and_whole_product_are_equal():
    torch.manual_seed(0)
    block = GatedCNNBlock(12)
    x = torch.randn(2, 3, 3, 12)
    for sliced, whole in zip(block._expand(x, sliced=True), block._expand(x, sliced=False), strict=True):
        torch.testing.assert_close(sliced, whole)


def test_gradients_are_exact():
    torch.manual_seed(0)
    block = GatedBlock(3, mixer=partial(DepthwiseConv, kernel_size=3)).double()
    x = torch.randn(1, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x,))
