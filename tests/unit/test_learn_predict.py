"""Predictions: what is asked, what is kept, and when the outcome is seen."""

import math

import numpy as np
import pytest

pytest.importorskip("anywidget", reason="the widgets are not installed (extra `lab`)")

import itertools

import traitlets
from hypothesis import given
from hypothesis import strategies as st

from mambaout_edu.learn import lessons, progress
from mambaout_edu.learn.predictions import predict, predictions_of, specify
from mambaout_edu.widgets.prediction import fit_answer, fit_outcome

CHOICES = {"a": "first", "b": "second"}
X, Y = {"label": "step", "values": [1, 2, 4]}, {"label": "loss", "min": 0, "max": 3}


@pytest.fixture(autouse=True)
def _scratch_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMBAOUT_EDU_DATA", str(tmp_path))


def kept() -> list[object]:
    return [entry.value for entry in progress.entries() if entry.kind == "prediction"]


def test_without_an_answer_nothing_runs_and_nothing_is_kept():
    ran = []
    p = predict("t.x", "Which?", choices=CHOICES, outcome=lambda: ran.append(1))
    assert repr(p) == "Prediction t.x: Which? (not answered)"
    assert (ran, kept(), p.outcome, p.state) == ([], [], None, "on_commit")


def test_a_callable_runs_once_after_the_commit():
    ran = []

    def work():
        ran.append(p.answer)
        return 7

    p = predict("t.x", "How many?", min=0, max=10, outcome=work)
    p.commit(4)
    assert (ran, p.outcome, p.state) == ([4.0], 7.0, "known")
    p.committed = False  # "predict again"
    p.commit(5)
    assert ran == [4.0]
    assert kept()[-1] == {"answer": 5.0, "outcome": 7.0}


def test_the_outcome_given_later_meets_the_commit_in_either_order():
    before, after = (predict("t.x", "Which?", choices=CHOICES) for _ in range(2))
    before.commit("a")
    assert before.state == "later"
    before.reveal("b")
    after.reveal("b")
    assert kept()[-1] == {"answer": "a", "outcome": "b"}
    assert len(kept()) == 2  # nothing is kept for the one that is not committed
    after.commit("a")
    assert repr(before) == repr(after) == "Prediction t.x: Which? (answered: first; outcome: second)"


def test_showing_without_predicting_works_the_outcome_out_and_keeps_nothing():
    p = predict("t.x", "How many?", min=0, max=10, outcome=lambda: 3)
    p.skipped = True
    assert (p.outcome, p.state, kept()) == (3.0, "known", [])
    assert "shown without predicting" in repr(p)


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("by zero"), SystemExit(3), KeyError("k"), KeyboardInterrupt()], ids=repr
)
def test_an_error_of_the_callable_is_told_in_words(error):
    def work():
        raise error

    p = predict("t.x", "How many?", min=0, max=10, outcome=work)
    p.commit(4)
    assert p.state == "failed"
    assert type(error).__name__ in p.problem
    assert kept() == [{"answer": 4.0, "outcome": None}]
    p.reveal(2)  # a later cell can still mend it
    assert (p.state, p.problem, p.outcome) == ("known", "", 2.0)


def test_an_outcome_of_the_wrong_kind_is_told_in_words():
    p = predict("t.x", "Which?", choices=CHOICES, outcome=lambda: "c")
    p.commit("a")
    assert p.state == "failed"
    assert "'c'" in p.problem
    assert "'a', 'b'" in p.problem


def test_settle_works_the_outcome_out_for_a_page_without_a_kernel():
    p = predict("t.x", "How many?", min=0, max=10, outcome=lambda: 3)
    p.settle()
    assert (p.outcome, p.state, p.committed) == (3.0, "known", False)


