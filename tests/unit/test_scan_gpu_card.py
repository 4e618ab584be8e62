"""The engine "gpu" on a real card: against the float64 loop, bit for bit twice, compiled, under autocast.

What Triton's interpreter shows is in test_scan_gpu_interpreted.py; here are machine code, long sequences, and torch.
"""

import importlib.util
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from mambaout_edu import recorded
from mambaout_edu.mixers import Mamba1
from mambaout_edu.scan import explain, gpu, selective_scan
from mambaout_edu.scan.operator import operator

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed"),
]
FIXTURES = Path(__file__).parent.parent / "fixtures"
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
LIMITS = {torch.float32: (1e-5, 1e-4), torch.bfloat16: (2**-8, 2**-7), torch.float16: (2**-11, 2**-10)}
LIMITS[torch.float64] = (1e-12, 1e-10)
SHOWN = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Case:
    batch: int = 2
    length: int = 70
    channels: int = 48
    state: int = 16
    groups: tuple[int, int] = (1, 1)
    fixed: str = ""  # letters of weights that are [D, N]
    without: str = ""  # D, z, b (bias), s (initial state): what is None
    softplus: bool = True
    strides: str = "plain"
    dtype: torch.dtype = torch.float32
    every: int = 8


@st.composite
def cases(draw):
    groups = draw(st.sampled_from([(1, 1), (2, 2), (2, 1), (1, 3), (2, 3)]))
    return Case(
        batch=draw(st.integers(1, 5)),
        length=draw(st.sampled_from([1, 2, 3, 4, 5, 8, 31, 64, 70, 196, 197, 300])),
        channels=draw(st.integers(1, 24)) * 6 if groups != (1, 1) else draw(st.integers(1, 140)),
        state=draw(st.sampled_from([1, 2, 3, 8, 16, 17, 32, 64, 65])),
        groups=groups,
        fixed=draw(st.sampled_from(["", "", "B", "C", "BC"])),
        without=draw(st.sampled_from(["", "D", "z", "b", "s", "Dzbs", "zs"])),
        softplus=draw(st.booleans()),
        strides=draw(st.sampled_from(["plain", "transposed", "sliced"])),
        every=draw(st.sampled_from([8, 8, 16, 64])),
    )


def arguments(case):
    """Seeded tensors on the card, in layout "bld"; weights of the scan's own numbers stay in float32."""
    g = torch.Generator("cuda").manual_seed(case.length + case.channels)
    wide = torch.float64 if case.dtype == torch.float64 else torch.float32

    def normal(*shape, dtype=wide):
        return torch.randn(*shape, generator=g, device="cuda", dtype=torch.float64).to(dtype)

    b, length, d, n = case.batch, case.length, case.channels, case.state
    u, delta, z = (normal(b, length, d, dtype=case.dtype) for _ in range(3))
    delta = delta - 1 if case.softplus else delta.abs() / 4
    B, C = (
        normal(d, n, dtype=case.dtype) if name in case.fixed else normal(b, length, groups, n, dtype=case.dtype)
        for name, groups in zip("BC", case.groups, strict=True)
    )
    found = {"u": _strided(u, case.strides), "delta": delta, "A": -torch.exp(normal(d, n) / 2), "B": B, "C": C}
    found["D"] = None if "D" in case.without else normal(d)
    found["z"] = None if "z" in case.without else _strided(z, case.strides)
    found["delta_bias"] = None if "b" in case.without else normal(d).abs() / 4
    found["initial_state"] = None if "s" in case.without else normal(b, d, n)
    if case.groups not in ((1, 1), (2, 2)) and 1 not in case.groups and not case.fixed:
        found["B"] = found["B"][:, :, :1]  # two different numbers of groups are refused unless one is 1
    return found


def _strided(x, how):
    """The same values behind other strides: channels before time in memory, or every second number of a larger one."""
    if how == "transposed":
        return x.transpose(1, 2).contiguous().transpose(1, 2)
    if how == "sliced":
        wide = x.new_zeros(*x.shape[:-1], 2 * x.shape[-1])
        wide[..., 1::2] = x
        return wide[..., 1::2]
    return x


