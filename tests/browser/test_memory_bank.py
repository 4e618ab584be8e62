"""The memory bank: its numbers against Python's, by mouse and keyboard, at play, in both themes and at 200 %."""

import itertools
import statistics

import numpy as np
import pytest
from playwright.sync_api import expect

from mambaout_edu.memory.sizes import readable
from mambaout_edu.widgets import MemoryBank, page

ROOT = '[data-testid="memory-bank"]'
# Functions that the widget's module exports, called with each of these lists of arguments.
CALLS = """async ([name, calls]) => {
    const { esm } = JSON.parse(document.querySelector("section script").textContent);
    const module = await import(URL.createObjectURL(new Blob([esm], { type: "text/javascript" })));
    return calls.map((args) => module[name](...args));
}"""
COUNTS = ("used", "read", "written", "weight_bytes", "parameters", "moved", "multiply_adds")
SIZES = ("layers", "dim", "heads", "kv_heads", "d_state", "batch", "dtype")
GRID = [
    *((12, 768, 12, kv, 16, 1, dtype) for kv in (1, 4, 12) for dtype in ("float64", "float32", "bfloat16", "float16")),
    *itertools.product((1, 7), (8, 100, 384), (1, 2), (1,), (1, 5, 64), (1, 3), ("float32", "float16")),
    (128, 8192, 64, 64, 256, 256, "float64"),  # the most: 4e15 bytes, still below 2**53
]
POSITIONS = (0, 1, 5, 4095, 65_536, 999_999, 1_000_000)
PIXEL = """([i, x, y]) => {
    const canvas = document.querySelectorAll("canvas")[i];
    return [...canvas.getContext("2d").getImageData(x * canvas.width, y * canvas.height, 1, 1).data].slice(0, 3);
}"""
# One unit of a chart is one pixel, so that the writing keeps its size, and a picture has as many as it shows.
DRAWN = """() => [...document.querySelectorAll("[data-testid=memory-bank]")].every((root) =>
    [...root.querySelectorAll("svg")].every((svg) => svg.viewBox.baseVal.width === svg.parentNode.clientWidth) &&
    [...root.querySelectorAll("canvas")].every((canvas) => canvas.width === canvas.clientWidth * devicePixelRatio))"""
FRAMES = """(seconds) => new Promise((done) => {
    const gaps = [], end = performance.now() + 1000 * seconds;
    let last = 0;
    const next = (time) => {
        if (last) gaps.push(time - last);
        last = time;
        time < end ? requestAnimationFrame(next) : done(gaps);
    };
    requestAnimationFrame(next);
})"""


def banks():
    for row in GRID:
        yield MemoryBank(**dict(zip(SIZES, row, strict=True)))


def test_counts_equal_accounting_exactly(plain_page):
    view = plain_page(page(MemoryBank(), "Numbers"))
    calls, expected, crossings, points = [], [], [], []
    for bank in banks():
        sizes = {name: getattr(bank, name) for name in SIZES}
        for position in POSITIONS:
            bank.tokens = position
            for mixer, account in zip(("attention", "mamba1"), bank.accounts(), strict=True):
                calls.append([mixer, sizes, position])
                expected.append({name: getattr(account, name) for name in COUNTS})
        for by in ("multiply_adds", "moved", "used"):
            crossings.append([sizes, by])
            points.append(bank.crossing(by))
    assert view.page.evaluate(CALLS, ["account", calls]) == expected
    assert view.page.evaluate(CALLS, ["crossing", crossings]) == points


def test_bytes_are_said_as_python_says_them(plain_page):
    view = plain_page(page(MemoryBank(), "Bytes"))
    counts = [0, 1, 1023, 1024, 1029, 1152, 1280, 3 * 2**20, 36_864 * 41, 144 * 2**30, 5 * 2**41 + 2**31, 2**52]
    counts += [1024 + 2 * i for i in range(0, 512, 7)] + [int(1.7**k) for k in range(1, 60)]
    said = view.page.evaluate(
        """async (counts) => {
            const section = document.querySelector("section");
            const { esm } = JSON.parse(section.querySelector("script").textContent);
            const module = await import(URL.createObjectURL(new Blob([esm], { type: "text/javascript" })));
            return counts.map((count) => module.readable(section.model, count));
        }""",
        counts,
    )
    assert said == [readable(count) for count in counts]


@pytest.mark.parametrize(("seed", "d_state"), [(0, 16), (5, 1), (2**32 - 1, 40)])
def test_the_cells_equal_python(plain_page, seed, d_state):
    view = plain_page(page(MemoryBank(), "State"))
    for tokens in (0, 1, 5, 900, 40_000):
        found = view.page.evaluate(CALLS, ["state_after", [[seed, d_state, tokens]]])[0]
        expected = MemoryBank(seed=seed, d_state=d_state, tokens=tokens).state()
        # The page leaves out tokens whose weight is below 1e-7.
        np.testing.assert_allclose(np.reshape(found, expected.shape), expected, rtol=0, atol=1e-7)


