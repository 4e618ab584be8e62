"""The Mamba-1 and Mamba-2 mixers against recorded outputs of transformers' mixers, whole and token by token."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from mambaout_edu.mixers import Mamba1, Mamba2

FIXTURES = Path(__file__).parent.parent / "fixtures"


def recorded(name):
    """Return the recorded mixer with its weights, input and output."""
    with safe_open(FIXTURES / f"{name}.safetensors", "pt") as case:
        config = json.loads(case.metadata()["config"])
        tensors = {key: case.get_tensor(key) for key in case.keys()}  # noqa: SIM118 - not a dict
    sizes = {"d_state": config["state_size"], "d_conv": config["conv_kernel"], "expand": config["expand"]}
    if name == "mamba1_block":
        mixer = Mamba1(config["hidden_size"], **sizes)
    else:
        sizes |= {"headdim": config["head_dim"], "ngroups": config["n_groups"], "chunk_size": config["chunk_size"]}
        mixer = Mamba2(config["hidden_size"], **sizes)
    weights = {key.removeprefix("state_dict."): value for key, value in tensors.items() if key.startswith("state_dict")}
    assert mixer.load_state_dict(weights, strict=True)  # every key is used, and none is missing
    return mixer, tensors["input"], tensors["output"]


@pytest.mark.parametrize("name", ["mamba1_block", "mamba2_block"])
@torch.no_grad()
def test_output_equals_the_record(name):
    mixer, x, expected = recorded(name)
    largest = expected.abs().max().item()
    assert largest > 0.01
    torch.testing.assert_close(mixer(x), expected, rtol=0, atol=1e-4 * largest)


@pytest.mark.parametrize("name", ["mamba1_block", "mamba2_block"])
@torch.no_grad()
def test_every_token_equals_the_record(name):
    mixer, x, expected = recorded(name)
    state, outputs = mixer.initial_state(len(x)), []
    for token in x.unbind(1):
        y, state = mixer.step(token, state)
        outputs.append(y)
    torch.testing.assert_close(torch.stack(outputs, 1), expected, rtol=0, atol=1e-4 * expected.abs().max().item())
