"""The diagram of the two blocks, by mouse and by keyboard, in JupyterLab and without a kernel."""

import re

import pytest
from playwright.sync_api import expect

from mambaout_edu.blocks import block_parameters
from mambaout_edu.widgets import BlockDiagram, page

CELLS = ("from mambaout_edu.widgets import BlockDiagram", "d = BlockDiagram(dim=96, height=56, width=56)\nd")
ROOT = '[data-testid="block-diagram"]'


def ssm_parameters(channels: int, dim: int, d_state: int) -> int:
    """Mamba's own tensors: x_proj, dt_proj with bias, A, D."""
    rank = -(-dim // 16)
    shapes = [(rank + 2 * d_state, channels), (channels, rank), (channels,), (channels, d_state), (channels,)]
    return sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes)


def test_mouse_and_keyboard_in_jupyterlab(lab_page):
    lab_page.open_cells(*CELLS).run_all()
    root, kernel = lab_page.widget("block-diagram"), lab_page.kernel
    expect(root).to_have_attribute("data-total", str(block_parameters(96) + ssm_parameters(96, 96, 16)))

    root.locator('[data-block="mamba"][data-part="conv"]').click()
    kernel.wait_for("d.selected", "conv")
    panel = root.get_by_test_id("panel")
    expect(panel).to_contain_text("[B, 56, 56, 96]")
    expect(panel).to_contain_text(f"{(49 + 1) * 96:,}")

    lab_page.page.keyboard.press("ArrowDown")
    lab_page.page.keyboard.press("ArrowDown")
    kernel.wait_for("d.selected", "ssm")
    expect(root.get_by_role("status")).to_contain_text("SSM")
    lab_page.page.keyboard.press("ArrowRight")  # the gated CNN block has none: its convolution instead
    kernel.wait_for("d.selected", "conv")
    lab_page.page.keyboard.press("Escape")
    kernel.wait_for("d.selected", "")

    switch = root.get_by_role("switch")
    switch.focus()
    lab_page.page.keyboard.press("Space")
    kernel.wait_for("d.ssm", False)
    expect(switch).to_have_attribute("aria-checked", "true")
    expect(root).to_have_attribute("data-total", str(block_parameters(96)))
    expect(root.get_by_role("button", name=re.compile("SSM, taken out"))).to_be_visible()

    assert kernel.ask("setattr(d, 'dim', 192)") is None  # the kernel moves the page, too
    expect(root).to_have_attribute("data-total", str(block_parameters(192)))
    lab_page.check_names(ROOT)
    lab_page.check_keys_stay(switch, root.locator('svg [tabindex="0"]'), root.locator("summary"))


def test_follows_the_theme(lab_page):
    lab_page.open_cells(*CELLS, "d.selected = 'conv'").run_all()
    parts = [lab_page.widget("block-diagram").locator(f'[data-block="cnn"][data-part="{p}"]') for p in ("norm", "conv")]

    def contrast(box) -> float:
        text = box.locator("text").first.evaluate("e => getComputedStyle(e).fill")
        paper = box.locator(".shape").evaluate("e => getComputedStyle(e).fill")
        ink, ground = (luminance(color) for color in (text, paper))
        return (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05)

    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        lab_page.theme(theme)
        lab_page.screenshot("_" + theme.split()[-1].lower())
        assert min(map(contrast, parts)) >= 4.5, f"{theme}: {list(map(contrast, parts))}"


def luminance(color: str) -> float:
    """Relative luminance (WCAG 2) of a computed CSS colour: rgb(255 …), or color(srgb 1 …) where colours were mixed."""
    largest = 1 if color.startswith("color(srgb") else 255
    channels = [float(value) / largest for value in re.findall(r"[\d.]+", color)[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


SIZES = [
    {"dim": 48},
    {"dim": 128},  # 341 hidden channels: the product is cut off, not rounded
    {"dim": 96, "kernel_size": 3},
    {"dim": 64, "expansion_ratio": 4.0, "conv_ratio": 0.5},
    {"dim": 33, "conv_ratio": None},
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_counts_equal_python(plain_page, sizes):
    view = plain_page(page(BlockDiagram(**sizes), "Counts"))
    root = view.widget("block-diagram")
    hidden = int(sizes.get("expansion_ratio", 8 / 3) * sizes["dim"])
    ratio = sizes.get("conv_ratio", 1.0)
    mixed = hidden if ratio is None else int(ratio * sizes["dim"])
    without = block_parameters(**sizes)
    expect(root).to_have_attribute("data-total", str(without + ssm_parameters(mixed, sizes["dim"], 16)))
    root.get_by_role("switch").click()
    expect(root).to_have_attribute("data-total", str(without))
    root.locator("summary").click()
    assert root.locator("tbody tr").last.locator("td").all_inner_texts()[-2:] == [f"{without:,}"] * 2


def test_page_without_a_kernel(plain_page):
    view = plain_page(page(BlockDiagram(), "Two <blocks>", theme="dark"))
    root = view.widget("block-diagram")
    assert view.page.title() == "Two <blocks>"
    view.page.keyboard.press("Tab")
    expect(root.get_by_role("switch")).to_be_focused()
    view.page.keyboard.press("Tab")
    view.page.keyboard.press("End")
    expect(root).to_have_attribute("data-selected", "add")
    root.locator('[data-block="cnn"][data-part="gate"]').click()
    expect(root.get_by_test_id("panel")).to_contain_text("X′ W₂")
    view.check_names(ROOT)
    # Leaving takes every listener along: the view is empty and a changed trait draws nothing.
    left = view.page.evaluate(
        "() => { const s = document.querySelector('section'); s.close_widget(); s.model.set('ssm', false);"
        " return s.querySelector('[data-testid]').childElementCount; }"
    )
    assert left == 0
