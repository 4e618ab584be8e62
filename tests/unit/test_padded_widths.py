"""Hidden widths that are padded with zeros: the same model, computed with other sizes of matrices."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mambaout_edu.blocks import GatedBlock, GatedCNNBlock
from mambaout_edu.models import MambaOut, create_model

SMALL = {"depths": (1, 2), "dims": (8, 13), "num_classes": 5, "stem_stride": 1}


def pair(pad_hidden, dtype=torch.float64, **options):
    """A model and its padded twin, with the same weights, biases not zero."""
    torch.manual_seed(0)
    plain = MambaOut(**SMALL, **options).to(dtype)
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.2)
    padded = MambaOut(**SMALL, **options, pad_hidden=pad_hidden).to(dtype)
    padded.load_state_dict(plain.state_dict())
    return plain, padded


def outputs_and_gradients(model, images):
    images = images.clone().requires_grad_()
    scores = model(images)
    scores.square().sum().backward()
    return [scores.detach(), images.grad, *(p.grad for p in model.parameters())]


@pytest.mark.parametrize("pad_hidden", [1, 2, 8, 16, 64])
@pytest.mark.parametrize("options", [{}, {"conv_ratio": None}, {"act_layer": "silu", "ls_init_value": 0.5}])
def test_outputs_and_all_gradients_are_equal(pad_hidden, options):
    plain, padded = pair(pad_hidden, **options)
    images = torch.randn(2, 3, 9, 7, dtype=torch.float64)
    for a, b in zip(outputs_and_gradients(plain, images), outputs_and_gradients(padded, images), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@given(st.integers(2, 20), st.floats(1.0, 4.0), st.integers(1, 32), st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_block_is_the_same_in_one_product_and_in_slices(dim, ratio, pad_hidden, sliced):
    torch.manual_seed(0)
    plain = GatedCNNBlock(dim, 3, ratio).double()
    padded = GatedCNNBlock(dim, 3, ratio, pad_hidden=pad_hidden).double()
    padded.load_state_dict(plain.state_dict())
    hidden = plain.split_indices[0]
    assert (hidden + padded.padding) % pad_hidden == 0
    assert 0 <= padded.padding < pad_hidden
    x = torch.randn(1, 4, 3, dim, dtype=torch.float64)
    parts = padded._expand(x, sliced)
    assert [part.shape[-1] for part in parts] == [hidden + padded.padding, hidden + padded.padding - dim, dim]
    for got, expected in zip(parts, plain._expand(x, not sliced), strict=True):
        beyond = got.shape[-1] - expected.shape[-1]
        assert not got[..., :beyond].any()
        torch.testing.assert_close(got[..., beyond:], expected)
    torch.testing.assert_close(padded(x), plain(x))


def test_gradients_by_finite_differences():
    torch.manual_seed(0)
    block = GatedCNNBlock(3, 3, pad_hidden=4).double()
    assert block.padding == 0
    block = GatedCNNBlock(4, 3, pad_hidden=8).double()
    assert (block.split_indices[0], block.padding) == (10, 6)
    names, values = zip(*block.named_parameters(), strict=True)

    def run(x, *parameters):
        return torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), (x,))

    x = torch.randn(1, 2, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, *values))


def test_the_published_widths_of_base():
    with torch.device("meta"):
        model = create_model("mambaout_base", pad_hidden=8)
        plain = create_model("mambaout_base")
    blocks = [m for m in model.modules() if isinstance(m, GatedBlock)]
    widths = sorted({(b.split_indices[0], b.split_indices[0] + b.padding) for b in blocks})
    assert widths == [(341, 344), (682, 688), (1365, 1368), (2048, 2048)]
    assert [(k, v.shape) for k, v in model.state_dict().items()] == [
        (k, v.shape) for k, v in plain.state_dict().items()
    ]
    tiny = create_model("mambaout_femto", pad_hidden=8)
    assert not any(b.padding for b in tiny.modules() if isinstance(b, GatedBlock))  # its widths are multiples of 64


def test_three_updates_end_with_the_same_weights():
    plain, padded = pair(8)
    for model in (plain, padded):
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for step in range(3):
            images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()
    for a, b in zip(plain.parameters(), padded.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_under_bfloat16_and_without_gradients():
    plain, padded = pair(8, torch.float32)
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(plain(images), padded(images), rtol=0.05, atol=0.05)


def test_a_padding_that_is_none_is_refused():
    with pytest.raises(ValueError, match="pad_hidden must be at least 1, such as 8, or None for no padding; got 0"):
        MambaOut(**SMALL, pad_hidden=0)
