"""Rules for how a lesson teaches: predict before the show, exercises of every kind, a quiz at the end."""

import re
from collections.abc import Iterator

from notebook_lesson import Lesson, Rule, tags

from mambaout_edu.learn import exercises, lessons, predictions

LEAST_PREDICTIONS = 3
KINDS = ("worked", "completion", "free")
CALL = r"\blearn\.{}\(\s*[\"']([\w.]+)[\"']"


def _asked(lesson: Lesson, function: str) -> dict[str, int]:
    """Return the ids that `learn.<function>("id")` is called with, each with its first cell."""
    found: dict[str, int] = {}
    for i, cell in lesson.code:
        for id_ in re.findall(CALL.format(function), cell.source):
            found.setdefault(id_, i)
    return found


def predicts(lesson: Lesson) -> Iterator[str]:
    """At least `LEAST_PREDICTIONS` predictions, each in the lesson's table, and all of the table asked."""
    asked, known = _asked(lesson, "predict"), predictions.predictions_of(lesson.name[:2])
    if len(asked) < LEAST_PREDICTIONS:
        yield f"{len(asked)} predictions, expected at least {LEAST_PREDICTIONS}: learn.predict(id)"
    yield from (
        f"cell {i} asks for prediction {id_!r}, which no table has" for id_, i in asked.items() if id_ not in known
    )
    yield from (f"prediction {id_!r} is in the table and never asked" for id_ in known if id_ not in asked)


def predicts_before_it_shows(lesson: Lesson) -> Iterator[str]:
    """Every demonstration widget has a prediction before it, in its own section."""
    for i, cell in lesson.code:
        if not re.search(r"\bwidgets\.[A-Z]\w*\(", cell.source):
            continue
        start = max((at for at, level, _ in lesson.headings if level <= 2 and at < i), default=0)
        before = "\n".join(c.source for at, c in lesson.code if start <= at < i)
        if not re.search(r"\blearn\.predict\(", before):
            yield f"cell {i} shows a widget that no prediction of its section comes before"


def exercises_of_every_kind(lesson: Lesson) -> Iterator[str]:
    """A worked, a completion and a free exercise, and every exercise of the lesson's registry is checked."""
    own = {id_: e for id_, e in exercises.registry().items() if e.lesson == lesson.name[:2]}
    checked = _asked(lesson, "check")
    kinds = {own[id_].kind for id_ in checked if id_ in own}
    yield from (f"no {kind} exercise is checked" for kind in KINDS if kind not in kinds)
    yield from (
        f"exercise {id_!r} is registered for this lesson and never checked" for id_ in own if id_ not in checked
    )
    yield from (f"cell {i} checks {id_!r}, which is no exercise" for id_, i in checked.items() if id_ not in own)


def stubs_are_untouched(lesson: Lesson) -> Iterator[str]:
    """A cell tagged `exercise` holds a registered stub to the letter, and a check follows it."""
    stubs = {e.stub.strip(): id_ for id_, e in exercises.registry().items()}
    code = lesson.code
    for place, (i, cell) in enumerate(code):
        if "exercise" not in tags(cell):
            continue
        id_ = stubs.get(cell.source.strip())
        if id_ is None:
            yield f"cell {i} is tagged 'exercise' and holds no registered stub"
        elif place + 1 == len(code) or id_ not in code[place + 1][1].source:
            yield f"cell {i} holds the stub of {id_!r}, and the next code cell does not check it"


def ends_in_a_quiz(lesson: Lesson) -> Iterator[str]:
    """The lesson's quiz, after its last exercise."""
    quiz = _asked(lesson, "quiz").get(lesson.name[:2])
    if quiz is None:
        yield f'no quiz: learn.quiz("{lesson.name[:2]}")'
    elif quiz < max(_asked(lesson, "check").values(), default=0):
        yield "the quiz comes before the last exercise"


def states_its_objectives(lesson: Lesson) -> Iterator[str]:
    """The objectives that the lesson lists are those of the registry."""
    listed = set(re.findall(r"\b\d\d\.[a-z_]+", lesson.section("objectives") or ""))
    known = {objective.id for objective in lessons.get(lesson.name[:2]).objectives}
    yield from (f"objective {id_} is listed and not registered" for id_ in sorted(listed - known))
    yield from (f"objective {id_} is registered and not listed" for id_ in sorted(known - listed))


LEARNING: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        *(predicts, predicts_before_it_shows, exercises_of_every_kind, stubs_are_untouched, ends_in_a_quiz),
        states_its_objectives,
    )
}
