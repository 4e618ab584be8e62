"""The solution of an exercise is the package's own source, with a link to the equation that it follows."""

import inspect
from dataclasses import dataclass

from mambaout_edu import strings
from mambaout_edu.learn.exercises import get, load_reference

__all__ = ["Solution", "solution"]


@dataclass(frozen=True)
class Solution:
    """Source of the package's function; JupyterLab highlights it in its own theme."""

    exercise: str
    reference: str
    equation: str
    source: str

    def __repr__(self) -> str:
        return f"{self._head()}\n\n{self.source}"

    def _repr_markdown_(self) -> str:
        link = strings.text("exercises", "solution.equation")
        return f"{self._head()} [{link}](#{self.equation})\n\n```python\n{self.source}```\n"

    def _head(self) -> str:
        return strings.text("exercises", "solution.head", exercise=self.exercise, reference=self.reference)


def solution(exercise_id: str) -> Solution:
    """Return the package's source of the function that an exercise asks for.

    Raises ValueError for an unknown id, with the nearest ones.

    >>> "torch.split" in solution("block.split").source
    True
    """
    exercise = get(exercise_id)
    source = inspect.getsource(inspect.unwrap(load_reference(exercise)))
    return Solution(exercise.id, exercise.reference, exercise.equation, source)
