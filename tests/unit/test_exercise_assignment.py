"""Assignments for nbgrader: the metadata is valid, and the test cells grade what they should."""

import json
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mambaout_edu.learn import progress
from mambaout_edu.learn.assignment import convert, marked, solved, write
from mambaout_edu.learn.exercises import get, registry

IN_LESSON = ("block.gated_product", "block.parameters", "model.stage_shapes")


@pytest.fixture(autouse=True)
def _nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the passes of these tests out of the progress that other tests in this process look at."""
    monkeypatch.setattr(progress, "record", lambda *_, **__: False)


def lesson(*exercise_ids: str) -> nbformat.NotebookNode:
    """Build a small lesson: prose, an import with a stored output, then each exercise with its check."""
    cells = [
        new_markdown_cell("# A lesson"),
        new_code_cell(
            "import numpy as np\nimport torch", execution_count=1, outputs=[new_output("stream", text="old\n")]
        ),
    ]
    for exercise_id in exercise_ids:
        exercise = get(exercise_id)
        cells.append(new_code_cell(exercise.stub.rstrip("\n"), metadata={"tags": ["exercise"]}))
        call = f'check("{exercise_id}", {exercise.function})'
        cells.append(new_code_cell(f"from mambaout_edu.learn import check\n{call}"))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return new_notebook(cells=cells, metadata={**kernel, "widgets": {"state": {}}})


def graded(book: dict) -> dict[str, dict]:
    """Return the cells with nbgrader's metadata by their id, after checking the rules of its schema, version 3."""
    found: dict[str, dict] = {}
    for cell in book["cells"]:
        if "nbgrader" not in cell["metadata"]:
            continue
        meta = cell["metadata"]["nbgrader"]
        assert meta.keys() >= {"schema_version", "grade", "locked", "solution"}
        assert meta.keys() <= {"schema_version", "grade", "locked", "solution", "task", "grade_id", "points"}
        assert meta["schema_version"] == 3
        assert all(type(meta[key]) is bool for key in ("grade", "locked", "solution", "task"))
        assert re.fullmatch(r"[a-zA-Z0-9_\-]+", meta["grade_id"])
        assert ("points" in meta) == meta["grade"]
        assert meta.get("points", 0) >= 0
        assert cell["cell_type"] == "code"
        assert not meta["task"], "a task must be in Markdown"
        assert meta["grade_id"] not in found, "ids must be unique"
        found[meta["grade_id"]] = cell
    return found


def released(book: dict) -> dict:
    """Take the solutions out as `nbgrader generate_assignment` does."""
    book = json.loads(json.dumps(book))
    for cell in book["cells"]:
        cell["source"] = re.sub(
            r"(?ms)^( *)### BEGIN SOLUTION.*?### END SOLUTION",
            r"\1# YOUR CODE HERE\n\1raise NotImplementedError()",
            cell["source"],
        )
    return book


def points(book: dict, tmp_path: Path) -> dict[str, float]:
    """Execute a notebook to its end, as the autograder does, and return the points of its test cells."""
    node = nbformat.from_dict(book)
    NotebookClient(
        node, timeout=200, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    return {
        name: 0 if any(output["output_type"] == "error" for output in cell["outputs"]) else meta["points"]
        for name, cell in graded(node).items()
        if (meta := cell["metadata"]["nbgrader"])["grade"]
    }


def test_every_exercise_becomes_a_solution_cell_and_a_test_cell() -> None:
    book = convert(lesson(*registry()))
    nbformat.validate(nbformat.from_dict(book))
    cells = graded(book)
    assert len(cells) == 2 * len(registry())
    for exercise in registry().values():
        name = exercise.id.replace(".", "-")
        answer, test = cells[name]["metadata"]["nbgrader"], cells[f"test-{name}"]["metadata"]["nbgrader"]
        assert (answer["solution"], answer["locked"], answer["grade"]) == (True, False, False)
        assert (test["solution"], test["locked"], test["grade"]) == (False, True, True)
        assert test["points"] == exercise.difficulty
        assert book["cells"].index(cells[f"test-{name}"]) == book["cells"].index(cells[name]) + 1
        assert "result.passed" in cells[f"test-{name}"]["source"]


def test_outputs_are_cleared_and_the_rest_is_kept() -> None:
    before = lesson(*IN_LESSON)
    book = convert(before)
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in book["cells"])
    kept = [cell["source"] for cell in book["cells"] if "nbgrader" not in cell["metadata"]]
    assert kept == [cell["source"] for cell in before["cells"] if "exercise" not in cell["metadata"].get("tags", [])]
    assert "widgets" not in book["metadata"]
    assert before["cells"][1]["outputs"], "the lesson itself is left as it is"


