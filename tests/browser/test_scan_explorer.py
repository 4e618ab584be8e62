"""The scan explorer: its numbers against Python's, by mouse and by keyboard, with a kernel and without one."""

import base64
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from mambaout_edu import flatten
from mambaout_edu.widgets import ScanExplorer, page
from mambaout_edu.widgets.scan_explorer._export import state_picture

ROOT = '[data-testid="scan-explorer"]'
LARGEST = 24
MEASURES = ("mean", "median", "p95", "unit_steps", "longest_jump")
OPTIONS = [{}, {"window": 3, "skip": 3, "seed": 4_000_000_000}]
# Calls `work(module, argument)` with the module of the first widget on the page.
WITH_MODULE = """async ([work, argument]) => {
    const { esm } = JSON.parse(document.querySelector("section script").textContent);
    const module = await import(URL.createObjectURL(new Blob([esm], { type: "text/javascript" })));
    return (0, eval)(work)(module, argument);
}"""
# Every entry of every order of every size in one row of 16-bit numbers; then those of the strategies.
ALL_ORDERS = """(module, { names, strategies, largest, options }) => {
    const found = [];
    for (let h = 1; h <= largest; h++) for (let w = 1; w <= largest; w++) {
        for (const name of names) found.push(...module.order(name, h, w, options));
        for (const name of strategies) for (const path of module.paths(name, h, w, options)) found.push(...path);
    }
    const bytes = new Uint8Array(Uint16Array.from(found).buffer);
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return btoa(text);
}"""
ALL_MEASURES = """(module, sizes) => sizes.map(([name, h, w]) => {
    const order = module.order(name, h, w), found = module.locality([order], h, w);
    const step = Math.floor(0.6 * h * w), memory = [...module.memory_map(order, h, w, step, 0.83)];
    return { ...found, distances: [...found.distances], map: [...module.neighbour_map(order, h, w)], memory, step };
})"""


def used(name, options):
    """Return those options that an order uses; the page takes all of them, Python refuses the others."""
    uses = {"window": "window", "window_columns": "window", "atrous": "skip", "random": "seed"}.get(name)
    return {uses: options[uses]} if uses in options else {}


@pytest.mark.parametrize("options", OPTIONS, ids=["as they are", "with options"])
def test_every_order_and_path_equals_python(plain_page, options):
    view = plain_page(page(ScanExplorer(), "Numbers"))
    names = [name for name in flatten.ORDERS if not options or used(name, options)]
    strategies = ["atrous"] if options else list(flatten.PATHS)
    argument = {"names": names, "strategies": strategies, "largest": LARGEST, "options": options}
    found = np.frombuffer(base64.b64decode(view.page.evaluate(WITH_MODULE, [ALL_ORDERS, argument])), dtype="<u2")
    at = 0
    for h in range(1, LARGEST + 1):
        for w in range(1, LARGEST + 1):
            expected = [(name, flatten.order(name, h, w, **used(name, options))) for name in names]
            for name in strategies:
                expected += [(name, path) for path in flatten.paths(name, h, w, **used(name, options))]
            for name, order in expected:
                part = found[at : at + len(order)]
                assert np.array_equal(part, order), f"{name} on {h} x {w}: {part} in the page, {order} in Python"
                at += len(order)
    assert at == len(found)


def test_locality_and_memory_equal_python(plain_page):
    view = plain_page(page(ScanExplorer(), "Numbers"))
    sizes = [(name, h, w) for name in flatten.ORDERS for h, w in ((1, 1), (1, 7), (5, 1), (6, 9), (16, 16), (23, 24))]
    for (name, h, w), found in zip(sizes, view.page.evaluate(WITH_MODULE, [ALL_MEASURES, sizes]), strict=True):
        order, where = flatten.order(name, h, w), f"{name} on {h} x {w}"
        expected = flatten.locality(order, h, w)
        for measure in MEASURES:
            assert found[measure] == pytest.approx(getattr(expected, measure), abs=1e-9), f"{measure} of {where}"
        assert found["distances"] == sorted(flatten.neighbour_distances(order, h, w)), where
        assert found["map"] == flatten.neighbour_map(order, h, w).ravel().tolist(), where
        memory = flatten.memory_map(order, h, w, found["step"] if h * w > 1 else 0, 0.83)
        np.testing.assert_allclose(found["memory"], memory.ravel(), atol=1e-9, err_msg=where)