def run(tensors, case, engine, dtype=None):
    """Return outputs, and the gradients of a random mix of both, through the public function."""
    leaves = {k: None if x is None else x.detach().to(dtype or x.dtype).requires_grad_() for k, x in tensors.items()}
    with gpu.checkpoints(case.every):
        out, last = selective_scan(
            **leaves, delta_softplus=case.softplus, layout="bld", engine=engine, return_last_state=True
        )
    g = torch.Generator("cuda").manual_seed(1)
    short = tensors["u"].dtype
    mix = torch.randn(out.shape, generator=g, device="cuda").to(short).to(out.dtype)
    mix_last = torch.randn(last.shape, generator=g, device="cuda").to(last.dtype)
    torch.autograd.backward([out, last], [mix, mix_last])
    return {"out": out.detach(), "last": last.detach(), **{k: x.grad for k, x in leaves.items() if x is not None}}


def distance(got, expected):
    size = expected.double().norm()
    return ((got.double() - expected.double()).norm() / size).item() if size > 1e-6 else 0.0


def compare(case, truth="reference"):
    """Hold outputs and all gradients to float64."""
    tensors = arguments(case)
    got = run(tensors, case, "gpu")
    expected = run(tensors, case, truth, torch.float64)
    of_out, of_gradients = LIMITS[case.dtype]
    assert got.keys() == expected.keys()
    assert got["out"].dtype == case.dtype
    for name, x in got.items():
        assert x.shape == expected[name].shape
        assert name in ("out", "last") or x.dtype == tensors[name].dtype
        exact = 1e-5 if name == "last" and case.dtype != torch.float64 else of_out
        limit = exact if name in ("out", "last") else of_gradients
        assert distance(x, expected[name]) < limit, (name, case)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
@SHOWN
@given(case=cases())
def test_outputs_and_gradients_against_the_float64_loop(dtype, case):
    compare(replace(case, dtype=dtype))


@pytest.mark.parametrize(
    "case",
    [
        Case(fixed="BC", length=1, channels=1, state=1, batch=1),
        Case(dtype=torch.bfloat16, length=1, channels=1, state=1, batch=1, without="b"),
        Case(dtype=torch.bfloat16, softplus=False, without="Dzbs"),
        Case(dtype=torch.float64, length=300, every=64),
        Case(batch=40, length=203, channels=1088, state=3),  # enough programs for one chunk
        Case(batch=3, length=2300, channels=70, every=64, groups=(2, 1)),
    ],
    ids=str,
)
def test_corners(case):
    compare(case)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 9, 31, 63, 64, 65, 100, 128, 196, 197, 255, 256, 1000])
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_every_length(length, dtype):
    compare(Case(length=length, dtype=dtype, channels=96))


@pytest.mark.parametrize("length", [1001, 4096, 4099, 16384])
@pytest.mark.parametrize("every", [8, 64])
def test_long_sequences(length, every):
    compare(Case(length=length, batch=1, channels=64, every=every), truth="torch")


@pytest.mark.parametrize("state", [1, 2, 4, 5, 8, 16, 24, 32, 64, 100, 128])
def test_every_size_of_state(state):
    compare(Case(state=state, length=130, channels=70))


@pytest.mark.parametrize("every", [8, 64])
def test_two_runs_give_the_same_bits(every):
    case = Case(length=2048, channels=320, every=every)
    tensors = arguments(case)
    first, second = run(tensors, case, "gpu"), run(tensors, case, "gpu")
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_offsets_beyond_32_bits(dtype):
    """The last batch entry of a tensor with more than 2^31 numbers is what it is alone."""
    batch, length, channels = 2**31 // (4096 * 1536) + 2, 4096, 1536
    if torch.cuda.mem_get_info()[0] < 110e9:
        pytest.skip("needs 110 GB of free memory on the card")
    one = arguments(Case(batch=1, length=length, channels=channels, state=2, dtype=dtype, without="s"))
    single = ("A", "D", "delta_bias", "initial_state")
    many = {k: x if k in single or x is None else x.expand(batch, *x.shape[1:]).contiguous() for k, x in one.items()}
    options = {"delta_softplus": True, "save": True}
    found = []
    for tensors in (one, many):
        out, last, saved = gpu.forward(**tensors, **options)
        assert len(found) == 0 or out.numel() > 2**31
        grads = gpu.backward(out, None, saved, *tensors.values(), delta_softplus=True)
        kept = {"out": out, "last": last, "u": grads[0], "delta": grads[1], "B": grads[3], "z": grads[6]}
        found.append({name: x[-1:].clone() for name, x in kept.items()})
        del out, last, saved, grads, kept
    for name, x in found[1].items():
        assert distance(x, found[0][name]) < LIMITS[dtype][1], name


