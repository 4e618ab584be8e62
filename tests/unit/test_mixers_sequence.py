"""The Mamba-1 and Mamba-2 mixers on sequences: one token at a time, in pieces, causal, well started, refusing."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mambaout_edu.mixers import Mamba1, Mamba2, SelectiveSSM, no_weight_decay
from mambaout_edu.scan.dual import ssd_recurrence

MIXERS = {
    "mamba1": lambda **k: Mamba1(12, **{"d_state": 4, **k}),
    "mamba1_wide": lambda: Mamba1(6, d_state=3, d_conv=2, expand=3, dt_rank=2, bias=True, conv_bias=False),
    "mamba1_one_token_window": lambda: Mamba1(5, d_state=1, d_conv=1),
    "mamba2": lambda **k: Mamba2(12, **{"d_state": 5, "headdim": 4, "chunk_size": 4, **k}),
    "mamba2_groups": lambda: Mamba2(8, d_state=3, headdim=2, ngroups=4, d_conv=3, bias=True, norm_before_gate=True),
    "mamba2_limit": lambda: Mamba2(8, d_state=3, headdim=8, chunk_size=7, dt_limit=(0.02, 0.05), conv_bias=False),
}


@pytest.fixture(params=MIXERS, ids=str)
def mixer(request):
    """A mixer in float64, with steps long enough that the state forgets."""
    module = MIXERS[request.param]().double()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith(("dt_proj.bias", "dt_bias")):
                parameter.add_(3.0)
            elif name in ("D", "conv1d.bias", "norm.weight"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def sequence(mixer, batch, length, seed=0):
    return torch.randn(batch, length, mixer.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_step_equals_the_sequence_at_every_position(mixer):
    x = sequence(mixer, 3, 21)
    whole, last = mixer.run(x)
    state = mixer.initial_state(3)
    for t, token in enumerate(x.unbind(1)):
        before = [part.clone() for part in state]
        y, after = mixer.step(token, state)
        torch.testing.assert_close(y, whole[:, t], rtol=1e-9, atol=1e-11, msg=lambda m, t=t: f"position {t}: {m}")
        assert all(torch.equal(a, b) for a, b in zip(state, before, strict=True)), "step changed the state it was given"
        state = after
    for got, expected in zip(state, last, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)


@given(cut=st.integers(0, 17), seed=st.integers(0, 99))
@settings(max_examples=10)
@torch.no_grad()
def test_two_pieces_equal_the_whole(cut, seed):
    for name in ("mamba1", "mamba2"):
        module = MIXERS[name]().double()
        x = sequence(module, 2, 18, seed)
        first, state = (x[:, :0], None) if cut == 0 else module.run(x[:, :cut])
        second, last = module.run(x[:, cut:], state)
        whole, expected = module.run(x)
        torch.testing.assert_close(torch.cat((first, second), 1), whole, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(last.ssm, expected.ssm, rtol=1e-9, atol=1e-11)


@torch.no_grad()
def test_no_position_sees_a_later_one(mixer):
    x = sequence(mixer, 1, 16)
    y = mixer(x)
    for t in (0, 7, 15):
        changed = x.clone()
        changed[:, t] += 1.0
        moved = (mixer(changed) - y).abs().amax(dim=(0, 2))
        assert not moved[:t].any()
        assert moved[t] > 1e-6


@torch.no_grad()
def test_an_image_is_read_row_by_row(mixer):
    image = sequence(mixer, 2, 15).view(2, 3, 5, mixer.dim)
    rows = torch.cat([image[:, i] for i in range(3)], dim=1)
    torch.testing.assert_close(mixer(image), mixer(rows).view(2, 3, 5, mixer.dim))


def test_gradients_reach_every_parameter(mixer):
    x = sequence(mixer, 2, 9).requires_grad_()
    y, state = mixer.run(x)
    (y.square().sum() + state.ssm.sum()).backward()
    for name, parameter in [*mixer.named_parameters(), ("input", x)]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_gradients_are_exact():
    for name, small in (("mamba1", {"d_state": 2}), ("mamba2", {"d_state": 2, "headdim": 12, "chunk_size": 2})):
        module = MIXERS[name](**small).double()
        x = sequence(module, 1, 4).requires_grad_()
        assert torch.autograd.gradcheck(module, (x,))


@torch.no_grad()
def test_mamba1_equals_its_lines_written_out():
    mixer = Mamba1(8, d_state=3, dt_rank=2).double()
    u = sequence(mixer, 2, 10)
    x, z = (u @ mixer.in_proj.weight.T).chunk(2, -1)
    kernel = mixer.conv1d.weight[:, 0]  # [d, 4]: the last entry meets the newest token
    padded = F.pad(x, (0, 0, 3, 0))
    x = F.silu(sum(padded[:, k : k + 10] * kernel[:, k] for k in range(4)) + mixer.conv1d.bias)
    low, B, C = (x @ mixer.x_proj.weight.T).split([2, 3, 3], -1)
    delta = F.softplus(low @ mixer.dt_proj.weight.T + mixer.dt_proj.bias)
    A, h, outputs = -mixer.A_log.exp(), torch.zeros(2, 16, 3, dtype=torch.float64), []
    for t in range(10):
        h = (delta[:, t, :, None] * A).exp() * h + (delta[:, t] * x[:, t])[..., None] * B[:, t, None]
        outputs.append((h * C[:, t, None]).sum(-1) + mixer.D * x[:, t])
    y = torch.stack(outputs, 1) * F.silu(z)
    torch.testing.assert_close(mixer(u), y @ mixer.out_proj.weight.T)


@torch.no_grad()
def test_mamba2_equals_its_lines_written_out():
    """Also with several groups, where norm, B and C belong to a group each."""
    mixer = Mamba2(8, d_state=3, headdim=4, ngroups=2).double()
    mixer.norm.weight.mul_(torch.arange(1.0, 17.0))
    u = sequence(mixer, 2, 10)
    z, xBC, dt = (u @ mixer.in_proj.weight.T).split([16, 16 + 2 * 2 * 3, 4], -1)
    padded = F.pad(xBC, (0, 0, 3, 0))
    xBC = F.silu(sum(padded[:, k : k + 10] * mixer.conv1d.weight[:, 0, k] for k in range(4)) + mixer.conv1d.bias)
    x, B, C = xBC.split([16, 6, 6], -1)
    x, delta, A = x.view(2, 10, 4, 4), F.softplus(dt + mixer.dt_bias), -mixer.A_log.exp()
    y, _ = ssd_recurrence(x, delta, A, B.view(2, 10, 2, 3), C.view(2, 10, 2, 3))
    y = (y + mixer.D[:, None] * x).reshape(2, 10, 16) * F.silu(z)
    halves = [half / (half.square().mean(-1, keepdim=True) + 1e-5).sqrt() for half in y.chunk(2, -1)]
    torch.testing.assert_close(mixer(u), (torch.cat(halves, -1) * mixer.norm.weight) @ mixer.out_proj.weight.T)


@torch.no_grad()
def test_chunk_size_does_not_change_the_result():
    x = torch.randn(1, 50, 16, dtype=torch.float64)
    results = []
    for chunk_size in (1, 7, 50, 256):
        torch.manual_seed(0)
        results.append(Mamba2(16, d_state=4, headdim=8, chunk_size=chunk_size).double()(x))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1])
def test_steps_start_where_they_should(rate):
    """The published biases: softplus of them is dt."""
    published = {0.001: -6.907255, 0.01: -4.600166, 0.1: -2.252168}
    mixer = Mamba1(16, dt_min=rate, dt_max=rate)
    assert mixer.dt_proj.bias.detach().unique().tolist() == pytest.approx([published[rate]], abs=1e-4)
    assert Mamba2(64, dt_min=rate, dt_max=rate).dt_bias.tolist() == pytest.approx([published[rate]] * 2, abs=1e-4)


def test_start_values():
    mixer = Mamba1(64, d_state=16)
    dt = F.softplus(mixer.dt_proj.bias.detach())
    assert 0.00099 < dt.min() < 0.003
    assert 0.04 < dt.max() < 0.1001
    assert math.exp(dt.log().mean()) == pytest.approx(0.01, rel=0.4)  # evenly in the logarithm
    torch.testing.assert_close(mixer.A, -torch.arange(1.0, 17.0).expand(128, 16))
    assert mixer.dt_rank == 4
    assert mixer.dt_proj.weight.abs().max() <= 0.5
    assert mixer.D.detach().unique().tolist() == [1.0]
    assert Mamba1(16, dt_init="constant").dt_proj.weight.detach().unique().tolist() == [1.0]
    rates = Mamba2(512).A_log.detach().exp()
    assert 1 <= rates.min() < rates.max() <= 16
    assert F.softplus(Mamba1(16, dt_min=1e-6, dt_max=1e-6).dt_proj.bias).max().item() == pytest.approx(1e-4, rel=1e-3)


def test_parameter_count():
    """The closed form for Mamba-1: 2dD + 5d + d(R + 2N) + dR + d + dN + d + Dd."""
    D, d, R, N = 48, 96, 3, 16
    expected = 2 * d * D + 5 * d + d * (R + 2 * N) + d * R + d + d * N + d + D * d
    assert sum(p.numel() for p in Mamba1(D).parameters()) == expected


def test_weight_decay_is_kept_off():
    model = nn.Sequential(Mamba1(8), nn.Linear(8, 8), nn.Sequential(Mamba2(8, headdim=4)), SelectiveSSM(8))
    expected = {"0.A_log", "0.D", "2.0.A_log", "2.0.D", "2.0.dt_bias", "3.A_log", "3.D"}
    assert no_weight_decay(model) == expected
    assert expected < {name for name, _ in model.named_parameters()}
    marked = {name for name, p in model.named_parameters() if getattr(p, "_no_weight_decay", False)}
    assert marked == expected - {"2.0.dt_bias"}
    assert no_weight_decay(Mamba1(8)) == {"A_log", "D"}


@torch.no_grad()
def test_half_precision_keeps_a_full_state():
    for name in ("mamba1", "mamba2"):
        mixer = MIXERS[name]()
        x = torch.randn(2, 30, 12)
        expected = mixer(x)
        mixer = mixer.bfloat16()
        y, state = mixer.run(x.bfloat16())
        assert y.dtype == torch.bfloat16
        assert state.ssm.dtype == mixer.initial_state(2).ssm.dtype == torch.float32
        torch.testing.assert_close(y.float(), expected, rtol=0.1, atol=0.05 * expected.abs().max().item())
        assert mixer.step(x[:, 0].bfloat16(), state)[0].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mamba1(0), "dim must be at least 1; got 0"),
        (lambda: Mamba1(8, d_state=0), "d_state must be at least 1"),
        (lambda: Mamba1(8, d_conv=0), "d_conv must be at least 1"),
        (lambda: Mamba1(8, dt_rank="half"), "dt_rank must be 'auto' or at least 1; got 'half'"),
        (lambda: Mamba1(8, dt_init="zero"), "dt_init must be 'random' or 'constant'"),
        (lambda: Mamba1(8, dt_min=0.2), "0 < dt_min <= dt_max; got 0.2 and 0.1"),
        (lambda: Mamba2(8, headdim=5), "the 16 inner channels must be a multiple of headdim = 5"),
        (lambda: Mamba2(8), "the 16 inner channels must be a multiple of headdim = 64"),
        (lambda: Mamba2(8, headdim=4, ngroups=3), "ngroups = 3 must divide the 4 heads"),
        (lambda: Mamba2(8, headdim=4, A_init_range=(0, 1)), "two positive rates"),
        (lambda: Mamba1(8)(torch.zeros(2, 8)), r"got shape \(2, 8\)"),
        (lambda: Mamba1(8)(torch.zeros(2, 0, 8)), r"no side 0; got shape \(2, 0, 8\)"),
        (lambda: Mamba2(8, headdim=4)(torch.zeros(2, 8, 3, 3)), r"C = 8 last .* got shape \(2, 8, 3, 3\)"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["mamba1", "mamba2"])
def test_autocast_keeps_the_recurrence_in_full_precision(name):
    mixer = MIXERS[name]()
    x = torch.randn(2, 30, 12)
    expected = mixer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = mixer.run(x)
    assert y.dtype == torch.bfloat16
    assert state.ssm.dtype == torch.float32
    torch.testing.assert_close(y.float(), expected, rtol=0.1, atol=0.05 * expected.abs().max().item())
    y.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in mixer.parameters())
