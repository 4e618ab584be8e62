"""VMamba and Res-VMamba: the mixer against four scans one by one, any size of image, timm's interface, refusals."""

import copy
import math

import pytest
import timm
import timm.optim
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambaout_edu.flatten import paths
from mambaout_edu.mixers import SS2D
from mambaout_edu.models import (
    ResVMamba,
    VMamba,
    create_model,
    export_state_dict,
    list_models,
    load_official,
    profile,
)
from mambaout_edu.models.res_vmamba import RES_VMAMBA
from mambaout_edu.models.vmamba import V0, VMAMBA
from mambaout_edu.scan import selective_scan


def small(model=VMamba, **kwargs):
    torch.manual_seed(0)
    return model(**{"depths": (1, 2, 1), "dims": (8, 12, 16), "num_classes": 3, **kwargs})


KINDS = {
    "later version": lambda **kwargs: small(**kwargs),
    "first version": lambda **kwargs: small(**{**V0, **kwargs}),
    "residual of the stage": lambda **kwargs: small(ResVMamba, **kwargs),
    "residual of the stem": lambda **kwargs: small(ResVMamba, residual="stem", **kwargs),
}
each_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


# The mixer


@pytest.mark.parametrize(
    ("scan", "gate"), [("cross", True), ("cross", False), ("bidirectional", True), ("eight", False)]
)
def test_one_scan_equals_the_sum_of_a_scan_for_each_path(scan, gate):
    torch.manual_seed(1)
    mixer = SS2D(4, d_state=3, gate=gate, scan=scan, kernel_size=1).double()
    images = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    seen = []
    mixer.out_norm.register_forward_hook(lambda module, given, result: seen.append(given[0].detach()))
    mixer(images)
    x = torch.nn.functional.silu(mixer.conv2d(mixer.in_proj(images)[..., :8])).flatten(1, 2)  # [B, L, d]
    expected = torch.zeros_like(x)
    for k, path in enumerate(map(torch.tensor, map(list, paths(scan, 3, 5)))):
        u, own = x[:, path], slice(8 * k, 8 * k + 8)
        low, B, C = (u @ mixer.x_proj_weight[k].T).split([1, 3, 3], dim=-1)
        delta = low @ mixer.dt_proj_weight[k].T
        y = selective_scan(
            *(u, delta, mixer.A[own], B, C, mixer.D[own], None, mixer.dt_proj_bias[k]),
            delta_softplus=True,
            layout="bld",
            engine="reference",
        )
        expected[:, path] += y
    torch.testing.assert_close(seen[0].flatten(1, 2), expected.detach())


def influence(mixer, size, pixel):
    """Return which positions of the output [H, W] change when one pixel of the input does."""
    x = torch.randn(1, *size, mixer.dim)
    changed = x.clone()
    changed[0, pixel[0], pixel[1]] += 1
    with torch.no_grad():
        return (mixer(changed) - mixer(x)).abs().amax(-1)[0] > 0


@pytest.mark.parametrize(("scan", "seen"), [("raster", 9), ("column", 11), ("bidirectional", 15), ("cross", 15)])
def test_what_a_pixel_reaches_is_what_its_paths_visit_after_it(scan, seen):
    torch.manual_seed(2)
    mixer = SS2D(4, scan=scan, kernel_size=1, dt_min=0.5, dt_max=1.0)
    reached = influence(mixer, (3, 5), (1, 1))
    assert reached.sum() == seen
    positions = {p for path in paths(scan, 3, 5) for p in path[list(path).index(6) :]}
    assert set(reached.flatten().nonzero().flatten().tolist()) == positions


