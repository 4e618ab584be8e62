"""Every engine against the float64 loop: any sizes, groups, absent arguments, strides; outputs and gradients."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mambaout_edu.scan import engines, selective_scan

ENGINES = ["cpu", "torch", "reference"]
SHOWN = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])


def test_these_engines_run_here():
    assert [name for name, status in engines("cpu").items() if status.available] == ENGINES


@dataclass(frozen=True)
class Case:
    batch: int = 2
    length: int = 7
    channels: int = 6
    state: int = 3
    groups: int | None = 1  # None: B and C without the axis of groups
    fixed_b: bool = False
    fixed_c: bool = False
    skip: bool = True
    gate: bool = True
    bias: bool = True
    softplus: bool = True
    start: bool = True
    layout: str = "bdl"
    strides: str = "plain"
    seed: int = 0


@st.composite
def cases(draw):
    groups = draw(st.sampled_from([None, 1, 2, 3]))
    channels = draw(st.integers(1, 70)) * (groups or 1)
    flags = {k: draw(st.booleans()) for k in ("fixed_b", "fixed_c", "skip", "gate", "bias", "softplus", "start")}
    return Case(
        batch=draw(st.integers(1, 3)),
        length=draw(st.sampled_from([1, 2, 3, 31, 32, 33, 70])),
        channels=channels,
        state=draw(st.integers(1, 9)),
        groups=groups,
        layout=draw(st.sampled_from(["bdl", "bld"])),
        strides=draw(st.sampled_from(["plain", "transposed", "sliced"])),
        seed=draw(st.integers(0, 1000)),
        **flags,
    )


def strided(x, how):
    """The same values behind other strides: axes 1 and 2 swapped in memory, or every second number of a larger one."""
    if how == "transposed":
        return x.transpose(1, 2).contiguous().transpose(1, 2)
    if how == "sliced":
        wide = torch.zeros(*x.shape[:-1], 2 * x.shape[-1] + 1, dtype=x.dtype)
        wide[..., 1::2] = x
        return wide[..., 1::2]
    return x


def arguments(case, dtype=torch.float32):
    """Random tensors for a case, with values where float32 keeps its digits: states that decay, mild inputs."""
    g = torch.Generator().manual_seed(case.seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    b, d, n, length = case.batch, case.channels, case.state, case.length
    sequence = (b, d, length) if case.layout == "bdl" else (b, length, d)

    def weights(fixed):
        if fixed:
            return normal(d, n)
        axes = {"bdl": (b, n, length), "bld": (b, length, n)}[case.layout]
        if case.groups is not None:
            axes = {"bdl": (b, case.groups, n, length), "bld": (b, length, case.groups, n)}[case.layout]
        return strided(normal(*axes), case.strides)

    delta = normal(*sequence) if case.softplus else normal(*sequence).abs()
    found = {"u": strided(normal(*sequence), case.strides), "delta": strided(delta, case.strides)}
    found |= {"A": -torch.exp(normal(d, n) / 2), "B": weights(case.fixed_b), "C": weights(case.fixed_c)}
    found["D"] = normal(d) if case.skip else None
    found["z"] = strided(normal(*sequence), case.strides) if case.gate else None
    found["delta_bias"] = normal(d).abs() / 2 if case.bias else None
    found["initial_state"] = normal(b, d, n) if case.start else None
    return found


def run(tensors, case, engine, dtype=None):
    """Outputs, and gradients of a random mix of both."""
    leaves = {
        name: None if x is None else (x if dtype is None else x.to(dtype)).detach().requires_grad_()
        for name, x in tensors.items()
    }
    options = {"delta_softplus": case.softplus, "layout": case.layout, "engine": engine}
    out, last = selective_scan(**leaves, return_last_state=True, **options)
    g = torch.Generator().manual_seed(1)
    mix = [torch.randn(x.shape, generator=g, dtype=torch.float64).to(x.dtype) for x in (out, last)]
    ((out * mix[0]).sum() + (last * mix[1]).sum()).backward()
    return out.detach(), last.detach(), {k: x.grad for k, x in leaves.items() if x is not None}


def distance(got, expected):
    size = expected.double().norm()
    return ((got.double() - expected.double()).norm() / size).item() if size > 1e-6 else 0.0


@pytest.mark.parametrize("engine", ENGINES)
@SHOWN
@given(case=cases())
@example(case=Case())
@example(case=Case(length=1, channels=1, state=1, batch=1, groups=None))
@example(case=Case(length=530, channels=5, state=2))  # more than one segment of the CPU's backward pass
@example(case=Case(length=40, channels=130, state=8, groups=2))
@example(case=Case(length=40, channels=3, state=2, fixed_b=True, layout="bld"))
@example(case=Case(skip=False, gate=False, bias=False, softplus=False, start=False, groups=None))
def test_outputs_and_gradients_against_float64(engine, case):
    tensors = arguments(case)
    out, last, gradients = run(tensors, case, engine)
    true_out, true_last, true_gradients = run(tensors, case, "reference", torch.float64)
    assert out.dtype == last.dtype == torch.float32
    assert out.shape == tensors["u"].shape
    assert distance(out, true_out) < 1e-5
    assert distance(last, true_last) < 1e-5
    assert gradients.keys() == true_gradients.keys()
    for name, gradient in gradients.items():
        assert gradient.shape == tensors[name].shape
        assert distance(gradient, true_gradients[name]) < 1e-4, name


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "case", [Case(), Case(length=70, channels=40, state=16, layout="bld"), Case(state=1, gate=False)]
)
def test_float64_equals_the_reference(engine, case):
    tensors = arguments(case, torch.float64)
    out, last, gradients = run(tensors, case, engine)
    true_out, true_last, true_gradients = run(tensors, case, "reference")
    assert out.dtype == last.dtype == torch.float64
    assert distance(out, true_out) < 1e-12
    assert distance(last, true_last) < 1e-12
    assert all(distance(gradient, true_gradients[name]) < 1e-10 for name, gradient in gradients.items())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "case", [Case(), Case(state=5, groups=2, length=34), Case(fixed_b=True, fixed_c=True, gate=False)]
)
def test_gradcheck_in_float64(engine, case):
    case = Case(**{**case.__dict__, "batch": 1, "channels": 2, "length": min(case.length, 34)})
    tensors = {k: x.requires_grad_() for k, x in arguments(case, torch.float64).items() if x is not None}
    names = list(tensors)

    def function(*values):
        given_ = dict(zip(names, values, strict=True))
        return selective_scan(**given_, delta_softplus=True, return_last_state=True, engine=engine)

    assert torch.autograd.gradcheck(function, tuple(tensors.values()), fast_mode=case.length > 7)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_worked_example(engine):
    """One channel, two states, three steps, worked out by hand to six digits."""
    u, delta, z = (torch.tensor([[row]]) for row in ([1.0, 2, -1], [0.0, 1, -1], [0.0, 1, -2]))
    A = torch.tensor([[-1.0, -2]])
    B = torch.tensor([[[1, 0.5], [0, 1], [2, -1]]]).transpose(1, 2)
    C = torch.tensor([[[1, 1], [0.5, 2], [1, -1]]]).transpose(1, 2)
    plain = {"D": torch.tensor([0.5]), "delta_softplus": True, "return_last_state": True, "engine": engine}
    out, last = selective_scan(u, delta, A, B, C, z=z, **plain)
    torch.testing.assert_close(out, torch.tensor([[[0, 4.676136, 0.648616]]]), rtol=0, atol=1e-6)
    torch.testing.assert_close(last, torch.tensor([[[-0.490242, 1.730396]]]), rtol=0, atol=1e-6)
    ungated, _ = selective_scan(u, delta, A, B, C, **plain)
    torch.testing.assert_close(ungated, torch.tensor([[[1.539721, 6.396390, -2.720638]]]), rtol=0, atol=2e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_floats_keep_a_float32_state(engine, dtype):
    case = Case(length=70, channels=9, start=False)
    tensors = arguments(case)
    short = {k: x if x is None or k in ("A", "D", "delta_bias") else x.to(dtype) for k, x in tensors.items()}
    out, last, gradients = run(short, case, engine)
    rounded = {k: None if x is None else x.double() for k, x in short.items()}
    true_out, true_last, true_gradients = run(rounded, case, "reference")
    assert (out.dtype, last.dtype) == (dtype, torch.float32)
    assert torch.equal(out, true_out.to(dtype)) or distance(out, true_out) < torch.finfo(dtype).eps / 2
    assert distance(last, true_last) < 1e-5
    for name, gradient in gradients.items():
        assert gradient.dtype == short[name].dtype
        assert distance(gradient, true_gradients[name]) < 2 * torch.finfo(dtype).eps, name


@pytest.mark.parametrize("engine", ENGINES)
def test_a_scan_in_two_parts_is_one_scan(engine):
    case = Case(length=50, channels=5, gate=False, start=False, groups=None)
    t = arguments(case)
    whole = selective_scan(t["u"], t["delta"], t["A"], t["B"], t["C"], engine=engine, return_last_state=True)
    state, parts = None, []
    for part in (slice(0, 21), slice(21, 50)):
        cut = {k: t[k][..., part] for k in ("u", "delta", "B", "C")}
        out, state = selective_scan(**cut, A=t["A"], engine=engine, return_last_state=True, initial_state=state)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, -1), whole[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state, whole[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_later_inputs_do_not_change_earlier_outputs(engine):
    case = Case(length=40, start=False)
    tensors = arguments(case)
    before = selective_scan(**tensors, delta_softplus=True, engine=engine)
    for name in ("u", "delta", "B", "C", "z"):
        changed = {**tensors, name: tensors[name].clone()}
        changed[name][..., 20:] += 1
        after = selective_scan(**changed, delta_softplus=True, engine=engine)
        torch.testing.assert_close(after[..., :20], before[..., :20], rtol=0, atol=1e-6)
        assert not torch.allclose(after[..., 20:], before[..., 20:], atol=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_extreme_decays_stay_finite_and_right(engine):
    """Steps up to 1e4 and beyond softplus's bend: the state forgets at once, and nothing overflows."""
    delta = torch.tensor([1e-8, 1e-3, 1.0, 30.0, 90.0, 1e4]).repeat(1, 1, 30)  # [1, 1, 180]
    u, A = torch.ones_like(delta), torch.tensor([[-1.0, -16.0]])
    B = C = torch.ones(1, 2, delta.shape[-1])
    for softplus in (False, True):
        out = selective_scan(u, delta, A, B, C, delta_softplus=softplus, engine=engine)
        options = {"delta_softplus": softplus, "engine": "reference"}
        true = selective_scan(*(x.double() for x in (u, delta, A, B, C)), **options)
        torch.testing.assert_close(out.double(), true, rtol=1e-5, atol=1e-7)


