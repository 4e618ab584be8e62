"""Quizzes: the files are valid, and what makes them invalid is named."""

import copy
import json

import pytest

pytest.importorskip("anywidget", reason="the widgets are not installed (extra `lab`)")

import traitlets

from mambaout_edu.learn import lessons, progress, quiz_items
from mambaout_edu.learn.quiz_items import load, misconceptions, problems, quiz, written


@pytest.fixture(autouse=True)
def _scratch_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMBAOUT_EDU_DATA", str(tmp_path))


def right_choice(item: dict) -> int:
    return next(i for i, choice in enumerate(item["choices"]) if choice.get("right"))


def test_every_written_lesson_has_a_valid_quiz_that_covers_its_objectives():
    for lesson in lessons.registry():
        if not (lesson.written and lesson.exercises):
            continue
        items = load(lesson.number)
        own = [item for item in items if item["id"].startswith(lesson.number)]
        assert {item["objective"] for item in own} == {objective.id for objective in lesson.objectives}
        positions = [right_choice(item) for item in own]
        assert max(positions.count(place) for place in positions) <= len(own) / 2, (
            "the right answer stands too often in one place"
        )


def test_every_named_misconception_is_met_in_some_quiz():
    met = {choice.get("misconception") for number in written() for item in load(number) for choice in item["choices"]}
    assert met - {None} == set(misconceptions())


def test_the_right_choice_is_not_told_by_its_length():
    longest = [
        max(range(len(item["choices"])), key=lambda i, item=item: len(item["choices"][i]["text"])) == right_choice(item)
        for number in written()
        for item in load(number)
    ]
    assert sum(longest) <= len(longest) / 2


def test_the_numbers_of_lesson_06_agree_with_the_package():
    from mambaout_edu.blocks import block_multiply_adds
    from mambaout_edu.models import stage_shapes

    right = {item["id"]: item["choices"][right_choice(item)]["text"] for item in load("06")}
    h, w, _ = stage_shapes(100, 60, (96, 192, 384, 576))[1]
    assert right["06.odd"].startswith(f"{h}×{w}:")
    (h1, w1, c1), (h2, w2, c2) = stage_shapes(224, 224, (96, 192, 384, 576))[:2]
    assert h1 * w1 * c1 == 2 * h2 * w2 * c2 == 301_056  # 06.amount: "it halves"

    def share(dim):
        mixing = 14 * 14 * 49 * dim
        return mixing / block_multiply_adds(14, 14, dim)

    assert share(768) / share(384) == pytest.approx(0.5, rel=0.02)  # 06.width: "it about halves"
    linear = block_multiply_adds(1, 1, 384) - 49 * 384
    assert linear / (49 * 384) == pytest.approx(63, abs=0.5)  # 06.kernel: "about 63 times"


@pytest.fixture
def file():
    return copy.deepcopy(quiz_items._file("06"))


def drop(key):
    return lambda item: item.pop(key)


def put(key, value):
    return lambda item: item.__setitem__(key, value)


def choose(number, key, value):
    return lambda item: item["choices"][number].__setitem__(key, value)


BROKEN_ITEMS = [
    (drop("source"), "item 06.reach: the field source is missing"),
    (put("note", 1), "item 06.reach: the field note is unknown"),
    (put("question", " "), "item 06.reach: question is ' '; expected a text"),
    (put("objective", "06.none"), "item 06.reach: objective '06.none' is not one of the lesson's"),
    (put("id", "05.reach"), "item 05.reach: id does not begin with 06."),
    (put("id", "06.scan"), "item 06.scan: its id is used twice"),
    (put("choices", []), "item 06.reach: choices: expected a list of at least three"),
    (choose(2, "right", False), "item 06.reach: choices: 0 are marked right"),
    (choose(0, "right", True), "item 06.reach: choice 1: it is right and names a misconception"),
    (choose(3, "right", True), "item 06.reach: choices: 2 are marked right"),
    (choose(0, "misconception", "none"), "item 06.reach: choice 1: misconception 'none' is not known"),
    (choose(1, "explanation", ""), "item 06.reach: choices: every explanation must be a text"),
    (lambda item: item["choices"][1].pop("explanation"), "item 06.reach: choice 2: the field explanation is missing"),
    (lambda item: item["choices"].__setitem__(1, {**item["choices"][0]}), "two have the same explanation"),
]


