"""The explorer's traits: the outlines it holds, what it refuses, and that every word it may need is in its table."""

import threading

import pytest
import torch
from traitlets import TraitError

from mambaout_edu.models import metaformer_like
from mambaout_edu.models.outline import ASPECTS, outline
from mambaout_edu.models.steps import _CALLS, KINDS
from mambaout_edu.widgets import ArchitectureExplorer


def test_it_holds_the_outlines_of_the_two_models():
    explorer = ArchitectureExplorer()
    assert repr(explorer) == "ArchitectureExplorer(left='mambaout_tiny', right='vmamba_tiny', stage=1, block=1)"
    assert explorer.outlines == {name: outline(name) for name in ("mambaout_tiny", "vmamba_tiny")}
    explorer.right = "vim_tiny"
    assert explorer.outlines["vim_tiny"] == outline("vim_tiny")


def test_another_image_size_replaces_all_outlines():
    explorer = ArchitectureExplorer("mambaout_femto", "vim_tiny")
    explorer.left = "mambaout_kobe"
    explorer.image_size = 96
    assert set(explorer.outlines) == {"mambaout_kobe", "vim_tiny"}
    assert explorer.outlines["mambaout_kobe"]["stages"][0]["height"] == 24


def test_the_families_of_the_lecture_are_offered():
    offered = ArchitectureExplorer("mambaout_femto", "mambaout_femto").offered
    assert list(offered) == [
        *("mambaout", "vim", "vmamba", "res_vmamba", "residual_swin", "swin", "vit", "convnext", "skeleton"),
    ]
    assert "vmamba_tiny_v0" in offered["vmamba"]
    assert "deit_small_patch16_224" in offered["vit"]


def test_models_of_ones_own_and_skeletons_with_another_mixer():
    with torch.device("meta"):
        mine = metaformer_like("attention", depths=(1, 1), dims=(32, 64))
    explorer = ArchitectureExplorer("mine", 'metaformer_like("attention")', image_size=64, models={"mine": mine})
    assert explorer.offered["own"] == ["mine"]
    assert explorer.outlines["mine"]["name"] == "mine"
    assert explorer.differences == ["resolution", "channels", "depths"]
    explorer.left = 'metaformer_like("conv_ssm")'
    assert explorer.differences == ["mixer"]


def test_complete_gives_a_page_what_it_shall_show():
    explorer = ArchitectureExplorer("mambaout_femto", "mambaout_femto", image_size=64)
    assert explorer.complete(["mambaout_kobe", "mambaout_femto"]) is explorer
    assert set(explorer.outlines) == {"mambaout_femto", "mambaout_kobe"}
    with pytest.raises(ValueError, match="unknown model 'kobe'"):
        explorer.complete(["kobe"])


def test_what_is_not_offered_is_refused():
    with pytest.raises(ValueError, match="unknown model 'vmanba_tiny'; did you mean vmamba_tiny"):
        ArchitectureExplorer(right="vmanba_tiny")
    explorer = ArchitectureExplorer("mambaout_femto", "mambaout_femto")
    with pytest.raises(ValueError, match=r'models=\{"its name": model\}'):
        explorer.left = "resnet50"
    for wrong in ({"stage": -2}, {"block": -1}, {"image_size": 16}):
        with pytest.raises(TraitError):
            ArchitectureExplorer("mambaout_femto", "mambaout_femto", **wrong)
    with pytest.raises(TypeError, match="got size"):
        ArchitectureExplorer("mambaout_femto", "mambaout_femto", size=3)


def test_a_choice_in_another_thread_asks_no_gradient_state_of_the_cells():
    """Callbacks of the page run in a thread of their own, where the cells' no_grad does not hold."""
    explorer = ArchitectureExplorer("mambaout_femto", "mambaout_femto")
    thread = threading.Thread(target=setattr, args=(explorer, "right", "vim_small"))
    thread.start()
    thread.join()
    assert explorer.outlines["vim_small"] == outline("vim_small")
    assert torch.zeros(1).device.type == "cpu"


def test_every_kind_of_part_and_aspect_has_its_words():
    strings = ArchitectureExplorer("mambaout_femto", "mambaout_femto").strings
    assert list(strings["aspects"]) == list(ASPECTS)
    named = {"norm", "activation", "recurrent", "conv"}  # these are named by their function, or by what they are
    parts = (set(KINDS) - {"sum", "reverse"}) | {"select", "merge", "shortcut"}
    assert parts - named <= set(strings["parts"])
    assert parts <= set(strings["about"])
    assert parts - {"norm", "activation"} <= set(strings["line"])
    functions = _CALLS["norm"] | _CALLS["activation"] | _CALLS["recurrent"]
    assert functions == set(strings["functions"])
    assert set(strings["signs"]) == set(strings["sign_words"])
    explorer = ArchitectureExplorer("mambaout_femto", "mambaout_femto")
    assert set(explorer.offered) <= set(strings["groups"])
