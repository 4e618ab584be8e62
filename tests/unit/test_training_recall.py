"""The trainer of sequence models, and the plan of the recorded runs."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
import torch

from mambaout_edu import recorded
from mambaout_edu.data import TextWindows
from mambaout_edu.data.recall import IGNORED, Copying, Needle
from mambaout_edu.models.sequence_model import sequence_model
from mambaout_edu.training.recall import RecallHistory, recall_accuracy, train_recall

SCRIPT = Path(__file__).parents[2] / "experiments" / "recall.py"
EASY = Needle(symbols=4, distance=1)


def small(mixer="gru", task=EASY, **arguments):
    return sequence_model(mixer, task.vocab_size, **{"dim": 16, "depth": 1, "seed": 0, **arguments})


@pytest.fixture(scope="module")
def experiment():
    spec = importlib.util.spec_from_file_location("recall_experiment", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_mamba_learns_to_copy():
    task = Copying(symbols=4, items=2, delay=2)
    model = small("mamba1", task, dim=24)
    assert recall_accuracy(model, task, 256) < 0.5
    history = train_recall(model, task, 300, lr=1e-2, target=0.95, progress=False, threads=1)
    assert history.accuracies[-1] >= 0.95
    assert history.losses[-1] < history.losses[0] / 3
    assert history.accuracy_steps[-1] == len(history.losses) <= 300


def test_a_window_that_is_too_short_stays_at_chance():
    """A convolution cannot learn what lies beyond its window: a trainer that leaked answers would."""
    task = Needle(symbols=4, distance=8)
    model = small("conv", task, d_conv=4)
    history = train_recall(model, task, 100, lr=1e-2, progress=False, threads=1)
    assert history.accuracies[-1] < 0.4


def test_the_same_seed_gives_the_same_run_and_another_another():
    def run(seed):
        return train_recall(small(), EASY, 5, batch_size=4, seed=seed, progress=False, threads=1).losses

    assert run(1) == run(1) != run(2)


def test_a_text_is_learned_too():
    windows = TextWindows.of("abcabd" * 20, length=12)
    model = sequence_model("lstm", windows.vocab_size, dim=16, depth=1, seed=0)
    history = train_recall(model, windows, 150, lr=1e-2, progress=False, threads=1)
    assert history.accuracies[-1] > 0.9


def test_interruption_keeps_what_was_done():
    def stop(step, loss):
        if step == 3:
            raise KeyboardInterrupt

    history = train_recall(small(), EASY, 50, progress=False, threads=1, on_step=stop)
    assert history.interrupted
    assert len(history.losses) == 3
    assert repr(history) == "RecallHistory(3 steps, 0 s, interrupted)"
    assert "accuracy 50.0%" in repr(RecallHistory([1.0], [1], [0.5]))


def test_accuracy_counts_what_is_asked_and_nothing_else():
    class Fixed(torch.nn.Module):
        def forward(self, tokens):
            return torch.nn.functional.one_hot(torch.ones_like(tokens), 3).float()

    class Task:
        def draw(self, batch, generator):
            targets = torch.tensor([[1, 1, IGNORED, 2]]).expand(batch, 4)
            return torch.zeros_like(targets).abs(), targets

    assert recall_accuracy(Fixed(), Task(), 10) == pytest.approx(2 / 3)

    class Silent(Task):
        def draw(self, batch, generator):
            return torch.zeros(batch, 2, dtype=torch.long), torch.full((batch, 2), IGNORED)

    with pytest.raises(ValueError, match="nothing is asked"):
        recall_accuracy(Fixed(), Silent())


def test_measuring_draws_other_sequences_than_training():
    drawn = []

    class Watched:
        def draw(self, batch, generator):
            drawn.append(EASY.draw(batch, generator))
            return drawn[-1]

    train_recall(small(), Watched(), 1, batch_size=32, measure_every=1, progress=False, threads=1)
    assert not torch.equal(drawn[0].tokens, drawn[1].tokens[:32])


def test_a_loss_that_is_not_finite_stops_with_words():
    model = small()
    model.head.weight.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="at step 1; try a lower learning rate"):
        train_recall(model, EASY, 5, progress=False, threads=1)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch_size": 0}, {"measure_every": 0}, {"warmup": 1.0}])
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="at least 1, warmup"):
        train_recall(small(), EASY, **{"steps": 1, **wrong}, progress=False, threads=1)


def test_the_plan_is_balanced_and_what_is_done_is_not_done_again(experiment, tmp_path):
    jobs = experiment.plan(list(experiment.PARTS), list(experiment.MIXERS), [0, 1], experiment.tuned(None), None)
    per_seed = 4 * len(experiment.MIXERS) - sum(4 - len(parts) for parts in experiment.VARIANTS.values())
    assert len(jobs) == 2 * per_seed
    assert {job["seed"] for job in jobs[:per_seed]} == {0}
    rates = experiment.plan(["needle"], ["lstm"], [experiment.TUNING_SEED], experiment.every_rate, None, share=2)
    assert [job["lr"] for job in rates] == list(experiment.RATES)
    assert {job["steps"] for job in rates} == {experiment.PARTS["needle"]["steps"] // 2}
    path = tmp_path / "runs.jsonl"
    job = next(job for job in jobs if job["mixer"] == "lstm" and job["part"] == "pairs")
    run = experiment.RecallRun(
        **job, parameters=60_000, dim=48, accuracies={"8": 0.25}, state_bytes={"8": 768}, measured_at=[6000],
        while_training=[0.25], seconds=1.0,
    )  # fmt: skip
    path.write_text(json.dumps(run.__dict__) + '\n{"part": "pai')
    assert experiment.finished(path) == [run]
    assert path.read_text().endswith("}\n")
    left = experiment.missing(jobs, [run])
    assert len(left) == len(jobs) - 1
    assert job not in left
    assert experiment.finished(tmp_path / "none.jsonl") == []


def test_models_of_the_plan_have_about_as_many_parameters(experiment):
    for settings in experiment.PARTS.values():
        task = experiment.recall_task(settings["task"], **settings["numbers"])
        target = experiment.parameters_of(task)
        for mixer, sizes in experiment.MIXERS.values():
            model = sequence_model(mixer, task.vocab_size, parameters=target, **sizes)
            assert abs(sum(p.numel() for p in model.parameters()) / target - 1) < 0.06, mixer


def test_a_run_is_trained_asked_and_collected(experiment, tmp_path, monkeypatch):
    monkeypatch.setitem(experiment.PARTS["needle"], "ask", [16, 32])
    run = experiment.train_one("needle", "lstm", 0, 1e-3, 2)
    assert set(run.accuracies) == {"16", "32"} == set(run.state_bytes)
    assert run.state_bytes["16"] == run.state_bytes["32"]  # a state does not grow
    monkeypatch.setitem(experiment.PARTS["pairs"], "ask", [4])
    other = experiment.train_one("pairs", "attention", 0, 1e-3, 2)
    results = experiment.collect([other, run])
    assert list(results["parts"]) == ["pairs", "needle"]
    assert results["parts"]["pairs"]["bag"] == {"4": 0.25}
    assert results["parts"]["needle"]["runs"]["lstm"]["asked"]["16"] == [run.accuracies["16"]]
    assert "lstm" in experiment.report(results)
    path = recorded.save("recall", results, folder=tmp_path, command="python experiments/recall.py")
    assert recorded.load("recall", folder=path.parent)["results"] == json.loads(json.dumps(results))
    tried = experiment.best_rates([run, dataclasses.replace(run, lr=6e-3, accuracies={"16": 1.0, "32": 1.0})])
    assert tried["best"] == {"needle": {"lstm": 6e-3}}


def test_the_recorded_runs_are_those_of_the_plan(experiment):
    results = recorded.load("recall")["results"]
    jobs = experiment.plan(
        list(experiment.PARTS), list(experiment.MIXERS), [0, 1, 2, 3, 4], experiment.tuned(None), None
    )
    done = sum(len(cell["seeds"]) for part in results["parts"].values() for cell in part["runs"].values())
    assert done + len(results["not_run"]) == len(jobs)
    assert all(job in jobs for job in results["not_run"])
