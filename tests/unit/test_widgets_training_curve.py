"""The curve's data: bounded, thinned without averaging, sent not too often and always to the end."""

import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traitlets import TraitError

from mambaout_edu.widgets import TrainingCurve
from mambaout_edu.widgets.training_curve._series import Series


class Clock:
    """A clock that goes when it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def points(curve: TrainingCurve) -> np.ndarray:
    return np.frombuffer(curve.points, dtype="<f4").reshape(-1, 3)


@given(count=st.integers(1, 600), capacity=st.integers(4, 50))
def test_series_keeps_first_and_newest_evenly(count, capacity):
    series = Series(columns=2, capacity=capacity)
    for step in range(count):
        series.append(step, step / 2)
        assert len(series) <= capacity
    steps = [int(step) for step in series.column(0)]
    assert len(series) == len(steps)
    assert steps[0] == 0
    assert steps[-1] == count - 1
    assert steps == sorted(set(steps))
    kept = steps if (count - 1) % series.stride == 0 else steps[:-1]
    assert kept == list(range(0, count, series.stride))
    assert series.column(1) == [step / 2 for step in steps]
    assert len(series.tobytes()) == 8 * len(series)


def test_series_refuses_rows_of_another_size():
    with pytest.raises(ValueError, match="got a row of 1 numbers, expected 2"):
        Series(columns=2).append(1)
    with pytest.raises(ValueError, match="room for 4 rows"):
        Series(columns=2, capacity=3)


def test_messages_are_spaced_and_the_last_is_sent():
    clock = Clock()
    curve = TrainingCurve(clock=clock)
    sent = []
    curve.observe(lambda change: sent.append(clock.now), "points")
    for step in range(1000):
        clock.now = step * 0.01  # ten seconds of training
        curve.update(step, 1.0 / (step + 1))
    assert len(sent) <= 51
    assert min(np.diff(sent)) >= 0.2 - 1e-9
    assert curve.running
    curve.finish()
    assert not curve.running
    assert points(curve)[-1, 0] == 999
    assert len(points(curve)) == 1000


def test_long_runs_stay_small():
    curve = TrainingCurve(clock=Clock())
    for step in range(20_000):
        curve.update(step, 1.0, lr=0.1)
    curve.finish()
    assert len(curve.points) <= 4000 * 12
    assert curve.stride == 8
    assert points(curve)[-1, 0] == 19_999


def test_values_arrive_as_given():
    curve = TrainingCurve(clock=Clock())
    curve.update(0, 2.5, lr=0.125)
    curve.update(3, math.nan)
    curve.mark(3, 0.75)
    curve.finish()
    np.testing.assert_array_equal(points(curve), np.float32([[0, 2.5, 0.125], [3, np.nan, np.nan]]))
    np.testing.assert_array_equal(np.frombuffer(curve.accuracies, "<f4"), np.float32([3, 0.75]))
    assert repr(curve) == "TrainingCurve(steps=4, marks=1, running=False)"
    curve.clear()
    assert curve.points == curve.accuracies == b""
    curve.update(0, 1.0)  # starts anew


@pytest.mark.parametrize("step", [-1, 5, 4])
def test_steps_must_grow(step):
    curve = TrainingCurve()
    if step >= 0:
        curve.update(5, 1.0)
    with pytest.raises(ValueError, match=f"step {step} came after step"):
        curve.update(step, 1.0)


@pytest.mark.parametrize("accuracy", [-0.1, 97.0, math.nan])
def test_accuracy_is_a_share(accuracy):
    with pytest.raises(ValueError, match="expected a share from 0 to 1"):
        TrainingCurve().mark(0, accuracy)


@pytest.mark.parametrize("wrong", [{"smoothing": 1.0}, {"smoothing": -0.1}, {"total": -1}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(TraitError):
        TrainingCurve(**wrong)


def test_marks_from_another_thread_are_all_kept():
    curve = TrainingCurve(clock=Clock())
    threads = [threading.Thread(target=lambda: [curve.mark(1, 0.5) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for step in range(500):
        curve.update(step, 1.0)
    for thread in threads:
        thread.join()
    curve.finish()
    assert len(curve.accuracies) == 800 * 8
    assert len(points(curve)) == 500
