"""Check what a lesson is made of and what it stores: `python tools/notebook_lint.py notebooks/*.ipynb`.

Every rule is a small function that takes a notebook and yields what is wrong with it. `ANATOMY`
holds the rules for what the author writes, `LEARNING` those for how it teaches, `STORED` those for what
a run left behind. A rule that a lesson need not keep stands in `EXEMPT`, a cell that may be skipped in
`SKIPPED`, each with its reason.
"""

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from notebook_learning import LEARNING
from notebook_lesson import EXEMPT, HEADINGS, Lesson, Rule, check, read, tags
from notebook_stored import MOST_BYTES_NOTEBOOK, MOST_BYTES_OUTPUT, SKIPPED, STORED

__all__ = [
    "ANATOMY",
    "EXEMPT",
    "LEARNING",
    "MOST_BYTES_NOTEBOOK",
    "MOST_BYTES_OUTPUT",
    "SKIPPED",
    "STORED",
    "Lesson",
    "check",
    "read",
    "resolves",
]

MOST_LINES = 25
LEAST_ALT = 20
VERDICTS = ("holds with limits", "holds", "wrong", "not settled")
PACKAGE = "mambaout_edu"


# What the author writes


def title(lesson: Lesson) -> Iterator[str]:
    """One level-1 heading, in the first cell."""
    cells = [i for i, level, _ in lesson.headings if level == 1]
    if cells != [0]:
        yield f"expected one level-1 heading, in cell 0; found them in cells {cells}"


def ordered_headings(lesson: Lesson) -> Iterator[str]:
    """A heading is at most one level deeper than the one before."""
    before = 0
    for i, level, text in lesson.headings:
        if level > before + 1:
            yield f"cell {i}: heading {text!r} jumps from level {before} to {level}"
        before = level


def objectives(lesson: Lesson) -> Iterator[str]:
    """A list of objectives, each with an id of this lesson such as **06.block**."""
    section = lesson.section("objectives")
    if section is None:
        yield f"no heading with {HEADINGS['en']['objectives']!r}"
        return
    items = re.findall(r"^\s*[-*]\s+(.*)$", section, re.MULTILINE)
    ids = [re.match(r"(?:\*\*|`)(\d\d\.[a-z_]+)(?:\*\*|`)", item) for item in items]
    if not items:
        yield "the objectives are not a list ('- **06.block** write …')"
    yield from (f"objective without an id: {item!r}" for item, id_ in zip(items, ids, strict=True) if not id_)
    names = [id_[1] for id_ in ids if id_]
    yield from (f"objective {name} is not of lesson {lesson.name[:2]}" for name in names if name[:2] != lesson.name[:2])
    yield from (f"objective {name} stands twice" for name in sorted({n for n in names if names.count(n) > 1}))


def prerequisites(lesson: Lesson) -> Iterator[str]:
    """A heading for what the reader needs first, with words under it."""
    if not (lesson.section("first") or "").strip():
        yield f"no heading with {HEADINGS['en']['first']!r}, or nothing under it"


def minutes(lesson: Lesson) -> Iterator[str]:
    """The time that the lesson takes, in one of its first three cells."""
    start = "\n".join(cell.source for cell in lesson.cells[:3] if cell.cell_type == "markdown")
    if not re.search(r"\b\d+\s+(min|minutes|分钟)\b", start):
        yield "none of the first three cells says how many minutes the lesson takes"


def recap(lesson: Lesson) -> Iterator[str]:
    """A recap, with words under it."""
    if not (lesson.section("recap") or "").strip():
        yield f"no heading with {HEADINGS['en']['recap']!r}, or nothing under it"


def claims(lesson: Lesson) -> Iterator[str]:
    """A table of the claims that were examined: claim, verdict, source."""
    section = lesson.section("claims")
    rows = re.findall(r"^\s*\|\s*\**(C\d+)\b(.*)\|\s*$", section or "", re.MULTILINE)
    if not rows:
        yield f"no heading with {HEADINGS['en']['claims']!r} and a table '| C1 | verdict | source |' under it"
    for claim, rest in rows:
        cells = [cell.strip() for cell in rest.split("|") if cell.strip()]
        if not any(verdict in rest.lower() for verdict in VERDICTS):
            yield f"claim {claim} has no verdict ({', '.join(VERDICTS)})"
        if len(cells) < 2 or len(cells[-1]) < 5:
            yield f"claim {claim} has no source in its last column"


def short_cells(lesson: Lesson) -> Iterator[str]:
    """No code cell is longer than `MOST_LINES`."""
    for i, cell in lesson.code:
        if (n := len(cell.source.splitlines())) > MOST_LINES:
            yield f"cell {i} has {n} lines, expected at most {MOST_LINES}"


def no_shell(lesson: Lesson) -> Iterator[str]:
    """No `!command`, and no installing."""
    for i, cell in lesson.code:
        if found := re.search(r"^\s*(!|%pip|%conda|%%bash|%%sh).*", cell.source, re.MULTILINE):
            yield f"cell {i} runs a shell: {found[0].strip()!r}"


