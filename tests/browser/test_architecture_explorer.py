"""The architecture explorer by mouse and by keyboard, in JupyterLab and without a kernel, in both themes and narrow."""

import re

import pytest
from playwright.sync_api import expect

from mambaout_edu.models.outline import differences, outline
from mambaout_edu.widgets import ArchitectureExplorer, page

from .test_block_diagram import luminance

ROOT = '[data-testid="architecture-explorer"]'
CELLS = ("from mambaout_edu.widgets import ArchitectureExplorer", "e = ArchitectureExplorer()\ne")
SWIN = "swin_tiny_patch4_window7_224"


def place(root, side, stage, block=0):
    return root.locator(f'.plan[data-side="{side}"] [data-stage="{stage}"][data-block="{block}"]')


def test_mouse_keyboard_and_kernel_in_jupyterlab(lab_page):
    lab_page.open_cells(*CELLS).run_all()
    root, kernel = lab_page.widget("architecture-explorer"), lab_page.kernel
    expect(root).to_have_attribute("data-ready", "true")
    expect(root).to_have_attribute("data-differ", "mixer gate mlp shortcuts channels depths head")

    place(root, "right", 3, 8).click()
    kernel.wait_for("(e.stage, e.block)", (3, 8))
    expect(place(root, "left", 3, 8)).to_have_attribute("aria-pressed", "true")  # open in both models
    keys = lab_page.page.keyboard
    for key in ("ArrowUp", "ArrowRight", "ArrowRight"):  # to stage 2, whose last block is its second
        keys.press(key)
    expect(place(root, "right", 2, 2)).to_be_focused()
    expect(root.get_by_test_id("reading")).to_contain_text("Stage 2, block 2 of 2")
    assert kernel.ask("(e.stage, e.block)") == (3, 8)  # moving opens nothing
    keys.press("Enter")
    kernel.wait_for("(e.stage, e.block)", (2, 2))
    expect(root.locator('.part[data-side="right"][data-part="0"]')).to_be_focused()
    for _ in range(5):
        keys.press("ArrowDown")
    expect(root.get_by_test_id("reading")).to_contain_text("Reads 784 tokens one after the other in 4 directions")
    keys.press("ArrowLeft")
    expect(root.locator('.part[data-side="left"]:focus')).to_have_count(1)
    keys.press("Escape")
    expect(place(root, "left", 2, 2)).to_be_focused()

    root.get_by_label("Right model").select_option("vim_tiny")  # asked of the kernel
    kernel.wait_for("e.right", "vim_tiny")
    expect(root).to_have_attribute("data-right", "vim_tiny")
    expect(root).to_have_attribute("data-differ", re.compile("positions class_tokens"))
    assert kernel.ask("[setattr(e, 'left', 'vim_small'), setattr(e, 'stage', 0)]") == [None, None]
    expect(root).to_have_attribute("data-differ", "channels")
    expect(root.get_by_test_id("verdict")).to_contain_text("One thing differs: the channels")
    expect(place(root, "left", 0)).to_have_attribute("aria-pressed", "true")
    lab_page.check_names(ROOT)
    lab_page.check_keys_stay(place(root, "left", 1, 3), root.locator(".part").first, root.locator("summary"))