@pytest.mark.parametrize("exercise_id", list(registry()))
def test_the_solution_region_solves_the_exercise_and_keeps_the_stub_around_it(exercise_id: str) -> None:
    import numpy as np
    import torch

    from mambaout_edu.learn.checks import check
    from mambaout_edu.scan import dual

    exercise, names = get(exercise_id), {"np": np, "torch": torch, "dual": dual}  # what the lessons import
    exec(solved(exercise), names)
    assert check(exercise_id, names[exercise.function]).passed
    assert solved(exercise).startswith(exercise.stub.rpartition("    return ...")[0])
    exec(released({"cells": [{"source": solved(exercise)}]})["cells"][0]["source"], names)
    assert check(exercise_id, names[exercise.function]).status == "not_attempted"


def test_the_autograder_gives_all_points_to_the_solutions_and_none_to_the_stubs(tmp_path: Path) -> None:
    book = convert(lesson(*IN_LESSON))
    full = {f"test-{name.replace('.', '-')}": get(name).difficulty for name in IN_LESSON}
    assert points(book, tmp_path) == full
    assert points(released(book), tmp_path) == dict.fromkeys(full, 0)


def test_a_lesson_with_its_stubs_untouched_runs_to_its_end(tmp_path: Path) -> None:
    book = lesson(*registry())
    NotebookClient(book, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = [cell["outputs"][0]["data"]["text/plain"] for cell in book["cells"][3::2]]
    assert len(said) == len(registry())
    assert all(text.startswith("○ not attempted") for text in said)


def test_the_lessons_hold_every_stub_and_every_equation() -> None:
    folder = Path(__file__).resolve().parents[2] / "notebooks"
    if not folder.is_dir():
        pytest.skip("the lessons are not installed with the package")
    found = []
    for path in sorted(folder.glob("[0-9]*.ipynb")):
        book = json.loads(path.read_text(encoding="utf-8"))
        prose = "".join("".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "markdown")
        for _, exercise in marked(book):
            assert path.name.startswith(f"{exercise.lesson}_")
            assert f'id="{exercise.equation}"' in prose, f"solution({exercise.id!r}) links to {exercise.equation}"
            found.append(exercise.id)
    assert sorted(found) == sorted(registry())


def test_cells_that_are_no_stub_are_refused() -> None:
    book = lesson("block.parameters")
    book["cells"][2]["source"] += "\n    # a remark"
    with pytest.raises(ValueError, match=r"cell 2 is not the stub of 'block\.parameters' to the letter"):
        marked(book)
    book["cells"][2]["source"] = "def other():\n    return ..."
    with pytest.raises(ValueError, match="cell 2 has the tag 'exercise' and defines other; expected one of the stubs"):
        marked(book)
    marked_otherwise = lesson("block.split")
    marked_otherwise["cells"][2]["metadata"]["mambaout_edu"] = {"exercise": "block.parameters"}
    with pytest.raises(ValueError, match=r"marked as 'block\.parameters' and holds the stub of 'block\.split'"):
        marked(marked_otherwise)
    with pytest.raises(ValueError, match="a second time"):
        marked(lesson("block.split", "block.split"))
    with pytest.raises(ValueError, match="nothing to assign"):
        convert(lesson())


def test_cells_stored_as_lists_of_lines_are_read() -> None:
    book = lesson("block.split")
    book["cells"][2]["source"] = book["cells"][2]["source"].splitlines(keepends=True)
    assert [exercise.id for _, exercise in marked(book)] == ["block.split"]


def test_the_file_is_written_whole(tmp_path: Path) -> None:
    nbformat.write(lesson(*IN_LESSON), tmp_path / "06_a_lesson.ipynb")
    target = write(tmp_path / "06_a_lesson.ipynb", tmp_path / "course")
    assert target == tmp_path / "course" / "source" / "06_a_lesson" / "06_a_lesson.ipynb"
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert len(graded(json.loads(target.read_text(encoding="utf-8")))) == 2 * len(IN_LESSON)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parents[2]
    if not (root / "tools" / "assignment.py").is_file():
        pytest.skip("the tools are not installed with the package")
    monkeypatch.syspath_prepend(str(root))
    from tools import assignment

    nbformat.write(lesson(*IN_LESSON), tmp_path / "06_a_lesson.ipynb")
    nbformat.write(lesson(), tmp_path / "07_another.ipynb")
    options = ["--notebooks", str(tmp_path), "--output", str(tmp_path / "course")]
    assert assignment.main(["06", *options]) == 0
    assert "3 exercises, 8 points" in capsys.readouterr().out
    assert assignment.main(["05", *options]) == 2
    assert "there is no lesson '05'; the lessons are: 06, 07" in capsys.readouterr().err
    assert assignment.main(["07", *options]) == 1
    assert "07_another.ipynb cannot become an assignment" in capsys.readouterr().err
    sys.modules.pop("tools.assignment", None)
