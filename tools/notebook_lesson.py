"""A notebook as the rules of `notebook_lint` see it, and how rules are applied."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

# What the headings must say, by language; a second language is a second row.
HEADINGS = {"en": {"objectives": "able to do", "first": "need first", "recap": "recap", "claims": "claims examined"}}
# Rules that a lesson need not keep, each with the reason.
EXEMPT: dict[tuple[str, str], str] = {
    ("00_start_here", "predicts"): "one prediction shows how they work",
    ("00_start_here", "exercises_of_every_kind"): "it teaches no skill of its own",
    ("00_start_here", "ends_in_a_quiz"): "there is nothing to recall yet",
}


@dataclass(frozen=True)
class Lesson:
    """A notebook with the name that `EXEMPT` and `SKIPPED` know it by."""

    name: str
    cells: list[Any]

    @property
    def code(self) -> list[tuple[int, Any]]:
        """Return the code cells with their places."""
        return [(i, cell) for i, cell in enumerate(self.cells) if cell.cell_type == "code"]

    @property
    def prose(self) -> list[tuple[int, str]]:
        """Return markdown cells without their fenced blocks, in which `#` starts no heading."""
        fenced = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
        return [(i, fenced.sub("", cell.source)) for i, cell in enumerate(self.cells) if cell.cell_type == "markdown"]

    @property
    def headings(self) -> list[tuple[int, int, str]]:
        """Return (cell, level, text) of every heading."""
        found = re.compile(r"^(#{1,6})\s+(.+?)\s*#*$", re.MULTILINE)
        return [(i, len(marks), text) for i, source in self.prose for marks, text in found.findall(source)]

    def section(self, part: str) -> str | None:
        """Return the text under the heading that says `HEADINGS[...][part]`; None where there is no such heading."""
        wanted = [row[part] for row in HEADINGS.values()]
        lines, level, inside = [], 0, False
        for line in "\n\n".join(source for _, source in self.prose).splitlines():
            if heading := re.match(r"(#{1,6})\s+(.+)", line):
                if inside and len(heading[1]) <= level:
                    break
                if not inside and any(words in heading[2].lower() for words in wanted):
                    inside, level = True, len(heading[1])
                    continue
            if inside:
                lines.append(line)
        return "\n".join(lines) if inside else None


Rule = Callable[[Lesson], Iterator[str]]


def tags(cell: Any) -> set[str]:
    """Return a cell's tags."""
    return set(cell.metadata.get("tags", []))


def read(path: Path) -> Lesson:
    """Read a notebook as a lesson; the name is the file's, without its ending."""
    return Lesson(path.stem, nbformat.read(path, as_version=4).cells)


def check(lesson: Lesson, rules: dict[str, Rule]) -> list[str]:
    """Return what is wrong, one line a finding, each with the rule's name."""
    kept = {name: rule for name, rule in rules.items() if (lesson.name, name) not in EXEMPT}
    return [f"{lesson.name}: {name}: {finding}" for name, rule in kept.items() for finding in rule(lesson)]
