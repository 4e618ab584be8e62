"""Mixing matrices: they are what the mixer does, equal by weights and by gradient where they must be, and causal."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.vision_transformer import Attention as TimmAttention
from torch import nn

from mambaout_edu import flatten, seen
from mambaout_edu.blocks import GatedCNNBlock
from mambaout_edu.mixers import (
    SS2D,
    Attention,
    BiMamba,
    ConvSSM,
    DepthwiseConv,
    Identity,
    Mamba1,
    Mamba2,
    Pooling,
    Recurrent,
    ScannedSSM,
    SelectiveSSM,
    WindowAttention,
)

C = 4
IMAGE, SEQUENCE = (2, 3, 4, C), (2, 7, C)


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def gated(mixer, x, y):
    """What Mamba does with the mixed values: gate and contract."""
    z = mixer.in_proj(x.flatten(1, -2)).chunk(2, dim=-1)[1]
    return mixer.out_proj(y * F.silu(z))


def ss2d_rest(mixer, x, y):
    y = mixer.out_norm(y)
    if mixer.gate:
        y = y * mixer.act(mixer.in_proj(x).chunk(2, dim=-1)[1].flatten(1, 2))
    return mixer.out_proj(y)


def mamba2_rest(mixer, x, y):
    z = mixer._split(mixer.in_proj(x.flatten(1, -2)))[0]
    return mixer.out_proj(mixer.norm(y, z))


def plain(mixer, x, y):
    return y


def projected(mixer, x, y):
    return mixer.proj(y)


# (mixer, shape of its input, what it does after mixing)
REBUILT = {
    "attention": (lambda: Attention(C, 2), SEQUENCE, projected),
    "attention on an image": (lambda: Attention(C, 2), IMAGE, projected),
    "causal attention": (lambda: Attention(C, 2, causal=True), SEQUENCE, projected),
    "causal attention along hilbert": (lambda: Attention(C, 4, causal=True, order="hilbert"), IMAGE, projected),
    "causal attention, reversed": (lambda: Attention(C, 1, causal=True, reverse=True), IMAGE, projected),
    "timm's attention": (
        lambda: TimmAttention(C, 2, qk_norm=True, norm_layer=nn.LayerNorm),
        SEQUENCE,
        projected,
    ),
    "windows": (lambda: WindowAttention(C, 2, window_size=2), IMAGE, lambda m, x, y: m.attn.proj(y)),
    "shifted windows": (lambda: WindowAttention(C, 2, None, 3, 1), (2, 5, 7, C), lambda m, x, y: m.attn.proj(y)),
    "windows on a sequence": (lambda: WindowAttention(C, 1, None, 3, 2), SEQUENCE, lambda m, x, y: m.attn.proj(y)),
    "ssm": (lambda: SelectiveSSM(C, 3), SEQUENCE, plain),
    "ssm on an image": (lambda: SelectiveSSM(C, 3), IMAGE, plain),
    "conv ssm": (lambda: ConvSSM(C, 3, 3), IMAGE, plain),
    "mamba": (lambda: Mamba1(C, 3), SEQUENCE, gated),
    "vim": (lambda: BiMamba(C, 3), IMAGE, gated),
    "vim, not halved": (lambda: BiMamba(C, 3, divide_out=False), SEQUENCE, gated),
    "mamba 2": (lambda: Mamba2(C, 3, headdim=2, ngroups=2, chunk_size=3), SEQUENCE, mamba2_rest),
    "mamba 2 on an image": (lambda: Mamba2(C, 3, headdim=4), IMAGE, mamba2_rest),
    "ss2d": (lambda: SS2D(C, 3), IMAGE, ss2d_rest),
    "ss2d without gate": (lambda: SS2D(C, 1, gate=False, scan="bidirectional"), IMAGE, ss2d_rest),
    "scan both ways over a sequence": (lambda: ScannedSSM(C, "bidirectional", 3), SEQUENCE, plain),
    "scan of a sequence": (lambda: ScannedSSM(C, "hilbert", 3), SEQUENCE, plain),
    "convolved scan": (lambda: ScannedSSM(C, "cross", 3, conv=3), IMAGE, plain),
    "mean of shared scans": (lambda: ScannedSSM(C, "plainmamba", 3, shared=True, merge="mean"), IMAGE, plain),
    "atrous with empty phases": (lambda: ScannedSSM(C, "atrous", 3, skip=3, merge="mean"), (2, 2, 5, C), plain),
    "convolution": (lambda: DepthwiseConv(C, 3), IMAGE, lambda m, x, y: y + m.bias),
    "pooling": (lambda: Pooling(C), IMAGE, plain),
    "pooling of a sequence": (lambda: Pooling(C, 5), SEQUENCE, plain),
    "identity": (lambda: Identity(C), IMAGE, plain),
}


@pytest.mark.parametrize(("make", "shape", "rest"), REBUILT.values(), ids=REBUILT)
def test_the_matrix_is_what_the_mixer_does(make, shape, rest):
    mixer, x = make().double().eval(), draw(*shape)
    with torch.no_grad():
        expected = mixer(x).flatten(1, -2)
        torch.testing.assert_close(rest(mixer, x, seen.mixing(mixer, x).mixed()), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("paths", [*flatten.PATHS, *(name for name in flatten.ORDERS if name not in flatten.PATHS)])
def test_every_path_is_put_back_in_its_place(paths):
    mixer, x = ScannedSSM(C, paths, d_state=2).double(), draw(1, 4, 5, C)
    with torch.no_grad():
        torch.testing.assert_close(seen.mixing(mixer, x).mixed(), mixer(x).flatten(1, 2), rtol=1e-9, atol=1e-9)


APART = {
    "convolution": (lambda: DepthwiseConv(C, 3), IMAGE),
    "pooling": (lambda: Pooling(C), IMAGE),
    "pooling of a sequence": (lambda: Pooling(C, 5), SEQUENCE),
    "identity": (lambda: Identity(C), SEQUENCE),
}


@pytest.mark.parametrize(("make", "shape"), APART.values(), ids=APART)
def test_gradient_and_weights_agree_where_channels_stay_apart(make, shape):
    mixer, x = make().double(), draw(*shape)
    for channel in (None, 2):
        weights = seen.mixing_matrix(mixer, x, channel, how="weights")
        gradient = seen.mixing_matrix(mixer, x, channel, how="gradient")
        torch.testing.assert_close(gradient, weights.abs())


def freeze(ssm, x):
    """Keep the steps, B and C that a SelectiveSSM computes for x, whatever it is given from then on."""
    with torch.no_grad():
        kept = ssm._select(x.flatten(1, -2))
    ssm._select = lambda u: tuple(part.expand(len(u), -1, -1) for part in kept)


def test_gradient_and_weights_agree_for_an_ssm_whose_selection_is_frozen():
    mixer, x = SelectiveSSM(C, 3).double(), draw(1, 3, 4, C)
    weights = seen.mixing_matrix(mixer, x, how="weights")
    selecting = seen.mixing_matrix(mixer, x, how="gradient")
    signed = seen.mixing_matrix(mixer, x, channel=1, how="weights")
    freeze(mixer, x)
    torch.testing.assert_close(seen.mixing_matrix(mixer, x, how="gradient"), weights)
    torch.testing.assert_close(seen.mixing_matrix(mixer, x, channel=1, how="gradient"), signed.abs())
    assert not torch.allclose(selecting, weights, rtol=1e-3), "the gradient also sees that the input selects"


@pytest.mark.parametrize("causal", [False, True])
def test_gradient_and_weights_agree_for_attention_s_values(causal):
    """With queries and keys held, and values passed on as they are, the gradient is the attention weight."""
    mixer, x = Attention(C, 2, causal=causal).double(), draw(1, 6, C)
    with torch.no_grad():
        mixer.qkv.weight[2 * C :] = torch.eye(C)
        mixer.proj.weight.copy_(torch.eye(C))
    mean = seen.mixing_matrix(mixer, x)
    heads = [seen.mixing_matrix(mixer, x, head=head) for head in range(2)]
    mixer.qkv.register_forward_hook(lambda _, __, y: torch.cat((y[..., : 2 * C].detach(), y[..., 2 * C :]), dim=-1))
    torch.testing.assert_close(seen.mixing_matrix(mixer, x, how="gradient"), mean)
    for channel in range(C):
        gradient = seen.mixing_matrix(mixer, x, channel, how="gradient")
        torch.testing.assert_close(gradient, heads[channel // 2])
        torch.testing.assert_close(seen.mixing_matrix(mixer, x, channel), heads[channel // 2])
    torch.testing.assert_close(torch.stack(heads).mean(0), mean)
    torch.testing.assert_close(mean.sum(-1), torch.ones(1, 6, dtype=torch.float64))


ANY = {
    "lstm": (lambda: Recurrent(C, order="serpentine"), (1, 2, 3, C)),
    "attention": (lambda: Attention(C, 2), (2, 3, C)),
    "mamba": (lambda: Mamba1(C, 2), (1, 4, C)),
    "ss2d": (lambda: SS2D(C, 2), (1, 2, 2, C)),
    "a block": (lambda: GatedCNNBlock(C, 3), (2, 2, 3, C)),
    "other channels": (lambda: nn.Linear(C, 3), (1, 2, C)),
}


@pytest.mark.parametrize(("make", "shape"), ANY.values(), ids=ANY)
def test_the_gradient_is_that_of_finite_differences(make, shape):
    mixer, x = make().double(), draw(*shape)
    length, step = x[0, ..., 0].numel(), 1e-5
    for sample in range(len(x)):
        flat = x[sample].reshape(-1)  # [L C]
        moved = flat + step * torch.cat((torch.eye(len(flat)), -torch.eye(len(flat)))).double()
        with torch.no_grad():
            up, down = mixer(moved.view(-1, *x.shape[1:])).flatten(1, -2).chunk(2)  # [L C, L, K] each
        jacobian = ((up - down) / (2 * step)).unflatten(0, (length, C))  # [s, C, t, K]
        lengths = jacobian.norm(dim=1).permute(1, 0, 2)  # [t, s, K]
        got = seen.mixing_matrix(mixer, x, how="gradient")[sample]
        torch.testing.assert_close(got, lengths.mean(-1), rtol=1e-6, atol=1e-8)
        one = seen.mixing_matrix(mixer, x, channel=2, how="gradient")[sample]
        torch.testing.assert_close(one, lengths[..., 2], rtol=1e-6, atol=1e-8)


@given(order=st.sampled_from(flatten.ORDERS), height=st.integers(1, 4), width=st.integers(1, 4))
@settings(max_examples=12)
def test_a_causal_mixer_is_lower_triangular_along_its_order(order, height, width):
    way = torch.tensor(flatten.order(order, height, width))
    x = draw(1, height, width, C)
    for mixer in (Attention(C, 2, causal=True, order=order), Recurrent(C, "gru", order=order)):
        for how in ("auto", "gradient"):
            matrix = seen.mixing_matrix(mixer.double(), x, how=how)[0][way][:, way]
            assert torch.equal(matrix, matrix.tril())
            assert (matrix[torch.ones_like(matrix).tril() > 0] > 0).all(), "and full below"
    if order != "atrous":  # as a strategy of paths it is several
        matrix = seen.mixing_matrix(ScannedSSM(C, order, 2).double(), x)[0][way][:, way]
        assert torch.equal(matrix, matrix.tril())


@pytest.mark.parametrize("make", [SelectiveSSM, Mamba1, BiMamba, SS2D, partial(ScannedSSM, paths="cross"), Mamba2])
def test_without_the_skip_d_is_gone_and_nothing_else(make):
    options = {"headdim": 2} if make is Mamba2 else {}
    mixer, x = make(C, d_state=2, **options).double(), draw(1, 2, 3, C)
    with_skip = seen.mixing_matrix(mixer, x, channel=1)[0]
    without = seen.mixing_matrix(mixer, x, channel=1, skip=False)[0]
    with torch.no_grad():
        for name, parameter in mixer.named_parameters():
            if name.split(".")[-1] in ("D", "D_b"):
                parameter.zero_()
    torch.testing.assert_close(seen.mixing_matrix(mixer, x, channel=1)[0], without)
    added = with_skip - without
    assert torch.equal(added, added.diag().diag())
    assert (added.diag() > 0.9).all(), "D starts at 1 in every path"


def test_what_sees_all_has_a_full_matrix_and_what_sees_little_a_band():
    x = draw(1, 4, 5, C)
    for mixer in (Attention(C, 2), BiMamba(C, 2), SS2D(C, 2), ScannedSSM(C, "cross", 2)):
        assert (seen.mixing_matrix(mixer.double(), x) > 0).all()
    row, column = np.divmod(np.arange(20), 5)
    near = (abs(row[:, None] - row) <= 1) & (abs(column[:, None] - column) <= 1)
    for how in ("weights", "gradient"):
        band = seen.mixing_matrix(DepthwiseConv(C, 3).double(), x, how=how)[0]
        np.testing.assert_array_equal(band.numpy() > 0, near)


def test_many_channels_in_small_steps_are_the_same(monkeypatch):
    mixer, x = ScannedSSM(6, "cross", 2), torch.randn(2, 3, 3, 6)
    ways = ("weights", "gradient")
    at_once = [seen.mixing_matrix(mixer, x, how=how) for how in ways]
    monkeypatch.setattr("mambaout_edu.seen.matrices._AT_ONCE", 1)
    for how, expected in zip(ways, at_once, strict=True):
        torch.testing.assert_close(seen.mixing_matrix(mixer, x, how=how), expected)


def test_dropout_gradients_and_modes_do_not_matter():
    mixer, x = Attention(8, 2, attn_drop=0.5, proj_drop=0.5), torch.randn(1, 5, 8)
    expected = seen.mixing_matrix(mixer, x, how="gradient")
    assert mixer.training
    with torch.inference_mode():
        inside = x.clone()
        torch.testing.assert_close(seen.mixing_matrix(mixer, inside, how="gradient"), expected)
        torch.testing.assert_close(seen.mixing_matrix(mixer, inside), seen.mixing_matrix(mixer, x))
    asked = x.clone().requires_grad_()
    for how in ("weights", "gradient"):
        assert not seen.mixing_matrix(mixer, asked, how=how).requires_grad
    assert asked.grad is None
    assert all(parameter.grad is None for parameter in mixer.parameters())
    assert seen.mixing_matrix(Attention(8, 2).bfloat16(), x.bfloat16()).isfinite().all()


def test_an_output_that_takes_nothing_has_an_empty_matrix():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.ones_like(x)

    assert not seen.mixing_matrix(Constant(), torch.randn(1, 3, 2)).any()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: seen.mixing_matrix(Attention(C, 2), x, how="exact"), "how must be one of 'auto'.*got 'exact'"),
        (lambda x: seen.mixing_matrix(Attention(C, 2), x, 1, head=1), "a channel or a head, not both"),
        (lambda x: seen.mixing_matrix(Attention(C, 2), x, head=2), "head must be from 0 to 1; got 2"),
        (lambda x: seen.mixing_matrix(Attention(C, 2), x, C), "channel must be from 0 to 3; got 4"),
        (lambda x: seen.mixing_matrix(Recurrent(C), x, -1), "channel must be from 0 to 3; got -1"),
        (lambda x: seen.mixing_matrix(Recurrent(C), x, head=0), "Leave head out"),
        (
            lambda x: seen.mixing_matrix(Recurrent(C), x, how="weights"),
            'Recurrent has no mixing matrix.*how="gradient"',
        ),
        (lambda x: seen.mixing_matrix(Attention(8, 2), x), "Attention expects a sequence"),
        (lambda x: seen.mixing_matrix(Attention(C, 2), x[0, 0]), r"x must be \[B, L, C\] or .*got shape \(4,\)"),
        (lambda x: seen.mixing_matrix(nn.Flatten(), x), "as many tokens as it gets.*receptive_field"),
    ],
)
def test_bad_requests_are_refused_in_words(call, said):
    with pytest.raises(ValueError, match=said):
        call(torch.randn(1, 5, C))


def test_what_is_no_floating_tensor_is_refused():
    for x, said in ((torch.ones(1, 2, C, dtype=torch.long), "torch.int64"), ([[1.0]], "a list")):
        with pytest.raises(TypeError, match=f"x must be a floating tensor.*got .*{said}"):
            seen.mixing_matrix(Identity(C), x)
