"""Vim against the authors' implementation, from two recorded cases, and the counts of the published variants."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from mambaout_edu.models import Vim, create_model, export_state_dict, load_official

FIXTURES = Path(__file__).parent.parent / "fixtures"
CASES = ("vim_small_case", "vim_stride_small_case")

# name: parameters, patches of an image of 224 x 224; counted from the authors' code.
COUNTED = {
    "vim_tiny": (7_148_008, 196),
    "vim_small": (25_796_584, 196),
    "vim_base": (97_598_440, 196),
    "vim_tiny_stride8": (7_250_344, 729),
}
BLOCKS = {"vim_tiny": 282_048, "vim_small": 1_043_328, "vim_base": 4_003_584}


def case(name):
    with safe_open(FIXTURES / f"{name}.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    state = {k.removeprefix("state_dict."): v for k, v in tensors.items() if k.startswith("state_dict.")}
    arguments = {k: config[k] for k in ("img_size", "patch_size", "stride", "depth", "embed_dim", "num_classes")}
    arguments["d_state"] = config.get("d_state", 16)
    return arguments, state, tensors["input"], tensors["logits"]


@pytest.mark.parametrize("name", CASES)
def test_the_authors_weights_give_the_authors_output(name):
    arguments, state, images, logits = case(name)
    model = Vim(**arguments).eval()
    load_official(model, state)
    with torch.no_grad():
        torch.testing.assert_close(model(images), logits, rtol=0, atol=1e-5 * logits.abs().max().item())


@pytest.mark.parametrize("engine", ["cpu", "torch", "reference"])
def test_every_engine_gives_the_authors_output(engine):
    arguments, state, images, logits = case("vim_stride_small_case")
    model = Vim(**arguments, engine=engine).eval()
    load_official(model, state)
    with torch.no_grad():
        torch.testing.assert_close(model(images), logits, rtol=0, atol=1e-4 * logits.abs().max().item())


@pytest.mark.parametrize("name", CASES)
def test_every_weight_shows_in_the_output(name):
    arguments, state, images, _ = case(name)
    model = Vim(**arguments).eval().double()  # some show by 1e-6 only: start values differ little from their neighbours
    load_official(model, state)
    with torch.no_grad():
        before = model(images.double())
        for key in state:
            load_official(model, {**state, key: state[key] * 1.5 + 0.25})
            assert (model(images.double()) - before).abs().max() > 1e-7, key


@pytest.mark.parametrize("name", CASES)
def test_the_authors_keys_come_back_unchanged(name):
    arguments, state, _, _ = case(name)
    model = Vim(**arguments)
    load_official(model, {"model": state, "epoch": 300})
    exported = export_state_dict(model, layout="official")
    assert exported.keys() == state.keys()
    assert all(torch.equal(exported[key], state[key]) for key in state)


@pytest.mark.parametrize("name", COUNTED)
def test_counts_are_the_published_ones(name):
    parameters, patches = COUNTED[name]
    with torch.device("meta"):
        model = create_model(name)
        assert model.forward_features(torch.zeros(1, 3, 224, 224)).shape == (1, patches + 1, model.embed_dim)
    assert sum(p.numel() for p in model.parameters()) == parameters
    if name in BLOCKS:
        assert sum(p.numel() for p in model.blocks[0].parameters()) == BLOCKS[name]
