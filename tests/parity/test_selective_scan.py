"""The selective scan, in every engine that runs here, against mamba-ssm's reference from recorded cases."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from mambaout_edu.scan import engines, selective_scan

FIXTURES = Path(__file__).parent.parent / "fixtures"
INPUTS = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
ENGINES = [name for name, status in engines("cpu").items() if status.available]


def relative(got, expected):
    return ((got.double() - expected.double()).norm() / expected.double().norm()).item()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", ["bare", "fixed_bc", "full", "grouped"])
def test_outputs_and_gradients_are_those_of_mamba_ssm(case, engine):
    with safe_open(FIXTURES / f"selective_scan_{case}.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    inputs = {k: tensors[k].requires_grad_() for k in INPUTS if k in tensors}
    softplus = config["delta_softplus"]
    out, last = selective_scan(**inputs, delta_softplus=softplus, return_last_state=True, engine=engine)
    out.backward(tensors["grad_out"])
    assert relative(out, tensors["out"]) < 2e-6
    assert relative(last, tensors["last_state"]) < 2e-6
    gradients = {name: relative(x.grad, tensors[f"grad.{name}"]) for name, x in inputs.items()}
    assert max(gradients.values()) < 5e-6, gradients
