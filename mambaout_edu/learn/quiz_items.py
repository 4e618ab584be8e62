"""Quizzes: one validated file a lesson, and the widget that asks them.

A file holds items that ask for inference. Every choice has an explanation of its own; a wrong choice
may name the misconception behind it. `earlier` lists items of earlier lessons that are asked again.
"""

import functools
import json
from collections.abc import Collection, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from mambaout_edu import strings
from mambaout_edu.learn import lessons

if TYPE_CHECKING:
    from mambaout_edu.widgets.quiz import Quiz

__all__ = ["load", "misconceptions", "problems", "quiz", "written"]

_ITEM = {"id", "objective", "question", "choices", "source"}
_CHOICE = {"text", "explanation"}
EARLIER = 2  # items of earlier lessons in each quiz, once there are some


def quiz(lesson: str) -> "Quiz":
    """Ask the quiz of a lesson; the last line of a cell shows it.

    Raises ValueError for a lesson without a quiz, or a file that is not valid (it names file, item
    and what is wrong).

    >>> quiz("06")
    Quiz of lesson 06, Take the SSM out: 9 items (not answered)
    """
    from mambaout_edu.widgets.quiz import Quiz

    items = load(lesson)
    title = lessons.get(lesson).title
    return Quiz(lesson=lesson, title=title, items=items, misconceptions=misconceptions())


def load(lesson: str) -> list[dict[str, Any]]:
    """Return the items of a lesson's quiz, those of earlier lessons (which it needs, directly or not) last.

    Raises ValueError as `quiz` does.

    >>> load("06")[0]["id"].startswith("06.")
    True
    """
    if lesson not in written():
        raise ValueError(f"lesson {lesson!r} has no quiz; there are quizzes for {', '.join(written()) or 'none'}")
    data = _file(lesson)
    before = _before(lesson)
    earlier = [number for number in written() if number in before]
    wrong = problems(data, lesson, earlier_items=[id for number in earlier for id in _ids(number)])
    if wrong:
        raise ValueError(f"{_name(lesson)} is not valid:\n" + "\n".join(f"- {each}" for each in wrong))
    again = [item for number in earlier for item in _file(number)["items"] if item["id"] in data.get("earlier", [])]
    return [*data["items"], *again]


def _before(lesson: str) -> set[str]:
    """Return the lessons that a reader has done when this one begins: those it needs, and what they need."""
    needs = set(lessons.get(lesson).needs)
    return needs.union(*(_before(number) for number in needs))