def test_gradients_of_the_mixer_in_float64():
    torch.manual_seed(3)
    mixer = SS2D(2, d_state=2, expand=1).double()
    names = [name for name, _ in mixer.named_parameters()]

    def run(x, *parameters):
        return torch.func.functional_call(mixer, dict(zip(names, parameters, strict=True)), (x,))

    x = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, *mixer.parameters()), fast_mode=True)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: SS2D(8)(torch.zeros(1, 8, 4, 4)), r"C = 8 last.*got shape \(1, 8, 4, 4\).*permute"),
        (lambda: SS2D(8)(torch.zeros(1, 16, 8)), r"\[B, H, W, C\].*got shape \(1, 16, 8\)"),
        (lambda: SS2D(8)(torch.zeros(1, 0, 4, 8)), "no side 0"),
        (lambda: SS2D(8, d_state=0), "d_state must be at least 1; got 0"),
        (lambda: SS2D(8, expand=0.1), "inner must be at least 1; got 0"),
        (lambda: SS2D(8, dt_rank=0), "dt_rank must be 'auto' or at least 1"),
        (lambda: SS2D(8, kernel_size=2), "kernel_size must be odd"),
        (lambda: SS2D(8, scan="atrous"), "must each visit the whole image.*'atrous'.*'cross'"),
        (lambda: SS2D(8, scan="crss"), "crss"),
        (lambda: SS2D(8, engine="fast")(torch.zeros(1, 2, 2, 8)), "unknown engine 'fast'"),
    ],
)
def test_the_mixer_refuses_bad_input_in_words(call, says):
    with pytest.raises(ValueError, match=says):
        call()


# The models


def sides(height, width, stem, stages=3):
    """Sizes after each stage: a patch stem rounds down, everything else rounds up."""
    first = [side // 4 if stem == "patch" else math.ceil(side / 4) for side in (height, width)]
    return [tuple(math.ceil(side / 2**i) for side in first) for i in range(stages)]


@settings(max_examples=12, deadline=None)
@given(height=st.integers(4, 40), width=st.integers(4, 40), kind=st.sampled_from(sorted(KINDS)))
def test_any_image_size_and_the_shapes_of_the_stages(height, width, kind):
    model = KINDS[kind](in_chans=1).eval()
    with torch.no_grad():
        out, stages = model.forward_intermediates(torch.randn(1, 1, height, width), output_fmt="NHWC")
        assert torch.isfinite(model.forward_head(out)).all()
    stem = "conv" if kind == "later version" else "patch"
    expected = [(*side, dim) for side, dim in zip(sides(height, width, stem), (8, 12, 16), strict=True)]
    assert [tuple(s.shape[1:]) for s in stages] == expected


@each_kind
def test_a_training_step_moves_every_parameter_downhill(make):
    model = make()
    images, labels = torch.randn(6, 3, 24, 24), torch.tensor([0, 1, 2, 0, 1, 2])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []
    assert losses[1] < losses[0]


@each_kind
def test_float64_bfloat16_and_autocast(make):
    model = make().eval()
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(images.double())
        torch.testing.assert_close(model(images).double(), exact, rtol=0, atol=1e-5)
        halved = copy.deepcopy(model).bfloat16()(images.bfloat16())
        assert halved.dtype == torch.bfloat16
        torch.testing.assert_close(halved.double(), exact, rtol=0.1, atol=0.05)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(model(images).double(), exact, rtol=0.1, atol=0.05)


@each_kind
def test_a_state_survives_a_round_trip(make):
    source, target = make(), make()
    images = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        for p in source.parameters():
            p.add_(torch.randn(p.shape) * 0.1)
        assert not torch.equal(source(images), target(images))
        target.load_state_dict(source.state_dict())
        assert torch.equal(source(images), target(images))
        load_official(make(), export_state_dict(source, layout="official"))


@each_kind
def test_export_and_compile_give_the_same(make):
    model = make(depths=(1, 1), dims=(4, 6)).eval()
    images = torch.randn(1, 3, 12, 8)
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(torch.export.export(model, (images,)).module()(images), expected)
        torch.compiler.reset()
        torch.testing.assert_close(torch.compile(model, backend="aot_eager", fullgraph=True)(images), expected)


@pytest.mark.slow  # a C++ compiler runs
def test_the_default_compiler_trains_a_block_the_same():
    torch.compiler.reset()
    model = VMamba(depths=(1,), dims=(4,), num_classes=2, stem_stride=1)
    images = torch.randn(1, 3, 6, 6)
    model(images).sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch.compile(model, fullgraph=True)(images).sum().backward()
    for p, grad in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, grad, rtol=1e-4, atol=1e-5)