@pytest.mark.parametrize("case", ["bare", "fixed_bc", "full", "grouped"])
def test_recorded_cases_of_mamba_ssm(case):
    with safe_open(FIXTURES / f"selective_scan_{case}.safetensors", "pt", device="cuda") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    names = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
    inputs = {k: tensors[k].requires_grad_() for k in names if k in tensors}
    out, last = selective_scan(**inputs, delta_softplus=config["delta_softplus"], return_last_state=True)
    out.backward(tensors["grad_out"])
    assert distance(out, tensors["out"]) < 2e-6
    assert distance(last, tensors["last_state"]) < 2e-6
    gradients = {name: distance(x.grad, tensors[f"grad.{name}"]) for name, x in inputs.items()}
    assert max(gradients.values()) < 5e-6, gradients


def test_auto_takes_the_gpu_engine():
    assert explain(torch.zeros(1, 8, 4, device="cuda"), -torch.ones(8, 2, device="cuda")).startswith("engine 'gpu'")


def test_the_operator_keeps_torchs_rules():
    tensors = arguments(Case(batch=1, length=9, channels=5, state=3))
    given_ = [None if x is None else x.requires_grad_() for x in tensors.values()]
    torch.library.opcheck(operator, (*given_, True, "gpu", True))


def test_compiled_whole_it_gives_what_it_gives_eager():
    case = Case(length=130, channels=64)
    tensors = arguments(case)
    leaves = {k: x.requires_grad_() for k, x in tensors.items()}

    def step(**t):
        return torch.tanh(selective_scan(**t, delta_softplus=True, layout="bld", engine="gpu") * 0.1).sum()

    found = []
    for function in (step, torch.compile(step, fullgraph=True)):
        loss = function(**leaves)
        found.append([loss, *torch.autograd.grad(loss, list(leaves.values()))])
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-5)


def test_a_layer_under_autocast_is_near_the_layer_in_float32():
    layer = Mamba1(64).cuda()
    x = torch.randn(2, 196, 64, device="cuda")
    found = []
    for enabled in (False, True):
        layer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=enabled):
            y = layer(x)
        y.float().square().mean().backward()
        found.append((y.float().detach(), {name: p.grad.clone() for name, p in layer.named_parameters()}))
    (exact, gradients), (short, short_gradients) = found
    assert 0 < distance(short, exact) < 2e-2
    for name, gradient in short_gradients.items():
        assert gradient.dtype == torch.float32
        assert distance(gradient, gradients[name]) < 5e-2, name


def test_without_gradients_nothing_is_kept():
    tensors = arguments(Case(length=1024, channels=512, batch=4, without="s"))
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with torch.no_grad():
        out = selective_scan(**tensors, delta_softplus=True, layout="bld", engine="gpu")
    assert torch.cuda.max_memory_allocated() - before < 2.5 * out.nbytes


@pytest.mark.parametrize(("every", "times"), [(8, (1.25, 1.6)), (64, (1.1, 1.1))])
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_a_training_steps_memory(dtype, every, times):
    """Over the peak of mamba-ssm's CUDA kernel on the same sizes, as recorded: inputs, outputs, gradients and room."""
    size, name = [32, 3136, 192], str(dtype).removeprefix("torch.")
    rows = recorded.load("gpu_selective_scan")["results"]["cases"]
    theirs = next(r["memory"]["theirs"] for r in rows if (r["size"], r["state"], r["dtype"]) == (size, 16, name))
    case = Case(*size, dtype=dtype, every=every, without="s")
    tensors = {k: None if x is None else x.detach().requires_grad_() for k, x in arguments(case).items()}
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    outside = torch.cuda.memory_allocated() - sum(x.nbytes for x in tensors.values() if x is not None)
    with gpu.checkpoints(every):
        out = selective_scan(**tensors, delta_softplus=True, layout="bld", engine="gpu")
    out.backward(torch.ones_like(out))
    assert (torch.cuda.max_memory_allocated() - outside) / 2**20 < theirs * times[dtype == torch.bfloat16]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_nan_reaches_later_steps_and_no_earlier_ones(value):
    tensors = arguments(Case(length=64, channels=40, without="s"))
    tensors["u"][0, 20, 7] = value
    out = selective_scan(**tensors, delta_softplus=True, layout="bld", engine="gpu")
    wrong = ~out.isfinite()
    assert wrong[0, 20:, 7].all()
    assert not wrong[0, :20].any()
    assert not wrong[0, :, :7].any()
    assert not wrong[1].any()
