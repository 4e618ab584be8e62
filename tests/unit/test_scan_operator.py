"""The scan as a torch operator: compile, export, autocast, counting, threads, forks, messages."""

import multiprocessing
import subprocess
import sys
import threading
import types
import warnings

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mambaout_edu.scan import engines, explain, flops, selective_scan
from mambaout_edu.scan.operator import operator


def arguments(batch=2, channels=5, length=40, state=3, dtype=torch.float32, grad=False):
    g = torch.Generator().manual_seed(0)
    shapes = {"u": (batch, channels, length), "delta": (batch, channels, length), "A": (channels, state)}
    shapes |= {"B": (batch, state, length), "C": (batch, state, length), "D": (channels,), "z": shapes["u"]}
    found = {k: torch.randn(*s, generator=g, dtype=torch.float64).to(dtype) for k, s in shapes.items()}
    found["A"], found["delta"] = -found["A"].exp(), found["delta"].abs()
    return {k: x.requires_grad_(grad) for k, x in found.items()}


def step(tensors):
    out, last = selective_scan(**tensors, delta_softplus=True, return_last_state=True)
    return out.square().sum() + last.square().sum()


def gradients(function, tensors):
    for x in tensors.values():
        x.grad = None
    function(tensors).backward()
    return {k: x.grad.clone() for k, x in tensors.items()}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_the_operator_keeps_torchs_rules():
    t = arguments(dtype=torch.float64, grad=True, length=5)
    sequence = [t[k].detach().transpose(1, 2).requires_grad_() for k in ("u", "delta", "z")]
    rows = [t[k].detach().permute(0, 2, 1).unsqueeze(2).requires_grad_() for k in ("B", "C")]
    given = (sequence[0], sequence[1], t["A"], *rows, t["D"], sequence[2], None, None, True, "cpu", True)
    torch.library.opcheck(operator, given)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_whole_with_its_gradients(dynamic):
    tensors = arguments(grad=True)
    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    expected, got = gradients(step, tensors), gradients(compiled, tensors)
    for name in tensors:
        torch.testing.assert_close(got[name], expected[name])


@pytest.mark.slow
def test_compiled_by_inductor():
    tensors = arguments(grad=True)
    expected, got = gradients(step, tensors), gradients(torch.compile(step, fullgraph=True), tensors)
    for name in tensors:
        torch.testing.assert_close(got[name], expected[name])


class Scan(torch.nn.Module):
    def __init__(self, engine):
        super().__init__()
        self.engine = engine

    def forward(self, u, delta, A, B, C):
        return selective_scan(u, delta, A, B, C, delta_softplus=True, engine=self.engine)


@pytest.mark.parametrize(("engine", "holds_operator"), [("auto", True), ("torch", False)])
def test_exported(engine, holds_operator):
    tensors = [arguments()[k] for k in ("u", "delta", "A", "B", "C")]
    program = torch.export.export(Scan(engine), tuple(tensors))
    assert ("mambaout_edu" in str(program.graph)) == holds_operator
    torch.testing.assert_close(program.module()(*tensors), Scan("reference")(*tensors), rtol=1e-4, atol=1e-5)


def test_exported_with_gradients_and_a_free_length():
    tensors = [arguments(grad=True)[k] for k in ("u", "delta", "A", "B", "C")]
    length = torch.export.Dim("length", min=2, max=4096)
    free = tuple(None if x.ndim == 2 else {2: length} for x in tensors)
    program = torch.export.export(Scan("cpu"), tuple(tensors), dynamic_shapes=free)
    longer = [x if x.ndim == 2 else torch.cat((x, x), dim=2) for x in tensors]
    torch.testing.assert_close(program.module()(*longer), Scan("reference")(*longer), rtol=1e-4, atol=1e-5)


