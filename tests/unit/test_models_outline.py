"""Outlines are read off real forward passes: they count what the profile counts, and find what is known of a model."""

import json

import pytest
import timm
import torch
from torch import nn

from mambaout_edu.models import create_model, metaformer_like, profile, stage_shapes
from mambaout_edu.models.outline import ASPECTS, differences, outline
from mambaout_edu.models.registry import MAMBAOUT
from mambaout_edu.models.steps import KINDS, record_steps
from mambaout_edu.models.vmamba import VMAMBA

SWIN, DEIT = "swin_tiny_patch4_window7_224", "deit_tiny_patch16_224"
NAMES = [
    *("mambaout_femto", "vim_tiny", "vim_tiny_stride8", "vmamba_tiny", "vmamba_tiny_v0", "res_vmamba_tiny"),
    *("residual_swin_tiny", SWIN, DEIT, "convnext_tiny"),
]


def on_meta(name):
    with torch.device("meta"):
        return (create_model if name in (*MAMBAOUT, *VMAMBA) or name[:3] in ("vim", "res") else timm.create_model)(name)


def kinds(parts):
    return [part["kind"] for part in parts]


@pytest.mark.parametrize("name", NAMES)
def test_an_outline_counts_what_the_profile_counts(name):
    model = on_meta(name)
    found, cost = outline(name), profile(model, 224)
    assert found["parameters"] == cost.parameters == sum(p.numel() for p in model.parameters())
    assert found["multiply_adds"] == cost.multiply_adds
    assert json.loads(json.dumps(found)) == found
    rows = [found["stem"], *found["stages"], found["head"]]
    for key in ("parameters", "multiply_adds"):
        assert sum(row[key] for row in rows) == found[key]
    for stage in found["stages"]:
        parts = [
            *stage["downsampling"],
            *stage["around"],
            *(p for kind in stage["blocks"] for p in stage["kinds"][kind]),
        ]
        assert sum(part["parameters"] for part in parts) == stage["parameters"]


@pytest.mark.parametrize("mixer", ["conv_ssm", "cross", "attention", "window", "lstm", "pooling", "identity"])
def test_an_outline_counts_any_mixer(mixer):
    with torch.device("meta"):
        model = metaformer_like(mixer, depths=(2, 2), dims=(32, 64))
    found, cost = outline(model, 64), profile(model, 64)
    assert (found["parameters"], found["multiply_adds"]) == (cost.parameters, cost.multiply_adds)


@pytest.mark.parametrize("name", ["mambaout_tiny", "mambaout_base", "vmamba_tiny", "vmamba_small_v0"])
def test_stages_are_those_of_the_configuration(name):
    arguments = {**MAMBAOUT, **VMAMBA}[name]
    found = outline(name)
    shapes = [(stage["height"], stage["width"], stage["channels"]) for stage in found["stages"]]
    assert shapes == stage_shapes(224, 224, arguments["dims"])
    assert found["aspects"]["depths"] == list(arguments["depths"])
    states = [arguments.get("d_state", 1)] if name.startswith("vmamba") else []
    assert [mixer["states"] for mixer in found["aspects"]["mixer"] if mixer["kind"] == "scan"] == states


def test_an_image_of_another_size_changes_maps_and_cost_alone():
    small, large = outline(SWIN, 224), outline(SWIN, 448)
    assert [stage["height"] for stage in large["stages"]] == [112, 56, 28, 14]
    assert large["parameters"] == small["parameters"]
    assert large["multiply_adds"] > 3.9 * small["multiply_adds"]
    assert differences(small, large) == ["resolution"]


