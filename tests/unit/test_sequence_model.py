"""The small sequence model: stepping equals the whole, sizes match, and what it writes follows from its scores."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mambaout_edu.memory import accounting
from mambaout_edu.memory.accounting import MIXERS
from mambaout_edu.models.sequence_model import SMALL, SequenceModel, sequence_model, width_of_size

VOCAB = 11


def model_of(name, **arguments):
    return sequence_model(name, VOCAB, dim=16, seed=1, **arguments).eval()


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("cut", [0, 1, 19, 24])
def test_prefill_and_steps_equal_the_whole(name, cut):
    model = model_of(name)
    for parameter in model.head.parameters():
        parameter.data.mul_(20)  # scores as large as a trained model's
    tokens = torch.randint(VOCAB, (3, 24))
    with torch.no_grad():
        whole = model(tokens)
    scores, state = model.prefill(tokens[:, :cut])
    pieces = [scores]
    for token in tokens[:, cut:].unbind(1):
        scores, state = model.step(token, state)
        pieces.append(scores[:, None])
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-5, rtol=0)
    assert whole.std() > 0.1


@pytest.mark.parametrize("name", MIXERS)
def test_the_state_has_the_bytes_of_the_closed_form(name):
    model = model_of(name)
    _, state = model.prefill(torch.randint(VOCAB, (2, 30)))
    counted = accounting(name, 16, 30, depth=2, batch=2, **SMALL.get(name, {}))
    assert tuple(model.bytes(state)) == (counted.used, counted.reserved)


@pytest.mark.parametrize("name", MIXERS)
def test_parameters_match(name):
    target = sum(p.numel() for p in sequence_model("attention", 20, dim=128).parameters())
    size = sum(p.numel() for p in sequence_model(name, 20, parameters=target).parameters())
    assert abs(size / target - 1) < 0.03


@pytest.mark.parametrize("name", MIXERS)
def test_gradients_reach_every_parameter(name):
    model = model_of(name)
    model(torch.randint(VOCAB, (2, 12))).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert {n for n, p in model.named_parameters() if not p.grad.abs().max() > 0} == set()


def test_greedy_writing_takes_the_likeliest_each_time():
    model = model_of("mamba1")
    prompt = torch.randint(VOCAB, (2, 5))
    written = model.generate(prompt, 6)
    tokens = prompt
    for _ in range(6):
        with torch.no_grad():
            tokens = torch.cat((tokens, model(tokens)[:, -1].argmax(-1, keepdim=True)), 1)
    assert torch.equal(written, tokens[:, 5:])
    assert model.generate(prompt, 0).shape == (2, 0)


def test_drawn_writing_follows_the_scores_and_its_seed():
    model = model_of("gru")
    model.head.weight.data.mul_(30)
    prompt = torch.zeros(4000, 1, dtype=torch.long)
    draw = lambda seed, **k: model.generate(prompt, 1, generator=torch.Generator().manual_seed(seed), **k)  # noqa: E731
    drawn = draw(0, temperature=2.0)
    assert torch.equal(drawn, draw(0, temperature=2.0))
    assert not torch.equal(drawn, draw(1, temperature=2.0))
    with torch.no_grad():
        expected = torch.softmax(model(prompt[:1])[0, -1] / 2.0, -1)
    torch.testing.assert_close(drawn.flatten().bincount(minlength=VOCAB) / 4000, expected, atol=0.03, rtol=0)
    best = set(expected.topk(3).indices.tolist())
    assert set(draw(0, temperature=2.0, top_k=3).flatten().tolist()) == best
    assert set(draw(0, temperature=1e-4).flatten().tolist()) == {int(expected.argmax())}


def test_a_token_costs_the_same_to_write_early_and_late_with_a_state():
    """The work is counted, not timed: products of a step after 4 and after 400 tokens."""
    work = {}
    for name in ("mamba1", "attention"):
        model = model_of(name)
        for length in (4, 400):
            _, state = model.prefill(torch.zeros(1, length, dtype=torch.long))
            with FlopCounterMode(display=False) as counter:
                model.step(torch.zeros(1, dtype=torch.long), state)
            work[name, length] = counter.get_total_flops()
    assert work["mamba1", 4] == work["mamba1", 400]
    assert work["attention", 400] - work["attention", 4] == 2 * 2 * 2 * 396 * 16  # layers; q k' and v; two a product


def test_gated_mixers_have_no_mlp_and_the_others_do():
    assert model_of("mamba1").blocks[0].mlp is None
    assert model_of("lstm").blocks[0].mlp[1].out_features == 32
    assert model_of("lstm", mlp_ratio=0).blocks[0].mlp is None


def test_what_must_not_decay_is_named():
    model = model_of("mamba1")
    names = model.no_weight_decay()
    assert names == {"embedding.weight"} | {f"blocks.{i}.mixer.{n}" for i in (0, 1) for n in ("A_log", "D")}
    assert names <= {name for name, _ in model.named_parameters()}


def test_the_seed_draws_the_weights_and_leaves_torch_s_generator():
    before = torch.random.get_rng_state()
    one, same, other = (sequence_model("conv", 5, dim=8, seed=s).head.weight for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SequenceModel("mamba3", 5), "mixer must be one of attention"),
        (lambda: SequenceModel("gru", 0), "vocab_size must be at least 1"),
        (lambda: sequence_model("gru", 5, dim=8, parameters=100), "give dim or parameters, not both"),
        (lambda: width_of_size("mamba1", 5000, 100), "too few"),
        (lambda: model_of("gru")(torch.zeros(2, 3)), r"whole numbers \[B, L\]; got torch.float32"),
        (lambda: model_of("gru")(torch.full((1, 2), VOCAB)), "from 0 to 10 here; got 11 to 11"),
        (lambda: model_of("gru").step(torch.zeros(1, 1, dtype=torch.long), []), r"whole numbers \[B\]"),
        (lambda: model_of("gru").generate(torch.zeros(1, 0, dtype=torch.long), 3), "one token or more"),
        (lambda: model_of("gru").generate(torch.zeros(1, 1, dtype=torch.long), 3, temperature=1), "manual_seed"),
        (lambda: model_of("gru").generate(torch.zeros(1, 1, dtype=torch.long), 3, top_k=0), "top_k 1 or more"),
    ],
)
def test_wrong_arguments_are_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()
