"""The diagram's traits: what they take and what they refuse."""

import math
import re
from functools import partial
from pathlib import Path

import pytest
from traitlets import TraitError

from mambaout_edu.blocks import GatedBlock
from mambaout_edu.blocks.counting import hidden_channels, mixed_channels
from mambaout_edu.mixers import ConvSSM
from mambaout_edu.widgets import BlockDiagram, block_diagram
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


def counts_of_the_page(dim, conv_ratio, kernel_size, d_state):
    """Return the parameters of every part, by the closed forms in the page's source; they read the same in Python."""
    source = Path(block_diagram.__file__).with_name("widget.js").read_text(encoding="utf-8")
    forms = dict(re.findall(r"(\w+): ([^,}]+)", re.search(r"parameters: \{(.*?)\}", source, re.DOTALL)[1]))
    assert tuple(forms) == PARTS
    assert "const rank = Math.ceil(dim / 16);" in source
    hidden, mixed = hidden_channels(dim), mixed_channels(dim, conv_ratio=conv_ratio)
    sizes = {"dim": dim, "hidden": hidden, "mixed": mixed, "rank": math.ceil(dim / 16), "k": kernel_size, "N": d_state}
    return {part: eval(form, {"__builtins__": {}}, sizes) for part, form in forms.items()}


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("conv_ratio", [None, 1.0])
@pytest.mark.parametrize(("dim", "kernel_size", "d_state"), [(96, 7, 16), (33, 3, 16), (128, 7, 4), (8, 5, 1)])
def test_the_page_counts_the_parameters_of_the_real_block(dim, kernel_size, d_state, conv_ratio):
    counts = counts_of_the_page(dim, conv_ratio, kernel_size, d_state)
    # The rank of delta follows the block's width, as in Mamba, also where more channels than that are mixed.
    mixer = partial(ConvSSM, kernel_size=kernel_size, d_state=d_state, dt_rank=math.ceil(dim / 16))
    block = GatedBlock(dim, mixer=mixer, conv_ratio=conv_ratio)
    assert counts["conv"] == parameters(block.mixer.conv)
    assert counts["ssm"] == parameters(block.mixer) - parameters(block.mixer.conv)
    assert sum(counts.values()) == parameters(block)
    if conv_ratio == 1:  # then it is the rank that the mixer takes by itself
        assert counts["ssm"] + counts["conv"] == parameters(ConvSSM(dim, kernel_size, d_state))
