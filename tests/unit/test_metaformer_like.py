"""One skeleton, many mixers: every name trains, differs in the mixer alone, and can be matched in cost."""

import pytest
import torch
from torch import nn

from mambaout_edu.mixers import ConvSSM, DepthwiseConv, Identity, ScannedSSM
from mambaout_edu.models import (
    IsotropicMambaOut,
    MambaOut,
    create_model,
    load_official,
    match_width,
    metaformer_like,
    profile,
)
from mambaout_edu.models.metaformer_like import SKELETON_MIXERS

CAUSAL = {"ssm", "causal_attention", "lstm", "rnn", "gru"}
ALL_SEE_ALL = {"bidirectional", "cross", "attention"}
each_mixer = pytest.mark.parametrize("mixer", SKELETON_MIXERS)
both_skeletons = pytest.mark.parametrize("hierarchical", [True, False])


def small(mixer="conv", hierarchical=True, **kwargs):
    torch.manual_seed(0)
    size = (
        {"depths": (2, 1), "dims": (8, 16), "stem_stride": 2}
        if hierarchical
        else {"depths": 2, "dims": 16, "img_size": 16, "patch_size": 4}
    )
    return metaformer_like(mixer, hierarchical=hierarchical, **{"num_classes": 3, **size, **kwargs})


def noise(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


@both_skeletons
@each_mixer
def test_a_training_step_reaches_every_parameter_and_a_state_comes_back(mixer, hierarchical):
    model, x, labels = small(mixer, hierarchical), noise(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
    before = nn.functional.cross_entropy(model(x), labels)
    before.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(p.grad.any() for p in model.stages.parameters())
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    assert nn.functional.cross_entropy(model(x), labels) < before
    other = small(mixer, hierarchical)
    assert not torch.equal(other(x), model(x))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))


@both_skeletons
def test_models_differ_in_the_mixer_alone(hierarchical):
    def skeleton(mixer):
        state = small(mixer, hierarchical).state_dict()
        return {name: value.shape for name, value in state.items() if ".mixer." not in name}

    expected = skeleton("identity")
    assert all(skeleton(mixer) == expected for mixer in SKELETON_MIXERS)
    assert expected.keys() == small("identity", hierarchical).state_dict().keys()


@torch.no_grad()
def test_conv_is_mambaout():
    arguments = {"depths": (2, 1), "dims": (8, 16), "stem_stride": 2, "num_classes": 3, "kernel_size": 5}
    torch.manual_seed(0)
    original = MambaOut(**arguments)
    x = noise(1, 3, 16, 16)
    assert torch.equal(small("conv", kernel_size=5)(x), original(x))
    with torch.device("meta"):
        tiny = metaformer_like()
        published = create_model("mambaout_tiny").state_dict()
    assert {k: v.shape for k, v in tiny.state_dict().items()} == {k: v.shape for k, v in published.items()}
    target = small("conv", kernel_size=5, num_classes=3)
    nn.init.zeros_(target.stem.conv1.weight)
    load_official(target, original.state_dict())
    assert torch.equal(target(x), original(x))


@torch.no_grad()
def test_conv_ssm_is_the_mamba_block_of_equation_11():
    block = small("conv_ssm", kernel_size=3, mixer_args={"d_state": 4}, conv_ratio=None).double().stages[0].blocks[0]
    assert isinstance(block.mixer, ConvSSM)
    assert (block.mixer.conv.kernel_size, block.mixer.d_state) == ((3, 3), 4)
    x = noise(1, 5, 4, 8, dtype=torch.float64)
    gate, value = block.fc1(block.norm(x)).chunk(2, dim=-1)  # conv_ratio None: all channels are mixed
    expected = block.fc2(nn.functional.gelu(gate) * block.mixer(value)) + x
    torch.testing.assert_close(block(x), expected)


@each_mixer
@torch.no_grad()
def test_who_sees_whom(mixer):
    module = small(mixer).double().stages[1].blocks[0].mixer
    x = noise(1, 16, 16, 16, dtype=torch.float64)
    moved = (module(x) - module(x.index_put((torch.tensor(0), torch.tensor(15), torch.tensor(15)), x[0, 0, 0]))).abs()
    changed = moved.amax(-1)[0] > 1e-14
    assert changed[15, 15]
    assert changed.sum() == 1 if mixer in CAUSAL | {"identity"} else changed.sum() > 1
    assert changed.all() == (mixer in ALL_SEE_ALL)