def no_fetching(lesson: Lesson) -> Iterator[str]:
    """No address of the network in code."""
    pattern = re.compile(
        r"https?://\S+|\b(urlopen|urlretrieve|wget|requests\.get|load_state_dict_from_url)\b|pretrained=True"
    )
    for i, cell in lesson.code:
        if found := pattern.search(cell.source):
            yield f"cell {i} fetches from the network: {found[0]!r}"


def no_pasted_helpers(lesson: Lesson) -> Iterator[str]:
    """No cell defines what the package has, except cells tagged `exercise` or `worked`."""
    names = package_definitions()
    for i, cell in lesson.code:
        if tags(cell) & {"exercise", "worked"}:
            continue
        for node in _definitions(cell.source):
            if node.name in names:
                yield f"cell {i} defines {node.name}, which {names[node.name]} has; import it or tag it 'exercise'"


def alternative_text(lesson: Lesson) -> Iterator[str]:
    """Every picture says in at least `LEAST_ALT` characters what it shows; a bare PNG cannot."""
    for i, cell in enumerate(lesson.cells):
        texts = [cell.source] if cell.cell_type == "markdown" else []
        for out in cell.get("outputs", []):
            data = out.get("data", {})
            texts += [data["text/html"]] if "text/html" in data else []
            if any(kind.startswith("image/") for kind in data) and "text/html" not in data:
                yield f"cell {i} stores a picture without alternative text; show it with plots.show(fig, alt=...)"
        alts = [alt for text in texts for alt in _alternative_texts(text)]
        yield from (
            f"cell {i}: alternative text {alt!r} is shorter than {LEAST_ALT}" for alt in alts if len(alt) < LEAST_ALT
        )


def cell_ids(lesson: Lesson) -> Iterator[str]:
    """Every cell has an id of its own."""
    ids = [cell.get("id") for cell in lesson.cells]
    yield from (f"cell {i} has no id" for i, id_ in enumerate(ids) if not id_)
    yield from (f"cell id {id_} stands twice" for id_ in sorted({x for x in ids if x and ids.count(x) > 1}))


def live_symbols(lesson: Lesson) -> Iterator[str]:
    """Every `mambaout_edu.x.y`, or `models.x`, named in prose is there."""
    for i, source in lesson.prose:
        for symbol in re.findall(r"`([A-Za-z_][\w.]*)(?:\([^`]*\))?`", source):
            if not resolves(symbol):
                yield f"cell {i} names `{symbol}`, which does not exist"


ANATOMY: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        *(title, ordered_headings, objectives, prerequisites, minutes, recap, claims),
        *(short_cells, no_shell, no_fetching, no_pasted_helpers, alternative_text, cell_ids, live_symbols),
    )
}


def package_definitions() -> dict[str, str]:
    """Return the public functions and classes of the package, with their modules, without importing them."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{PACKAGE} is not installed here; run `make` first")
    folder, found = Path(spec.origin).parent, {}
    for file in sorted(folder.rglob("*.py")):
        module = ".".join([PACKAGE, *file.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                found[node.name] = module
    return found


def resolves(symbol: str) -> bool:
    """Return whether a dotted name of the package exists; names of other packages and files always pass.

    An attribute that a class sets on itself counts as there.
    """
    package = importlib.import_module(PACKAGE)
    parts = symbol.removeprefix(f"{PACKAGE}.").split(".")
    ours = symbol.startswith(f"{PACKAGE}.") or (len(parts) > 1 and parts[0] in package.__all__)
    if not ours or parts[-1] in {"py", "js", "css", "json", "ipynb"}:
        return True
    found: Any = package
    for i, part in enumerate(parts):
        if inspect.isclass(found) and not hasattr(found, part):
            return any(f"self.{part}" in inspect.getsource(base) for base in found.__mro__ if _has_source(base))
        try:
            found = getattr(found, part)
        except AttributeError:
            if not inspect.ismodule(found):
                return False
            try:
                found = importlib.import_module(".".join([PACKAGE, *parts[: i + 1]]))
            except ModuleNotFoundError:
                return False
    return True


def _has_source(cls: type) -> bool:
    return cls.__module__.split(".")[0] == PACKAGE


def _definitions(source: str) -> list[ast.FunctionDef | ast.ClassDef]:
    lines = [line if not re.match(r"\s*[%!]", line) else "" for line in source.splitlines()]
    try:
        tree = ast.parse("\n".join(lines))
    except SyntaxError:
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def _alternative_texts(text: str) -> list[str]:
    markdown = re.findall(r"!\[([^\]]*)\]\(", text)
    images = re.findall(r"<img\b[^>]*>", text)
    quoted = [re.search(r"""\balt=(?:"([^"]*)"|'([^']*)')""", image) for image in images]
    return markdown + [(found[1] or found[2] or "") if found else "" for found in quoted]


def main(paths: list[str]) -> int:
    """Print every finding; return 1 if there is one."""
    findings = [line for path in paths for line in check(read(Path(path)), ANATOMY | LEARNING | STORED)]
    print("\n".join(findings) or f"{len(paths)} notebooks keep all {len(ANATOMY | LEARNING | STORED)} rules")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
