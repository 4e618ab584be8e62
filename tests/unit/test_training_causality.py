"""What an output may use, and the comparison of causal with fully visible classifiers."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambaout_edu import flatten, mixers, recorded
from mambaout_edu.plots.causality import causality_prices, visible_patches
from mambaout_edu.training import causality
from mambaout_edu.training.causality import CausalityRun, VisibilityClassifier


def experiment():
    path = Path(__file__).resolve().parents[2] / "experiments" / "causality.py"
    spec = importlib.util.spec_from_file_location("causality_experiment", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(view="causal", readout="mean", seed=0, correct=400, mixer="ssm", **changed):
    fields = {"epochs": 20, "total": 450, "loss": 0.1, "parameters": 9, "seconds": 1.0} | changed
    return CausalityRun(mixer, view, readout, seed, correct=correct, **fields)


@given(st.permutations(range(6)))
@settings(max_examples=20, deadline=None)
def test_the_mask_of_an_order_is_what_perturbation_finds(order):
    mask = causality.causal_mask(order)
    assert mask.sum() == causality.visible_pairs(6, causal=True)
    step = flatten.inverse(np.array(order))
    for t in range(6):
        assert set(np.flatnonzero(mask[t])) == set(order[: step[t] + 1])


@pytest.mark.parametrize("order", ["raster", "column", "hilbert", "serpentine"])
def test_causal_attention_along_an_order_has_its_mask(order):
    torch.manual_seed(0)
    mixer = mixers.Attention(8, 2, causal=True, order=order)
    moved = causality.visible(mixer, torch.randn(1, 3, 4, 8))
    np.testing.assert_array_equal(moved.numpy(), causality.causal_mask(flatten.order(order, 3, 4)))


@given(st.integers(1, 12), st.booleans(), st.none() | st.integers(0, 15))
@settings(max_examples=40, deadline=None)
def test_pairs_are_counted(length, causal, window):
    t, s = np.indices((length, length))
    seen = (abs(t - s) <= (length if window is None else window)) & ((s <= t) | (not causal))
    assert causality.visible_pairs(length, causal, window) == seen.sum()


def test_a_convolution_in_front_makes_a_causal_scan_see_ahead():
    torch.manual_seed(0)
    x = torch.randn(1, 1, 6, 8)
    assert not causality.visible(mixers.SelectiveSSM(8), x).triu(1).any()
    assert causality.visible(mixers.ConvSSM(8, 3), x).triu(1).sum() == 5


def test_two_causal_mixers_see_everything_and_their_matrix_says_how():
    a, b = (-torch.rand(5, dtype=torch.float64, generator=torch.Generator().manual_seed(k)) for k in (0, 1))

    def scan(decay):
        def mixer(x):
            h, out = torch.zeros_like(x[:, 0]), []
            for t in range(x.shape[1]):
                h = decay[t].exp() * h + x[:, t]
                out.append(h)
            return torch.stack(out, 1)

        return mixer

    x = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    both = causality.both_ways(scan(a), scan(b.flip(0)), x)
    torch.testing.assert_close(both, causality.two_way_matrix(a, b) @ x)
    assert causality.visible(lambda y: causality.both_ways(scan(a), scan(b), y), x[:1]).all()


@pytest.mark.parametrize("mixer", causality.MIXERS)
def test_views_differ_in_nothing_but_what_is_seen(mixer):
    models = {}
    for view in causality.VIEWS:
        torch.manual_seed(0)
        models[view] = VisibilityClassifier(mixer, view, "mean")
        x = torch.randn(1, 4, 4, 32)
        tokens = models[view].blocks
        assert bool(causality.visible(tokens, x).triu(1).any()) == (view == "visible")
    visible, causal = (sum(p.numel() for p in model.parameters()) for model in models.values())
    assert visible == causal


def test_behind_a_mask_the_first_token_sees_one_patch_and_the_last_all():
    torch.manual_seed(0)
    image = torch.rand(1, 1, 8, 8)
    changed = image.clone()
    changed[..., 4:, :] = 0
    for readout, moves in (("first", False), ("last", True), ("mean", True)):
        model = VisibilityClassifier("attention", "causal", readout)
        assert torch.equal(model(image), model(changed)) != moves


def test_a_run_is_repeatable_and_leaves_the_generator_alone():
    before = torch.get_rng_state()
    first, again = (causality.train_one("attention", "visible", seed=1, epochs=2) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert (first.correct, first.loss) == (again.correct, again.loss)
    assert first.accuracy > 0.2


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="no view is named 'open'; expected one of visible, causal"):
        VisibilityClassifier("ssm", "open", "mean")
    with pytest.raises(ValueError, match="no mixer is named 'lstm'"):
        causality.train_one("lstm", "causal")
    with pytest.raises(ValueError, match=r"one input, .* got shape \(2, 3, 4\)"):
        causality.visible(torch.nn.Identity(), torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="window at least 0"):
        causality.visible_pairs(3, window=-1)
    with pytest.raises(ValueError, match="both ways need the same tokens"):
        causality.two_way_matrix(torch.zeros(3), torch.zeros(4))
    with pytest.raises(ValueError, match="2 seeds or more"):
        causality.paired_interval([1.0], [2.0], 2.0)
    with pytest.raises(ValueError, match="no run of 'ssm', 'mean', 'visible'"):
        causality.accuracies({"correct": {}, "total": {}}, "ssm", "mean", "visible")
    with pytest.raises(ValueError, match="that are not all 0"):
        visible_patches({"none": np.zeros((2, 2))}, np.zeros((4, 4)), (0, 0))


def test_what_is_hard_for_both_changes_no_price():
    counts = {"visible": [440, 430, 436], "causal": [436, 428, 430]}
    harder = {view: [n - k for n, k in zip(each, (90, 0, 45), strict=True)] for view, each in counts.items()}
    one, other = (
        causality.price({"total": {"ssm": 450}, "correct": {"ssm": {"mean": each}}}, "ssm", "mean")
        for each in (counts, harder)
    )
    assert one == other
    assert one.value == pytest.approx(100 * 4 / 450, abs=0.01)


def test_the_plan_is_resumed_where_a_line_was_cut(tmp_path):
    module = experiment()
    jobs = module.plan(["ssm"], [0], 20)
    assert len(jobs) == 6
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps(vars(run())) + '\n{"mixer": "s', encoding="utf-8")
    found = module.finished(path)
    assert found == [run()]
    assert path.read_text(encoding="utf-8").endswith("}\n")
    assert module.key(found[0]) in jobs


def test_only_a_whole_table_is_collected():
    module = experiment()
    whole = [run(view, seed=seed, correct=400 + seed) for view in causality.VIEWS for seed in (1, 0)]
    table = module.collect(whole)
    assert table["correct"] == {"ssm": {"mean": {"visible": [400, 401], "causal": [400, 401]}}}
    assert "price of the causal view: 0.00 points" in module.report(table)
    for broken in ([], whole[:3], [*whole, run(seed=0)], [*whole[:3], run(seed=0, epochs=3)]):
        with pytest.raises(ValueError, match="cannot be compared"):
            module.collect(broken)


def test_the_recorded_run_is_whole_and_the_figure_says_what_it_says():
    results = recorded.load("causality")["results"]
    assert len(results["seeds"]) >= 5
    for mixer in causality.MIXERS:
        for readout in causality.READOUTS:
            for view in causality.VIEWS:
                assert len(causality.accuracies(results, mixer, readout, view)) == len(results["seeds"])
    ax = causality_prices(results, published={"elsewhere": (72.2, 70.6)}).axes[1]
    shown = list(ax.containers[0].lines[0].get_xdata())
    assert shown == [causality.price(results, m, r).value for m in causality.MIXERS for r in causality.READOUTS]
