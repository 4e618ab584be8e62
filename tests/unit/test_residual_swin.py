"""Residual Swin: what its groups compute beside Swin's stages, timm's interface, any size, what is refused."""

import copy

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.swin_transformer import SwinTransformer
from timm.optim import param_groups_layer_decay
from torch import nn

from mambaout_edu.models import ResidualSwin, create_model, list_models, load_official, profile

PLAN = {"img_size": 32, "embed_dim": 8, "depths": (2, 3), "num_heads": (2, 4), "window_size": 3, "num_classes": 3}


def small(**kwargs):
    torch.manual_seed(0)
    return ResidualSwin(**{**PLAN, **kwargs})


def pair():
    """A residual Swin and timm's Swin of the same plan with the same random weights, in float64."""
    residual, plain = small(drop_path_rate=0.0).double().eval(), SwinTransformer(**PLAN).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in plain.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    unloaded = residual.load_state_dict(plain.state_dict(), strict=False)
    assert unloaded.unexpected_keys == []
    assert unloaded.missing_keys == [f"layers.{i}.conv.{name}" for i in (0, 1) for name in ("weight", "bias")]
    return residual, plain


def images(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_with_a_convolution_that_passes_its_input_on_a_group_is_swins_stage_plus_the_shortcut():
    residual, plain = pair()
    x = plain.patch_embed(images(2, 3, 32, 32))
    for group, stage in zip(residual.layers, plain.layers, strict=True):
        nn.init.dirac_(group.conv.weight)
        nn.init.zeros_(group.conv.bias)
        expected = stage(x)
        torch.testing.assert_close(group(x) - stage.downsample(x), expected, rtol=1e-10, atol=1e-10)
        assert (stage.downsample(x) - expected).abs().max() > 0.1  # the blocks do something
        x = expected


@torch.no_grad()
def test_without_the_convolutions_weights_a_group_is_its_shortcut():
    residual, plain = pair()
    for group in residual.layers:
        nn.init.zeros_(group.conv.weight)
        nn.init.zeros_(group.conv.bias)
    x = images(1, 3, 32, 32)
    embedded = plain.patch_embed(x)
    assert torch.equal(residual.layers[0](embedded), embedded)
    only_merged = plain.norm(plain.layers[1].downsample(embedded))
    torch.testing.assert_close(residual.forward_features(x), only_merged)


@torch.no_grad()
def test_a_group_is_the_convolution_of_swins_stage_plus_the_shortcut():
    residual, plain = pair()
    x = plain.patch_embed(images(2, 3, 32, 32))
    group, stage = residual.layers[1], plain.layers[1]
    y = nn.functional.conv2d(stage(x).permute(0, 3, 1, 2), group.conv.weight, group.conv.bias, padding=1)
    torch.testing.assert_close(group(x), y.permute(0, 2, 3, 1) + stage.downsample(x))


def test_the_published_plan_and_its_parameters():
    with torch.device("meta"):
        ours, swin = create_model("residual_swin_tiny"), timm.create_model("swin_tiny_patch4_window7_224")
    dims = (96, 192, 384, 768)
    count = sum(p.numel() for p in swin.parameters()) + sum(9 * d * d + d for d in dims)
    assert sum(p.numel() for p in ours.parameters()) == count == 35_340_034
    theirs = [(b.window_size, b.shift_size, b.attn.num_heads) for stage in swin.layers for b in stage.blocks]
    assert [(b.window_size, b.shift_size, b.attn.num_heads) for group in ours.layers for b in group.blocks] == theirs
    assert theirs[-1][1] == (0, 0)  # 7 x 7 positions are one window
    rates = [getattr(b.drop_path1, "drop_prob", 0.0) for group in ours.layers for b in group.blocks]
    assert rates[0] == 0.0
    assert rates[-1] == pytest.approx(0.2)
    assert ours.feature_info == swin.feature_info


def test_three_convolutions():
    with torch.device("meta"):
        model = create_model("residual_swin_tiny", resi_connection="3conv")
    conv = [sum(p.numel() for p in group.conv.parameters()) for group in model.layers]
    quarters = [(d, d // 4) for d in (96, 192, 384, 768)]
    assert conv == [2 * 9 * d * q + q * q + 2 * q + d for d, q in quarters]
    assert small(resi_connection="3conv")(images(1, 3, 32, 32, dtype=torch.float32)).shape == (1, 3)


def test_profile_books_every_parameter():
    with torch.device("meta"):
        ours, swin = create_model("residual_swin_tiny"), timm.create_model("swin_tiny_patch4_window7_224")
    found, plain = profile(ours, 224), profile(swin, 224)
    assert found.parameters == sum(p.numel() for p in ours.parameters())
    for same in ("stem", "token mixing", "downsampling", "head"):
        assert found[same] == plain[same]
    extra = sum((56 // 2**i) ** 2 * 9 * (96 * 2**i) ** 2 for i in range(4))
    assert found["channel mixing"].multiply_adds - plain["channel mixing"].multiply_adds == extra


@settings(max_examples=12, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60))
@torch.no_grad()
def test_any_size_of_image(height, width):
    model = small().eval()
    features = model.forward_features(torch.randn(1, 3, height, width))
    assert features.shape == (1, -(-height // 8), -(-width // 8), 16)
    assert torch.isfinite(model.forward_head(features)).all()


@torch.no_grad()
def test_an_image_alone_or_in_a_batch_and_another_input_size():
    model = small().eval()
    batch = images(3, 3, 41, 27, dtype=torch.float32)
    torch.testing.assert_close(model(batch)[1:2], model(batch[1:2]), rtol=1e-5, atol=1e-6)
    model.set_input_size((64, 48), window_size=3)
    assert [group.blocks[0].input_resolution for group in model.layers] == [(16, 12), (8, 6)]
    assert {b.window_size for group in model.layers for b in group.blocks} == {(3, 3)}
    assert model(images(1, 3, 64, 48, dtype=torch.float32)).shape == (1, 3)


def test_a_training_step_reaches_every_parameter_and_a_state_comes_back():
    model = small()
    x, labels = images(4, 3, 32, 32, dtype=torch.float32), torch.tensor([0, 1, 2, 0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    model.eval()  # without drop path, so that the second loss tells of the step alone
    before = nn.functional.cross_entropy(model(x), labels)
    before.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in model.parameters())
    optimizer.step()
    assert nn.functional.cross_entropy(model(x), labels) < before
    other = small(num_classes=3)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(x), model(x))


def test_timm_interface():
    assert timm.is_model("residual_swin_tiny")
    assert list_models("residual*") == ["residual_swin_tiny"]
    model = timm.create_model("residual_swin_tiny", **{k: v for k, v in PLAN.items() if k != "num_classes"})
    assert isinstance(model, ResidualSwin)
    assert model.num_classes == 1000
    assert model.default_cfg["classifier"] == "head.fc"
    x = images(2, 3, 32, 32, dtype=torch.float32)
    model.reset_classifier(5)
    assert model.eval()(x).shape == (2, 5)
    assert model.get_classifier().out_features == 5
    last, stages = model.forward_intermediates(x)
    assert [tuple(s.shape[1:]) for s in stages] == [(8, 8, 8), (16, 4, 4)]
    torch.testing.assert_close(last, model.forward_features(x))
    features = timm.create_model("residual_swin_tiny", features_only=True, out_indices=(0,), **PLAN)(x)
    assert [tuple(f.shape[1:]) for f in features] == [(8, 8, 8)]
    model.reset_classifier(0, "")
    assert model(x).shape == (2, 4, 4, 16)


def test_learning_rates_by_layer():
    model = small(resi_connection="3conv")
    groups = param_groups_layer_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay(), layer_decay=0.5)
    scale = {id(p): g["lr_scale"] for g in groups for p in g["params"]}
    assert len(scale) == len(list(model.parameters()))
    first, last = model.layers
    order = [model.patch_embed.proj, first.blocks[0].norm1, first.blocks[1].norm1, first.conv[0], last.blocks[0].norm1]
    rates = [scale[id(layer.weight)] for layer in (*order, last.conv[4], model.head.fc)]
    assert rates == sorted(rates)
    assert len(set(rates)) == len(rates)
    assert scale[id(first.conv[0].weight)] == scale[id(first.conv[4].weight)]


def test_checkpointing_changes_memory_not_gradients():
    plain = small(drop_path_rate=0.0)
    recomputed = copy.deepcopy(plain)
    recomputed.set_grad_checkpointing()
    x = images(1, 3, 32, 32, dtype=torch.float32)
    for model in (plain, recomputed):
        model(x).sum().backward()
    for a, b in zip(plain.parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_export_compile_and_bfloat16():
    model, x = small().eval(), images(1, 3, 32, 32, dtype=torch.float32)
    expected = model(x)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), expected)
    torch.testing.assert_close(torch.compile(model, backend="aot_eager", fullgraph=True)(x), expected)
    assert small(dtype=torch.bfloat16).eval()(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: small(resi_connection="2conv"), ValueError, "one of 1conv, 3conv; got '2conv'"),
        (lambda: small()(torch.zeros(3, 32, 32)), ValueError, "got 3 axes"),
        (lambda: small()(torch.zeros(1, 1, 32, 32)), ValueError, "got 1 channels"),
        (lambda: small().forward_intermediates(torch.zeros(1, 3, 0, 8)), ValueError, "at least one pixel"),
        (lambda: small()(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), TypeError, "torch.uint8"),
        (lambda: create_model("residual_swin_tny"), ValueError, "did you mean residual_swin_tiny"),
        (lambda: create_model("residual_swin_tiny", pretrained=True), ValueError, "no published weights"),
        (lambda: load_official(small(), {}), TypeError, "got a ResidualSwin"),
    ],
)
def test_bad_arguments_are_refused_in_words(make, error, says):
    with pytest.raises(error, match=says):
        make()