def written() -> tuple[str, ...]:
    """Return the numbers of the lessons that have a quiz in the language in use.

    >>> "06" in written()
    True
    """
    folder = files("mambaout_edu.learn") / "quizzes" / strings.language()
    if not folder.is_dir():
        return ()
    return tuple(sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json")))


def misconceptions() -> dict[str, str]:
    """Return the named misconceptions: a short id and the mistaken sentence.

    >>> "ssm_sees_all" in misconceptions()
    True
    """
    table = strings.table("quiz")
    return {key.removeprefix("misconception."): text for key, text in table.items() if key.startswith("misconception.")}


def _name(lesson: str) -> str:
    return f"quizzes/{strings.language()}/{lesson}.json"


@functools.cache
def _file(lesson: str) -> dict[str, Any]:
    source = files("mambaout_edu.learn") / "quizzes" / strings.language() / f"{lesson}.json"
    try:
        data = json.loads(source.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{_name(lesson)} is no JSON: {error}") from None
    if not isinstance(data, dict):
        raise TypeError(f"{_name(lesson)} holds a {type(data).__name__}; expected an object with lesson and items")
    return data


def _ids(lesson: str) -> list[str]:
    return [item["id"] for item in _file(lesson).get("items", []) if isinstance(item, dict) and "id" in item]


def problems(data: Mapping[str, Any], lesson: str, earlier_items: Collection[str] = ()) -> list[str]:
    """Return what is wrong with the parsed file of a quiz, one sentence each; nothing when it is valid.

    >>> problems({"lesson": "06", "items": []}, "06")
    ['items: there are none; expected at least 6']
    """
    wrong = []
    if data.get("lesson") != lesson:
        wrong.append(f"lesson: it is {data.get('lesson')!r}; expected {lesson!r}, as in the file's name")
    if unknown := data.keys() - {"lesson", "items", "earlier"}:
        wrong.append(f"the fields {', '.join(sorted(unknown))} are unknown; expected lesson, items and earlier")
    items = data.get("items")
    if not isinstance(items, list):
        return [*wrong, f"items: it is {type(items).__name__}; expected a list"]
    if len(items) < 6:
        wrong.append(f"items: there are {len(items) or 'none'}; expected at least 6")
    seen: set[str] = set()
    for position, item in enumerate(items, 1):
        name = f"item {position}"
        if isinstance(item, dict) and isinstance(item.get("id"), str):
            name = f"item {item['id']}"
            if item["id"] in seen:
                wrong.append(f"{name}: its id is used twice")
            seen.add(item["id"])
        wrong += [f"{name}: {each}" for each in _item_problems(item, lesson)]
    return wrong + _earlier_problems(data.get("earlier", []), earlier_items)


def _item_problems(item: Any, lesson: str) -> list[str]:
    if not isinstance(item, dict):
        return [f"it is {item!r}; expected an object"]
    missing, unknown = _ITEM - item.keys(), item.keys() - _ITEM
    if missing or unknown:
        return [f"the field {field} is missing" for field in sorted(missing)] + [
            f"the field {field} is unknown; expected {', '.join(sorted(_ITEM))}" for field in sorted(unknown)
        ]
    wrong = [
        f"{field} is {item[field]!r}; expected a text"
        for field in sorted(_ITEM - {"choices"})
        if not isinstance(item[field], str) or not item[field].strip()
    ]
    if wrong:
        return wrong
    if not item["id"].startswith(f"{lesson}."):
        wrong.append(f"id does not begin with {lesson}.")
    known = [objective.id for objective in lessons.get(lesson).objectives]
    if item["objective"] not in known:
        wrong.append(f"objective {item['objective']!r} is not one of the lesson's: {', '.join(known)}")
    return wrong + _choices_problems(item["choices"])


def _choices_problems(choices: Any) -> list[str]:
    if not isinstance(choices, list) or len(choices) < 3 or not all(isinstance(choice, dict) for choice in choices):
        return ["choices: expected a list of at least three objects"]
    wrong, known = [], misconceptions()
    for number, choice in enumerate(choices, 1):
        missing, unknown = _CHOICE - choice.keys(), choice.keys() - _CHOICE - {"right", "misconception"}
        wrong += [f"choice {number}: the field {field} is missing" for field in sorted(missing)]
        wrong += [f"choice {number}: the field {field} is unknown" for field in sorted(unknown)]
        named = choice.get("misconception")
        if named is not None and named not in known:
            wrong.append(f"choice {number}: misconception {named!r} is not known; there are {', '.join(known)}")
        if named is not None and choice.get("right"):
            wrong.append(f"choice {number}: it is right and names a misconception")
    if wrong:
        return wrong
    right = sum(choice.get("right") is True for choice in choices)
    if right != 1:
        wrong.append(f"choices: {right} are marked right; expected exactly one")
    for field in sorted(_CHOICE):
        if any(not isinstance(choice[field], str) or not choice[field].strip() for choice in choices):
            wrong.append(f"choices: every {field} must be a text")
        elif len({choice[field] for choice in choices}) < len(choices):
            wrong.append(f"choices: two have the same {field}; each needs its own")
    return wrong


def _earlier_problems(asked: Any, known: Collection[str]) -> list[str]:
    if not isinstance(asked, list):
        return [f"earlier: it is {asked!r}; expected a list of item ids"]
    wrong = [f"earlier: {id!r} is no item of an earlier lesson" for id in asked if id not in known]
    if known and len(set(asked)) != EARLIER:
        wrong.append(f"earlier: it names {len(set(asked))} items; expected {EARLIER}, as earlier lessons have quizzes")
    return wrong
