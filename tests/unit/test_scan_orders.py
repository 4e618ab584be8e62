import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambaout_edu import recorded
from mambaout_edu.data.grain import DIRECTIONS, grain
from mambaout_edu.plots.scan_order_results import scan_order_accuracies, scan_order_spreads
from mambaout_edu.training import scan_order_summary as summary
from mambaout_edu.training.scan_orders import SCANS, TASKS, ScanClassifier, ScanRun, scan_mixer, train_one

SCRIPT = Path(__file__).parents[2] / "experiments" / "scan_orders.py"
SHIFTS = {"horizontal": (0, 1), "vertical": (1, 0), "falling": (1, 1), "rising": (-1, 1)}


def experiment():
    spec = importlib.util.spec_from_file_location("scan_orders_experiment", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(order="raster", conv=False, task="digits", seed=0, correct=400, epochs=20):
    return ScanRun(order, conv, task, seed, epochs, correct, 450, 0.5, 10_762, 1.0)


def neighbours(images, shift):
    """Mean product of pixels one shift apart, of images of mean 0 and variance 1."""
    moved = torch.roll(images, (-shift[0], -shift[1]), dims=(1, 2))
    rows = slice(1, None) if shift[0] < 0 else slice(0, images.shape[1] - shift[0])
    return float((images * moved)[:, rows, : images.shape[2] - shift[1]].mean())


def test_the_grain_runs_along_its_direction_and_along_no_other():
    pictures = grain(seed=3, train=4000, test=4, strength=0.8).train
    values = (pictures.images[:, 0] - 0.5) / 0.2
    for number, name in enumerate(pictures.classes):
        of_class = values[pictures.labels == number]
        for other, shift in SHIFTS.items():
            expected = 0.8 * 2 / 3 if other == name else 0
            assert neighbours(of_class, shift) == pytest.approx(expected, abs=0.04)
    assert tuple(SHIFTS) == pictures.classes == tuple(DIRECTIONS)


def test_one_pixel_says_nothing_about_the_grain():
    pictures = grain(train=8000, test=4).train
    for measure in (torch.mean, torch.std):
        each = [float(measure(pictures.images[pictures.labels == k])) for k in range(4)]
        assert max(each) - min(each) < 0.005
    assert pictures.labels.bincount().tolist() == [2000] * 4


def test_grain_follows_its_seed_and_nothing_is_shared():
    one, same, other = grain(seed=1), grain(seed=1), grain(seed=2)
    assert torch.equal(one.train.images, same.train.images)
    assert not torch.equal(one.train.images, other.train.images)
    assert not torch.equal(one.train.images[: len(one.test)], one.test.images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"image_size": 1}, "2 or more pixels"), ({"train": 6}, "multiples of 4"), ({"strength": 1.5}, "from 0 to 1")],
)
def test_grain_refuses_what_it_cannot_draw(arguments, message):
    with pytest.raises(ValueError, match=message):
        grain(**arguments)


@pytest.mark.parametrize("conv", [False, True])
def test_every_order_has_the_same_number_of_parameters(conv):
    sizes = {sum(p.numel() for p in ScanClassifier(scan, 10, conv=conv).parameters()) for scan in SCANS}
    assert sizes == {10_762 + 2 * 32 * 10 * conv}


@pytest.mark.parametrize("scan", SCANS)
def test_scores_follow_the_order_and_gradients_reach_every_weight(scan):
    torch.manual_seed(0)
    model = ScanClassifier(scan, 4, dim=8)
    images = torch.rand(3, 1, 6, 6)
    model(images).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_one_way_is_causal_and_the_others_look_back():
    image = torch.rand(1, 4, 4, 4)
    changed = image.clone()
    changed[0, 3, 3] += 1  # the last pixel of a raster
    for scan in SCANS:
        torch.manual_seed(0)
        mixer = scan_mixer(scan, 4)
        moved = (mixer(changed) - mixer(image)).abs().sum(dim=-1)[0] > 0
        assert bool(moved[:3].any()) == (scan != "oneway"), scan
        assert bool(moved[3, 3])


def test_a_picture_and_its_half_turn_are_told_apart():
    """Both ways have parameters of their own: with shared ones a 6 would be a 9."""
    torch.manual_seed(0)
    model = ScanClassifier("raster", 4)
    image = torch.rand(1, 1, 6, 6)
    assert not torch.allclose(model(image), model(image.flip(2, 3)), atol=1e-5)


def test_random_orders_differ_by_seed():
    image = torch.rand(1, 6, 6, 4)

    def output(seed):
        torch.manual_seed(0)
        return scan_mixer("random", 4, seed=seed)(image)

    assert torch.equal(output(1), output(1))
    assert not torch.allclose(output(1), output(2))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="no scan is named 'zigzag'; expected one of raster"):
        ScanClassifier("zigzag", 10)
    with pytest.raises(ValueError, match="no task is named 'imagenet'; expected one of digits, grain"):
        train_one("raster", task="imagenet")
    with pytest.raises(ValueError, match="dim is 7; expected an even number"):
        ScanClassifier("raster", 10, dim=7)


