"""Reading token by token gives what the whole sequence gives, for every mixer, after a prefill of any length."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mambaout_edu import mixers
from mambaout_edu.memory import CausalAttention, GatedConv, decoder
from mambaout_edu.memory.attention import rotate
from mambaout_edu.mixers.s4d import S4D

LENGTH, CHANNELS = 40, 16
MIXERS = {
    "attention": lambda: mixers.Attention(CHANNELS, num_heads=4, causal=True),
    "multi-head": lambda: CausalAttention(CHANNELS, num_heads=4),
    "grouped": lambda: CausalAttention(CHANNELS, num_heads=8, num_kv_heads=2, qkv_bias=True),
    "window": lambda: CausalAttention(CHANNELS, num_heads=2, window=7),
    "grouped window": lambda: CausalAttention(CHANNELS, num_heads=4, num_kv_heads=1, window=1, rope=False),
    "rnn": lambda: mixers.Recurrent(CHANNELS, cell="rnn"),
    "gru": lambda: mixers.Recurrent(CHANNELS, cell="gru"),
    "lstm": lambda: mixers.Recurrent(CHANNELS, cell="lstm", num_layers=2),
    "s4d": lambda: S4D(CHANNELS, d_state=16),
    "s4d inv": lambda: S4D(CHANNELS, d_state=8, start="inv", dt_max=0.5),
    "mamba1": lambda: mixers.Mamba1(CHANNELS, d_state=8, dt_min=0.1, dt_max=1.0),
    "mamba2": lambda: mixers.Mamba2(CHANNELS, d_state=8, headdim=8, chunk_size=16, dt_min=0.1, dt_max=1.0),
    "conv": lambda: GatedConv(CHANNELS, d_conv=5),
    "ssm": lambda: mixers.SelectiveSSM(CHANNELS, d_state=8, dt_min=0.1, dt_max=1.0),
}


def made(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return MIXERS[name]()


def read(reader, x, state):
    """Step through x [B, L, D]; return the outputs [B, L, D] and the state after them."""
    outputs = []
    for token in x.unbind(1):
        y, state = reader.step(token, state)
        outputs.append(y)
    return torch.stack(outputs, 1) if outputs else x.clone(), state


@pytest.mark.parametrize("name", MIXERS)
@given(cut=st.integers(0, LENGTH), second=st.integers(0, LENGTH), seed=st.integers(0, 9))
@settings(max_examples=5)
def test_prefill_then_steps_equal_the_whole(name, cut, second, seed):
    """Two prefills, the second from the state of the first, then steps to the end; float32, batch of 3."""
    mixer = made(name, seed)
    x = torch.randn(3, LENGTH, CHANNELS)
    with torch.no_grad():
        whole = mixer(x)
    reader, pieces, state = decoder(mixer), [], None
    second = min(cut + second, LENGTH)
    for part in (x[:, :cut], x[:, cut:second]):
        y, state = reader.prefill(part, state)
        pieces.append(y)
    y, state = read(reader, x[:, second:], state)
    got = torch.cat([*pieces, y], 1)
    error = (got - whole).abs().amax(dim=(0, 2))
    assert error.max() < 1e-5, f"position {error.argmax()}: {error.max():.1e}"
    assert whole.abs().max() > 0.1  # there is something to be equal to


@pytest.mark.parametrize("name", MIXERS)
def test_the_past_matters_and_the_future_does_not(name):
    """Without this a decoder that forgets everything would pass for a mixer that never looked back."""
    mixer = made(name)
    x = torch.randn(1, LENGTH, CHANNELS)
    with torch.no_grad():
        whole = mixer(x)
        changed = x.clone()
        changed[:, 20] += 3.0
        moved = (mixer(changed) - whole).abs().amax(dim=(0, 2))
    assert not (moved[:20] > 1e-5).any()
    assert (moved[21] > 1e-5) == (name != "grouped window")  # a window of one token has no past


@pytest.mark.parametrize("name", MIXERS)
def test_a_state_can_be_continued_twice(name):
    reader = decoder(made(name))
    x = torch.randn(2, LENGTH, CHANNELS)
    _, state = reader.prefill(x[:, :10])
    one, _ = read(reader, x[:, 10:], state)
    other, _ = read(reader, x[:, 10:].flip(1), state)
    again, _ = read(reader, x[:, 10:], state)
    assert torch.equal(one, again)
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("name", MIXERS)
def test_only_banks_grow(name):
    reader = decoder(made(name))
    sizes = []
    for length in (0, 1, 30, 300):
        _, state = reader.prefill(torch.zeros(2, length, CHANNELS))
        assert reader.bytes(state).used <= reader.bytes(state).reserved
        sizes.append(reader.bytes(state).used)
    bank = name in ("attention", "multi-head", "grouped")
    assert (sizes[3] == 10 * sizes[2] > 0) if bank else (sizes[2] in (sizes[3], sizes[3]))


@pytest.mark.parametrize("name", MIXERS)
def test_a_filled_state_has_the_size_of_one_that_was_read(name):
    reader = decoder(made(name))
    for position in (0, 5, 50):
        _, read_state = reader.prefill(torch.randn(3, position, CHANNELS))
        filled = reader.filled(3, position)
        assert reader.bytes(filled) == reader.bytes(read_state)
        y, _ = reader.step(torch.randn(3, CHANNELS), filled)
        assert torch.isfinite(y).all()


def test_no_gradients_are_kept():
    for name in MIXERS:
        reader = decoder(made(name))
        y, state = reader.prefill(torch.randn(1, 4, CHANNELS, requires_grad=True))
        y2, _ = reader.step(torch.randn(1, CHANNELS, requires_grad=True), state)
        assert not y.requires_grad
        assert not y2.requires_grad


def test_rotary_attention_depends_on_distances_alone():
    mixer = made("grouped").double()
    x = torch.randn(1, 12, CHANNELS, dtype=torch.float64)
    q, k, v = mixer.project(x)
    far = mixer.project(x, position=500)
    scores = [q.unflatten(1, (2, 4)) @ k[:, :, None].transpose(-1, -2) for q, k, _ in ((q, k, v), far)]
    torch.testing.assert_close(scores[0], scores[1], atol=1e-4, rtol=0)  # angles are in float32
    swapped = q[:, :1, [1, 0]], k[:, :1, [1, 0]]
    assert not torch.allclose(swapped[0] @ swapped[1].transpose(-1, -2), scores[0][:, 0, :1, :2, :2])


def test_rotary_positions_written_out():
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4)
    turned = torch.complex(x[..., :2], x[..., 2:]) * torch.exp(1j * torch.tensor([7.0, 0.07]))
    torch.testing.assert_close(rotate(x, 7), torch.cat((turned.real, turned.imag), -1))


def test_grouped_queries_equal_heads_whose_keys_are_repeated():
    grouped = CausalAttention(16, num_heads=4, num_kv_heads=2)
    full = CausalAttention(16, num_heads=4)
    with torch.no_grad():
        q, k, v = grouped.qkv.weight.split([16, 8, 8])
        k, v = (w.view(2, 4, 16).repeat_interleave(2, 0).reshape(16, 16) for w in (k, v))
        full.qkv.weight.copy_(torch.cat((q, k, v)))
        full.proj.load_state_dict(grouped.proj.state_dict())
        x = torch.randn(2, 9, 16)
        torch.testing.assert_close(grouped(x), full(x))


def test_a_window_equals_a_mask_written_out():
    mixer = CausalAttention(8, num_heads=1, window=3, rope=False).double()
    x = torch.randn(1, 10, 8, dtype=torch.float64)
    with torch.no_grad():
        q, k, v = (part[0, 0] for part in mixer.project(x))
        expected = torch.stack(
            [(q[t] @ k[max(0, t - 2) : t + 1].T / 8**0.5).softmax(0) @ v[max(0, t - 2) : t + 1] for t in range(10)]
        )
        torch.testing.assert_close(mixer(x)[0], mixer.proj(expected))


def test_blocks_of_queries_equal_one_mask(monkeypatch):
    mixer = CausalAttention(8, num_heads=2, window=5)
    x = torch.randn(1, 33, 8)
    with torch.no_grad():
        whole = mixer(x)
        monkeypatch.setattr("mambaout_edu.memory.attention.QUERIES", 4)
        torch.testing.assert_close(mixer(x), whole)


def test_s4d_is_its_recurrence_written_out():
    mixer = S4D(3, d_state=4).double()
    u = torch.randn(1, 12, 3, dtype=torch.float64)
    with torch.no_grad():
        delta = mixer.log_delta.exp()[:, None]
        A = torch.complex(-mixer.log_A_real.exp(), mixer.A_imag)
        C = torch.view_as_complex(mixer.C)
        h, outputs = torch.zeros(3, 2, dtype=torch.complex128), []
        for t in range(12):
            h = (delta * A).exp() * h + ((delta * A).exp() - 1) / A * u[0, t, :, None]
            outputs.append(2 * (C * h).sum(-1).real + mixer.D * u[0, t])
        expected = mixer.out_proj(nn.functional.gelu(torch.stack(outputs)))
        torch.testing.assert_close(mixer(u)[0], expected)


def test_s4d_hands_its_state_from_chunk_to_chunk(monkeypatch):
    mixer = S4D(4, d_state=8).double()
    u = torch.randn(2, 50, 4, dtype=torch.float64)
    with torch.no_grad():
        whole, last = mixer.run(u)
        monkeypatch.setattr("mambaout_edu.mixers.s4d.CHUNK", 16)
        pieces, after = mixer.run(u)
    torch.testing.assert_close(pieces, whole)
    torch.testing.assert_close(after.ssm, last.ssm)


def test_s4d_gradients_are_exact_and_reach_every_parameter():
    mixer = S4D(2, d_state=2).double()
    assert torch.autograd.gradcheck(mixer, (torch.randn(1, 5, 2, dtype=torch.float64, requires_grad=True),))
    mixer(torch.randn(1, 5, 2, dtype=torch.float64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in mixer.parameters())


@pytest.mark.parametrize(
    ("mixer", "error", "message"),
    [
        (lambda: mixers.Attention(16), ValueError, "causal=True"),
        (lambda: mixers.Recurrent(16, bidirectional=True), ValueError, "bidirectional=False"),
        (lambda: mixers.BiMamba(16), TypeError, "no way is known to read a BiMamba"),
        (lambda: mixers.DepthwiseConv(16), TypeError, "known are CausalAttention"),
    ],
)
def test_what_sees_the_future_is_refused(mixer, error, message):
    with pytest.raises(error, match=message):
        decoder(mixer())


def test_wrong_shapes_and_sizes_are_refused_in_words():
    reader = decoder(made("mamba1"))
    with pytest.raises(ValueError, match=r"prefill takes \[B, L, D\] with D = 16"):
        reader.prefill(torch.zeros(2, 16))
    with pytest.raises(ValueError, match=r"one token \[B, D\]"):
        reader.step(torch.zeros(2, 1, 16), reader.start(2))
    with pytest.raises(ValueError, match="batch must be at least 1"):
        reader.start(0)
    with pytest.raises(ValueError, match="num_kv_heads must divide the 8 heads: one of 1, 2, 4, 8; got 3"):
        CausalAttention(64, num_heads=8, num_kv_heads=3)
    with pytest.raises(ValueError, match="even number; got 3"):
        CausalAttention(6, num_heads=2)
    with pytest.raises(ValueError, match="window must be at least 1"):
        CausalAttention(8, num_heads=2, window=0)
    with pytest.raises(ValueError, match="start must be one of lin, inv"):
        S4D(4, start="real")
    with pytest.raises(ValueError, match="must be even"):
        S4D(4, d_state=3)