@each_kind
def test_checkpointing_changes_memory_not_gradients(make):
    plain = make()
    recomputed = copy.deepcopy(plain)
    recomputed.set_grad_checkpointing()
    images = torch.randn(2, 3, 16, 16)
    for model in (plain, recomputed):
        model(images).sum().backward()
    for a, b in zip(plain.parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_drop_path_rises_over_all_blocks_and_acts_in_training_only():
    model = small(depths=(2, 3, 1), drop_path_rate=0.5)
    rates = [getattr(b.drop_path, "drop_prob", 0.0) for stage in model.stages for b in stage.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    images = torch.randn(4, 3, 16, 16)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_every_merged_neighbour_is_the_authors():
    """2 x 2 neighbours stand in the order upper left, lower left, upper right, lower right; what is missing is 0."""
    from mambaout_edu.models.vmamba_parts import PatchMerge

    merge = PatchMerge(1, 4, norm_layer=torch.nn.Identity)
    merge.reduction.weight.data.copy_(torch.eye(4))
    out = merge(torch.arange(1.0, 7).view(1, 2, 3, 1))
    assert out.flatten(0, 2).tolist() == [[1, 4, 2, 5], [3, 6, 0, 0]]


def test_the_stem_rail_adds_the_pooled_stem_after_every_stage():
    model = small(ResVMamba, residual="stem").eval()
    images = torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        rail = model.stem(images).permute(0, 3, 1, 2)
        x = model.stages[0](rail.permute(0, 2, 3, 1))
        for i, side in ((1, 3), (2, 2)):
            rail = torch.nn.functional.adaptive_max_pool2d(rail, side) if side == 3 else model.pool(rail)
            x = model.stages[i].downsample(x) + model.residual_projection[i - 1](rail).permute(0, 2, 3, 1)
            x = model.stages[i].blocks(x)
        torch.testing.assert_close(model.forward_features(images), x)
    assert [p.in_channels for p in model.residual_projection] == [8, 8]


def test_published_residuals_differ_from_pass_to_pass_and_learn_nothing():
    published, plain = small(ResVMamba, residual="published").eval(), small(**V0)
    assert published.state_dict().keys() == plain.state_dict().keys()
    images = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        assert (published(images) - published(images)).abs().max() > 1e-4
        torch.manual_seed(5)
        first = published(images)
        torch.manual_seed(5)
        assert torch.equal(published(images), first)


def test_without_its_projections_a_residual_model_is_a_vmamba():
    residual, plain = small(ResVMamba), small(**V0)
    for p in residual.residual_projection.parameters():
        torch.nn.init.zeros_(p)
    plain.load_state_dict({k: v for k, v in residual.state_dict().items() if "residual" not in k})
    images = torch.randn(1, 3, 20, 12)
    torch.testing.assert_close(residual(images), plain(images))


def test_another_mixer_takes_the_place_of_the_scan():
    model = small(mixer=torch.nn.Identity)
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, 3)
    assert not any(isinstance(module, SS2D) for module in model.modules())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: VMamba(depths=(1, 2), dims=(8,)), r"depths = \(1, 2\), dims = \(8,\)"),
        (lambda: VMamba(depths=(), dims=()), "one positive entry a stage"),
        (lambda: small(stem_stride=3), "stem_stride must be one of.*got 3"),
        (lambda: small(stem="patches"), "stem must be one of.*got 'patches'"),
        (lambda: small(downsample="pool"), "downsample must be one of.*got 'pool'"),
        (lambda: small(mlp_ratio=0.01), "mlp_ratio must be 0.*got 0.01"),
        (lambda: small(mlp_ratio=-1), "mlp_ratio must be 0.*got -1"),
        (lambda: small(global_pool="max"), "global_pool.*got 'max'"),
        (lambda: small(num_classes=-1), "num_classes.*got -1"),
        (
            lambda: small(ResVMamba, residual="global"),
            "residual must be one of 'stage', 'published', 'stem'; got 'global'",
        ),
        (lambda: small(**V0)(torch.zeros(1, 3, 3, 9)), "at least one patch, 4 x 4 pixels; got 3 x 9"),
        (lambda: small()(torch.zeros(1, 1, 9, 9)), "got 1 channels.*in_chans=1"),
        (lambda: small().forward_intermediates(torch.zeros(1, 3, 8, 8), output_fmt="CHW"), "got 'CHW'"),
        (lambda: create_model("vmamba_tny"), "unknown model 'vmamba_tny'; did you mean vmamba_tiny"),
        (lambda: create_model("vmamba_tiny", pretrained=True), "no published weights for 'vmamba_tiny'"),
        (lambda: export_state_dict(small()), "timm has no VMamba"),
    ],
)
def test_bad_arguments_are_refused_in_words(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def meta_state(name, **kwargs):
    with torch.device("meta"):
        return create_model(name, **kwargs).state_dict()


@pytest.mark.parametrize(
    ("model", "state", "says"),
    [
        (small, lambda: {"features.0.weight": torch.zeros(1)}, "not the weights of a VMamba.*got features.0.weight"),
        (small, dict, "no keys at all"),
        (small, lambda: meta_state("mambaout_kobe"), r"they are a MambaOut's. They fit create_model\('mambaout_kobe'"),
        (small, lambda: meta_state("vim_tiny"), r"they are a Vim's. They fit create_model\('vim_tiny"),
        (
            small,
            lambda: meta_state("vmamba_base"),
            r"another shape.*They fit create_model\('vmamba_base', num_classes=1000",
        ),
        (small, lambda: meta_state("vmamba_tiny_v0"), r"They fit create_model\('vmamba_tiny_v0'"),
        (
            small,
            lambda: small(depths=(1, 1, 1)).state_dict(),
            r"VMamba\(depths=\(1, 1, 1\), dims=\(8, 12, 16\), d_state=1",
        ),
        (small, lambda: small(num_classes=7).state_dict(), r"tensors of another shape.*head.fc.*num_classes=7"),
        (small, lambda: small(ResVMamba).state_dict(), "they are a ResVMamba's.*residual='stage'"),
        (lambda: small(ResVMamba), lambda: small(**V0).state_dict(), "residual='published'.*anew in every pass"),
        (lambda: small(ResVMamba), lambda: small(ResVMamba, residual="stem").state_dict(), "residual='stem'"),
        (lambda: create_model("mambaout_pico_8"), lambda: small().state_dict(), "MambaOut: they are a VMamba's"),
    ],
)
def test_wrong_weights_are_refused_and_change_nothing(model, state, says):
    model = model()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=says):
        load_official(model, state())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