def test_windows_shift_in_every_second_block_of_a_stage():
    model = small("window", depths=(3, 3), mixer_args={"window_size": 5})
    assert [[block.mixer.shift_size for block in stage.blocks] for stage in model.stages] == [[0, 2, 0], [0, 2, 0]]
    still = small("window", depths=(3, 3), mixer_args={"shift_size": 0})
    assert {block.mixer.shift_size for stage in still.stages for block in stage.blocks} == {0}


@pytest.mark.parametrize(("dim", "heads"), [(96, 3), (48, 3), (64, 2), (24, 3), (20, 5)])
@pytest.mark.parametrize("mixer", ["attention", "causal_attention", "window"])
def test_heads_have_up_to_32_channels(mixer, dim, heads):
    module = small(mixer, depths=(1,), dims=(dim,)).stages[0].blocks[0].mixer
    assert (module.attn if mixer == "window" else module).num_heads == heads
    given = small(mixer, depths=(1,), dims=(dim,), mixer_args={"num_heads": 2}).stages[0].blocks[0].mixer
    assert (given.attn if mixer == "window" else given).num_heads == 2


def test_arguments_of_mixers_and_mixers_of_ones_own():
    mixer = small("ssm", mixer_args={"paths": "hilbert", "d_state": 2}).stages[0].blocks[0].mixer
    assert isinstance(mixer, ScannedSSM)
    assert (mixer.paths, mixer.ssms[0].d_state) == ("hilbert", 2)
    asked = []

    def own(channels):
        asked.append(channels)
        return Identity(channels)

    assert small(own, conv_ratio=2.0)(noise(1, 3, 16, 16)).shape == (1, 3)
    assert asked == [16, 16, 32]


# The isotropic skeleton


@pytest.mark.parametrize("mixer", ["attention", "pooling"])
@torch.no_grad()
def test_without_positions_attention_alone_does_not_know_the_order_of_patches(mixer):
    shuffled = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    x = noise(1, 3, 16, 16, dtype=torch.float64)
    patches = x.unfold(2, 4, 4).unfold(3, 4, 4).flatten(2, 3)[:, :, shuffled].unflatten(2, (4, 4))
    y = patches.permute(0, 1, 2, 4, 3, 5).reshape(x.shape)
    blind, placed = (small(mixer, False, pos_embed=told).double() for told in (False, True))
    assert (blind(x) - blind(y)).abs().max() < 1e-12 if mixer == "attention" else not torch.allclose(blind(x), blind(y))
    assert not torch.allclose(placed(x), placed(y), rtol=1e-8, atol=1e-10)


@torch.no_grad()
def test_isotropic_models_keep_one_resolution_at_any_size():
    model = small("attention", hierarchical=False)
    assert isinstance(model, IsotropicMambaOut)
    assert model.forward_features(noise(2, 3, 24, 12)).shape == (2, 6, 3, 16)
    assert model.forward_intermediates(noise(1, 3, 16, 16))[1][0].shape == (1, 16, 4, 4)
    assert model.feature_info == [{"num_chs": 16, "reduction": 4, "module": "stages.0"}]
    assert "stem.pos_embed" in model.no_weight_decay()
    assert "stem.pos_embed" not in small("attention", False, pos_embed=False).no_weight_decay()
    with torch.device("meta"):
        large = metaformer_like(hierarchical=False)
    assert sum(p.numel() for p in large.parameters()) == 21_736_296  # ViT-S: 22,050,664
    assert [part.name for part in profile(large, 224)] == ["stem", "token mixing", "channel mixing", "head"]


# Export, compilation, gradients


@pytest.mark.parametrize(("mixer", "hierarchical"), [("bidirectional", True), ("window", False)])
def test_export_and_compile(mixer, hierarchical):
    model, x = small(mixer, hierarchical).eval(), noise(1, 3, 16, 16)
    expected = model(x)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), expected)
    torch.testing.assert_close(torch.compile(model, backend="aot_eager", fullgraph=True)(x), expected)


# Models of equal cost


