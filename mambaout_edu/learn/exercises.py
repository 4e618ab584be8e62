"""The registry of exercises: one small record each, found by id. Loads no torch.

An exercise asks for a function that the package has: the package is the solution. Everything that
needs torch (the reference, the cases, the curated mistakes) is named or built only when it is used.

The stub is the source that the learner finds in the notebook. It is one function that ends in
`return ...`, so a stub that nobody touched runs without an error, and its check says "not attempted".
"""

import ast
import difflib
import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, Literal

from mambaout_edu import strings

__all__ = ["Card", "Case", "Diagnosis", "Exercise", "card", "get", "load_reference", "registry", "stub_code"]

KINDS = ("worked", "completion", "free")
_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Case:
    """The arguments of one call of the learner's function."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True)
class Diagnosis:
    """A mistake that is known by its outputs: `implementation` makes it, the strings table explains `key`."""

    key: str
    implementation: Callable[..., Any]


@dataclass(frozen=True)
class Exercise:
    """One exercise. Its title, goal, hints and explanations are in the strings table, by id.

    Attributes
    ----------
    id, lesson, objective
        "block.split", "06", "06.block".
    kind
        "worked" (solved on one example, to be made general), "completion" or "free".
    difficulty, minutes
        1 (easy) to 5, and the time to plan for.
    stub
        What the learner finds: one function that ends in `return ...`.
    reference
        Dotted name of the function of the package that solves it; imported when it is used.
    cases
        From a seed to the calls that are compared.
    diagnoses
        Known mistakes. The first whose outputs fit all cases is told.
    equation
        Anchor in the lesson of the equation that the solution follows.
    tolerance
        Largest accepted error, relative in norm; None is 1e-5 in float32 and 1e-10 in float64.
    """

    id: str
    lesson: str
    objective: str
    kind: Literal["worked", "completion", "free"]
    difficulty: int
    minutes: int
    stub: str
    reference: str
    cases: Callable[[int], Sequence[Case]]
    diagnoses: tuple[Diagnosis, ...]
    equation: str
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"exercise {self.id!r} is of kind {self.kind!r}; expected one of {', '.join(KINDS)}")
        if not 1 <= self.difficulty <= 5:
            raise ValueError(f"exercise {self.id!r} has difficulty {self.difficulty}; expected 1 (easy) to 5")
        stub_function(self)

    def text(self, key: str) -> Any:
        """Return one entry of this exercise in the strings table: "title", "goal", "hints" or "diagnoses"."""
        return strings.table("exercises")[self.id][key]

    @property
    def title(self) -> str:
        """The name that the learner sees."""
        return str(self.text("title"))

    @property
    def hints(self) -> tuple[str, ...]:
        """Hints, from a nudge to nearly there."""
        return tuple(self.text("hints"))

    @property
    def function(self) -> str:
        """The name of the function that the learner writes."""
        return stub_function(self).name


def stub_function(exercise: Exercise) -> ast.FunctionDef:
    """Return the one function of a stub. Raises ValueError unless it ends in `return ...`."""
    body = ast.parse(exercise.stub).body
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef):
        raise ValueError(f"the stub of {exercise.id!r} has {len(body)} statements; expected one function definition")
    last = body[0].body[-1]
    if not isinstance(last, ast.Return) or last.value is None or ast.unparse(last.value) != "...":
        raise ValueError(f"the stub of {exercise.id!r} ends in {ast.unparse(last)!r}; expected 'return ...'")
    return body[0]


def stub_code(exercise: Exercise) -> CodeType:
    """Return the compiled body of the stub, to tell whether a learner's function is still the stub.

    >>> stub_code(get("block.split")).co_name == get("block.split").function
    True
    """
    module = compile(exercise.stub, "<stub>", "exec")
    return next(constant for constant in module.co_consts if isinstance(constant, CodeType))


@functools.cache
def registry() -> dict[str, Exercise]:
    """Return all exercises by id: lesson after lesson, in the order of each lesson's catalogue.

    >>> "block.split" in registry()
    True
    """
    from mambaout_edu.learn import catalogue

    names = sorted(module.name for module in pkgutil.iter_modules(catalogue.__path__) if module.name[:6] == "lesson")
    found: dict[str, Exercise] = {}
    for name in names:
        for exercise in importlib.import_module(f"{catalogue.__name__}.{name}").EXERCISES:
            if exercise.id in found:
                raise ValueError(f"two exercises are called {exercise.id!r}; give one of them another id")
            found[exercise.id] = exercise
    return found


def get(exercise_id: str) -> Exercise:
    """Return the exercise of this id.

    Raises TypeError if the id is no text, and ValueError with the nearest ids if there is none of this name.

    >>> get("block.split").objective
    '06.block'
    """
    if not isinstance(exercise_id, str):
        raise TypeError(f"the id of an exercise is a text such as 'block.split'; got {type(exercise_id).__name__}")
    known = registry()
    if exercise_id not in known:
        near = difflib.get_close_matches(exercise_id, known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(map(repr, known))}"
        raise ValueError(f"no exercise is called {exercise_id!r}; {hint}")
    return known[exercise_id]


def load_reference(exercise: Exercise) -> Callable[..., Any]:
    """Import and return the package's own function.

    Raises RuntimeError if another function has been put in its place, since a check would compare with that one.

    >>> load_reference(get("block.parameters"))(96)
    79328
    """
    module, _, name = exercise.reference.rpartition(".")
    function = getattr(importlib.import_module(module), name)
    code = getattr(function, "__code__", None)
    if code is None or not Path(code.co_filename).resolve().is_relative_to(_PACKAGE):
        raise RuntimeError(
            f"{exercise.reference} is no longer the package's own function, so there is nothing to compare with. "
            "Restart the kernel, and give your function a name of its own."
        )
    return function


@dataclass(frozen=True)
class Card:
    """What stands above an exercise: title, goal, objective, difficulty, minutes and the stub."""

    exercise: Exercise

    def _head(self) -> str:
        each = self.exercise
        return strings.text(
            "exercises",
            "card",
            kind=strings.text("exercises", f"kind.{each.kind}"),
            difficulty="●" * each.difficulty + "○" * (5 - each.difficulty),
            level=each.difficulty,
            minutes=each.minutes,
            objective=each.objective,
        )

    def __repr__(self) -> str:
        each = self.exercise
        return f"{each.title} ({each.id})\n{self._head()}\n{each.text('goal')}\n\n{each.stub}"

    def _repr_markdown_(self) -> str:
        each = self.exercise
        return f"**{each.title}** (`{each.id}`)  \n{self._head()}\n\n{each.text('goal')}\n\n```python\n{each.stub}```\n"


def card(exercise_id: str) -> Card:
    """Return the card of an exercise, which a notebook shows with its stub.

    Raises ValueError for an unknown id, with the nearest ones.

    >>> print(card("block.split"))  # doctest: +ELLIPSIS
    Split the output of fc1 (block.split)
    ...
    """
    return Card(get(exercise_id))