# timm


@pytest.mark.parametrize("name", [*VMAMBA, *RES_VMAMBA])
def test_timm_finds_lists_and_builds_every_name(name):
    assert name in timm.list_models("*vmamba*")
    assert name in list_models("*vmamba*")
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=5, in_chans=1, drop_path_rate=0.1)
    assert isinstance(model, ResVMamba if name in RES_VMAMBA else VMamba)
    assert model.get_classifier().out_features == 5
    cfg = model.default_cfg
    first_conv, classifier = (model.get_submodule(cfg[key]) for key in ("first_conv", "classifier"))
    assert first_conv.in_channels == 1
    assert classifier is model.get_classifier()
    assert (cfg["input_size"], cfg["crop_pct"], cfg["interpolation"]) == ((3, 224, 224), 0.875, "bicubic")


@each_kind
def test_timm_interface(make):
    model, images = make(num_classes=5), torch.randn(2, 3, 32, 32)
    assert model(images).shape == (2, 5)
    model.reset_classifier(7)
    assert (model(images).shape, model.num_classes) == ((2, 7), 7)
    assert model.forward_head(model.forward_features(images), pre_logits=True).shape == (2, 16)
    last, every = model.eval().forward_intermediates(images)
    assert [tuple(y.shape[1:]) for y in every] == [(8, 8, 8), (12, 4, 4), (16, 2, 2)]
    torch.testing.assert_close(every[-1].permute(0, 2, 3, 1), last)
    early = model.forward_intermediates(images, indices=[0, 1], stop_early=True, intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(early, every[:2], strict=True))
    normed = model.forward_intermediates(images, indices=1, norm=True, intermediates_only=True, output_fmt="NHWC")
    torch.testing.assert_close(normed[0], model.head.norm(last))
    model.reset_classifier(0, global_pool="")
    assert model(images).shape == (2, 2, 2, 16)