def test_tracing_does_not_import_numba():
    code = """
import sys, torch
from torch._subclasses.fake_tensor import FakeTensorMode
from mambaout_edu.scan import selective_scan
with FakeTensorMode():
    u = torch.empty(2, 8, 64, requires_grad=True)
    selective_scan(u, u, torch.empty(8, 4), *(torch.empty(2, 4, 64) for _ in range(2)))
print("numba" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_autocast_leaves_the_state_in_float32():
    tensors = arguments(grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out, last = selective_scan(**tensors, delta_softplus=True, return_last_state=True)
    expected = selective_scan(**tensors, delta_softplus=True)
    assert out.dtype == last.dtype == torch.float32
    assert torch.equal(out, expected)
    out.sum().backward()
    assert tensors["A"].grad.dtype == torch.float32


def test_operations_are_counted_by_the_papers_rule():
    tensors = arguments(batch=2, channels=6, length=10, state=4)
    rule = 2 * 6 * 10 * (9 * 4)
    assert flops((2, 6, 10), 4) == rule
    with FlopCounterMode(display=False) as counter:
        selective_scan(**tensors)
    assert counter.get_total_flops() == rule + 2 * (2 * 6 * 10)
    with FlopCounterMode(display=False) as counter:
        selective_scan(**{**tensors, "D": None, "z": None})
    assert counter.get_total_flops() == rule
    on_meta = {k: x.to("meta") for k, x in tensors.items()}
    with FlopCounterMode(display=False) as counter:
        out, last = selective_scan(**on_meta, return_last_state=True)
    assert counter.get_total_flops() == rule + 2 * (2 * 6 * 10)
    assert (out.shape, last.shape, out.device.type) == ((2, 6, 10), (2, 6, 4), "meta")


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_bit_identical_for_any_number_of_threads(threads):
    """Three batch entries of five blocks of channels, and two segments of time, in the backward pass too."""
    tensors = arguments(batch=3, channels=300, length=600, state=5, grad=True)
    found = []
    for count in (1, 2, 3, 5):
        threads(count)
        found += [gradients(step, tensors) for _ in range(2)]
    for other in found[1:]:
        assert all(torch.equal(other[name], found[0][name]) for name in tensors)


def test_many_callers_at_once(threads):
    threads(3)
    tensors = arguments(channels=200)
    expected = selective_scan(**tensors)
    results: list[torch.Tensor] = []
    callers = [threading.Thread(target=lambda: results.append(selective_scan(**tensors))) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert len(results) == 8
    assert all(torch.equal(r, expected) for r in results)


class Scanned(torch.utils.data.Dataset):
    """Each item is a scan, run in the worker."""

    def __init__(self, tensors):
        self.tensors = tensors

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return selective_scan(**self.tensors)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_data_loader_workers_after_a_threaded_scan(threads):
    threads(3)
    tensors = arguments(channels=200)
    expected = selective_scan(**tensors)  # the parent's pool has threads now, which a child does not inherit
    loader = torch.utils.data.DataLoader(
        Scanned(tensors), batch_size=None, num_workers=2, timeout=60, multiprocessing_context="fork"
    )
    assert all(torch.equal(out, expected) for out in loader)


def test_gradients_enter_no_graph_that_was_not_asked_for():
    tensors = arguments(grad=True)
    with torch.no_grad():
        assert not selective_scan(**tensors).requires_grad
    _, last = selective_scan(**tensors, return_last_state=True)
    grad = torch.autograd.grad(last.sum(), tensors["u"])[0]  # the last state alone, out unused
    assert grad.abs().sum() > 0


def test_output_has_the_strides_of_its_input():
    tensors = arguments()
    assert selective_scan(**tensors).is_contiguous()
    turned = {**tensors, "u": tensors["u"].transpose(1, 2).contiguous().transpose(1, 2)}
    assert selective_scan(**turned).stride() == turned["u"].stride()


STEP_ALONE = """
from pathlib import Path
import torch
from mambaout_edu.scan import selective_scan