@pytest.mark.parametrize("by", ["parameters", "multiply_adds"])
@pytest.mark.parametrize("mixer", ["bidirectional", "lstm", "attention"])
def test_matched_models_cost_the_same(mixer, by):
    target = small("conv", depths=(1, 1, 2), dims=(64, 128, 192))
    found = match_width(target, mixer, by, image_size=32)
    model = found.create()
    assert isinstance(model.stages[0].blocks[0].mixer, SKELETON_MIXERS[mixer][0])

    def cost(m):
        return sum(p.numel() for p in m.parameters()) if by == "parameters" else profile(m, 32).multiply_adds

    assert (cost(model), cost(target)) == (found.reached, found.target)
    assert cost(model) / cost(target) - 1 == pytest.approx(found.difference)
    assert abs(found.difference) <= 0.01
    assert [len(stage.blocks) for stage in model.stages] == [1, 1, 2]
    assert model.head.fc.out_features == 3
    assert sum(found.dims) < 64 + 128 + 192  # these mixers cost more than a convolution
    assert found.dims[1] / found.dims[0] == pytest.approx(2, abs=0.6)
    assert f"{found.reached:,}" in repr(found)
    assert (" more " in repr(found)) == (found.difference > 0)


def test_matching_back_and_forth_and_by_number():
    target = small("lstm", depths=(1, 1), dims=(48, 96))
    assert match_width(target, "lstm").dims == (48, 96)
    wider = match_width(target, "conv")
    assert wider.dims > (48, 96)
    assert match_width(wider.create(), "lstm").reached == pytest.approx(wider.target, rel=0.02)
    number = sum(p.numel() for p in target.parameters())
    arguments = {"depths": (1, 1), "dims": (48, 96), "stem_stride": 2, "num_classes": 3}
    assert match_width(number, "conv", **arguments).dims == wider.dims
    by_class = match_width(create_model("mambaout_pico_8", num_classes=10), "gru", depths=(1, 1, 1), dims=(24, 48, 96))
    assert by_class.create().head.fc.out_features == 10
    assert by_class.create().in_chans == 1


def test_steps():
    target = small("conv", depths=(2,), dims=(96,))
    for step in (8, 4, 1):
        found = match_width(target, "gru", step=step, tolerance=0.2)
        assert found.dims[0] % step == 0
    headed = match_width(target, "attention", tolerance=0.2, mixer_args={"head_dim": 12})
    assert headed.dims[0] % 12 == 0
    assert headed.create().stages[0].blocks[0].mixer.num_heads == headed.dims[0] // 12
    isotropic = small("conv", hierarchical=False, dims=96)
    assert isinstance(match_width(isotropic, "gru").create(), IsotropicMambaOut)
    own = match_width(target, lambda channels: DepthwiseConv(channels, 3), tolerance=0.01)
    assert own.dims[0] >= 96


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: small("atention"), ValueError, "unknown mixer 'atention'; did you mean attention"),
        (lambda: small("fourier"), ValueError, "Any callable that takes a number of channels"),
        (lambda: small("attention", dims=(30, 16)), ValueError, "num_heads may be 1, 2, 3, 5"),
        (lambda: small(Identity, mixer_args={"order": "z"}), TypeError, "bind them to the callable itself"),
        (lambda: small("conv", depths=(1, 1, 1)), ValueError, "one positive entry a stage"),
        (lambda: small(patch_size=4), TypeError, "has no use for patch_size.*hierarchical=False"),
        (lambda: small(hierarchical=False, stem_stride=4), TypeError, "no use for stem_stride.*hierarchical=True"),
        (lambda: small(hierarchical=False, dims=(8, 16)), ValueError, r"one stage.*dims = \(8, 16\)"),
        (lambda: small(hierarchical=False)(torch.zeros(1, 3, 2, 16)), ValueError, "at least one patch of 4 x 4"),
        (lambda: small(hierarchical=False, img_size=3), ValueError, "at least one patch"),
        (lambda: match_width(small(), "lstm", by="time"), ValueError, "one of parameters, multiply_adds; got 'time'"),
        (lambda: match_width(small(), "lstm", step=0), ValueError, "step at least 1; got 0.01 and 0"),
        (lambda: match_width(0, "lstm", depths=1, dims=8), ValueError, "must cost something"),
        (lambda: match_width(nn.Linear(2, 2), "lstm"), TypeError, "give depths= of the skeleton: the target, Linear"),
        (lambda: match_width(5000, "lstm", depths=1), TypeError, "give dims= of the skeleton: the target, int"),
        (
            lambda: match_width(1000, "lstm", depths=(9, 9), dims=(32, 64)),
            ValueError,
            r"no width in steps of 2 .* Nearest: dims \(2, 2\): .* more than the target's 1,000\. Give a smaller step",
        ),
        (
            lambda: match_width(small(depths=(1,), dims=(64,)), "gru", step=32, tolerance=0.001),
            ValueError,
            r"no width in steps of 32 comes within 0\.1%",
        ),
    ],
)
def test_bad_arguments_are_refused_in_words(make, error, says):
    with pytest.raises(error, match=says):
        make()
