"""Write a lesson as an assignment for nbgrader: `make assignment LESSON=06`, or `python -m tools.assignment 06`.

The result is a course folder for nbgrader (by default `build/assignment`):

1. `make assignment LESSON=06` writes `build/assignment/source/06_.../06_....ipynb`. In it every
   exercise is a solution cell, followed by a locked test cell that calls the lesson's own check.
2. In that folder, `nbgrader generate_assignment 06_...` writes `release/06_.../` for the students,
   in which each solution has become `raise NotImplementedError()`. The check calls such an
   exercise "not attempted".
3. Put what the students hand in under `submitted/<student>/06_.../`, then `nbgrader autograde 06_...`.
   A test cell gives the points of its exercise (its difficulty, 1 to 5) when the check passes.

nbgrader is not a dependency of this package; it needs `mambaout_edu` in its environment, since the
cells import it. The package holds every solution, as the lessons say: an assignment shows who can
explain the block, and is no examination.
"""

import argparse
import json
import sys
from pathlib import Path

from mambaout_edu.learn.assignment import marked, write

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> int:
    """Write the assignment that the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.assignment", description="Write a lesson for nbgrader.")
    parser.add_argument("lesson", help='number of the lesson, such as "06"')
    parser.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help="folder of the lessons")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "assignment", help="nbgrader's course folder")
    given = parser.parse_args(arguments)
    lessons = sorted(given.notebooks.glob(f"{given.lesson}_*.ipynb"))
    if len(lessons) != 1:
        there = ", ".join(path.name[:2] for path in sorted(given.notebooks.glob("[0-9]*.ipynb"))) or "none"
        print(f"there is no lesson {given.lesson!r}; the lessons are: {there}", file=sys.stderr)
        return 2
    try:
        target = write(lessons[0], given.output)
    except ValueError as error:
        print(f"{lessons[0].name} cannot become an assignment: {error}", file=sys.stderr)
        return 1
    exercises = [exercise for _, exercise in marked(json.loads(lessons[0].read_text(encoding="utf-8")))]
    points = sum(exercise.difficulty for exercise in exercises)
    print(f"wrote {target}: {len(exercises)} exercises, {points} points")
    print(f"next, in {given.output}: nbgrader generate_assignment {lessons[0].stem}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
