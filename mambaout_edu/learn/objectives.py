"""Objectives x exercises x claims, as a table made from the lessons' and the exercises' own records."""

import html
import re
from dataclasses import dataclass
from pathlib import Path

from mambaout_edu import strings
from mambaout_edu.learn import lessons

__all__ = ["Table", "in_readme", "objectives_table", "put_in_readme"]


def _say(key: str, **values: object) -> str:
    return strings.text("lessons", key, **values)


@dataclass(frozen=True)
class Table:
    """A table in two forms: HTML where it is displayed, Markdown for files. Cells are (text, link or None)."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[tuple[str, str | None], ...], ...]
    name: str

    def __repr__(self) -> str:
        return self.name

    def markdown(self, folder: str = "") -> str:
        """Return the table in Markdown; `folder` stands before the notebooks' names in links."""
        lines = [self.head, ("---",) * len(self.head)]
        lines += [tuple(_markdown_cell(text, link, folder) for text, link in row) for row in self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col" style="text-align:left">{html.escape(cell)}</th>' for cell in self.head)
        rows = "".join(f"<tr>{''.join(_html_cell(i, *cell) for i, cell in enumerate(row))}</tr>" for row in self.rows)
        caption = (
            f'<caption style="text-align:left;caption-side:top;color:inherit">{html.escape(self.caption)}</caption>'
        )
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _markdown_cell(text: str, link: str | None, folder: str) -> str:
    text = text.replace("|", "\\|")
    return f"[{text}]({folder}{link})" if link else text


def _html_cell(column: int, text: str, link: str | None) -> str:
    content = html.escape(text)
    if link:
        content = f'<a href="{html.escape(link)}">{content}</a>'
    tag = 'th scope="row"' if column == 0 else "td"
    style = ' style="text-align:left;font-weight:normal;white-space:normal"'
    return f"<{tag}{style}>{content}</{tag.split()[0]}>"


def objectives_table() -> Table:
    """Return objectives x exercises x claims of the lessons that are written.

    >>> objectives_table().head
    ('objective', 'what you will be able to do', 'lesson', 'exercises', 'claims')
    """
    rows = []
    for lesson in lessons.registry():
        for objective in lesson.objectives if lesson.written else ():
            exercises = ", ".join(lessons.exercises_of(objective.id))
            rows.append(
                (
                    (objective.id, None),
                    (objective.text, None),
                    (f"{lesson.number} {lesson.title}", lesson.notebook),
                    (exercises or _say("table.none" if lesson.exercises else "table.exempt"), None),
                    (", ".join(objective.claims) or _say("table.none"), None),
                )
            )
    head = tuple(_say(f"table.{key}") for key in ("objective", "what", "lesson", "exercises", "claims"))
    return Table(_say("table.objectives_caption"), head, tuple(rows), _say("table.objectives_repr", rows=len(rows)))


_BEGIN, _END = "<!-- objectives: begin -->", "<!-- objectives: end -->"


def in_readme(text: str) -> str:
    """Return the table that a README holds between its two markers.

    Raises ValueError when the markers are absent.

    >>> in_readme("a <!-- objectives: begin --> table <!-- objectives: end --> b")
    'table'
    """
    found = re.search(f"{_BEGIN}(.*?){_END}", text, flags=re.DOTALL)
    if not found:
        raise ValueError(f"the text has no {_BEGIN} … {_END}; put the two markers where the table belongs")
    return found[1].strip()


def put_in_readme(path: str | Path) -> bool:
    """Write the objectives table between the markers of a README; return whether the file changed.

    Raises ValueError when the markers are absent.
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    old = in_readme(text)
    new = objectives_table().markdown(folder="notebooks/")
    if old == new:
        return False
    before, rest = text.split(_BEGIN, 1)
    after = rest.split(_END, 1)[1]
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(f"{before}{_BEGIN}\n{new}\n{_END}{after}", encoding="utf-8")
    beside.replace(path)
    return True
