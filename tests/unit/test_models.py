"""Models by name, any size of image, what they refuse, and timm's interface."""

import copy

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambaout_edu.models import MODELS, MambaOut, create_model, list_models, load_official, profile, stage_shapes
from mambaout_edu.models.registry import _INPUT_SIZES


def small(**kwargs):
    return MambaOut(**{"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 20), "num_classes": 3, **kwargs})


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    stride=st.sampled_from([1, 2, 4]),
    chans=st.sampled_from([1, 3]),
)
def test_any_image_size_and_the_shapes_of_the_stages(height, width, stride, chans):
    model = small(stem_stride=stride, in_chans=chans).eval()
    with torch.no_grad():
        out, stages = model.forward_intermediates(torch.randn(1, chans, height, width), output_fmt="NHWC")
        assert torch.isfinite(model.forward_head(out)).all()
    assert [tuple(s.shape[1:]) for s in stages] == stage_shapes(height, width, (8, 12, 16, 20), stride)


def test_published_stage_shapes():
    assert stage_shapes(224, 224) == [(56, 56, 96), (28, 28, 192), (14, 14, 384), (7, 7, 576)]


@pytest.mark.parametrize("name", _INPUT_SIZES)
def test_small_image_variants_keep_room_in_the_last_stage(name):
    chans, height, width = _INPUT_SIZES[name]
    with torch.device("meta"):
        model = create_model(name, num_classes=10)
        features = model.forward_features(torch.zeros(2, chans, height, width))
    assert min(features.shape[1:3]) >= (2 if height == 8 else 4)
    assert timm.is_model(name)
    assert isinstance(timm.create_model(name, num_classes=4), MambaOut)


@pytest.mark.parametrize("name", MODELS)
def test_registered_names_build_and_timm_keeps_its_own(name):
    with torch.device("meta"):
        assert create_model(name).num_classes == 1000
        is_ours = isinstance(timm.create_model(name), MambaOut)
    assert is_ours == ("pico" in name)


def test_list_models():
    assert list_models("mambaout_tiny*") == ["mambaout_tiny"]
    assert list_models() == sorted(MODELS)


def test_batch_of_one_equals_the_same_image_in_a_batch():
    torch.manual_seed(0)
    model = small().eval()
    images = torch.randn(3, 3, 33, 47)
    with torch.no_grad():
        torch.testing.assert_close(model(images)[1:2], model(images[1:2]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "error", "says"),
    [
        (torch.zeros(3, 32, 32), ValueError, r"got 3 axes, shape \(3, 32, 32\). Add the batch axis"),
        (torch.zeros(1, 1, 32, 32), ValueError, r"got 1 channels.*in_chans=1"),
        (torch.zeros(1, 32, 32, 3), ValueError, r"got 32 channels.*permute\(0, 3, 1, 2\)"),
        (torch.zeros(1, 3, 0, 32), ValueError, "at least one pixel"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), TypeError, r"torch.uint8.*x.float\(\) / 255"),
        (
            torch.zeros(1, 3, 32, 32, dtype=torch.float64),
            TypeError,
            "images are torch.float64, the weights torch.float32",
        ),
    ],
)
def test_wrong_images_are_refused_in_words(images, error, says):
    with pytest.raises(error, match=says):
        small()(images)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: create_model("mambaout_tny"), "unknown model 'mambaout_tny'; did you mean mambaout_tiny"),
        (lambda: create_model("mambaout_pico_32", pretrained=True), "no published weights"),
        (lambda: MambaOut(depths=(1, 2), dims=(8,)), r"depths = \(1, 2\), dims = \(8,\)"),
        (lambda: MambaOut(depths=(), dims=()), "one positive entry a stage"),
        (lambda: small(stem_stride=3), "1, 2 or 4.*got 3"),
        (lambda: small(downsample="pool"), "downsample must be one of.*got 'pool'"),
        (lambda: small(global_pool="max"), "global_pool.*got 'max'"),
        (lambda: small(num_classes=-1), "num_classes.*got -1"),
        (lambda: stage_shapes(0, 8), "got 0, 8"),
        (lambda: profile(small(), 0), "0 x 0"),
        (lambda: small().forward_intermediates(torch.zeros(1, 3, 8, 8), output_fmt="CHW"), "got 'CHW'"),
    ],
)
def test_bad_arguments_are_refused_in_words(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_failed_download_says_what_to_do_offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr("timm.models._builder.load_pretrained", refuse)
    with pytest.raises(OSError, match=r"could not fetch.*ConnectionError.*load_official"):
        create_model("mambaout_femto", pretrained=True)


def test_pretrained_weights_are_remapped_on_the_way_in(monkeypatch):
    theirs = timm.create_model("test_mambaout", num_classes=1000)
    loaded = {}

    def from_memory(model, pretrained_cfg, filter_fn, **kwargs):
        loaded.update(model.load_state_dict(filter_fn(theirs.state_dict(), model))._asdict())

    monkeypatch.setattr("timm.models._builder.load_pretrained", from_memory)
    monkeypatch.setattr("timm.is_model_pretrained", lambda name: True)
    create_model("test_mambaout", pretrained=True)
    assert loaded == {"missing_keys": [], "unexpected_keys": []}


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (lambda: timm.create_model("test_vit").state_dict(), "not the weights of a MambaOut"),
        (lambda: {}, "no keys at all"),
        (lambda: create_model("mambaout_kobe").state_dict(), r"They fit create_model\('mambaout_kobe'"),
        (lambda: small(num_classes=7).state_dict(), r"tensors of another shape.*head.fc.*num_classes=7"),
        (lambda: {k: v for k, v in small().state_dict().items() if "stages.2" not in k}, "keys that the weights lack"),
    ],
)
def test_wrong_weights_are_refused_and_change_nothing(state, says):
    model = small()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=says):
        load_official(model, state())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_nested_and_data_parallel_states_are_unwrapped():
    source, target = small(), small()
    nested = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}
    load_official(target, nested)
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())