# The mixer of each model, as its paper says.
MIXERS = {
    "mambaout_tiny": {"kind": "conv", "kernel": [7, 7]},
    "vim_tiny": {"kind": "scan", "directions": 2, "states": 16, "expand": 2.0, "conv": [4]},
    "vmamba_tiny": {"kind": "scan", "directions": 4, "states": 1, "expand": 1.0, "conv": [3, 3]},
    "vmamba_tiny_v0": {"kind": "scan", "directions": 4, "states": 16, "expand": 2.0, "conv": [3, 3]},
    SWIN: {"kind": "attention", "window": 49, "shifted": True, "causal": False},
    DEIT: {"kind": "attention", "window": 0, "shifted": False, "causal": False},
    "convnext_tiny": {"kind": "conv", "kernel": [7, 7]},
}


@pytest.mark.parametrize("name", MIXERS)
def test_the_token_mixer_is_recognised(name):
    assert outline(name)["aspects"]["mixer"] == [MIXERS[name]]


def test_parts_of_a_block_stand_in_the_order_of_the_forward_pass():
    block = outline("vmamba_tiny")["stages"][0]["kinds"][0]
    assert kinds(part for part in block if part["mixer"]) == [
        *("linear", "conv", "activation", "select", "scan", "merge", "norm", "linear"),
    ]
    assert kinds(part for part in block if not part["mixer"]) == [
        *("norm", "shortcut", "norm", "linear", "activation", "linear", "shortcut"),
    ]
    inner = next(part for part in outline("vim_tiny")["stages"][0]["kinds"][0] if part["kind"] == "scan")
    assert (inner["steps"], inner["reversed"], inner["channels"]) == (197, True, 384)
    shifted = outline(SWIN)["stages"][0]
    assert shifted["blocks"] == [0, 1]
    assert ["shift" in kinds(parts) for parts in shifted["kinds"]] == [False, True]
    attention = next(part for part in shifted["kinds"][0] if part["kind"] == "attention")
    assert attention["multiply_adds"] == 2 * 49 * 3136 * 96
    assert attention["parameters"] == 13 * 13 * 3  # the table of relative positions


PAIRS = [
    ("vmamba_tiny_v0", "res_vmamba_tiny", ["around"]),
    (SWIN, "residual_swin_tiny", ["around"]),
    ("mambaout_tiny", "mambaout_small", ["depths"]),
    ("vit_tiny_patch16_224", DEIT, []),
    ("vim_tiny", "vim_small", ["channels"]),
    ("vmamba_tiny_s2l5", "vmamba_tiny", ["mixer", "depths"]),
    ("mambaout_tiny", "mambaout_tiny", []),
]


@pytest.mark.parametrize(("left", "right", "expected"), PAIRS)
def test_the_differences_between_known_pairs(left, right, expected):
    assert differences(outline(left), outline(right)) == expected


@pytest.mark.parametrize("mixer", ["conv_ssm", "attention", "pooling"])
def test_another_mixer_in_the_same_skeleton_is_the_one_difference(mixer):
    with torch.device("meta"):
        pair = [metaformer_like(name, depths=(1, 1), dims=(32, 64)) for name in ("conv", mixer)]
    assert differences(*(outline(model, 64) for model in pair)) == ["mixer"]


def test_the_model_is_left_as_it_was():
    model = metaformer_like("ssm", depths=(1,), dims=(16,), num_classes=3).train()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    steps = record_steps(model, 32, 32)
    assert {step.kind for step in steps} <= set(KINDS)
    assert model.training
    assert all(torch.equal(before[name], p) for name, p in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_hooks_are_taken_off_where_the_forward_pass_fails():
    model = create_model("vim_tiny")
    with pytest.raises(ValueError, match="at least one patch"):
        outline(model, 8)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_what_cannot_be_laid_out_is_refused_in_words():
    with pytest.raises(ValueError, match="unknown model 'mambaout_tinny'; did you mean mambaout_tiny"):
        outline("mambaout_tinny")
    with pytest.raises(ValueError, match="Sequential has no module list called `blocks`"):
        outline(nn.Sequential(nn.Conv2d(3, 4, 1)))


def test_every_outline_has_all_aspects():
    assert set(outline("mambaout_femto")["aspects"]) == set(ASPECTS)