@pytest.mark.parametrize(("breaking", "message"), BROKEN_ITEMS, ids=[message[:50] for _, message in BROKEN_ITEMS])
def test_a_broken_item_is_named_with_what_is_wrong(file, breaking, message):
    assert problems(file, "06") == []
    breaking(file["items"][0])
    assert any(message in problem for problem in problems(file, "06")), problems(file, "06")


def test_a_broken_file_is_named(monkeypatch, file):
    file["items"][1].pop("source")
    monkeypatch.setattr(quiz_items, "_file", lambda lesson: file)
    with pytest.raises(ValueError, match=r"quizzes/en/06\.json is not valid:\n- item 06\.scan: the field source"):
        load("06")
    assert problems({**file, "lesson": "05", "extra": 1}, "06")[:2] == [
        "lesson: it is '05'; expected '06', as in the file's name",
        "the fields extra are unknown; expected lesson, items and earlier",
    ]
    assert problems({"lesson": "06", "items": {}}, "06") == ["items: it is dict; expected a list"]


def test_two_items_come_from_earlier_lessons_once_there_are_some(monkeypatch, file):
    known = ["05.a", "05.b", "05.c"]
    assert problems(file, "06", known) == ["earlier: it names 0 items; expected 2, as earlier lessons have quizzes"]
    assert problems({**file, "earlier": ["05.a", "05.c"]}, "06", known) == []
    assert "'07.a' is no item" in problems({**file, "earlier": ["05.a", "07.a"]}, "06", known)[0]
    before = json.loads(json.dumps(file).replace('"06', '"05'))
    after = {**file, "earlier": [before["items"][0]["id"], before["items"][3]["id"]]}
    monkeypatch.setattr(quiz_items, "_file", {"05": before, "06": after}.__getitem__)
    monkeypatch.setattr(quiz_items, "written", lambda: ("05", "06"))
    monkeypatch.setattr(quiz_items, "_before", lambda lesson: {"05"})
    assert [item["id"] for item in load("06")][-2:] == ["05.reach", "05.kernel"]


def test_earlier_lessons_are_those_that_a_lesson_needs():
    assert quiz_items._before("06") == {"00"}  # one may come to it without lesson 01
    assert quiz_items._before("02") == {"00", "01"}
    assert quiz_items._before("10") == {"00", "01", "02", "05"}


def test_a_lesson_without_a_quiz_is_refused():
    with pytest.raises(ValueError, match="lesson '00' has no quiz; there are quizzes for"):
        quiz("00")


def test_a_language_without_quizzes_is_told(monkeypatch):
    monkeypatch.setattr(quiz_items.strings, "language", lambda: "xx")
    assert written() == ()
    with pytest.raises(ValueError, match="there are quizzes for none"):
        load("06")


def test_the_score_is_counted_and_kept_once_for_each_time_through():
    q = quiz("06")
    assert repr(q) == f"Quiz of lesson 06, Take the SSM out: {len(q.items)} items (not answered)"
    for number, item in enumerate(q.items):
        wrong = (right_choice(item) + 1) % len(item["choices"])
        q.answer(item["id"], wrong if number == 0 else right_choice(item))
        assert len([entry for entry in progress.entries() if entry.kind == "quiz"]) == (number + 1 == len(q.items))
    best = len(q.items) - 1
    assert q.right == best
    assert repr(q).endswith(f"({best} of {len(q.items)} right)")
    q.answer(q.items[0]["id"], right_choice(q.items[0]))  # an answer changed after the score is not kept again
    assert len([entry for entry in progress.entries() if entry.kind == "quiz"]) == 1
    q.answers = {}
    assert repr(q).endswith("(not answered)")
    for item in q.items:
        q.answer(item["id"], right_choice(item))
    kept = [entry.value["right"] for entry in progress.entries() if entry.kind == "quiz"]
    assert kept == [best, best + 1]
    assert progress.summary().lessons["06"].quiz == (best + 1, best + 1)


@pytest.mark.parametrize(("id", "chosen"), [("06.none", 0), ("06.reach", 9), ("06.reach", -1), ("06.reach", "1")])
def test_an_answer_that_does_not_exist_is_refused(id, chosen):
    q = quiz("06")
    with pytest.raises(traitlets.TraitError):
        q.answer(id, chosen)
    assert q.answers == {}


def test_the_text_holds_every_question_and_choice_and_no_answer():
    q = quiz("06")
    text = q.text()
    for item in q.items:
        assert item["question"] in text
        assert all(choice["text"] in text for choice in item["choices"])
        assert not any(choice["explanation"] in text for choice in item["choices"])
