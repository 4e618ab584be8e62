"""A run in a picture: fed, followed while it is written, and told to the page."""

import json
import re
import threading
import time
from functools import partial
from importlib.resources import files

import numpy as np
import pytest
from traitlets import TraitError

from mambaout_edu.training import recipe as recipes
from mambaout_edu.training import resume, train
from mambaout_edu.training.run_log import RunLog, read_log
from mambaout_edu.widgets import TrainingRun
from mambaout_edu.widgets.training_run._course import COLUMNS


class Clock:
    """A clock that goes when it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def step_line(step, loss=1.0, **more):
    line = {"kind": "step", "step": step, "epoch": step / 10, "loss": loss, "lr": 0.1, "images_per_second": 50.0}
    return {**line, "seconds_left": 9.0, "gpu_memory": None, "time": 1000.0 + step, **more}


def event_line(step, what, detail=""):
    return {"kind": "event", "step": step, "what": what, "detail": detail}


def eval_line(step, correct, total=450):
    return {"kind": "eval", "step": step, "epoch": step / 10, "correct": correct, "total": total, "loss": 0.5}


def write(folder, *lines):
    folder.mkdir(exist_ok=True)
    with (folder / "log.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)


# --- the widget -----------------------------------------------------------------------------------------------------


def test_what_is_fed_and_what_is_read_look_the_same(tmp_path):
    lines = [{"kind": "run", "total_steps": 50, "updates_per_epoch": 10, "model": "m", "data": "d", "device": "cpu"}]
    for step in range(1, 51):
        lines += [step_line(step, 1 / step)] + ([eval_line(step, 300 + step)] if step % 10 == 0 else [])
    lines.append(event_line(50, "finished"))
    fed = TrainingRun(["one"])
    for line in lines:
        fed.on_log(line)
    write(tmp_path / "one", *lines)
    read = TrainingRun.from_folder(tmp_path / "one")
    assert read.points == fed.points
    assert read.runs == fed.runs
    assert repr(read) == repr(fed) == "TrainingRun(one: finished at step 50)"
    assert read.runs[0]["total_steps"] == 50
    assert not read.following


def test_messages_are_spaced_and_the_last_is_sent():
    clock = Clock()
    view = TrainingRun(clock=clock)
    sent = []
    view.observe(lambda change: sent.append(clock.now), "points")
    for step in range(1, 101):
        clock.now = step * 0.01
        view.on_log(step_line(step))
    assert len(sent) <= 3
    until(lambda: view.runs[0]["rows"] == 100)  # a burst ends, and its last line still comes


def test_a_bad_image_more_is_told():
    """What was sent before must not change with what comes after, or the page would not hear of it."""
    view = TrainingRun(clock=Clock())
    for step in range(1, 4):
        view.on_log(step_line(step))
    view.on_log(event_line(3, "bad_image"))
    before = view.runs
    view.on_log(event_line(3, "bad_image"))
    assert before[0]["events"][0]["count"] == 1
    assert view.runs[0]["events"][0]["count"] == 2


def test_several_runs_are_told_apart():
    view = TrainingRun(["a", "b"])
    partial(view.on_log, run="b")(event_line(0, "stopped"))
    assert [run["state"] for run in view.runs] == ["waiting", "stopped"]
    with pytest.raises(ValueError, match="run is None, expected one of a, b"):
        view.on_log(step_line(1))


def test_runs_of_several_folders_lie_one_after_the_other(tmp_path):
    write(tmp_path / "a", *(step_line(step) for step in range(1, 4)))
    write(tmp_path / "b", *(step_line(step, 2.0) for step in range(1, 3)))
    view = TrainingRun.from_folder({"first": tmp_path / "a", "second": tmp_path / "b"}, axis="epoch")
    rows = np.frombuffer(view.points, "<f4").reshape(-1, len(COLUMNS))
    assert [run["rows"] for run in view.runs] == [3, 2]
    assert rows[:, COLUMNS.index("loss")].tolist() == [1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"names": []}, ValueError, "expected at least one name"),
        ({"names": ["a", "a"]}, ValueError, "each of them once"),
        ({"smoothing": 1.0}, TraitError, "smoothing"),
        ({"axis": "hours"}, TraitError, "axis"),
        ({"colour": "red"}, TypeError, "got colour, which it does not have"),
    ],
)
def test_wrong_settings_are_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        TrainingRun(**wrong)


def test_a_folder_without_a_log_is_refused_unless_it_is_followed(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the folder of a run, or follow=True"):
        TrainingRun.from_folder(tmp_path)
    view = TrainingRun.from_folder(tmp_path, follow=True)
    assert view.following
    view.stop()
    view.stop()
    assert not view.following


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("mambaout_edu.widgets.training_run.SECONDS_BETWEEN_LOOKS", 0.02)


@pytest.mark.usefixtures("quick")
def test_a_run_is_followed_from_before_its_beginning_to_its_end(tmp_path):
    view = TrainingRun.from_folder(tmp_path / "run", follow=True)
    write(tmp_path / "run", *(step_line(step) for step in range(1, 6)))
    until(lambda: view.runs[0]["rows"] == 5)
    assert view.runs[0]["state"] == "running"
    write(tmp_path / "run", event_line(5, "stopped", "SIGTERM"))
    until(lambda: view.runs[0]["state"] == "stopped")
    assert view.following  # it may yet be resumed
    RunLog(tmp_path / "run", resume_at=5).close()
    write(tmp_path / "run", event_line(5, "resumed"), step_line(6), event_line(6, "finished"))
    until(lambda: not view.following)
    assert view.runs[0]["state"] == "finished"
    assert [event["what"] for event in view.runs[0]["events"]] == ["stopped", "resumed", "finished"]


@pytest.mark.usefixtures("quick")
def test_a_log_that_breaks_while_it_is_followed_is_told_on_the_page(tmp_path):
    write(tmp_path, step_line(1))
    view = TrainingRun.from_folder(tmp_path, follow=True)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write("{broken}\n")
    until(lambda: not view.following)
    assert re.search("line 2 of .* is no JSON", view.problem)
    assert view.runs[0]["rows"] == 1


def test_lines_from_several_threads_are_all_kept():
    view = TrainingRun(["a", "b", "c"])

    def feed(name):
        for step in range(1, 301):
            view.on_log(step_line(step), run=name)

    threads = [threading.Thread(target=feed, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    view.stop()
    assert [run["rows"] for run in view.runs] == [300, 300, 300]


@pytest.mark.usefixtures("quick")
def test_a_real_run_that_is_stopped_and_resumed(tmp_path):
    """Fed live, followed from outside, and read afterwards: the same picture each time."""
    plan = recipes.recipe("digits_cpu", epochs=1, warmup_epochs=0, cooldown_epochs=0)
    folder, fed = tmp_path / "run", TrainingRun()
    followed = TrainingRun.from_folder(folder, follow=True)
    train("mambaout_pico_8", "digits", plan, folder, progress=False, on_log=fed.on_log, max_steps=12)
    assert fed.runs[0]["state"] == "stopped"
    resume(folder, progress=False, on_log=fed.on_log)
    until(lambda: not followed.following)
    read, log = TrainingRun.from_folder(folder), read_log(folder)
    assert read.points == fed.points == followed.points
    assert read.runs == followed.runs
    assert [read.runs[0][key] for key in ("evals", "events", "state")] == [
        fed.runs[0][key] for key in ("evals", "events", "state")
    ]
    rows = np.frombuffer(read.points, "<f4").reshape(-1, len(COLUMNS))
    np.testing.assert_array_equal(rows[:, 0], [line["step"] for line in log.steps])
    np.testing.assert_array_equal(rows[:, COLUMNS.index("loss")], np.float32([line["loss"] for line in log.steps]))
    assert read.runs[0]["total_steps"] == len(log.steps) == 21
    assert [event["what"] for event in read.runs[0]["events"]] == ["stopped", "resumed", "finished"]


# --- its files ------------------------------------------------------------------------------------------------------


def source():
    folder = files(TrainingRun.__module__)
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in (*TrainingRun.modules, "widget.js"))


def test_every_string_is_in_the_table_and_none_is_unread():
    strings, text = TrainingRun().strings, source()
    said = set(re.findall(r'"([a-z_]+)"', text)) | {f"event_{what}" for what in re.findall(r"(\w+): \"M", text)}
    composed = {key for key in strings if key.startswith("state_")}
    written = set(re.findall(r'say\(model, "(\w+)"', text))
    assert written
    assert written <= set(strings)
    assert set(strings) - composed <= said
    states = {"waiting", "running", "silent", "finished", "stopped", "nan"}
    assert composed == {f"state_{state}" for state in states}


def test_data_never_becomes_markup_and_nothing_is_fetched():
    text = str(TrainingRun()._esm) + str(TrainingRun()._css)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)
    assert set(re.findall(r"https?://[^\s\"']+", text)) <= {"http://www.w3.org/2000/svg"}
