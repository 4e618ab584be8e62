"""The course as data: its lessons, their objectives, and the claims that they examine.

`lessons.json` holds the structure, the strings table "lessons" the words. Exercises join through
their own records, which name the lesson and the objective that they train.
"""

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from mambaout_edu import strings

__all__ = ["Lesson", "Objective", "claims", "exercise_lessons", "exercises_of", "gaps", "get", "parse", "registry"]


@dataclass(frozen=True)
class Objective:
    """What a reader of a lesson will be able to do: an id ("06.block") and the claims that it serves."""

    id: str
    claims: tuple[str, ...]

    @property
    def lesson(self) -> str:
        """The number of the lesson that the objective belongs to."""
        return self.id.split(".")[0]

    @property
    def text(self) -> str:
        """The objective in words."""
        return strings.text("lessons", self.id)


@dataclass(frozen=True)
class Lesson:
    """One lesson: its number ("06"), the name of its notebook, and what it needs and examines."""

    number: str
    slug: str
    part: str
    minutes: int
    claims: tuple[str, ...]
    needs: tuple[str, ...]
    written: bool
    exercises: bool
    objectives: tuple[Objective, ...]

    @property
    def title(self) -> str:
        """The title in words."""
        return strings.text("lessons", f"{self.number}.title")

    @property
    def summary(self) -> str:
        """One line on what happens in the lesson."""
        return strings.text("lessons", f"{self.number}.summary")

    @property
    def notebook(self) -> str:
        """The file name of the notebook, beside the other lessons'."""
        return f"{self.slug}.ipynb"


def registry() -> tuple[Lesson, ...]:
    """Return all lessons in order.

    >>> [lesson.number for lesson in registry()][:3]
    ['00', '01', '02']
    """
    return _course()[0]


def claims() -> tuple[str, ...]:
    """Return the ids of the claims that the course examines, in order.

    >>> claims()[0], len(claims())
    ('C1', 15)
    """
    return _course()[1]


def get(number: str | int) -> Lesson:
    """Return one lesson by its number.

    Raises ValueError for a number that no lesson has.

    >>> get("06").notebook
    '06_take_the_ssm_out.ipynb'
    """
    wanted = f"{number:02d}" if isinstance(number, int) else str(number)
    for lesson in registry():
        if lesson.number == wanted:
            return lesson
    raise ValueError(f"there is no lesson {number!r}; the lessons are {', '.join(each.number for each in registry())}")


@functools.cache
def _course() -> tuple[tuple[Lesson, ...], tuple[str, ...]]:
    source = files("mambaout_edu.learn") / "lessons.json"
    return parse(json.loads(source.read_text(encoding="utf-8")), "lessons.json")


def parse(data: dict[str, Any], name: str) -> tuple[tuple[Lesson, ...], tuple[str, ...]]:
    """Turn the parsed file into lessons and claims.

    Raises ValueError that names the file, the lesson and what is wrong with it.
    """
    known = tuple(data["claims"])
    lessons: list[Lesson] = []
    for record in data["lessons"]:
        lesson = _lesson(record, name)
        seen = {each.number for each in lessons}
        used = set(lesson.claims).union(*(objective.claims for objective in lesson.objectives))
        problems = [f"the number {lesson.number} is used twice"] * (lesson.number in seen)
        problems += [f"slug {lesson.slug!r} does not begin with its number"] * (
            not lesson.slug.startswith(f"{lesson.number}_")
        )
        problems += [f"it needs {number}, which is no earlier lesson" for number in lesson.needs if number not in seen]
        problems += [f"it names claim {claim}, which is not listed" for claim in sorted(used - set(known))]
        problems += [
            f"objective {objective.id!r} does not begin with {lesson.number}."
            for objective in lesson.objectives
            if objective.lesson != lesson.number
        ]
        if lesson.written and not lesson.objectives:
            problems.append("it is written but has no objectives")
        if problems:
            raise ValueError(f"{name}, lesson {lesson.number}: {'; '.join(problems)}")
        lessons.append(lesson)
    return tuple(lessons), known


def _lesson(record: dict[str, Any], name: str) -> Lesson:
    wanted = {"number", "slug", "part", "minutes", "claims", "needs", "written"}
    wrong = (wanted - record.keys()) | (record.keys() - wanted - {"exercises", "objectives"})
    if wrong:
        raise ValueError(
            f"{name}, lesson {record.get('number', '?')}: the fields {', '.join(sorted(wrong))} are missing or unknown"
        )
    objectives = tuple(Objective(id, tuple(served)) for id, served in record.get("objectives", {}).items())
    return Lesson(
        number=record["number"],
        slug=record["slug"],
        part=record["part"],
        minutes=record["minutes"],
        claims=tuple(record["claims"]),
        needs=tuple(record["needs"]),
        written=record["written"],
        exercises=record.get("exercises", True),
        objectives=objectives,
    )


def exercises_of(objective: str) -> tuple[str, ...]:
    """Return the ids of the exercises that train an objective, in the catalogue's order."""
    return tuple(id for id, trained, _ in _exercises() if trained == objective)


def exercise_lessons() -> dict[str, str]:
    """Return the lesson of every exercise, by the exercise's id."""
    return {id: lesson for id, _, lesson in _exercises()}


@functools.cache
def _exercises() -> tuple[tuple[str, str, str], ...]:
    from mambaout_edu.learn import exercises

    return tuple((each.id, each.objective, each.lesson) for each in exercises.registry().values())


def gaps(
    lessons: Iterable[Lesson] | None = None,
    known: Iterable[str] | None = None,
    trained: Iterable[str] | None = None,
) -> list[str]:
    """Return what is missing, in words: objectives without an exercise, claims without a lesson or an objective.

    An objective of a written lesson needs an exercise (unless the lesson is exempt), every claim a
    lesson, and every claim of a written lesson one of that lesson's objectives.

    >>> gaps(known=["C1", "C99"], trained=[o.id for lesson in registry() for o in lesson.objectives])
    ['claim C99 has no lesson']
    """
    lessons = list(registry() if lessons is None else lessons)
    trained = {objective for _, objective, _ in _exercises()} if trained is None else set(trained)
    written = [lesson for lesson in lessons if lesson.written]
    missing = [
        f"objective {objective.id} has no exercise"
        for lesson in written
        if lesson.exercises
        for objective in lesson.objectives
        if objective.id not in trained
    ]
    examined = {claim for lesson in lessons for claim in lesson.claims}
    missing += [
        f"claim {claim} has no lesson" for claim in (claims() if known is None else known) if claim not in examined
    ]
    missing += [
        f"claim {claim} is examined in lesson {lesson.number}, which has no objective for it"
        for lesson in written
        for claim in lesson.claims
        if not any(claim in objective.claims for objective in lesson.objectives)
    ]
    return missing
