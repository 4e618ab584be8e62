"""What is left of a past token: unrolled states, derivatives, hidden needles, and the sums behind the comparison."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mambaout_edu.data.recall import IGNORED, Needle
from mambaout_edu.memory import accounting, crossing
from mambaout_edu.memory.forgetting import MixedDials, hide_needle, token_weights, unrolled
from mambaout_edu.memory.formulas import bank_bytes, crossing_position, ssm_step
from mambaout_edu.mixers.s4d import S4D, S4DState
from mambaout_edu.models.sequence_model import sequence_model

MIXERS = ("attention", "window", "rnn", "gru", "lstm", "s4d", "mamba1", "mamba2", "conv")
sizes = st.integers(1, 6)


@given(length=sizes, states=sizes, seed=st.integers(0, 99))
def test_the_terms_of_an_unrolled_state_add_up_to_it(length, states, seed):
    decay, fed = torch.randn(2, length, states, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    h = torch.zeros(states, dtype=torch.float64)
    for a, b in zip(decay, fed, strict=True):
        h = a * h + b
    terms = unrolled(decay, fed)
    assert torch.allclose(terms.sum(0), h, atol=1e-12)
    assert torch.equal(terms[-1], fed[-1])


@given(length=st.integers(2, 6), place=st.integers(0, 5), seed=st.integers(0, 99))
def test_a_term_is_what_its_token_alone_leaves(length, place, seed):
    place %= length
    decay, fed = torch.randn(2, length, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    alone = torch.zeros_like(fed)
    alone[place] = fed[place]
    assert torch.allclose(unrolled(decay, alone).sum(0), unrolled(decay, fed)[place], atol=1e-12)


@pytest.mark.parametrize("shapes", [((3, 2), (3, 3)), ((3,), (3,)), ((0, 2), (0, 2))])
def test_unrolled_refuses_other_shapes(shapes):
    with pytest.raises(ValueError, match=r"\[L, N\] with L at least 1; got"):
        unrolled(*(torch.zeros(shape) for shape in shapes))


@pytest.mark.parametrize("mixer", MIXERS)
def test_weights_are_those_of_the_derivative(mixer):
    model = sequence_model(mixer, 5, dim=8, depth=1, seed=0).double()
    tokens = torch.tensor([[0, 3, 1, 4, 2, 2]])
    embedded = model.embedding(tokens).detach()

    def last(x):
        y = model.blocks[0](x)
        return model.head(model.norm(y))[0, -1]

    exact = torch.autograd.functional.jacobian(last, embedded)[:, 0].square().sum((0, 2)).sqrt()  # [L]
    assert torch.allclose(token_weights(model, tokens, probes=2000).double(), exact, rtol=0.1, atol=1e-9)
    assert exact.max() > 1e-3


def test_weights_leave_the_model_as_it_was():
    model = sequence_model("gru", 5, dim=8, depth=1, seed=0).eval()
    tokens = torch.randint(5, (2, 7), generator=torch.Generator().manual_seed(0))
    before = model(tokens)
    with torch.no_grad():  # also where gradients are off
        first = token_weights(model, tokens)
    assert torch.equal(first, token_weights(model, tokens))
    assert not torch.equal(first, token_weights(model, tokens, seed=1))
    assert torch.equal(model(tokens), before)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(ValueError, match="got 9"):
        token_weights(model, torch.full_like(tokens, 9))
    assert not model.embedding._forward_hooks, "the hook is gone after an error, too"
    with pytest.raises(ValueError, match="probes must be at least 1; got 0"):
        token_weights(model, tokens, probes=0)


@given(distance=st.integers(1, 9), batch=sizes, seed=st.integers(0, 99))
def test_a_hidden_needle_is_what_the_task_draws(distance, batch, seed):
    task = Needle(symbols=6, distance=distance)
    tokens, targets = task.draw(batch, torch.Generator().manual_seed(seed))
    again = hide_needle(tokens[:, 1], tokens[:, 2:-1], task.mark("mark"), task.mark("ask"))
    assert torch.equal(again.tokens, tokens)
    assert torch.equal(again.targets, targets)
    assert int((again.targets != IGNORED).sum()) == batch


def test_hide_needle_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"got shapes \(2,\) and \(3, 4\)"):
        hide_needle(torch.zeros(2), torch.zeros(3, 4), 0, 1)


@given(
    tokens=st.integers(0, 300), depth=sizes, groups=sizes, per=st.integers(1, 3), head=st.sampled_from([2, 8]),
    batch=sizes, window=st.none() | st.integers(1, 200), dtype=st.sampled_from(["float32", "bfloat16"]),
)  # fmt: skip
def test_bytes_of_a_bank_are_those_of_accounting(tokens, depth, groups, per, head, batch, window, dtype):
    heads = groups * per
    extra = {} if window is None else {"window": window}
    counted = accounting(
        "attention", heads * head, tokens, depth=depth, batch=batch, dtype=dtype, num_heads=heads, num_kv_heads=groups,
        **extra,
    )  # fmt: skip
    assert bank_bytes(tokens, depth, groups, head, {"float32": 4, "bfloat16": 2}[dtype], batch, window) == counted.used


@pytest.mark.parametrize("wrong", [{"tokens": -1}, {"depth": 0}, {"window": 0}, {"item": 0}])
def test_bank_bytes_refuses_numbers_out_of_range(wrong):
    with pytest.raises(ValueError, match="all sizes are at least 1; got"):
        bank_bytes(**{"tokens": 1, "depth": 1, "num_kv_heads": 1, "head_dim": 1, **wrong})


@given(dim=st.sampled_from([8, 64, 768]), layers=st.integers(1, 4))
def test_the_crossing_is_that_of_accounting(dim, layers):
    other = accounting("mamba1", dim, depth=layers).multiply_adds
    found = crossing("attention", "mamba1", dim, sizes={"num_heads": 2}, other_sizes={"depth": layers})
    assert crossing_position(dim, other) == found


@given(dim=st.integers(1, 40), cost=st.integers(0, 40_000), ratio=st.integers(0, 4))
def test_the_crossing_is_the_first_position_that_costs_more(dim, cost, ratio):
    def attention(position):
        return (4 + 2 * ratio) * dim**2 + 2 * dim * (position + 1)

    found = crossing_position(dim, cost, ratio)
    assert attention(found) > cost
    assert found == 0 or attention(found - 1) <= cost


def test_crossing_position_refuses_numbers_out_of_range():
    with pytest.raises(ValueError, match="mlp_ratio = -1"):
        crossing_position(8, 100, -1)


@given(seed=st.integers(0, 99))
def test_a_step_is_that_of_s4d(seed):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        mixer = S4D(3, d_state=8)
        state = torch.randn(2, 3, 4, dtype=torch.complex64)
        u = torch.randn(2, 3)
    log_A, B, C = mixer.system()
    y, after = ssm_step(state, u, log_A.exp(), B, C, mixer.D)
    expected, kept = mixer.step(u, S4DState(state))
    assert torch.allclose(mixer.out_proj(torch.nn.functional.gelu(y)), expected, atol=1e-5)
    assert torch.allclose(after, kept.ssm)


def test_ssm_step_refuses_shapes_that_do_not_fit():
    state, flat = torch.zeros(2, 3, 4) + 0j, torch.zeros(3, 4) + 0j
    with pytest.raises(ValueError, match=r"u \[B, D\] and D \[D\]; got"):
        ssm_step(state, torch.zeros(2, 4), flat, flat, flat, torch.zeros(3))
    with pytest.raises(ValueError, match=r"\[D, N\] = \(3, 4\); got"):
        ssm_step(state, torch.zeros(2, 3), flat, flat.T, flat, torch.zeros(3))


def test_mixed_dials_draw_what_the_task_draws_at_one_of_them():
    mixed, seen = MixedDials(Needle(), (2, 3, 7)), set()
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        tokens, targets = mixed.draw(3, generator)
        seen.add(tokens.shape[1] - 3)
        assert torch.equal(targets[:, -1], tokens[:, 1])
    assert seen == {2, 3, 7}
    with pytest.raises(ValueError, match="at least one value of the dial"):
        MixedDials(Needle(), ())
    with pytest.raises(ValueError, match="distance of Needle must be at least 1; got 0"):
        MixedDials(Needle(), (4, 0))