# What the canvas shows at a cell, and the resampled picture behind it.
PIXEL = """([grid, row, column]) => [...document.querySelector(`[data-testid="grid-${grid}"] .pixels`)
    .getContext("2d").getImageData(column, row, 1, 1).data.slice(0, 3)]"""


ALL_PIXELS = """(grid) => {
    const canvas = document.querySelector(`[data-testid="grid-${grid}"] .pixels`);
    return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
}"""


def test_the_picture_shows_what_the_state_holds(plain_page):
    picture = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    explorer = ScanExplorer(picture, orders=("raster", "bidirectional"), height=9, width=11, step=40, decay=1.0)
    view = plain_page(page(explorer, "Memory"))
    pixels = explorer.pixels()
    for index in (0, 17, 40):
        row, column = divmod(index, 11)
        assert view.page.evaluate(PIXEL, [0, row, column]) == pixels[row, column].tolist()
    ahead = view.page.evaluate(PIXEL, [0, 8, 10])
    assert len(set(ahead)) == 1  # grey: not read yet
    assert view.page.evaluate(PIXEL, [1, 8, 10]) == pixels[8, 10].tolist()  # the way back began there

    root = view.widget("scan-explorer")
    memory = root.get_by_role("slider", name="Memory")
    memory.focus()
    view.page.keyboard.press("Home")
    expect(root).to_have_attribute("data-decay", re.compile(r"^0\.00390625$"))  # a half-life of an eighth of a step
    assert max(view.page.evaluate(PIXEL, [0, 0, 0])) < 60  # dark: forgotten
    assert view.page.evaluate(PIXEL, [0, 3, 7]) == pixels[3, 7].tolist()  # read now


@pytest.mark.parametrize("kind", ["a picture", "plain"])
def test_the_page_and_the_saved_figure_show_the_same(plain_page, kind):
    picture = np.random.default_rng(1).integers(0, 256, (19, 30, 3), dtype=np.uint8) if kind == "a picture" else None
    explorer = ScanExplorer(picture, orders=("serpentine", "eight"), height=13, width=10, step=50, decay=0.95)
    view = plain_page(page(explorer, "Equal", theme="light"))
    for which in (0, 1):
        shown = np.array(view.page.evaluate(ALL_PIXELS, which)).reshape(13, 10, 4)[:, :, :3]
        np.testing.assert_allclose(shown, state_picture(explorer, which).astype(int), atol=3)


