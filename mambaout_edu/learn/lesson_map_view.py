"""The map of the lessons: a drawing of what builds on what, and a card with a link for every lesson."""

from html import escape
from importlib.resources import files

from mambaout_edu import strings
from mambaout_edu.learn import lessons, progress
from mambaout_edu.learn.lessons import Lesson

__all__ = ["LessonMap", "lesson_map"]

# Columns are depths in the drawing; a row keeps a line of lessons together. Both are layout, not content.
_PLACES = {
    "00": (0, 1), "01": (1, 0), "02": (2, 0), "03": (3, -1), "04": (3, 0), "05": (3, 1),
    "06": (1, 2), "07": (4, 2), "08": (4, 3), "09": (5, 0), "10": (5, 1),
}  # fmt: skip
_STEP_X, _STEP_Y, _RADIUS, _MARGIN = 150, 66, 23, 34


def _say(key: str, **values: object) -> str:
    return strings.text("lessons", key, **values)


class LessonMap:
    """The map as displayed in a notebook; what was done is read anew each time it is shown."""

    def __repr__(self) -> str:
        course = lessons.registry()
        return _say("map.repr", lessons=len(course), written=sum(lesson.written for lesson in course))

    def _repr_html_(self) -> str:
        done = progress.summary()
        title = escape(_say("map.title"))
        style = (files("mambaout_edu.learn") / "lesson_map.css").read_text(encoding="utf-8")
        body = [f'<section class="mambaout-map" aria-label="{title}"><style>{style}</style>']
        body += [f"<p>{escape(_say('map.help'))}</p>", _drawing(done)]
        for part in dict.fromkeys(lesson.part for lesson in lessons.registry()):
            cards = "".join(_card(lesson, done) for lesson in lessons.registry() if lesson.part == part)
            body.append(f"<h4>{escape(_say(f'part.{part}'))}</h4><ol>{cards}</ol>")
        body.append(f'<p class="small keep">{_keep()}</p></section>')
        return "".join(body)


def _keep() -> str:
    """Say where progress is kept, with the calls that show and clear it set as code."""
    calls = {"panel": "panel()", "export": 'export("~/progress.json")', "reset": "reset()"}
    sentence = escape(_say("map.keep", **{name: f"«{name}»" for name in calls}))
    for name, call in calls.items():
        sentence = sentence.replace(f"«{name}»", f"<code>learn.progress.{escape(call, quote=False)}</code>")
    return sentence


def lesson_map() -> LessonMap:
    """Return a clickable map of the lessons, with the reader's own progress where there is some.

    >>> lesson_map()  # doctest: +ELLIPSIS
    Map of 11 lessons, ... of them written
    """
    return LessonMap()


def _card(lesson: Lesson, done: progress.Summary) -> str:
    title = escape(lesson.title)
    if lesson.written:
        title = f'<a href="{escape(lesson.notebook)}">{title}</a>'
    facts = [_say("minutes", minutes=lesson.minutes), _say("map.claims", claims=", ".join(lesson.claims))]
    if lesson.needs:
        facts.append(_say("map.needs", lessons=", ".join(lesson.needs)))
    if not lesson.written:
        facts.insert(0, _say("map.to_come"))
    mark = _mark(lesson, done)
    return (
        f'<li class="{"written" if lesson.written else "to-come"}">'
        f'<div class="head"><span class="number">{lesson.number}</span><span>{title}</span></div>'
        f'<p class="what">{escape(lesson.summary)}</p>'
        f'<p class="small">{escape(" · ".join(facts))}</p>'
        f"{f'<p class=mark>{escape(mark)}</p>' if mark else ''}</li>"
    )


def _mark(lesson: Lesson, done: progress.Summary) -> str:
    """Say what was done in a lesson, or nothing where nothing was."""
    here = done.lessons.get(lesson.number)
    if here is None:
        return ""
    parts = [_say("map.predictions", done=len(here.predictions))] if here.predictions else []
    exercises = [id for id, number in lessons.exercise_lessons().items() if number == lesson.number]
    if exercises:
        parts.append(_say("map.exercises", done=len(here.exercises & set(exercises)), all=len(exercises)))
    if here.quiz:
        parts.append(_say("map.quiz", right=here.quiz[0], items=here.quiz[1]))
    return f"{'✓' if _finished(lesson, done) else '◐'} {', '.join(parts)}"


def _finished(lesson: Lesson, done: progress.Summary) -> bool:
    """Tell whether every exercise is passed and the quiz taken."""
    here = done.lessons.get(lesson.number)
    exercises = {id for id, number in lessons.exercise_lessons().items() if number == lesson.number}
    return here is not None and here.quiz is not None and exercises <= here.exercises


def _drawing(done: progress.Summary) -> str:
    course = [lesson for lesson in lessons.registry() if lesson.number in _PLACES]
    rows = [row for _, row in _PLACES.values()]
    columns = max(column for column, _ in _PLACES.values())
    width = columns * _STEP_X + 2 * _MARGIN
    height = (max(rows) - min(rows)) * _STEP_Y + 2 * _MARGIN
    edges = "".join(_edge(need, lesson.number) for lesson in course for need in lesson.needs if need in _PLACES)
    nodes = "".join(_node(lesson, done) for lesson in course)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(_say("map.picture"))}">'
        f"{edges}{nodes}</svg>"
    )


def _centre(number: str) -> tuple[int, int]:
    column, row = _PLACES[number]
    top = min(row for _, row in _PLACES.values())
    return _MARGIN + column * _STEP_X, _MARGIN + (row - top) * _STEP_Y


def _edge(source: str, target: str) -> str:
    (x1, y1), (x2, y2) = _centre(source), _centre(target)
    x1, x2 = x1 + _RADIUS + 3, x2 - _RADIUS - 4
    bend = 55
    tip = f"M{x2} {y2} l-9 -5 v10 z"
    line = f"M{x1} {y1} C{x1 + bend} {y1} {x2 - bend} {y2} {x2 - 8} {y2}"
    return f'<path class="edge" d="{line}"/><path class="tip" d="{tip}"/>'


def _node(lesson: Lesson, done: progress.Summary) -> str:
    x, y = _centre(lesson.number)
    mark = ""
    if lesson.number in done.lessons:
        glyph = "✓" if _finished(lesson, done) else "◐"
        mark = f'<text x="{x + _RADIUS}" y="{y - _RADIUS + 8}">{glyph}</text>'
    return (
        f'<g class="{"written" if lesson.written else "to-come"}"><title>{escape(lesson.title)}</title>'
        f'<circle class="node" cx="{x}" cy="{y}" r="{_RADIUS}"/>'
        f'<text x="{x}" y="{y + 6}">{lesson.number}</text>{mark}</g>'
    )
