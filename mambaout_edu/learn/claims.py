"""The claims of the course, and where each of them is examined."""

from mambaout_edu import strings
from mambaout_edu.learn import lessons
from mambaout_edu.learn.objectives import Table

__all__ = ["claims_table"]


def claims_table() -> Table:
    """Return every claim with its lessons and the exercises of the written ones.

    >>> claims_table()
    Table of 15 claims
    """
    rows = []
    for claim in lessons.claims():
        examined = [lesson for lesson in lessons.registry() if claim in lesson.claims]
        objectives = [o.id for lesson in examined if lesson.written for o in lesson.objectives if claim in o.claims]
        exercises = dict.fromkeys(exercise for id in objectives for exercise in lessons.exercises_of(id))
        rows.append(
            (
                (claim, None),
                (strings.text("lessons", claim), None),
                (", ".join(_where(lesson) for lesson in examined), None),
                (", ".join(objectives) or strings.text("lessons", "table.none"), None),
                (", ".join(exercises) or strings.text("lessons", "table.none"), None),
            )
        )
    head = tuple(
        strings.text("lessons", f"table.{key}") for key in ("claim", "says", "lessons", "objectives", "exercises")
    )
    caption = strings.text("lessons", "table.claims_caption")
    return Table(caption, head, tuple(rows), strings.text("lessons", "table.claims_repr", rows=len(rows)))


def _where(lesson: lessons.Lesson) -> str:
    return lesson.number if lesson.written else f"{lesson.number} ({strings.text('lessons', 'map.to_come')})"