def held(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024

def tensors(batch, length, channels, state):
    t = {k: torch.randn(batch, length, channels) for k in ("u", "delta", "z")}
    t |= {k: torch.randn(batch, length, state) for k in ("B", "C")} | {"A": -torch.ones(channels, state)}
    return {k: x.requires_grad_() for k, x in t.items()}

def step(t, grad):
    selective_scan(**t, delta_softplus=True, layout="bld").backward(grad)

small = tensors(1, 40, 64, 16)
step(small, torch.ones_like(small["u"]))
t = tensors(1, 4096, 512, 16)
grad = torch.ones_like(t["u"])
Path("/proc/self/clear_refs").write_text("5")
before = held("VmRSS")
step(t, grad)
inputs = sum(x.nbytes for x in t.values())
print((held("VmHWM") - before - inputs - grad.nbytes) / inputs)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's own record of the peak of memory")
def test_a_long_training_step_needs_less_than_half_its_inputs_beyond_inputs_output_and_gradients():
    """At L = 4096, in a process of its own, after a small step that loads and compiles."""
    done = subprocess.run([sys.executable, "-c", STEP_ALONE], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.5


BAD = {
    "u must be a torch.Tensor; got list": {"u": [1.0]},
    r"u must be \(B, D, L\) .* got shape \(2, 5\)": {"u": torch.zeros(2, 5)},
    r"no side 0; got shape \(2, 5, 0\)": {"u": torch.zeros(2, 5, 0)},
    r"delta must have the shape of u, \(2, 5, 40\); got \(2, 5, 39\)": {"delta": torch.zeros(2, 5, 39)},
    r"A must be \(D, N\) with D = 5 .* got \(6, 3\)": {"A": torch.zeros(6, 3)},
    r"B must be \(D, N\), \(B, N, L\) or \(B, G, N, L\) .* got \(2, 40, 3\)": {"B": torch.zeros(2, 40, 3)},
    "C has G = 2 groups, which do not divide the D = 5": {"C": torch.zeros(2, 2, 3, 40)},
    r"D must be \(D,\) = \(5,\).*got \(4,\)": {"D": torch.zeros(4)},
    r"initial_state must be \(B, D, N\) = \(2, 5, 3\); got \(2, 5\)": {"initial_state": torch.zeros(2, 5)},
    r"z must be floating point; got torch.int64.*z.float\(\)": {"z": torch.zeros(2, 5, 40, dtype=torch.int64)},
    "B is torch.complex64, but A is real": {"B": torch.zeros(2, 3, 40, dtype=torch.complex64)},
    "delta must be real": {"delta": torch.zeros(2, 5, 40, dtype=torch.complex64)},
    "C is on meta, u on cpu": {"C": torch.zeros(2, 3, 40, device="meta")},
    "layout must be 'bdl' .* got 'ldb'": {"layout": "ldb"},
    "unknown engine 'fast'; the engines are 'auto', 'gpu', 'cpu'": {"engine": "fast"},
    "engine 'mamba_ssm' cannot run here: its kernel is for CUDA": {"engine": "mamba_ssm"},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused_in_words(message):
    with pytest.raises((ValueError, TypeError), match=message):
        selective_scan(**{**arguments(), **BAD[message]})


def test_groups_that_do_not_fit_each_other_are_refused():
    t = arguments(channels=6)
    with pytest.raises(ValueError, match="B has 2 groups and C has 3"):
        selective_scan(**{**t, "B": torch.zeros(2, 2, 3, 40), "C": torch.zeros(2, 3, 3, 40)})


def test_values_are_looked_at_when_asked_or_at_hand():
    t = arguments()
    t["C"][1, 2, 3] = torch.nan
    with pytest.raises(ValueError, match=r"C is nan at \(1, 2, 3\)"):
        selective_scan(**t, check=True)
    t = arguments()
    with pytest.warns(RuntimeWarning, match="A has positive entries"):
        selective_scan(**{**t, "A": -t["A"] / 1000})
    t["u"][0, 0, 5] = torch.inf
    with pytest.warns(RuntimeWarning, match="the last state is not finite"):
        selective_scan(**t)


def test_a_growing_state_reaches_infinity_as_the_loop_does():
    u = torch.ones(1, 1, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        out = [selective_scan(u, 10 * u, torch.ones(1, 1), u, u, engine=e) for e in ("cpu", "reference")]
    assert torch.equal(out[0].isinf(), out[1].isinf())
    finite = out[1].isfinite()
    assert finite.any()
    assert not finite.all()
    torch.testing.assert_close(out[0][finite], out[1][finite], rtol=1e-5, atol=0)


def test_the_loop_over_a_long_sequence_warns_when_nobody_asked_for_it():
    u = torch.zeros(1, 1, 300)
    A, B = torch.tensor([[-1 + 1j]]), torch.zeros(1, 1, 300, dtype=torch.complex64)
    with pytest.warns(RuntimeWarning, match="300 steps runs in the reference engine"):
        selective_scan(u, u, A, B, B)
    selective_scan(u, u, A, B, B, engine="reference")  # a warning would be an error here


def test_the_choice_is_explained():
    real = torch.zeros(1, 2, 3), -torch.ones(2, 1)
    assert explain(*real).startswith("engine 'cpu'")
    assert "asked for by name" in explain(*real, engine="torch")
    text = explain(real[0], real[1].cfloat())
    assert "engine 'reference'" in text
    assert "'cpu' cannot: it computes with real A only" in text
    assert "CUDA" in str(engines("cpu")["mamba_ssm"])


def test_a_kernel_is_compiled_even_where_no_folder_can_be_written(monkeypatch):
    from mambaout_edu.scan import cpu

    asked = []

    def refuse(source):
        asked.append(source.__name__)
        raise RuntimeError("cannot cache function 'forward': no locator available for file 'x'")

    monkeypatch.setattr(cpu, "_Cache", refuse)
    kernel = cpu._compiled_once.__wrapped__("forward", torch.float32)
    assert asked == ["forward"]
    assert len(kernel.signatures) == 1


def test_a_change_in_any_kernel_file_is_another_cache_entry(monkeypatch):
    from mambaout_edu.scan import cpu

    kernel = cpu._compiled("forward", torch.float32)
    context = kernel.targetctx.codegen()
    before = kernel._cache._index_key(kernel.signatures[0], context)
    monkeypatch.setattr(cpu._Cache, "_sources", staticmethod(lambda: "changed"))
    assert kernel._cache._index_key(kernel.signatures[0], context) != before


@pytest.fixture
def mamba_ssm(monkeypatch):
    """A stand-in for mamba-ssm that computes with the loop and notes how it was called."""
    calls = []

    def selective_scan_fn(u, delta, A, B, C, D, z, bias, softplus, return_last_state):
        calls.append({"strides": [x.stride(-1) for x in (u, delta, B, C)], "dtypes": (A.dtype, D.dtype)})
        options = {"delta_softplus": softplus, "return_last_state": return_last_state, "engine": "reference"}
        return selective_scan(u, delta, A, B, C, D, z, bias, **options)

    interface = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn = selective_scan_fn
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    return calls


def test_the_adapter_to_mamba_ssm(mamba_ssm):
    from mambaout_edu.scan import cuda

    t = arguments()
    turned = [t[k].transpose(1, 2) for k in ("u", "delta", "z")]
    rows = [t[k].permute(0, 2, 1).unsqueeze(2) for k in ("B", "C")]
    given = (turned[0], turned[1], t["A"], *rows, t["D"], turned[2], None)
    out, last = cuda.scan(*given, None, True)
    expected, state = selective_scan(**t, delta_softplus=True, return_last_state=True)
    torch.testing.assert_close(out.transpose(1, 2), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, state, rtol=1e-4, atol=1e-5)
    assert mamba_ssm == [{"strides": [1, 1, 1, 1], "dtypes": (torch.float32, torch.float32)}]
    with pytest.raises(ValueError, match="starts from a zero state"):
        cuda.scan(*given, state, True)
    with pytest.raises(ValueError, match="computes in float32"):
        cuda.scan(turned[0].double(), *given[1:], None, True)
