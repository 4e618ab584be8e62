"""The card of a run says what the log says, for finished, stopped and broken runs; and its picture shows it."""

import io
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.text import Text
from PIL import Image

from mambaout_edu import plots
from mambaout_edu.models import create_model
from mambaout_edu.plots.training_runs import card_alt, card_png, run_curves
from mambaout_edu.training import wilson_interval
from mambaout_edu.training.card import run_card
from mambaout_edu.training.recipe import recipe

Make = Callable[..., Path]


def step(n: int, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "step", "step": n, "epoch": n / 10, "loss": 2.3 - n / 100, "lr": 1e-3, "images_per_second": 100.0 + n,
        "seconds_left": 1.0, "gpu_memory": None, "time": 1000.0 + 2 * n, **changes,
    }  # fmt: skip


def measured(n: int, correct: int, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "eval", "step": n, "epoch": n / 10, "accuracy": correct / 450, "correct": correct, "total": 450,
        "loss": 0.4, "ema": False, **changes,
    }  # fmt: skip


def event(n: int, what: str) -> dict[str, Any]:
    return {"kind": "event", "step": n, "what": what, "detail": ""}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write the folder of a run with the given lines of its log."""

    def folder(*lines: dict[str, Any], **about: Any) -> Path:
        run = {
            "model": "mambaout_pico_8", "model_options": {"num_classes": 10}, "data": "digits",
            "classes": list("0123456789"), "versions": {"torch": "2.9"}, "device": "a laptop",
            "command": "mambaout-edu train", "started": 1000.0, **about,
        }  # fmt: skip
        start = {
            "kind": "run", "model": run["model"], "data": "digits", "total_steps": 40, "updates_per_epoch": 10,
            "batch_size": 64, "device": "a laptop", "started": 1000.0,
        }  # fmt: skip
        (tmp_path / "run.json").write_text(json.dumps(run))
        (tmp_path / "recipe.json").write_text(recipe("digits_cpu").to_json())
        (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (start, *lines)))
        return tmp_path

    return folder


def whole(make: Make) -> Path:
    lines = [line for n in range(1, 41) for line in (step(n), *([measured(n, 300 + 3 * n)] if n % 10 == 0 else []))]
    lines[-1].update(correct=380, accuracy=380 / 450)  # the last is not the best
    return make(*lines, event(40, "finished"))


def test_it_says_what_the_run_was(make: Make) -> None:
    folder = whole(make)
    card = run_card(folder, picture=False)
    assert json.loads((folder / "card.json").read_text()) == card
    assert not (folder / "card.png").exists()
    assert (card["model"], card["data"], card["classes"], card["device"]) == (
        "mambaout_pico_8",
        "digits",
        10,
        "a laptop",
    )
    expected = sum(p.numel() for p in create_model("mambaout_pico_8", num_classes=10).parameters())
    assert card["parameters"] == expected
    assert card["recipe"] == json.loads(recipe("digits_cpu").to_json())
    assert card["started"] == "1970-01-01T00:16:40+00:00"
    assert (card["state"], card["steps"], card["total_steps"], card["epochs"]) == ("finished", 40, 40, 4.0)
    assert card["images_per_second"] == statistics.median(range(101, 141))
    assert card["seconds"] == 80.0
    assert card["gpu_memory"] is None


def test_final_and_best_accuracy_have_their_intervals(make: Make) -> None:
    card = run_card(whole(make), picture=False)
    assert (card["final"]["step"], card["final"]["correct"]) == (40, 380)
    assert (card["best"]["step"], card["best"]["correct"]) == (30, 390)
    assert card["final"]["interval"] == list(wilson_interval(380, 450))
    assert card["best"]["interval"] == list(wilson_interval(390, 450))
    assert [found["step"] for found in card["evaluations"]] == [10, 20, 30, 40]
    tied = run_card(make(step(1), measured(10, 430), measured(20, 420), measured(30, 430)), picture=False)
    assert tied["best"]["step"] == 30


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], "unfinished"),
        ([event(20, "stopped")], "stopped"),
        ([event(20, "nan")], "stopped"),
        ([event(10, "stopped"), event(10, "resumed")], "unfinished"),
        ([event(10, "stopped"), event(10, "resumed"), event(20, "finished")], "finished"),
    ],
)
def test_the_state_follows_from_the_events(make: Make, events: list[dict[str, Any]], state: str) -> None:
    card = run_card(make(*map(step, range(1, 21)), *events), picture=False)
    assert card["state"] == state
    assert sum(card["events"].values()) == len(events)


def test_a_pause_before_a_run_is_resumed_is_no_training_time(make: Make) -> None:
    late = [step(n, time=90_000.0 + 2 * n) for n in range(11, 21)]
    lines = [*map(step, range(1, 11)), event(10, "stopped"), event(10, "resumed"), *late]
    assert run_card(make(*lines), picture=False)["seconds"] == 20.0 + 9 * 2.0


def test_long_curves_become_means_of_equal_parts(make: Make) -> None:
    lines = [step(n, loss=float(n), gpu_memory=n) for n in range(1, 1001)]
    card = run_card(make(*lines), picture=False)
    curves = card["curves"]
    assert len(curves["loss"]) == len(curves["step"]) == 334
    assert curves["loss"][:2] == [2.0, 5.0]
    assert (curves["step"][-1], card["gpu_memory"]) == (1000, 1000)


def test_a_loss_that_broke_is_valid_json_and_drawn(make: Make) -> None:
    lines = [step(1), step(2, loss=float("nan")), event(2, "nan")]
    folder = make(*lines)
    card = run_card(folder, picture=True)
    text = (folder / "card.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["curves"]["loss"] == [card["curves"]["loss"][0], None]
    assert "2.29 to 2.29" in card_alt(card)


def test_a_model_without_a_name_has_a_card_too(make: Make) -> None:
    card = run_card(make(step(1), model=None, model_options={}))
    assert card["parameters"] is None
    assert "a model of the reader's" in card_alt(card)


def test_no_run_and_no_step_are_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is not the folder of a run: it has no run.json"):
        run_card(tmp_path)
    with pytest.raises(ValueError, match="has logged no step yet"):
        run_card(make())
    assert not (tmp_path / "card.json").exists()


# --- the picture ------------------------------------------------------------------------------------------------------


def test_the_picture_carries_its_words(make: Make) -> None:
    folder = whole(make)
    card = run_card(folder)
    with Image.open(io.BytesIO((folder / "card.png").read_bytes())) as image:
        assert image.info["Description"] == card_alt(card)
        assert image.width >= 1000
    assert (folder / "card.png").read_bytes() == card_png(card)
    assert "84.4 % (80.8 to 87.5 %)" in card_alt(card)
    assert {file.name for file in folder.iterdir()} >= {"card.json", "card.png"}
    assert not list(folder.glob("*.part"))


def test_without_matplotlib_there_is_still_a_card(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    folder = whole(make)
    monkeypatch.setitem(sys.modules, "mambaout_edu.plots.training_runs", None)
    monkeypatch.delattr(plots, "training_runs", raising=False)
    assert run_card(folder)["steps"] == 40
    assert not (folder / "card.png").exists()
    with pytest.raises(ImportError):
        run_card(folder, picture=True)


def test_the_curves_are_the_card_s_and_nothing_is_cut_off(make: Make) -> None:
    card = run_card(whole(make), picture=False)
    fig = run_curves({"a run": card})
    plots.picture(fig, card_alt(card))
    loss, accuracy, rate, speed = fig.axes
    assert list(loss.lines[0].get_ydata()) == card["curves"]["loss"]
    assert list(rate.lines[0].get_ydata()) == card["curves"]["lr"]
    assert list(speed.lines[0].get_ydata()) == card["curves"]["images_per_second"]
    assert list(accuracy.lines[0].get_ydata()) == pytest.approx([100 * e["accuracy"] for e in card["evaluations"]])
    ends = [segment[:, 1].tolist() for segment in accuracy.collections[0].get_segments()]
    assert ends == [pytest.approx([100 * end for end in e["interval"]]) for e in card["evaluations"]]
    shown = [label for label in fig.findobj(Text) if label.get_text() and label.get_visible()]
    assert min(label.get_fontsize() for label in shown) >= 14
    drawn, (width, height) = fig.get_tightbbox(), fig.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= -0.02
    assert (drawn.x1 <= width + 0.02, drawn.y1 <= height + 0.02) == (True, True)


def test_several_runs_are_told_apart_without_colour(make: Make) -> None:
    card = run_card(whole(make), picture=False)
    bare = {**card, "evaluations": [], "final": None}
    fig = run_curves({"with": card, "without": bare})
    styles = {line.get_linestyle() for line in fig.axes[0].lines}
    assert len(styles) == 2
    assert [label.get_text() for label in fig.axes[0].get_legend().get_texts()] == ["with", "without"]
    assert run_curves({"without": bare}).axes[1].texts[0].get_text() == "not measured"
    with pytest.raises(ValueError, match="no run to draw"):
        run_curves({})