def test_the_explorer_follows_the_theme(lab_page):
    lab_page.open_cells(*CELLS).run_all()
    root = lab_page.widget("architecture-explorer")
    expect(root).to_have_attribute("data-ready", "true")
    texts = [
        root.locator(part).first
        for part in (".part .title", ".part .shape", ".part .mark", ".row .shape", ".verdict .head")
    ]

    def contrast(text) -> float:
        ink = text.evaluate("e => getComputedStyle(e).color")
        paper = text.evaluate(
            "e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;"
            " if (c !== 'rgba(0, 0, 0, 0)') return c; } }"
        )
        light, dark = sorted(map(luminance, (ink, paper)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        lab_page.theme(theme)
        lab_page.screenshot("_" + theme.split()[-1].lower())
        assert min(map(contrast, texts)) >= 4.5, f"{theme}: {list(map(contrast, texts))}"


PAIRS = [("vmamba_tiny_v0", "res_vmamba_tiny"), (SWIN, "residual_swin_tiny"), ("vim_tiny", "deit_tiny_patch16_224"),
         ("mambaout_tiny", 'metaformer_like("conv_ssm")'), ("convnext_tiny", "mambaout_tiny")]  # fmt: skip


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_the_page_finds_the_differences_that_python_finds(plain_page, left, right):
    explorer = ArchitectureExplorer(left, right)
    view = plain_page(page(explorer, "Differences"))
    root = view.widget("architecture-explorer")
    expect(root).to_have_attribute("data-differ", " ".join(explorer.differences))
    assert explorer.differences == differences(*(explorer.outlines[name] for name in (left, right)))
    rows = root.locator(".differing tbody tr")
    expect(rows).to_have_count(len(explorer.differences))
    assert "{" not in root.inner_text()
    assert "undefined" not in root.inner_text()


def test_what_is_drawn_and_tabled_is_what_the_outline_says(plain_page):
    view = plain_page(page(ArchitectureExplorer("mambaout_tiny", SWIN, stage=3, block=2), "Drawn", theme="dark"))
    root = view.widget("architecture-explorer")
    for side, name in (("left", "mambaout_tiny"), ("right", SWIN)):
        found = outline(name)
        maps = root.locator(f'.plan[data-side="{side}"] .map')
        sizes = [(float(m.get_attribute("data-wide")), float(m.get_attribute("data-high"))) for m in maps.all()]
        first, last = found["stages"][0], found["stages"][-1]
        assert sizes[-1][0] / sizes[0][0] == pytest.approx(last["channels"] / first["channels"], rel=1e-3)
        assert sizes[0][1] / sizes[1][1] == pytest.approx(2, rel=1e-3)
        counts = [root.locator(f'.plan[data-side="{side}"] .block[data-stage="{i + 1}"]').count() for i in range(4)]
        assert counts == found["aspects"]["depths"]
        parts = found["stages"][2]["kinds"][found["stages"][2]["blocks"][1]]
        expect(root.locator(f'.part[data-side="{side}"]')).to_have_count(len(parts))
    root.locator("summary").click()
    text = root.locator("details").inner_text()
    assert all(
        f"{outline(name)[key]:,}" in text for name in ("mambaout_tiny", SWIN) for key in ("parameters", "multiply_adds")
    )


def test_a_page_without_a_kernel_says_what_it_can_show(plain_page):
    view = plain_page(page(ArchitectureExplorer("mambaout_tiny", "vmamba_tiny").complete(["vim_tiny"]), "No kernel"))
    root = view.widget("architecture-explorer")
    root.get_by_label("Right model").select_option("vim_tiny")
    expect(root).to_have_attribute("data-right", "vim_tiny")
    root.get_by_label("Right model").select_option("vim_base")
    verdict = root.get_by_test_id("verdict")
    expect(verdict).to_contain_text("laying out vim_base")
    expect(verdict).to_contain_text(
        "If there is no running kernel, these can be shown: mambaout_tiny, vmamba_tiny, and vim_tiny"
    )
    root.get_by_label("Right model").select_option("vmamba_tiny")
    expect(root).to_have_attribute("data-ready", "true")
    expect(verdict).to_contain_text("7 things differ")
    view.check_names(ROOT)
    left = view.page.evaluate(
        "() => { const s = document.querySelector('section'); s.close_widget(); s.model.set('stage', 2);"
        " return s.querySelector('[data-testid]').childElementCount; }"
    )
    assert left == 0


@pytest.mark.parametrize("width", [1200, 600, 360])
def test_nothing_is_cut_off_at_any_width(plain_page, width):
    """A page of 1200 pixels at 200 % has 600, at 333 % it has 360."""
    view = plain_page(page(ArchitectureExplorer("vmamba_base", "vim_tiny"), "Narrow"))
    view.page.set_viewport_size({"width": width, "height": 1000})
    root = view.widget("architecture-explorer")
    assert view.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    clipped = root.evaluate(
        "el => [...el.querySelectorAll('.part, .row > *, .verdict, .reading, .total')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.className + ': ' + e.textContent)"
    )
    assert clipped == []