def test_a_state_that_hardly_decays_keeps_its_value_over_long_times():
    """exp2 must be exact near 0: an error of 1e-7 a step would add up to 1e-3 in 10,000 steps."""
    length = 10_000
    u = torch.zeros(1, 1, length)
    delta, one = torch.full_like(u, 1e-6), torch.ones(1, 1, length)
    start = torch.ones(1, 1, 1)
    _, last = selective_scan(u, delta, -torch.ones(1, 1), one, one, initial_state=start, return_last_state=True)
    assert last.item() == pytest.approx(math.exp(-0.01), rel=1e-3)


def test_complex_systems_oscillate():
    """A rotation by a quarter turn a step: 2 Re(h) goes 2, 0, -2, 0."""
    A = torch.tensor([[1j * math.pi / 2]])
    u = torch.tensor([[[1.0, 0, 0, 0]]])
    one = torch.ones(1, 1, 4)
    out, last = selective_scan(u, one, A, one.cfloat(), one.cfloat(), return_last_state=True)
    torch.testing.assert_close(out, torch.tensor([[[2.0, 0, -2, 0]]]), rtol=0, atol=1e-6)
    assert last.is_complex()
    pairs = torch.view_as_real(one.cfloat()).flatten(-2)  # mamba-ssm's way to hand over complex B and C
    torch.testing.assert_close(selective_scan(u, one, A, pairs, pairs), out)