def test_without_a_kernel_by_keyboard(plain_page):
    explorer = ScanExplorer(orders=("raster", "cross"), height=6, width=8, decay=0.5, speed=100)
    view = plain_page(page(explorer, "Keys", theme="dark"))
    root, keyboard = view.widget("scan-explorer"), view.page.keyboard
    grid = root.get_by_test_id("grid-0")
    grid.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight"):  # the first key chooses the first pixel
        keyboard.press(key)
    chosen = "Row 1, column 2 is step 10. Steps to its neighbours: above 8, right 1, below 8, left 1."
    expect(root.get_by_test_id("chosen-0")).to_have_text(chosen)
    expect(root.get_by_test_id("chosen-1")).to_contain_text("nearest path: above 1, right 1, below 1, left 1")
    expect(root.get_by_role("status")).to_contain_text(chosen)
    keyboard.press("Enter")
    expect(root).to_have_attribute("data-step", "10")
    reading = root.get_by_test_id("reading-0")
    expect(reading).to_have_text("Reads row 1, column 2. Still in the state of its neighbours: above <1 %, left 50 %.")

    root.get_by_text("The same as tables").click()
    rows = root.locator("details table").first.locator("tbody tr")
    expect(rows).to_have_count(4)  # they are written when the page says that they are shown
    assert [row.locator("th,td").all_inner_texts() for row in rows.all()] == [
        ["above", "8", "<1 %", "1", "50 %"],
        ["right", "1", "read later", "1", "50 %"],
        ["below", "8", "read later", "1", "50 %"],
        ["left", "1", "50 %", "1", "50 %"],
    ]
    measures = root.locator("details table").last.locator("tbody tr")
    mean = next(row for row in measures.all() if row.locator("th").inner_text() == "mean")
    assert mean.locator("td").first.inner_text() == f"{flatten.locality('raster', 6, 8).mean:.2f}"

    grid.focus()
    keyboard.press("Escape")
    expect(root.get_by_test_id("chosen-0")).to_have_text("No pixel is chosen.")
    keyboard.press(" ")
    expect(root).to_have_attribute("data-playing", "true")
    expect(root).to_have_attribute("data-step", "47")  # it comes to its end by itself, and stops there
    expect(root).to_have_attribute("data-playing", "false")
    view.check_names(ROOT)


def test_pictures_are_chosen_in_the_page(plain_page, tmp_path):
    view = plain_page(page(ScanExplorer(), "Pictures"))
    root = view.widget("scan-explorer")
    field = root.get_by_label("Picture")
    Image.fromarray(np.full((90, 300, 3), (200, 40, 90), np.uint8)).save(tmp_path / "red.png")
    field.set_input_files(tmp_path / "red.png")
    expect(root).to_have_attribute("data-size", "38x128")
    expect(root).to_have_attribute("data-picture", "38x128")
    assert view.page.evaluate(PIXEL, [0, 0, 0]) == [200, 40, 90]
    (tmp_path / "words.png").write_text("no picture")
    field.set_input_files(tmp_path / "words.png")
    expect(root.get_by_role("alert")).to_contain_text("words.png cannot be read as a picture")
    (tmp_path / "empty.png").touch()
    field.set_input_files(tmp_path / "empty.png")
    expect(root.get_by_role("alert")).to_contain_text("empty.png is empty")
    rows = root.get_by_role("spinbutton", name="Rows")
    rows.fill("0")
    rows.press("Enter")
    expect(root.get_by_role("alert")).to_contain_text("Rows: a whole number from 1 to 128")
    rows.fill("5")
    rows.press("Enter")
    expect(root).to_have_attribute("data-size", "5x128")
    root.get_by_role("button", name="Plain grid").click()
    expect(root).to_have_attribute("data-picture", "")
    root.get_by_test_id("order-0").select_option("atrous")
    skip = root.get_by_role("spinbutton", name="Skip")
    skip.fill("5")
    skip.press("Enter")
    expect(root.locator("svg text")).to_have_text("No path visits two neighbours.")


def test_less_motion_starts_nothing(chromium, tmp_path):
    file = tmp_path / "still.html"
    file.write_text(page(ScanExplorer(playing=True, speed=1000), "Still"), encoding="utf-8")
    context = chromium.new_context(reduced_motion="reduce")
    try:
        view = context.new_page()
        view.goto(file.as_uri())
        root = view.get_by_test_id("scan-explorer")
        expect(root).to_have_attribute("data-playing", "false")
        expect(root).to_have_attribute("data-step", "0")
        root.get_by_role("button", name="Play").click()  # but the reader may play
        expect(root).to_have_attribute("data-step", "255")
    finally:
        context.close()