def test_rw_models_have_no_official_layout():
    from mambaout_edu.models import export_state_dict

    with torch.device("meta"), pytest.raises(ValueError, match="rw variants"):
        export_state_dict(create_model("test_mambaout"), layout="official")
    with pytest.raises(ValueError, match="got 'onnx'"):
        export_state_dict(small(), layout="onnx")


def test_timm_interface():
    model = small(num_classes=5)
    images = torch.randn(2, 3, 64, 64)
    assert model(images).shape == (2, 5)
    assert model.get_classifier().out_features == 5
    model.reset_classifier(7)
    assert model(images).shape == (2, 7)
    assert model.forward_head(model.forward_features(images), pre_logits=True).shape == (2, 80)
    model.reset_classifier(0, global_pool="")
    assert model.forward_features(images).shape == (2, 2, 2, 20)
    model.reset_classifier(3, "avg", reset_other=True)
    assert model(images).shape == (2, 3)
    features = create_model("mambaout_pico_64", features_only=True)(images)
    assert [tuple(f.shape[1:]) for f in features] == [(32, 32, 32), (16, 16, 64), (8, 8, 128), (4, 4, 192)]
    early = model.forward_intermediates(images, indices=[0, 1], stop_early=True, intermediates_only=True)
    assert [tuple(f.shape[1:]) for f in early] == [(8, 16, 16), (12, 8, 8)]


def test_checkpointing_changes_memory_not_gradients():
    torch.manual_seed(0)
    plain = small(num_classes=2)
    recomputed = copy.deepcopy(plain)
    recomputed.set_grad_checkpointing()
    images = torch.randn(2, 3, 32, 32)
    for model in (plain, recomputed):
        model(images).sum().backward()
    for a, b in zip(plain.parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_drop_path_rises_over_all_blocks():
    model = MambaOut(depths=(2, 3), dims=(8, 8), drop_path_rate=0.4)
    rates = [getattr(b.drop_path, "drop_prob", 0.0) for stage in model.stages for b in stage.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_bfloat16_autocast_and_export():
    model = small().eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(model(images.bfloat16())).all()
        with pytest.raises(TypeError, match=r"torch\.float64"):
            model(images.double())
    exported = torch.export.export(model, (images,))
    torch.testing.assert_close(exported.module()(images), model(images))


def test_profile_books_every_parameter_once_and_leaves_the_model_alone():
    model = small().train()
    found = profile(model, (40, 24))
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert [part.name for part in found] == ["stem", "token mixing", "channel mixing", "downsampling", "head"]
    assert model.training
    assert found["token mixing"].multiply_adds == sum(
        49 * c * h * w for h, w, c in stage_shapes(40, 24, (8, 12, 16, 20))
    )
    with pytest.raises(KeyError, match="no part 'attention'"):
        found["attention"]
    assert "2.3%" in repr(profile(create_model("mambaout_tiny"), 224))


def test_profile_counts_a_model_that_names_no_parts():
    found = profile(timm.create_model("test_resnet"), 64)
    assert [part.name for part in found] == ["other"]
    assert found.multiply_adds > 0
