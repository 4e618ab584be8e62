"""One token at a time gives what the scan and the convolution give over the whole sequence."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mambaout_edu.scan import causal_conv1d_update, recurrence_step, selective_scan, selective_state_update


@settings(max_examples=20)
@given(
    groups=st.sampled_from([None, 1, 3]),
    gate=st.booleans(),
    skip=st.booleans(),
    bias=st.booleans(),
    softplus=st.booleans(),
    seed=st.integers(0, 100),
)
def test_steps_are_the_scan_at_every_position(groups, gate, skip, bias, softplus, seed):
    g = torch.Generator().manual_seed(seed)
    batch, channels, state, length = 2, 6, 3, 12
    normal = lambda *s: torch.randn(*s, generator=g, dtype=torch.float64)  # noqa: E731
    u, delta, z = (normal(batch, length, channels) for _ in range(3))
    delta = delta if softplus else delta.abs()
    A = -normal(channels, state).exp()
    rows = (batch, length, state) if groups is None else (batch, length, groups, state)
    B, C = normal(*rows), normal(*rows)
    D, shift = normal(channels) if skip else None, normal(channels).abs() if bias else None
    given_ = {"D": D, "z": z if gate else None, "delta_bias": shift, "delta_softplus": softplus}
    expected, last = selective_scan(u, delta, A, B, C, **given_, layout="bld", return_last_state=True)

    memory = torch.zeros(batch, channels, state, dtype=torch.float64)
    for t in range(length):
        gate_t = z[:, t] if gate else None
        out = selective_state_update(memory, u[:, t], delta[:, t], A, B[:, t], C[:, t], D, gate_t, shift, softplus)
        torch.testing.assert_close(out, expected[:, t])
    torch.testing.assert_close(memory, last)


@pytest.mark.parametrize("groups", [None, 1, 3])
@pytest.mark.parametrize("kind", [torch.float64, torch.complex128])
def test_pure_steps_are_the_scan_and_change_nothing(kind, groups):
    batch, channels, state, length = 2, 6, 3, 7
    u, delta = torch.randn(batch, length, channels).double(), torch.rand(batch, length, channels).double()
    rows = (batch, length, state) if groups is None else (batch, length, groups, state)
    A, B, C, start = (torch.randn(*s, dtype=kind) for s in ((channels, state), rows, rows, (batch, channels, state)))
    A = torch.complex(-A.real.exp(), A.imag) if A.is_complex() else -A.exp()
    options = {"initial_state": start, "return_last_state": True, "layout": "bld", "engine": "reference"}
    expected, last = selective_scan(u, delta, A, B, C, **options)

    memory = start.clone()
    for t in range(length):
        given = memory, u[:, t], delta[:, t], A, B[:, t], C[:, t]
        before = [x.clone() for x in given]
        y, memory = recurrence_step(*given)
        assert all(torch.equal(x, old) for x, old in zip(given, before, strict=True))
        torch.testing.assert_close(y, expected[:, t])
    torch.testing.assert_close(memory, last)


def test_gradients_flow_through_pure_steps():
    shapes = ((1, 2, 3), (1, 2), (1, 2), (2, 3), (1, 3), (1, 3))
    given = [torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(recurrence_step, given)


@pytest.mark.parametrize("activation", [None, "silu", "swish"])
def test_convolution_steps_are_the_causal_convolution(activation):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 9, generator=g)
    weight, bias = torch.randn(3, 4, generator=g), torch.randn(3, generator=g)
    expected = F.conv1d(F.pad(x, (3, 0)), weight[:, None], bias, groups=3)
    expected = expected if activation is None else F.silu(expected)
    memory = torch.zeros(2, 3, 4)
    steps = [causal_conv1d_update(x[..., t], memory, weight, bias, activation) for t in range(9)]
    torch.testing.assert_close(torch.stack(steps, dim=-1), expected)
    assert torch.equal(memory, x[..., -4:])


def test_bfloat16_tokens_meet_a_float32_state():
    state = torch.zeros(1, 2, 3)
    x = torch.ones(1, 2, dtype=torch.bfloat16)
    rows = torch.ones(1, 3, dtype=torch.bfloat16)
    out = selective_state_update(state, x, x, -torch.ones(2, 3), rows, rows, D=torch.ones(2))
    assert (out.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    assert out[0, 0] == 4


def test_bad_shapes_are_refused_in_words():
    state, x, A, row = torch.zeros(2, 4, 3), torch.zeros(2, 4), torch.zeros(4, 3), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"state must be \(B, D, N\)"):
        selective_state_update(state[0], x, x, A, row, row)
    with pytest.raises(ValueError, match=r"dt must be \(2, 4\) .* got \(2, 3\)"):
        selective_state_update(state, x, row, A, row, row)
    with pytest.raises(ValueError, match=r"delta must be \(2, 4\) .* got \(2, 3\)"):
        recurrence_step(state, x, row, A, row, row)
    with pytest.raises(ValueError, match=r"z must be \(2, 4\) .* got \(2, 3\)"):
        selective_state_update(state, x, x, A, row, row, z=row)
    with pytest.raises(ValueError, match=r"D must be \(4,\) .* got \(4, 3\)"):
        selective_state_update(state, x, x, A, row, row, D=A)
    with pytest.raises(ValueError, match=r"A must be \(4, 3\) .* got \(3, 4\)"):
        recurrence_step(state, x, x, A.T, row, row)
    with pytest.raises(ValueError, match=r"C must be \(B, N\) = \(2, 3\) .* got \(2, 3, 3\)"):
        selective_state_update(state, x, x, A, row, torch.zeros(2, 3, 3))
    with pytest.raises(ValueError, match=r"conv_state must be \(B, D, W\)"):
        causal_conv1d_update(x, state, torch.zeros(4, 4))
    with pytest.raises(ValueError, match="activation must be None, 'silu' or 'swish'; got 'relu'"):
        causal_conv1d_update(x, state, A, activation="relu")