@pytest.mark.parametrize(
    ("kind", "spec", "wrong"),
    [
        ("choice", {"choices": CHOICES}, "c"),
        ("number", {"min": 0, "max": 10}, 11),
        ("number", {"min": 0, "max": 10}, "3"),
        ("number", {"min": 0, "max": 10}, math.nan),
        ("number", {"min": 0, "max": 10}, True),
        ("curve", {"x": X, "y": Y}, [1, 2]),
        ("curve", {"x": X, "y": Y}, [1, 2, math.inf]),
        ("curve", {"x": X, "y": Y}, 3),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(kind, spec, wrong):
    with pytest.raises((ValueError, TypeError), match="expected"):
        fit_answer(kind, spec, wrong)
    p = predict("t.x", "?", kind=kind, **spec)
    with pytest.raises(traitlets.TraitError):
        p.commit(wrong)
    assert p.committed is False
    assert kept() == []


def test_outcomes_are_taken_from_arrays_and_tensors():
    torch = pytest.importorskip("torch")
    spec = {"x": X, "y": Y}
    expected = [[1.0, 5.0], [2.0, 6.0], [4.0, 7.0]]
    pairs = [(4, 7), (1, 5), (2, 6)]
    given_as = [[5, 6, 7], np.array([5, 6, 7]), torch.tensor([5.0, 6, 7]), pairs, np.array(pairs), dict(pairs)]
    for outcome in given_as:
        assert fit_outcome("curve", spec, outcome) == expected
    assert fit_outcome("number", {}, np.float32(0.5)) == fit_outcome("number", {}, torch.tensor(0.5)) == 0.5


@pytest.mark.parametrize(
    "outcome", [[], [1, 2], [[1, 2, 3]], [(1, math.nan)], "abc", [None, 1, 2], [[1, 2], 3]], ids=repr
)
def test_a_curve_that_does_not_fit_is_refused(outcome):
    with pytest.raises((ValueError, TypeError), match=r"expected|give"):
        fit_outcome("curve", {"x": X, "y": Y}, outcome)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=30))
def test_a_curve_of_pairs_keeps_its_points_in_order_of_x(pairs):
    points = fit_outcome("curve", {"x": X, "y": Y}, pairs)
    assert sorted(map(tuple, points)) == sorted(pairs)
    assert [x for x, _ in points] == sorted(x for x, _ in pairs)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "kind is None"),
        ({"kind": "guess"}, "kind is 'guess'"),
        ({"choices": {"a": "only"}}, "at least two"),
        ({"kind": "choice"}, "needs choices"),
        ({"choices": CHOICES, "min": 1}, "does not take min"),
        ({"min": 3, "max": 3}, "min below max"),
        ({"min": 0, "max": 3, "log": True}, "above 0"),
        ({"min": 0, "max": 3, "step": 4}, "step is 4"),
        ({"x": {"label": "x"}, "y": Y}, "axis x needs values"),
        ({"x": {"label": "x", "values": [2, 1]}, "y": Y}, "rising"),
        ({"x": X, "y": {"label": "y", "min": 2, "max": 1}}, "y min is 2"),
        ({"x": X, "y": {**Y, "log": True}}, "above 0"),
        ({"x": {**X, "names": ["a"]}, "y": Y}, "1 names for 3 values"),
    ],
)
def test_a_question_that_does_not_fit_is_refused_in_words(record, message):
    with pytest.raises(ValueError, match=f"prediction 't.x'.*{message}"):
        specify("t.x", record)


def test_an_unknown_id_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"no prediction '06\.shape'.*06\.share"):
        predict("06.shape")
    with pytest.raises(ValueError, match="that lesson has none"):
        predict("99.x")


def test_arguments_stand_above_the_table():
    p = predict("06.loss", "Sketch it.", why="So.", x={"values": [0, 50, 100]}, outcome=[3, 2, 1])
    assert (p.question, p.why, p.spec["x"]["values"]) == ("Sketch it.", "So.", [0, 50, 100])
    assert p.spec["x"]["label"] == predictions_of("06")["06.loss"]["x"]["label"]


def test_every_written_lesson_has_three_predictions_and_each_is_whole():
    for lesson in lessons.registry():
        table = predictions_of(lesson.number)
        assert len(table) >= 3 or not (lesson.written and lesson.exercises)
        for id, record in table.items():
            p = predict(id)
            assert p.question.endswith(("?", ".", ")"))
            assert p.why.endswith("."), id
            assert p.kind == record["kind"]


def test_the_questions_of_lesson_06_agree_with_the_package():
    """What the explanations say in numbers is computed here from the models."""
    from mambaout_edu.models import create_model, profile, stage_shapes

    counted = profile(create_model("mambaout_tiny"), 224)
    p = predict("06.share", outcome=lambda: 100 * counted["token mixing"].multiply_adds / counted.multiply_adds)
    p.commit(50)
    assert f"{p.outcome:.1f}" == "2.3"  # the share that item 06.kernel of the quiz names
    saved = (1 - 9 / 49) * p.outcome
    assert f"{saved:.1f}" == "1.9"  # and what a 3x3 kernel saves
    shapes = stage_shapes(224, 224, (96, 192, 384, 576))
    thousands = [h * w * c / 1000 for h, w, c in shapes]
    assert all(later <= earlier / 2 for earlier, later in itertools.pairwise(thousands))
    axis = predict("06.stages").spec["y"]
    assert axis["min"] < min(thousands)
    assert max(thousands) < axis["max"]
    assert 8 * 384 == 3072  # "49 against 3,072": fc1 and fc2 spend 2h + h = 8 D on a channel
    assert math.isclose(3 * int(8 / 3 * 384) / 384, 8)
