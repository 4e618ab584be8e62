"""A run in bounded room: thinned without losing an extreme, cut back where it was resumed, read as it grows."""

import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mambaout_edu.training import wilson_interval
from mambaout_edu.training.run_log import RunLog, read_log
from mambaout_edu.widgets.training_run import _tail
from mambaout_edu.widgets.training_run._course import COLUMNS, Course
from mambaout_edu.widgets.training_run._tail import Tail


def step_line(step, loss=1.0, **more):
    line = {"kind": "step", "step": step, "epoch": step / 10, "loss": loss, "lr": 0.1, "images_per_second": 50.0}
    return {**line, "seconds_left": 9.0, "gpu_memory": None, "time": 1000.0 + step, **more}


def event_line(step, what, detail=""):
    return {"kind": "event", "step": step, "what": what, "detail": detail}


def eval_line(step, correct, total=450):
    return {"kind": "eval", "step": step, "epoch": step / 10, "correct": correct, "total": total, "loss": 0.5}


def table(course):
    rows = np.frombuffer(course.tobytes(), "<f4").reshape(-1, len(COLUMNS))
    return dict(zip(COLUMNS, rows.T, strict=True))


def write(folder, *lines):
    folder.mkdir(exist_ok=True)
    with (folder / "log.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


# --- one run in bounded room --------------------------------------------------------------------------------------

LOSSES = st.lists(st.floats(-1e3, 1e3, width=32) | st.just(math.nan) | st.none(), min_size=1, max_size=300)


@given(losses=LOSSES, capacity=st.integers(4, 40))
def test_every_column_has_the_extremes_and_the_mean_of_its_steps(losses, capacity):
    course = Course("run", capacity)
    for step, loss in enumerate(losses, 1):
        course.add(step_line(step, loss, lr=step / 7))
    rows, n, width = table(course), len(losses), course.width
    assert len(rows["step"]) == math.ceil(n / width) <= capacity
    assert width == 1 or math.ceil(n / (width // 2)) > capacity  # not thinned more than needed
    values = np.array([math.nan if loss is None else loss for loss in losses])
    for i, last in enumerate(rows["step"]):
        part = values[i * width : (i + 1) * width]
        assert last == min(n, (i + 1) * width)
        finite = part[np.isfinite(part)]
        expected = [finite.min(), finite.max(), finite.mean()] if len(finite) else [math.nan] * 3
        found = [rows[name][i] for name in ("loss_low", "loss_high", "loss")]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
        assert rows["lr_low"][i] == np.float32((i * width + 1) / 7)
        assert rows["lr_high"][i] == np.float32(last / 7)


@given(before=st.integers(1, 200), data=st.data(), after=st.integers(0, 200))
def test_a_resumed_run_counts_no_step_twice(before, data, after):
    """Killed after `before` steps, resumed from a checkpoint: what came after the checkpoint is done again."""
    at = data.draw(st.integers(0, before))
    course = Course("run", capacity=20)
    for step in range(1, before + 1):
        course.add(step_line(step, 100.0 if step > at else 1.0))
    course.add(eval_line(at, 400))
    course.add(event_line(at, "resumed"))
    for step in range(at + 1, at + after + 1):
        course.add(step_line(step, 1.0))
    assert course.step == at + after
    assert [column.step for column in course.columns] == sorted({column.step for column in course.columns})
    assert sum(column.count for column in course.columns) <= at + after
    assert not np.any(table(course)["loss_high"] > 1)
    assert len(course.evals) == 1
    if before <= 20 and at + after <= 20:
        assert sum(column.count for column in course.columns) == at + after


def test_steps_that_come_again_without_a_word_cut_back_too():
    course = Course("run")
    for step in range(1, 11):
        course.add(step_line(step))
    course.add(eval_line(10, 5))
    course.add(event_line(10, "bad_image"))
    course.add(step_line(5, 7.0))
    assert table(course)["loss"].tolist() == [1, 1, 1, 1, 7]
    assert course.evals == course.events == []


def test_a_run_of_the_paper_stays_small_and_is_read_quickly():
    course, begun = Course("run"), time.perf_counter()
    for step in range(1, 375_001):
        course.add(step_line(step, -5.0 if step == 200_003 else 1.0))
    seconds = time.perf_counter() - begun
    assert len(course.columns) <= 1000
    assert course.width == 512
    assert table(course)["loss_low"].min() == -5  # one step in 375,000 is still seen
    assert len(course.tobytes()) <= 44_000
    assert seconds < 60


def test_measurements_have_wilsons_interval_and_stay_few():
    course = Course("run", capacity=8)
    for step in range(1, 31):
        course.add(eval_line(step, 400 + step))
    assert len(course.evals) <= 8
    step, _, accuracy, low, high, loss = course.evals[-1]
    assert (step, accuracy, loss) == (30, 430 / 450, 0.5)
    assert (low, high) == wilson_interval(430, 450)


def test_bad_images_of_one_column_are_counted_together():
    course = Course("run", capacity=4)
    for step in range(1, 33):
        course.add(step_line(step))
        course.add(event_line(step, "bad_image", f"{step}: cut short"))
        if step in (3, 20):
            course.add(event_line(step, "torn_checkpoint"))
    bad = [event for event in course.events if event["what"] == "bad_image"]
    assert sum(event["count"] for event in bad) == 32
    assert len(bad) <= 2 * 4
    assert [event["step"] for event in course.events if event["what"] == "torn_checkpoint"] == [3, 20]
    assert bad[-1]["detail"] == "32: cut short"


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ([], "waiting"),
        ([step_line(1)], "running"),
        ([step_line(1), event_line(1, "stopped", "SIGTERM")], "stopped"),
        ([step_line(1), event_line(1, "nan", "step 2")], "nan"),
        ([step_line(1), event_line(1, "stopped"), event_line(1, "resumed")], "running"),
        ([step_line(1), event_line(1, "finished")], "finished"),
        ([step_line(1), event_line(1, "bad_image"), {"kind": "weather", "step": 1}], "running"),
    ],
)
def test_the_state_is_what_the_newest_lines_say(lines, state):
    course = Course("run")
    for line in lines:
        course.add(line)
    assert course.told()["state"] == state


def test_patience_grows_with_the_longest_wait_but_not_with_a_pause():
    course = Course("run")
    for step, when in [(1, 0.0), (2, 100.0)]:
        course.add(step_line(step, time=when))
    assert course.told()["patience"] == 300
    course.add(event_line(2, "resumed"))
    course.add(step_line(3, time=1e6))
    assert course.told()["patience"] == 300
    assert course.told()["newest"] == 1e6


def test_too_little_room_is_refused():
    with pytest.raises(ValueError, match="capacity=3, expected room for at least 4 columns"):
        Course("run", capacity=3)


# --- a log that grows -----------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(1, 400), max_size=12), chunk=st.integers(1, 300))
def test_a_log_in_pieces_reads_as_the_whole(tmp_path_factory, cuts, chunk):
    folder = tmp_path_factory.mktemp("run")
    lines = [{"kind": "run", "total_steps": 9, "model": "größer"}, *(step_line(step) for step in range(1, 10))]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    ends = sorted({min(end * 5, len(text)) for end in cuts} | {len(text)})
    tail, found = Tail(folder), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_tail, "CHUNK", chunk)
        for end in ends:
            (folder / "log.jsonl").write_bytes(text[:end])
            while (new := tail.read())[0]:
                assert not new[1]
                found += new[0]
    assert found == lines
    assert found[1:] == read_log(folder).steps


@pytest.mark.parametrize("grown", [0, 3, 30])
def test_a_log_that_was_cut_back_is_read_from_its_beginning(tmp_path, grown):
    log = RunLog(tmp_path)
    for step in range(1, 11):
        log.write(step_line(step))
    log.close()
    tail = Tail(tmp_path)
    assert len(tail.read()[0]) == 10
    again = RunLog(tmp_path, resume_at=4)
    for step in range(5, 5 + grown):
        again.write(step_line(step, time=5000.0 + step))
    again.close()
    lines, anew = tail.read()
    assert anew
    assert lines == read_log(tmp_path).steps
    assert tail.read() == ([], False)


def test_a_broken_line_is_refused_with_its_number(tmp_path):
    write(tmp_path, step_line(1))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write("no json\n")
    with pytest.raises(ValueError, match=r"line 2 of .*log.jsonl.* is no JSON"):
        Tail(tmp_path).read()
