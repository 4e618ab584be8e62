"""MambaOut against timm's, live, and against the authors' implementation, from a recorded case."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open

from mambaout_edu.models import MODELS, MambaOut, create_model, export_state_dict, load_official, profile

FIXTURES = Path(__file__).parent.parent / "fixtures"

# name: parameters, multiply-adds at the given size in units of 1e9 (counted from timm's models with torch's counter).
COUNTED = {
    "mambaout_femto": (7_304_536, 1.1480, 224),
    "mambaout_kobe": (9_141_208, 1.5059, 224),
    "mambaout_tiny": (26_545_096, 4.4697, 224),
    "mambaout_small": (48_488_072, 8.9364, 224),
    "mambaout_base": (84_813_092, 15.7943, 224),
    "mambaout_small_rw": (48_495_560, 8.9364, 224),
    "mambaout_base_short_rw": (88_827_688, 16.2808, 224),
    "mambaout_base_tall_rw": (86_481_448, 16.1167, 224),
    "mambaout_base_wide_rw": (94_448_104, 17.7518, 224),
    "mambaout_base_plus_rw": (101_656_552, 19.1612, 224),
    "test_mambaout": (447_560, 0.0246, 160),
}


def randomise(model: torch.nn.Module) -> None:
    """Weights far from their start values, so that every one of them shows in the output."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            spread = 0.5 if p.ndim == 1 else (p[0].numel()) ** -0.5
            p.copy_(torch.randn(p.shape, generator=generator) * spread + ("norm" in name and name.endswith("weight")))


@pytest.mark.parametrize("name", COUNTED)
def test_output_and_features_equal_timm(name):
    theirs = timm.create_model(name, num_classes=11).eval()
    randomise(theirs)
    ours = create_model(name, num_classes=11).eval()
    load_official(ours, theirs.state_dict())
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, got = theirs(images), ours(images)
        features = [m.forward_intermediates(images, intermediates_only=True) for m in (theirs, ours)]
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 * max(1.0, expected.abs().max().item()))
    for a, b in zip(*features, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", COUNTED)
def test_keys_go_both_ways_without_loss(name):
    with torch.device("meta"):
        theirs, ours = timm.create_model(name), create_model(name)
    exported = export_state_dict(ours, layout="timm")
    assert {k: v.shape for k, v in exported.items()} == {k: v.shape for k, v in theirs.state_dict().items()}


@pytest.mark.parametrize("name", ["mambaout_femto", "test_mambaout"])  # without and with timm's additions
def test_gradients_and_training_mode_equal_timm(name):
    theirs = timm.create_model(name, num_classes=5)
    randomise(theirs)
    ours = create_model(name, num_classes=5)
    load_official(ours, theirs.state_dict())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    theirs(images).square().sum().backward()
    ours(images).square().sum().backward()
    expected = {k: p.grad for k, p in theirs.named_parameters()}
    for key, p in ours.named_parameters():
        torch.testing.assert_close(p.grad, expected[key.replace(".mixer.", ".conv.")], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", COUNTED)
def test_counts_are_the_published_ones(name):
    parameters, giga, size = COUNTED[name]
    with torch.device("meta"):
        counted = profile(create_model(name), size)
    assert counted.parameters == parameters
    assert counted.multiply_adds == pytest.approx(giga * 1e9, rel=2e-3)


def test_every_variant_of_timm_is_here():
    assert set(timm.list_models("*mambaout*")) - {n for n in MODELS if "pico" in n} == set(COUNTED)


def official_case():
    with safe_open(FIXTURES / "mambaout_official_small_case.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    config.pop("image_size")
    state = {k.removeprefix("state_dict."): v for k, v in tensors.items() if k.startswith("state_dict.")}
    return config, state, tensors["input"], tensors["logits"]


def test_the_authors_weights_give_the_authors_output():
    config, state, images, logits = official_case()
    model = MambaOut(**config).eval()
    load_official(model, state)
    with torch.no_grad():
        torch.testing.assert_close(model(images), logits, rtol=0, atol=1e-5)


def test_the_authors_keys_come_back_unchanged():
    config, state, _, _ = official_case()
    model = MambaOut(**config)
    load_official(model, state)
    exported = export_state_dict(model, layout="official")
    assert exported.keys() == state.keys()
    assert all(torch.equal(exported[key], state[key]) for key in state)
