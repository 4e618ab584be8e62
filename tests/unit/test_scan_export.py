"""Exported programs with their scans written out: no operator of ours left, the same results, and ONNX where it is."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.export import Dim, export

from mambaout_edu.blocks import GatedBlock
from mambaout_edu.mixers import ConvSSM, Mamba1, MixerState, SelectiveSSM
from mambaout_edu.scan import selective_scan
from mambaout_edu.scan.export import ENGINES, unfold_scans

OPERATOR = "mambaout_edu.selective_scan"


class Scan(nn.Module):
    """A scan with every option, called straight from a model."""

    def forward(self, u, delta, A, B, C, D, z, bias, start):
        options = {"delta_softplus": True, "return_last_state": True, "initial_state": start}
        return selective_scan(u, delta, A, B, C, D, z, bias, **options)


class Step(nn.Module):
    """One token through a mixer, its state passed in and out."""

    def __init__(self, mixer):
        super().__init__()
        self.mixer = mixer

    def forward(self, token, conv, ssm):
        y, state = self.mixer.step(token, MixerState(conv, ssm))
        return y, *state


def scan_arguments(dtype=torch.float32, fixed=False):
    batch, channels, length, states = 2, 6, 11, 3
    sequence, rows = (batch, channels, length), (channels, states) if fixed else (batch, 2, states, length)
    u, delta, z, B, C = (torch.randn(*s).to(dtype) for s in (sequence, sequence, sequence, rows, rows))
    A, D, bias = -torch.rand(channels, states), torch.randn(channels), torch.randn(channels)
    return u, delta, A, B, C, D, z, bias, torch.randn(batch, channels, states)


def models():
    torch.manual_seed(0)
    yield "mixer of sequences", SelectiveSSM(6, d_state=3), (torch.randn(2, 10, 6),)
    yield "Mamba-1", Mamba1(8, d_state=4), (torch.randn(2, 17, 8),)
    block = GatedBlock(8, mixer=ConvSSM)
    yield "two Mamba blocks on images", nn.Sequential(block, GatedBlock(8, mixer=ConvSSM)), (torch.randn(1, 5, 4, 8),)
    yield "grouped, all options", Scan(), scan_arguments()
    yield "fixed B and C", Scan(), scan_arguments(fixed=True)
    yield "bfloat16", Scan(), scan_arguments(torch.bfloat16)
    yield "float64", Scan(), tuple(x.double() for x in scan_arguments())
    yield "one step", SelectiveSSM(4), (torch.randn(1, 1, 4),)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("model", "inputs"), [pytest.param(m.eval(), x, id=name) for name, m, x in models()])
def test_no_scan_is_left_and_the_results_are_the_same(model, inputs, engine):
    program = export(model, inputs)
    before = str(program.graph)
    assert OPERATOR in before
    unfolded = unfold_scans(program, engine)
    assert "mambaout_edu" not in str(unfolded.graph)
    assert str(program.graph) == before
    expected = model(*inputs)
    dtype = torch.bfloat16 if inputs[0].dtype == torch.bfloat16 else expected[0].dtype
    tolerance = {torch.bfloat16: 1e-2, torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(unfolded.module()(*inputs), expected, rtol=tolerance, atol=tolerance)


def test_the_torch_engine_writes_fewer_steps():
    model, x = SelectiveSSM(4, d_state=2).eval(), torch.randn(1, 36, 4)
    counts = {}
    for engine in ENGINES:
        graph = unfold_scans(export(model, (x,)), engine).graph
        counts[engine] = sum(node.target is torch.ops.aten.exp.default for node in graph.nodes)
    # One more for A: of all 36 steps, or of two runs through a chunk of 6 and the decay of the chunks.
    assert counts == {"reference": 37, "torch": 14}


def test_the_batch_may_stay_free():
    model, x = ConvSSM(4, kernel_size=3, d_state=2).eval(), torch.randn(2, 3, 5, 4)
    unfolded = unfold_scans(export(model, (x,), dynamic_shapes=({0: Dim("batch")},)))
    many = torch.randn(7, 3, 5, 4)
    torch.testing.assert_close(unfolded.module()(many), model(many))


def test_a_free_length_is_refused_in_words():
    model, x = SelectiveSSM(4).eval(), torch.randn(1, 10, 4)
    with torch.no_grad():
        program = export(model, (x,), dynamic_shapes=({1: Dim("length")},))
    longer = torch.randn(1, 23, 4)
    torch.testing.assert_close(program.module()(longer), model(longer))  # as an operator, any length will do
    with pytest.raises(ValueError, match=r"the length of a scan must be fixed .* the free size .* out of dynamic_sh"):
        unfold_scans(program)


def test_what_cannot_be_unfolded_is_refused_in_words():
    model = SelectiveSSM(4)
    with pytest.raises(TypeError, match=r"program must be a torch.export.ExportedProgram; got SelectiveSSM"):
        unfold_scans(model)
    with pytest.raises(ValueError, match=r"engine must be 'torch' or 'reference', .* got 'cpu'"):
        unfold_scans(export(model, (torch.randn(1, 2, 4),)), "cpu")


LOADED_ELSEWHERE = """
import sys, torch
class Refused:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "mambaout_edu":
            raise ImportError("the program asked for the package")