def test_a_run_learns_is_repeatable_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again = (train_one("raster", conv=True, task="digits", seed=1, epochs=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert (first.correct, first.loss) == (again.correct, again.loss)
    assert first.accuracy > 0.4
    low, high = first.interval
    assert low < first.accuracy < high
    assert train_one("raster", conv=True, task="digits", seed=2, epochs=3).loss != first.loss


def test_student_s_interval():
    mean = summary.mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (mean.value, mean.low, mean.high) == (3.0, 1.04, 4.96)  # 2.776 * sqrt(2.5 / 5)
    with pytest.raises(ValueError, match="1 values; expected 2 or more"):
        summary.mean_interval([1.0])


def test_a_spread_that_seeds_alone_make_is_within_chance_and_a_real_one_is_not():
    rng = np.random.default_rng(0)
    noise = {f"order {k}": list(90 + rng.normal(size=5)) for k in range(8)}
    alone = summary.spread(noise)
    assert alone.points > 0.5
    assert alone.points < alone.chance
    assert alone.p > 0.05
    real = summary.spread({**noise, "best": [97.0, 96.0, 98.0, 97.0, 97.0]})
    assert (real.best, real.points > real.chance) == ("best", True)
    assert real.p < 0.001


@given(st.lists(st.lists(st.floats(0, 100), min_size=3, max_size=3), min_size=2, max_size=5), st.floats(-5, 5))
@settings(max_examples=25, deadline=None)
def test_a_seed_that_is_harder_for_all_orders_changes_no_spread(table, harder):
    plain = {str(k): row for k, row in enumerate(table)}
    shifted = {name: [row[0] + harder, *row[1:]] for name, row in plain.items()}
    one, other = (summary.spread(values, draws=200) for values in (plain, shifted))
    assert one.points == pytest.approx(other.points, abs=0.011)
    assert one.chance == pytest.approx(other.chance, abs=0.011)


def test_tables_that_are_not_whole_are_refused():
    with pytest.raises(ValueError, match="no runs"):
        summary.collect([])
    with pytest.raises(ValueError, match=r"have the seeds \[0\]; expected each of \[0, 1\] once"):
        summary.collect([run(seed=0), run(seed=1), run("column", seed=0)])
    with pytest.raises(ValueError, match="agree in size and epochs"):
        summary.collect([run(epochs=1), run("column", epochs=2)])
    for values in ({}, {"a": [1.0, 2.0]}, {"a": [1.0], "b": [1.0, 2.0]}):
        with pytest.raises(ValueError, match="expected 2 orders or more"):
            summary.spread(values)
    table = summary.collect([run(seed=0), run(seed=1)])
    with pytest.raises(ValueError, match="no run of hilbert on task 'digits' with conv=False; there are raster"):
        summary.accuracies(table, "digits", False, ["hilbert"])


def test_collect_sorts_whatever_order_the_runs_ended_in():
    runs = [
        run(order, conv, seed=seed, correct=400 + seed) for order in SCANS for conv in (True, False) for seed in (1, 0)
    ]
    table = summary.collect(reversed(runs))
    assert list(table["correct"]["digits"]) == ["plain", "conv"]
    assert list(table["correct"]["digits"]["conv"]) == list(SCANS)
    assert table["correct"]["digits"]["conv"]["hilbert"] == [400, 401]
    text = summary.report(table)
    assert "hilbert      89.00" in text
    assert "three rows of VMamba's table 10" in text


def test_the_plan_is_resumed_where_a_line_was_cut(tmp_path):
    module = experiment()
    jobs = module.plan(["digits"], ["raster"], [0, 1], 1)
    assert len(jobs) == 4
    path = tmp_path / "runs.jsonl"
    done = [run(conv=conv, epochs=1) for conv in (False, True)]
    path.write_text("".join(json.dumps(vars(each)) + "\n" for each in done) + '{"order": "ras', encoding="utf-8")
    found = module.finished(path)
    assert found == done
    assert path.read_text(encoding="utf-8").endswith("}\n")
    assert module.missing(jobs, found) == [job for job in jobs if job["seed"] == 1]
    assert module.missing(jobs, [run(epochs=2)]) == jobs


def test_the_recorded_run_is_whole_and_its_figures_say_what_it_says():
    results = recorded.load("scan_orders")["results"]
    assert len(results["seeds"]) >= 5
    assert list(results["correct"]) == list(TASKS)
    for task, by_conv in results["correct"].items():
        assert results["parameters"][task]["conv"] - results["parameters"][task]["plain"] == 2 * 32 * 10
        for by_order in by_conv.values():
            assert len(by_order) >= 7
            assert "random" in by_order
            assert all(len(counts) == len(results["seeds"]) for counts in by_order.values())
    ax = scan_order_accuracies(results).axes[0]
    plain, conv = (container.lines[0].get_xdata() for container in ax.containers)
    orders = results["correct"]["digits"]["plain"]
    assert plain == pytest.approx([100 * np.mean(counts) / 450 for counts in orders.values()], abs=0.01)
    assert len(conv) == len(orders)
    bars = scan_order_spreads(results, others={"VMamba": (1.37, 0.34)}).axes[0].containers
    assert [bar.get_width() for bar in bars[0]][-1] == 1.37
    assert [bar.get_width() for bar in bars[1]][-1] == 0.34


def test_figures_refuse_what_was_not_run():
    results = summary.collect([run(seed=0), run(seed=1)])
    with pytest.raises(ValueError, match=r"no run of \['grain'\]; there are digits"):
        scan_order_accuracies(results, tasks=["grain"])
    with pytest.raises(ValueError, match="no group is named 'some'"):
        scan_order_spreads(results, group="some")
