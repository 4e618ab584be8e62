"""Hints, one after the other: from a nudge to nearly there."""

import threading
from dataclasses import dataclass

from mambaout_edu import strings
from mambaout_edu.learn.exercises import get

__all__ = ["Hint", "hint"]

_given: dict[str, int] = {}  # how many hints this process has given, by exercise
_lock = threading.Lock()


@dataclass(frozen=True)
class Hint:
    """One hint, its number and how many there are; past the last one, a word on `solution`."""

    exercise: str
    number: int
    total: int
    text: str

    def __repr__(self) -> str:
        return f"{self._head()}\n{self.text}"

    def _repr_markdown_(self) -> str:
        return f"**{self._head()}**  \n{self.text}"

    def _head(self) -> str:
        if self.number > self.total:
            return strings.text("exercises", "hint.none_left", exercise=self.exercise, total=self.total)
        return strings.text("exercises", "hint.head", exercise=self.exercise, number=self.number, total=self.total)


def hint(exercise_id: str, *, restart: bool = False) -> Hint:
    """Return the next hint of an exercise; `restart=True` begins with the first again.

    Raises ValueError for an unknown id, with the nearest ones.

    >>> hint("block.split", restart=True).number, hint("block.split").number
    (1, 2)
    """
    exercise = get(exercise_id)
    total = len(exercise.hints)
    with _lock:
        number = 1 if restart else min(_given.get(exercise.id, 0), total) + 1
        _given[exercise.id] = number
    if number > total:
        return Hint(exercise.id, number, total, strings.text("exercises", "hint.solution", exercise=exercise.id))
    return Hint(exercise.id, number, total, exercise.hints[number - 1])
