"""The diagram's traits: what they take and what they refuse."""

import pytest
from traitlets import TraitError

from mambaout_edu.widgets import BlockDiagram
from mambaout_edu.widgets.block_diagram import PARTS


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dim": 0}, "dim"),
        ({"height": 0}, "height"),
        ({"kernel_size": 4}, "an even kernel has no middle, take 3 or 5"),
        ({"expansion_ratio": -1.0}, "hidden"),
        ({"conv_ratio": 0.0}, "at least 1 channel must be convolved"),
        ({"conv_ratio": 3.0}, "256 hidden and 288 convolved"),
        ({"selected": "attention"}, "selected"),
    ],
)
def test_impossible_sizes_are_refused(wrong, message):
    with pytest.raises(TraitError, match=message):
        BlockDiagram(**wrong)


def test_impossible_sizes_are_refused_later_too():
    diagram = BlockDiagram(dim=96)
    with pytest.raises(TraitError, match="convolved"):
        diagram.conv_ratio = 3.0
    assert diagram.conv_ratio == 1.0


def test_possible_sizes_may_come_together():
    """Neither alone would fit the defaults."""
    assert BlockDiagram(expansion_ratio=4.0, conv_ratio=4.0).conv_ratio == 4.0
    assert BlockDiagram(conv_ratio=None).conv_ratio is None


@pytest.mark.parametrize("part", ["", *PARTS])
def test_every_part_can_be_selected_and_told(part):
    diagram = BlockDiagram(selected=part)
    assert repr(diagram) == f"BlockDiagram(dim=96, height=56, width=56, ssm=True, selected={part!r})"
    if part:
        assert part in diagram.strings
        assert "about_" + part in diagram.strings