def test_the_way_to_a_position_does_not_matter(plain_page):
    view = plain_page(page(MemoryBank(), "Ways"))
    ways = view.page.evaluate(
        """async (stops) => {
            const { esm } = JSON.parse(document.querySelector("section script").textContent);
            const module = await import(URL.createObjectURL(new Blob([esm], { type: "text/javascript" })));
            const state = module.make_state(1, 8);
            for (const stop of stops) state.go(stop);
            return Array.from(state.go(20000));
        }""",
        [3, 4, 700, 19_000, 100, 1_000_000, 0, 6_000, 6_001, 19_999],
    )
    straight = MemoryBank(seed=1, d_state=8, tokens=20_000).state()
    np.testing.assert_allclose(np.reshape(ways, straight.shape), straight, rtol=0, atol=1e-7)


def test_a_cell_holds_twice_as_many_whenever_the_bank_is_full(plain_page):
    view = plain_page(page(MemoryBank(), "Cells"))
    tokens = [0, 1, 128, 129, 256, 257, 1_000_000]
    assert view.page.evaluate(CALLS, ["tokens_a_cell", [[count] for count in tokens]]) == [1, 1, 1, 2, 2, 4, 8192]


def test_sizes_that_would_not_divide_are_led_to_those_that_do(plain_page):
    view = plain_page(page(MemoryBank(), "Sizes"))
    start = dict(zip(SIZES, (12, 768, 12, 4, 16, 1, "float16"), strict=True))
    calls = [[start, "dim", dim] for dim in (64, 96, 128, 2560, 8192)] + [[start, "heads", n] for n in (1, 2, 6, 8, 96)]
    for (_, name, value), sizes in zip(calls, view.page.evaluate(CALLS, ["resized", calls]), strict=True):
        assert sizes[name] == value
        MemoryBank(**sizes)  # which refuses what does not divide


def test_by_keyboard_in_jupyterlab(lab_page):
    make = "from mambaout_edu.widgets import MemoryBank\nw = MemoryBank(playing=True)\nw"
    lab_page.open_cells(make).run_all()
    root, kernel, keyboard = lab_page.widget("memory-bank"), lab_page.kernel, lab_page.page.keyboard
    kernel.wait_for("w.playing", False)  # less motion was asked for
    start = kernel.ask("w.tokens")
    step = root.get_by_role("button", name="One token")
    root.get_by_role("button", name="From the beginning").click()
    kernel.wait_for("w.tokens", 0)
    assert start < 5
    step.focus()
    for _ in range(5):
        keyboard.press("Enter")
    expect(root).to_have_attribute("data-tokens", "5")
    kernel.wait_for("w.tokens", 5)
    expect(root.locator(".chip.there b")).to_have_text(list("我想吃苹果"))
    expect(root.get_by_role("status")).to_contain_text("5 tokens: 180.00 KiB in the bank, 1.27 MiB in the state")

    tokens = root.get_by_role("slider", name="Tokens read")
    tokens.focus()
    for key, expected in (
        ("ArrowRight", 6),
        ("PageUp", 12),
        ("ArrowLeft", 11),
        ("End", 1_000_000),
        ("PageDown", 500_000),
    ):
        keyboard.press(key)
        kernel.wait_for("w.tokens", expected)
    expect(tokens).to_have_attribute("aria-valuetext", "500,000 tokens")
    attention, mamba = kernel.ask("[account.used for account in w.accounts()]")
    assert (root.get_attribute("data-used"), root.get_attribute("data-state")) == (str(attention), str(mamba))

    channels = root.get_by_role("slider", name="Channels D")
    channels.focus()
    keyboard.press("Home")
    kernel.wait_for("(w.dim, w.heads % w.kv_heads, w.dim % w.heads)", (64, 0, 0))
    expect(root).to_have_attribute("data-crossing", str(kernel.ask("w.crossing()")))
    root.get_by_label("Number format").select_option("float32")
    kernel.wait_for("w.dtype", "float32")
    assert kernel.ask("setattr(w, 'tokens', 77)") is None  # the kernel moves the page, too
    expect(root).to_have_attribute("data-tokens", "77")
    lab_page.check_names(ROOT)
    lab_page.check_keys_stay(step, tokens, channels, root.get_by_label("Number format"), root.locator("summary"))
    inks = set()
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        lab_page.theme(theme)
        inks.add(root.locator("svg .tick").first.evaluate("e => getComputedStyle(e).fill"))
    assert len(inks) == 2
    lab_page.page.wait_for_function(DRAWN)  # the sizes that the theme's change of style left are taken
    lab_page.screenshot("_dark")