sys.meta_path.insert(0, Refused())
program = torch.export.load(sys.argv[1]).module()
x, expected = torch.load(sys.argv[2], weights_only=True)
torch.testing.assert_close(program(x), expected)
"""


def test_a_saved_program_needs_the_package_no_more(tmp_path):
    model, x = Mamba1(8, d_state=4).eval(), torch.randn(1, 12, 8)
    program = export(model, (x,))
    torch.save((x, model(x).detach()), tmp_path / "data.pt")
    outcomes = []
    for name, each in (("whole", program), ("unfolded", unfold_scans(program))):
        torch.export.save(each, tmp_path / f"{name}.pt2")
        command = [sys.executable, "-c", LOADED_ELSEWHERE, tmp_path / f"{name}.pt2", tmp_path / "data.pt"]
        outcomes.append(subprocess.run(command, capture_output=True, text=True))
    assert outcomes[0].returncode != 0  # the operator is not known there
    assert outcomes[1].returncode == 0, outcomes[1].stderr


def test_a_mixers_step_holds_no_scan():
    mixer, x = Mamba1(8, d_state=4).eval(), torch.randn(2, 9, 8)
    state = mixer.initial_state(2)
    program = export(Step(mixer), (x[:, 0], *state))
    assert "mambaout_edu" not in str(program.graph)
    outputs = []
    for token in x.unbind(1):
        y, *state = program.module()(token, *state)
        outputs.append(y)
    torch.testing.assert_close(torch.stack(outputs, 1), mixer(x), rtol=1e-5, atol=1e-6)


@pytest.fixture
def onnx_session(tmp_path):
    """Return a function from an exported program to an ONNX runtime's session; skips where ONNX is not installed."""
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name)
    runtime = pytest.importorskip("onnxruntime")

    def session(program):
        path = tmp_path / "model.onnx"
        torch.onnx.export(program, dynamo=True, verbose=False).save(path)
        return runtime.InferenceSession(path)

    return session


def run(session, *tensors):
    names = [given.name for given in session.get_inputs()]
    found = session.run(None, dict(zip(names, (x.numpy() for x in tensors), strict=True)))
    return [torch.from_numpy(x) for x in found]


@pytest.mark.filterwarnings("default")  # of the exporter, from version to version others
@pytest.mark.parametrize("engine", ENGINES)
def test_onnx_runs_images_of_a_fixed_size(onnx_session, engine):
    model = nn.Sequential(GatedBlock(8, mixer=ConvSSM), GatedBlock(8, mixer=ConvSSM)).eval()
    x, many = torch.randn(2, 5, 4, 8), torch.randn(3, 5, 4, 8)
    program = unfold_scans(export(model, (x,), dynamic_shapes=({0: Dim("batch")},)), engine)
    (found,) = run(onnx_session(program), many)
    torch.testing.assert_close(found, model(many).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("default")
def test_onnx_runs_a_scan_with_every_option(onnx_session):
    inputs = scan_arguments()
    found = run(onnx_session(unfold_scans(export(Scan(), inputs))), *inputs)
    for got, expected in zip(found, Scan()(*inputs), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("default")
def test_onnx_runs_any_length_token_by_token(onnx_session):
    mixer, x = Mamba1(8, d_state=4).eval(), torch.randn(2, 9, 8)
    state = mixer.initial_state(2)
    session = onnx_session(export(Step(mixer), (x[:, 0], *state)))
    outputs = []
    for token in x.unbind(1):
        y, *state = run(session, token, *state)
        outputs.append(y)
    torch.testing.assert_close(torch.stack(outputs, 1), mixer(x).detach(), rtol=1e-4, atol=1e-5)
