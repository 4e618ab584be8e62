"""Every rule about how a lesson teaches: lesson 06 keeps it, and a copy broken in one place does not."""

import copy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from notebook_learning import LEARNING  # noqa: E402
from notebook_lesson import check, read  # noqa: E402

LESSON = ROOT / "notebooks" / "06_take_the_ssm_out.ipynb"


def lesson():
    return copy.deepcopy(read(LESSON))


def without(text):
    """Return a change that drops every code cell with this text."""

    def change(cells):
        cells[:] = [c for c in cells if c.cell_type != "code" or text not in c.source]

    return change


def replacing(old, new):
    def change(cells):
        for cell in cells:
            cell.source = cell.source.replace(old, new)

    return change


def quiz_first(cells):
    quiz = next(c for c in cells if "learn.quiz(" in c.source)
    cells.remove(quiz)
    cells.insert(2, quiz)


BROKEN = {
    "predicts": [
        (without("learn.predict("), "0 predictions"),
        (replacing("06.share", "06.shares"), "'06.shares', which no table has"),
        (without('learn.predict("06.loss")'), "'06.loss' is in the table and never asked"),
    ],
    "predicts_before_it_shows": [(without('learn.predict("06.box")'), "no prediction of its section")],
    "exercises_of_every_kind": [
        (without('learn.check("block.gated_product"'), "no completion exercise"),
        (without('learn.check("block.parameters"'), "'block.parameters' is registered"),
        (replacing('learn.check("block.split"', 'learn.check("block.splits"'), "'block.splits', which is no exercise"),
    ],
    "stubs_are_untouched": [
        (replacing("    return ...", "    return 42"), "holds no registered stub"),
        (without('learn.check("model.stage_shapes"'), "the next code cell does not check it"),
    ],
    "ends_in_a_quiz": [(without("learn.quiz("), "no quiz"), (quiz_first, "before the last exercise")],
    "states_its_objectives": [
        (replacing("**06.count**", "**06.counts**"), "06.counts is listed and not registered"),
        (replacing("- **06.stages**", "- stages"), "06.stages is registered and not listed"),
    ],
}


def test_lesson_06_keeps_every_rule():
    assert check(lesson(), LEARNING) == []


def test_every_rule_has_a_broken_lesson():
    assert BROKEN.keys() == LEARNING.keys()


@pytest.mark.parametrize(
    ("rule", "change", "says"), [(rule, *case) for rule, cases in BROKEN.items() for case in cases]
)
def test_a_broken_lesson_is_told(rule, change, says):
    broken = lesson()
    change(broken.cells)
    assert any(says in finding for finding in LEARNING[rule](broken))