def test_mouse_keyboard_and_traits_in_jupyterlab(lab_page):
    make = "w = ScanExplorer(orders=('raster', 'hilbert'), height=8, width=8, decay=0.9)\nw"
    lab_page.open_cells("from mambaout_edu.widgets import ScanExplorer", make).run_all()
    root, kernel, keyboard = lab_page.widget("scan-explorer"), lab_page.kernel, lab_page.page.keyboard
    grids = [root.get_by_test_id(f"grid-{k}") for k in (0, 1)]
    expect(root).to_have_attribute("data-step", "0")

    box = grids[1].bounding_box()
    cell = box["width"] / 8
    lab_page.page.mouse.move(box["x"] + 2.5 * cell, box["y"] + 3.5 * cell)
    kernel.wait_for("w.cursor", [3, 2])
    lab_page.page.mouse.down()
    lab_page.page.mouse.up()
    step = int(flatten.inverse(flatten.order("hilbert", 8, 8))[3 * 8 + 2])
    kernel.wait_for("w.step", step)
    expect(root).to_have_attribute("data-step", str(step))

    grids[0].focus()
    keyboard.press("ArrowDown")
    keyboard.press("End")
    kernel.wait_for("w.cursor", [4, 7])
    root.get_by_role("button", name="One step on").click()
    kernel.wait_for("w.step", step + 1)
    expect(root.get_by_role("status")).to_have_text(f"Step {step + 1}")
    scrub = root.get_by_role("slider", name=re.compile("^Step"))
    scrub.focus()
    keyboard.press("Home")
    kernel.wait_for("w.step", 0)
    root.get_by_label("Right order").select_option("zigzag")
    kernel.wait_for("w.orders", ["raster", "zigzag"])
    expect(root.get_by_role("status")).to_contain_text("Zigzag along diagonals: neighbours are")
    root.get_by_role("switch", name="Compare two orders").click()
    kernel.wait_for("w.orders", ["raster"])
    expect(grids[1]).to_have_count(0)

    assert kernel.ask("[setattr(w, *pair) for pair in (('step', 9), ('height', 4), ('decay', 0.5))]") == [None] * 3
    expect(root).to_have_attribute("data-size", "4x8")
    expect(root).to_have_attribute("data-decay", "0.5")
    expect(root).to_have_attribute("data-step", "9")
    assert kernel.ask("setattr(w, 'orders', ['random', 'spiral'])") is None
    expect(root).to_have_attribute("data-orders", "random,spiral")
    seed = root.get_by_label("Seed")
    seed.fill("12")
    seed.press("Enter")
    kernel.wait_for("(w.seed, w.step)", (12, 9))
    assert kernel.ask("setattr(w, 'speed', 60)") is None
    root.get_by_role("button", name="Play").click()
    kernel.wait_for("(w.playing, w.step)", (False, 31), timeout=20)  # the end was told
    assert kernel.ask("repr(w)") == "ScanExplorer(orders=['random', 'spiral'], height=4, width=8, step=31, decay=0.5)"

    lab_page.check_names(ROOT)
    described = grids[0].aria_snapshot()
    assert "Random, 4 × 8 pixels. Arrow keys choose a pixel" in described
    lab_page.check_keys_stay(grids[0], scrub, root.get_by_label("Left order"), root.locator("summary"))


def test_a_picture_reaches_the_kernel_and_two_views_play_together(lab_page, tmp_path):
    make = "from mambaout_edu.widgets import ScanExplorer\nw = ScanExplorer(playing=True, speed=100)\nw"
    lab_page.open_cells(make, "w").run_all()
    views, kernel = lab_page.widget("scan-explorer"), lab_page.kernel
    first, second = views.first, views.last
    kernel.wait_for("w.playing", False)  # less motion was asked for
    picture = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "noise.png")
    first.get_by_label("Picture").set_input_files(tmp_path / "noise.png")
    kernel.wait_for("w.picture_size", [8, 12])
    assert kernel.ask("w.pixels().tolist()") == picture.tolist()
    expect(second).to_have_attribute("data-picture", "8x12")
    first.get_by_role("button", name="Play").click()
    kernel.wait_for("(w.playing, w.step)", (False, 95), timeout=20)
    expect(second).to_have_attribute("data-step", "95")
    lab_page.theme("JupyterLab Dark")
    lab_page.screenshot("_dark")
