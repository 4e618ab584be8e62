"""Every rule of the notebook linter: a sound lesson passes it, and a lesson broken in one place does not."""

import copy
import sys
from pathlib import Path

import nbformat
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import notebook_lint as lint

PICTURE = '<img alt="loss falls from 2.3 to 0.1 within 200 steps" src="data:image/png;base64,AAAA">'


def prose(text: str, name: str):
    return nbformat.v4.new_markdown_cell(text, id=name)


def code(text: str, name: str, count: int, *outputs, tags=()):
    return nbformat.v4.new_code_cell(
        text, id=name, execution_count=count, outputs=list(outputs), metadata={"tags": list(tags)}
    )


def printed(text: str, name: str = "stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


def shown(**data: str):
    return nbformat.v4.new_output("display_data", data={key.replace("_", "/"): value for key, value in data.items()})


@pytest.fixture
def lesson() -> lint.Lesson:
    """A lesson that keeps every rule."""
    cells = [
        prose("# A lesson\n\nAbout 20 minutes.", "top"),
        prose("## What you will be able to do\n\n- **06.block** write the block\n- **06.count** count it", "aims"),
        prose("## What you need first\n\nLesson 02.", "first"),
        prose("## The block\n\n`blocks.GatedCNNBlock` and `strings.text(...)`.\n\n```python\n# a comment\n```", "text"),
        code("# NBVAL_CHECK_OUTPUT\nprint(1)", "one", 1, printed("1\n")),
        code("# NBVAL_CHECK_OUTPUT\nprint(2)", "two", 2, printed("2\n")),
        code("print(3)", "three", 3, printed("3\n"), shown(text_html=PICTURE), tags=["nbval-check-output"]),
        prose("### Recap\n\nOne block, two mixers.", "recap"),
        prose(
            "## Claims examined\n\n| claim | verdict | source |\n|---|---|---|\n"
            "| C1 | holds with limits | this lesson; MambaOut, Table 1 |",
            "claims",
        ),
    ]
    return lint.Lesson("06_take_the_ssm_out", cells)


def put(i: int, **fields):
    def change(cells):
        cells[i].update(fields)

    return change


def output(i: int, *outputs):
    def change(cells):
        cells[i].outputs = list(outputs)

    return change


def drop(i: int):
    def change(cells):
        del cells[i]

    return change


ERROR = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
BROKEN = [
    ("title", put(3, source="# A second title")),
    ("title", put(0, source="20 minutes")),
    ("ordered_headings", put(3, source="#### Too deep")),
    ("objectives", drop(1)),
    ("objectives", put(1, source="## What you will be able to do\n\n- write the block")),
    ("objectives", put(1, source="## What you will be able to do\n\n- **05.order** scan an image")),
    ("objectives", put(1, source="## What you will be able to do\n\n- **06.block** a\n- **06.block** b")),
    ("objectives", put(1, source="## What you will be able to do\n\nEverything.")),
    ("prerequisites", drop(2)),
    ("prerequisites", put(2, source="## What you need first")),
    ("minutes", put(0, source="# A lesson")),
    ("recap", drop(7)),
    ("recap", put(7, source="## Recap")),
    ("claims", drop(8)),
    ("claims", put(8, source="## Claims examined\n\n| C1 | perhaps | MambaOut, Table 1 |")),
    ("claims", put(8, source="## Claims examined\n\n| C1 | holds | |")),
    ("short_cells", put(4, source="\n".join(f"x = {i}" for i in range(26)))),
    ("no_shell", put(4, source="!pip install timm")),
    ("no_shell", put(4, source="%pip install timm")),
    ("no_fetching", put(4, source="url = 'https://example.org/weights'")),
    ("no_fetching", put(4, source="model = timm.create_model('x', pretrained=True)")),
    ("no_pasted_helpers", put(4, source="class GatedCNNBlock:\n    pass")),
    ("no_pasted_helpers", put(4, source="%time 1\nif True:\n    def gated_product(a, b): return a * b")),
    ("alternative_text", put(3, source="![short](a.png)")),
    ("alternative_text", put(3, source='<img src="a.png">')),
    ("alternative_text", output(6, shown(text_html="<img alt='loss.png' src='data:'>"))),
    ("alternative_text", output(6, shown(image_png="AAAA"))),
    ("cell_ids", put(4, id="")),
    ("cell_ids", put(4, id="two")),
    ("live_symbols", put(3, source="Call `blocks.GatedSSMBlock`.")),
    ("live_symbols", put(3, source="Call `mambaout_edu.strings.texts(...)`.")),
    ("live_symbols", put(3, source="See `blocks.GatedCNNBlock.mixxer`.")),
    ("counted", put(5, execution_count=None)),
    ("counted", put(5, execution_count=7)),
    ("enough_compared", put(4, source="print(1)")),
    ("enough_compared", output(4)),
    ("known_skips", put(4, source="# NBVAL_SKIP\nprint(1)")),
    ("known_skips", put(4, metadata=nbformat.from_dict({"tags": ["raises-exception"]}))),
    ("no_complaints", output(4, ERROR)),
    ("no_complaints", output(4, printed("UserWarning: old", name="stderr"))),
    ("no_machine_paths", output(4, printed("saved to " + "/".join(["", "home", "ada", "x.pt"])))),
    ("no_machine_paths", output(4, shown(text_html="C:" + "\\Users\\ada"))),
    ("small_outputs", output(4, printed("x" * (lint.MOST_BYTES_OUTPUT + 1)))),
]


def test_a_sound_lesson_keeps_every_rule(lesson):
    assert lint.check(lesson, lint.ANATOMY | lint.STORED) == []


@pytest.mark.parametrize(("rule", "change"), BROKEN, ids=[f"{rule}-{i}" for i, (rule, _) in enumerate(BROKEN)])
def test_a_broken_lesson_breaks_its_rule(lesson, rule, change):
    cells = copy.deepcopy(lesson.cells)
    change(cells)
    findings = lint.check(lint.Lesson(lesson.name, cells), {rule: (lint.ANATOMY | lint.STORED)[rule]})
    assert findings
    assert all(line.startswith(f"{lesson.name}: {rule}: ") for line in findings)


def test_every_rule_has_a_broken_lesson():
    assert {rule for rule, _ in BROKEN} | {"has_outputs"} == set(lint.ANATOMY | lint.STORED)


def test_an_empty_output_store_is_found(lesson):
    for _, cell in lesson.code:
        cell.outputs = []
    assert "06_take_the_ssm_out: has_outputs" in lint.check(lesson, lint.STORED)[0]


def test_an_exercise_may_define_what_the_package_has(lesson):
    cell = lesson.cells[4]
    cell.source, cell.metadata = "def gated_product(): ...", nbformat.from_dict({"tags": ["exercise"]})
    assert list(lint.no_pasted_helpers(lesson)) == []


def test_a_skip_with_a_reason_is_allowed(lesson, monkeypatch):
    lesson.cells[4].source = "# NBVAL_SKIP\nprint(1)"
    monkeypatch.setitem(lint.SKIPPED, (lesson.name, "one"), "needs a GPU")
    assert list(lint.STORED["known_skips"](lesson)) == []


def test_an_exempt_rule_is_not_asked(lesson, monkeypatch):
    del lesson.cells[7]
    monkeypatch.setitem(lint.EXEMPT, (lesson.name, "recap"), "a reason")
    assert lint.check(lesson, {"recap": lint.recap}) == []


@pytest.mark.parametrize(
    ("symbol", "there"),
    [
        ("mambaout_edu.blocks", True),
        ("mambaout_edu.blocks.counting.block_parameters", True),
        ("blocks.GatedCNNBlock.forward", True),
        ("blocks.GatedCNNBlock.fc1", True),  # set in __init__
        ("timm.layers.Nothing", True),  # not ours to judge
        ("x", True),
        ("data.py", True),
        ("blocks.nothing", False),
        ("mambaout_edu.nothing.at_all", False),
        ("blocks.gated_product.nothing", False),
    ],
)
def test_symbols(symbol, there):
    assert lint.resolves(symbol) is there


def test_the_command_prints_findings_and_fails(lesson, tmp_path, capsys, monkeypatch):
    book = nbformat.v4.new_notebook(cells=lesson.cells)
    good, bad = tmp_path / f"{lesson.name}.ipynb", tmp_path / "07_bad.ipynb"
    nbformat.write(book, good)
    monkeypatch.setattr(lint, "LEARNING", {})  # they have tests of their own, on a whole lesson
    assert lint.main([str(good)]) == 0
    book.cells[0].source = "nothing"
    nbformat.write(book, bad)
    assert lint.main([str(good), str(bad)]) == 1
    assert "07_bad: title" in capsys.readouterr().out
