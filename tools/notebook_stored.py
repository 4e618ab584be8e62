"""Rules for what a run left in a notebook: counts, outputs, no complaints, no paths, nothing large."""

import re
from collections.abc import Iterator
from typing import Any

from notebook_lesson import Lesson, Rule, tags

LEAST_COMPARED = 3
MOST_BYTES_OUTPUT = 600_000
MOST_BYTES_NOTEBOOK = 3_000_000
# Cells that may be skipped, by notebook and cell id, each with the reason.
SKIPPED: dict[tuple[str, str], str] = {}
MACHINE_PATH = re.compile(
    r"(?<![\w.:/-])(/(?:home|root|Users|tmp|work|private|opt|mnt|var/folders)/[\w.-]+|[A-Z]:\\Users\\\w+)"
)


def counted(lesson: Lesson) -> Iterator[str]:
    """Execution counts go 1, 2, 3, … over the code cells."""
    counts = [cell.execution_count for _, cell in lesson.code if cell.source.strip()]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts}, expected 1 to {len(counts)}; run `make notebooks`"


def has_outputs(lesson: Lesson) -> Iterator[str]:
    """Something is stored at all."""
    if lesson.code and not any(cell.outputs for _, cell in lesson.code):
        yield "no outputs are stored, so comparing them would prove nothing; run `make notebooks`"


def enough_compared(lesson: Lesson) -> Iterator[str]:
    """At least `LEAST_COMPARED` cells with output are compared by nbval."""
    n = sum(is_compared(cell) and bool(cell.outputs) for _, cell in lesson.code)
    if n < LEAST_COMPARED:
        yield f"{n} cells with stored output are compared, expected at least {LEAST_COMPARED} (# NBVAL_CHECK_OUTPUT)"


def known_skips(lesson: Lesson) -> Iterator[str]:
    """A cell is skipped, or may raise, only with a reason in `SKIPPED`."""
    marks = re.compile(r"^\s*#\s*(NBVAL_SKIP|NBVAL_RAISES_EXCEPTION)\s*$", re.MULTILINE)
    for i, cell in lesson.code:
        marked = marks.search(cell.source) or tags(cell) & {"nbval-skip", "nbval-raises-exception", "raises-exception"}
        if marked and (lesson.name, cell.get("id")) not in SKIPPED:
            yield f"cell {i} (id {cell.get('id')}) is skipped or may raise, without a reason in SKIPPED"


def no_complaints(lesson: Lesson) -> Iterator[str]:
    """No error and nothing on stderr, where warnings go, is stored."""
    for i, cell in lesson.code:
        for out in cell.outputs:
            if out.output_type == "error":
                yield f"cell {i} stores an error: {out.ename}: {out.evalue}"
            elif out.get("name") == "stderr":
                yield f"cell {i} stores stderr: {out.text.strip()[:200]!r}"


def no_machine_paths(lesson: Lesson) -> Iterator[str]:
    """No stored text tells where on a machine it was made."""
    for i, cell in lesson.code:
        for text in stored_texts(cell):
            if found := MACHINE_PATH.search(_without_pictures(text)):
                yield f"cell {i} stores the path of a machine: {found[0]!r}"


def small_outputs(lesson: Lesson) -> Iterator[str]:
    """Outputs stay small, each and together."""
    total = 0
    for i, cell in lesson.code:
        size = sum(len(text.encode()) for text in stored_texts(cell))
        total += size
        if size > MOST_BYTES_OUTPUT:
            yield f"cell {i} stores {size:,} bytes, expected at most {MOST_BYTES_OUTPUT:,}"
    if total > MOST_BYTES_NOTEBOOK:
        yield f"the notebook stores {total:,} bytes, expected at most {MOST_BYTES_NOTEBOOK:,}"


STORED: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (counted, has_outputs, enough_compared, known_skips, no_complaints, no_machine_paths, small_outputs)
}


def is_compared(cell: Any) -> bool:
    """Return whether nbval's lax mode compares this cell."""
    comment = re.search(r"^\s*#\s*NBVAL_CHECK_OUTPUT\s*$", cell.source, re.MULTILINE)
    return bool(comment) or "nbval-check-output" in tags(cell)


def stored_texts(cell: Any) -> Iterator[str]:
    """Yield every text that a cell's outputs store, pictures included."""
    for out in cell.get("outputs", []):
        if "text" in out:
            yield out["text"]
        for kind, value in out.get("data", {}).items():
            yield value if isinstance(value, str) else f"{kind} {value}"


def _without_pictures(text: str) -> str:
    return re.sub(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=\s]+", "data:", text)
