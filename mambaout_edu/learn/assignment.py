"""Turn a lesson into an assignment for nbgrader: solution cells from the stubs, test cells from the checks.

A lesson marks the cell of an exercise's stub with the tag `exercise`; the function that the cell
defines tells which exercise it is (`metadata.mambaout_edu.exercise`, where it is given, must agree).
The assignment is nbgrader's source version (cell metadata of schema version 3): between BEGIN and
END SOLUTION stands a call of the package's own function, which `nbgrader generate_assignment` takes
out for the students. After each exercise comes a locked test cell that calls the same `check` as
the lesson; its points are the exercise's difficulty.
"""

import ast
import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambaout_edu.learn.exercises import Exercise, registry, stub_function

__all__ = ["convert", "marked", "solved", "write"]

_SCHEMA = 3  # of nbgrader's cell metadata


def marked(notebook: Mapping[str, Any]) -> list[tuple[int, Exercise]]:
    """Return (index of the cell, exercise) of every stub in a notebook (its JSON, nbformat 4).

    Raises ValueError for a cell with the tag `exercise` that is not the stub of an exercise, and for
    an exercise that occurs twice.

    >>> marked({"cells": [{"cell_type": "code", "metadata": {}, "source": "1 + 1"}]})
    []
    """
    found: list[tuple[int, Exercise]] = []
    for index, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code" and "exercise" in cell["metadata"].get("tags", ()):
            exercise = _exercise_of(index, _source(cell))
            noted = cell["metadata"].get("mambaout_edu", {}).get("exercise", exercise.id)
            if noted != exercise.id:
                raise ValueError(f"cell {index} is marked as {noted!r} and holds the stub of {exercise.id!r}")
            if exercise.id in {other.id for _, other in found}:
                raise ValueError(f"cell {index} holds exercise {exercise.id!r} a second time; keep one of the two")
            found.append((index, exercise))
    return found


def _exercise_of(index: int, source: str) -> Exercise:
    by_function = {exercise.function: exercise for exercise in registry().values()}
    defined = [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    known = [name for name in defined if name in by_function]
    if not known:
        raise ValueError(
            f"cell {index} has the tag 'exercise' and defines {', '.join(defined) or 'no function'}; "
            f"expected one of the stubs: {', '.join(by_function)}"
        )
    exercise = by_function[known[0]]
    if source.strip() != exercise.stub.strip():
        raise ValueError(
            f"cell {index} is not the stub of {exercise.id!r} to the letter; "
            f"copy it from learn.card({exercise.id!r}).exercise.stub"
        )
    return exercise


def _source(cell: Mapping[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def solved(exercise: Exercise) -> str:
    """Return the stub with nbgrader's solution region in place of `return ...`.

    >>> from mambaout_edu.learn.exercises import get
    >>> print(solved(get("block.gated_product")))  # doctest: +ELLIPSIS
    def my_gated_product(gate, identity, mixed, act):
    ...
        ### BEGIN SOLUTION
        from mambaout_edu.blocks import gated_product
    <BLANKLINE>
        return gated_product(gate, identity, mixed, act)
        ### END SOLUTION
    """
    function = stub_function(exercise)
    last = function.body[-1]
    module, _, name = exercise.reference.rpartition(".")
    arguments = ", ".join(argument.arg for argument in function.args.args)
    region = [
        "### BEGIN SOLUTION",
        f"from {module} import {name}",
        "",
        f"return {name}({arguments})",
        "### END SOLUTION",
    ]
    before = exercise.stub.splitlines()[: last.lineno - 1]
    return "\n".join(before + [f"{' ' * last.col_offset}{line}".rstrip() for line in region])


def convert(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """Return the assignment of a lesson (both as JSON, nbformat 4), without outputs.

    Raises ValueError if the lesson has no exercise, or a cell that `marked` refuses.

    >>> from mambaout_edu.learn.exercises import get
    >>> stub = {"cell_type": "code", "metadata": {"tags": ["exercise"]}, "source": get("block.split").stub}
    >>> assignment = convert({"cells": [stub], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    >>> [cell["metadata"]["nbgrader"]["grade_id"] for cell in assignment["cells"]]
    ['block-split', 'test-block-split']
    """
    exercises = dict(marked(notebook))
    if not exercises:
        raise ValueError("no cell of the notebook has the tag 'exercise', so there is nothing to assign")
    cells = []
    for index, cell in enumerate(notebook["cells"]):
        cell = copy.deepcopy(cell)
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
        cells.append(cell)
        if index in exercises:
            exercise = exercises[index]
            cell["source"] = solved(exercise)
            cell["metadata"]["nbgrader"] = _metadata(exercise, test=False)
            cells.append(_test_cell(exercise))
    metadata = {key: value for key, value in notebook["metadata"].items() if key != "widgets"}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": notebook["nbformat_minor"]}


def _metadata(exercise: Exercise, *, test: bool) -> dict[str, Any]:
    """Return nbgrader's metadata of a solution cell, or of the test cell that grades it."""
    name = exercise.id.replace(".", "-")
    points = {"points": exercise.difficulty} if test else {}
    return {
        "schema_version": _SCHEMA,
        "grade_id": f"test-{name}" if test else name,
        "grade": test,
        "solution": not test,
        "locked": test,
        "task": False,
        **points,
    }


def _test_cell(exercise: Exercise) -> dict[str, Any]:
    source = (
        "from mambaout_edu.learn import check\n\n"
        f'result = check("{exercise.id}", {exercise.function})\n'
        "assert result.passed, result"
    )
    return {
        "cell_type": "code",
        "id": f"test-{exercise.id.replace('.', '-')}"[:64],
        "metadata": {"nbgrader": _metadata(exercise, test=True)},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }


def write(lesson: Path, folder: Path) -> Path:
    """Write the assignment of a lesson's notebook as `folder/source/<lesson>/<lesson>.ipynb`; return its path.

    `folder` is nbgrader's course folder. The file is written beside its place and then moved there.

    Raises ValueError if the notebook cannot become an assignment (see `convert`).
    """
    assignment = convert(json.loads(lesson.read_text(encoding="utf-8")))
    target = folder / "source" / lesson.stem / lesson.name
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.part")
    beside.write_text(json.dumps(assignment, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return beside.replace(target)