def test_the_tables_say_the_same(plain_page):
    bank = MemoryBank(tokens=4096, kv_heads=4, seed=3)
    view = plain_page(page(bank, "Tables"))
    root = view.widget("memory-bank")
    root.locator("summary").click()
    now, crossings, places, cells = (table.locator("tbody tr") for table in root.locator("table").all())
    for row, name in zip(now.all(), ("used", "multiply_adds", "moved", "weight_bytes"), strict=True):
        values = [getattr(account, name) for account in bank.accounts()]
        said = [f"{value:,}" if name == "multiply_adds" else f"{readable(value)} ({value:,})" for value in values]
        assert row.locator("td").all_inner_texts() == said
    expected = [bank.crossing(by) for by in ("multiply_adds", "moved", "used")] + [bank.long_sequence]
    assert crossings.locator("td").all_inner_texts() == [f"{value:,}" for value in expected]
    for row, place in zip(places.all(), bank.places, strict=True):
        size, said_source, first = row.locator("td").all_inner_texts()
        assert (size, said_source) == (readable(place["bytes"]), place["source"])
        token = MemoryBank(tokens=1, kv_heads=4).accounts()[0].used
        assert (int(first.replace(",", "")) - 1) * token <= place["bytes"] < int(first.replace(",", "")) * token
    shown = [[float(cell) for cell in row.locator("td").all_inner_texts()[1:]] for row in cells.all()]
    np.testing.assert_allclose(shown, bank.state()[:, :4], atol=6e-5)


def test_what_is_drawn_follows_what_has_arrived(plain_page):
    view = plain_page(page(MemoryBank(tokens=100_000), "Drawn"))
    root, widths = view.widget("memory-bank"), []
    bank = root.locator("rect.bar.bank")
    state = root.locator("rect.bar.state").get_attribute("width")
    colours = set()
    for tokens in (100_000, 1_000, 10, 0):
        view.page.evaluate("(n) => document.querySelector('section').model.set('tokens', n)", tokens)
        expect(root).to_have_attribute("data-tokens", str(tokens))
        widths.append(float(bank.get_attribute("width")))
        colours.add(str([view.page.evaluate(PIXEL, [1, (c + 0.5) / 24, 0.03]) for c in (0, 9, 23)]))
        assert root.locator("rect.bar.state").get_attribute("width") == state
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == 0
    assert len(colours) == 4  # the same cells, in the same places, have other colours
    view.page.evaluate("() => document.querySelector('section').model.set('tokens', 10)")
    blue = view.page.evaluate(PIXEL, [0, 0.5 / 16, 0.1 / 8])
    assert blue == [0, 114, 178]
    assert view.page.evaluate(PIXEL, [0, 9.5 / 16, 0.1 / 8]) == [230, 159, 0]  # the newest
    assert view.page.evaluate(PIXEL, [0, 10.5 / 16, 0.5 / 8]) == [0, 0, 0]  # nothing yet


def test_it_plays_to_a_million_without_a_jump(plain_page):
    view = plain_page(page(MemoryBank(tokens=400_000, d_state=256), "Play"))
    root = view.widget("memory-bank")
    nodes = "() => document.querySelector('section').getElementsByTagName('*').length"
    before = view.page.evaluate(nodes)
    root.get_by_role("button", name="Play").click()
    gaps = view.page.evaluate(FRAMES, 1.5)
    expect(root).to_have_attribute("data-playing", "false")
    expect(root).to_have_attribute("data-tokens", "1000000")
    assert view.page.evaluate(nodes) == before  # nothing was made while it played
    assert statistics.median(gaps) < 34, f"half of the frames took {statistics.median(gaps):.1f} ms and more"
    root.get_by_role("button", name="Play").click()  # at the end it begins anew
    expect(root).to_have_attribute("data-playing", "true")
    root.get_by_role("button", name="Pause").click()
    assert int(root.get_attribute("data-tokens")) < 100


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_at_twice_the_size(plain_page, theme):
    widget = MemoryBank(tokens=1_000_000, layers=48, dim=4096, heads=32, batch=8)
    view = plain_page(page(widget, "Zoom", theme=theme))
    root = view.widget("memory-bank")
    outside = """(root) => [...root.querySelectorAll("svg text")].filter((text) => {
        const box = text.getBBox(), view = text.ownerSVGElement.viewBox.baseVal;
        return box.x < 0 || box.x + box.width > view.width || box.y < 0 || box.y + box.height > view.height;
    }).map((text) => text.textContent)"""
    for width in (1200, 980, 740, 600):
        view.page.set_viewport_size({"width": width, "height": 1000})
        view.page.wait_for_function(DRAWN)
        assert root.evaluate("e => e.scrollWidth <= e.clientWidth")
        assert root.evaluate(outside) == [], width
    view.check_names(ROOT)
    left = view.page.evaluate(
        "() => { const s = document.querySelector('section'); s.close_widget(); s.model.set('tokens', 1);"
        " return s.querySelector('[data-testid]').childElementCount; }"
    )
    assert left == 0