def test_features_only_are_the_stages_and_leave_out_what_they_do_not_need():
    torch.manual_seed(0)
    sizes = {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 20)}
    images = torch.randn(1, 3, 32, 32)
    for name in ("vmamba_tiny", "res_vmamba_tiny"):
        whole = create_model(name, **sizes).eval()
        features = create_model(name, features_only=True, out_indices=(0, 2), **sizes).eval()
        assert (features.feature_info.channels(), features.feature_info.reduction()) == ([8, 16], [4, 16])
        keys = features.model.state_dict().keys()
        assert not any("stages.3" in key or "head.norm" in key or "residual_projection.2" in key for key in keys)
        features.model.load_state_dict({k: v for k, v in whole.state_dict().items() if k in keys})
        expected = whole.forward_intermediates(images, indices=[0, 2], intermediates_only=True)
        for a, b in zip(features(images), expected, strict=True):
            torch.testing.assert_close(a, b)


def test_optimisers_spare_decays_skips_and_biases_of_steps():
    model = small(ResVMamba)
    spared = model.no_weight_decay()
    assert spared == {
        f"stages.{i}.blocks.{j}.mixer.{name}"
        for i, j in ((0, 0), (1, 0), (1, 1), (2, 0))
        for name in ("A_log", "D", "dt_proj_bias")
    }
    groups = timm.optim.param_groups_weight_decay(model, weight_decay=0.05, no_weight_decay_list=spared)
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in decayed}
    assert "stages.0.blocks.0.mixer.x_proj_weight" in names
    assert not names & spared


@pytest.mark.parametrize("model", [VMamba, ResVMamba])
def test_layer_wise_rates_rise_from_stem_to_head(model):
    model = small(model)
    groups = timm.optim.param_groups_layer_decay(model, layer_decay=0.5)
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    scales = {name: scale[id(p)] for name, p in model.named_parameters()}
    firsts = [
        "stem",
        "stages.0.blocks.0",
        *(["residual_projection.0"] if "residual_projection.0.weight" in scales else []),
        "stages.1.downsample",
        "stages.1.blocks.1",
        "stages.2.blocks.0",
        "head.fc",
    ]
    rising = [next(s for name, s in scales.items() if name.startswith(first)) for first in firsts]
    assert rising == sorted(rising)
    assert rising[0] < rising[-1] == 1.0
    assert set(model.group_matcher(coarse=True)) == {"stem", "blocks"}


@each_kind
def test_profile_books_every_parameter_once(make):
    model = make()
    found = profile(model, 32)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert "other" not in [part.name for part in found]
    assert found["token mixing"].parameters == sum(
        p.numel() for module in model.modules() if isinstance(module, SS2D) for p in module.parameters()
    )
