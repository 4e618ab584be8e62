"""The plane of poles and the state that selects, by mouse and by keyboard, and their numbers against Python's."""

import json
import math
import re

import numpy as np
import pytest
from playwright.sync_api import expect

from mambaout_edu import systems
from mambaout_edu.widgets import page
from mambaout_edu.widgets.pole_plane import PolePlane
from mambaout_edu.widgets.selection import Selection, state_weights

POLES, STATE = '[data-testid="pole-plane"]', '[data-testid="selection"]'
# A function that the widget's module exports, called with these arguments.
CALL = """async ([name, args]) => {
    const { esm } = JSON.parse(document.querySelector("section script").textContent);
    const module = await import(URL.createObjectURL(new Blob([esm], { type: "text/javascript" })));
    return module[name](...args);
}"""
SETS = [
    [-1.0],
    [0.0],
    [-1e-7],
    [-0.5 + 2j],
    [2j, -3],
    [-6.0, -5 + 4j, -0.01, 0.4 + 1j],
    [-1.0, -1.0, -1 + 0.05j],
]


def test_responses_equal_python(plain_page):
    view = plain_page(page(PolePlane(), "Numbers"))
    times, steps = np.linspace(0, 6, 25), 12
    for poles in SETS:
        for method in ("euler", "bilinear", "zoh"):
            for delta in (0.02, 0.3, 1.7):
                plane = PolePlane(poles=poles, method=method, delta=delta)
                call = ["compute", [[list(p) for p in plane.poles], delta, method, times.tolist(), steps]]
                found = view.page.evaluate(CALL, call)
                where, near = f"{poles} {method} {delta}", {"rtol": 1e-9, "atol": 1e-12}
                system, discrete = plane.system(), plane.discrete()
                kernel = systems.convolution_kernel(discrete, steps)
                held, _ = systems.run_recurrence(discrete, np.ones(steps))
                impulse, step = (f(system, times)[:, 0, 0] for f in (systems.impulse_response, systems.step_response))
                for name, expected in {"impulse": impulse, "step": step, "kernel": kernel, "stepped": held}.items():
                    np.testing.assert_allclose(found[name], np.real(expected), err_msg=f"{where} {name}", **near)
                z = discrete.A[: len(plane.poles)]
                np.testing.assert_allclose([complex(*pair) for pair in found["z"]], z, err_msg=where, **near)


def test_weights_equal_python(plain_page):
    view = plain_page(page(Selection(), "Numbers"))
    random = np.random.default_rng(0)
    for length in (2, 5, 12):
        for first_order in (False, True):
            deltas, A = np.round(random.uniform(0, 5, length) ** 2 / 5, 6).tolist(), -float(random.uniform(0.2, 3))
            found = view.page.evaluate(CALL, ["weights", [[*deltas[:-1], 0.0], A, first_order]])
            expected = state_weights([*deltas[:-1], 0.0], A, first_order)
            for t, row in enumerate(found):
                np.testing.assert_allclose(row, expected[t, : t + 1], rtol=1e-12, atol=1e-15)


def test_poles_by_mouse_and_keyboard_in_jupyterlab(lab_page):
    make = "w = PolePlane(poles=[-1 + 2j, -2], delta=0.25, method='euler')\nw"
    lab_page.open_cells("from mambaout_edu.widgets.pole_plane import PolePlane", make).run_all()
    root, kernel, keyboard = lab_page.widget("pole-plane"), lab_page.kernel, lab_page.page.keyboard
    expect(root).to_have_attribute("data-continuous", "stable")
    expect(root).to_have_attribute("data-steps", "stable")  # |1 + 0.25 (-1 + 2i)| = 0.90
    first, second = (root.get_by_role("slider", name=f"Pole {i} of 2") for i in (1, 2))

    first.focus()
    keyboard.press("ArrowUp")
    keyboard.press("ArrowLeft")
    keyboard.press("Shift+ArrowRight")
    kernel.wait_for("w.poles", [(-1.09, 2.1), (-2.0, 0.0)])
    expect(first).to_have_attribute("aria-valuetext", re.compile(r"p = −1.09 ± 2.10 i"))
    keyboard.press("Tab")
    expect(second).to_be_focused()
    kernel.wait_for("w.selected", 1)
    keyboard.press("ArrowUp")  # a real pole stays real
    keyboard.press("ArrowRight")
    kernel.wait_for("w.poles", [(-1.09, 2.1), (-1.9, 0.0)])
    keyboard.press("Delete")
    kernel.wait_for("w.poles", [(-1.09, 2.1)])
    expect(root.get_by_role("slider", name="Pole 1 of 1")).to_be_focused()
    keyboard.press("Delete")  # the last one stays
    expect(root.get_by_role("button", name="Remove pole 1")).to_be_disabled()

    delta = root.get_by_role("slider", name=re.compile("Step size"))
    delta.focus()
    keyboard.press("End")
    kernel.wait_for("w.delta", 2.0)
    expect(root).to_have_attribute("data-steps", "unstable")
    expect(root.locator(".state")).to_contain_text("too long")
    root.get_by_label("Discretisation").select_option("zoh")
    kernel.wait_for("w.method", "zoh")
    expect(root).to_have_attribute("data-steps", "stable")
    root.get_by_role("button", name="Add a real pole").click()
    kernel.wait_for("(len(w.poles), w.selected)", (2, 1))
    expect(root.get_by_role("status")).to_contain_text("Pole 2 added")

    assert kernel.ask("setattr(w, 'poles', [0.5 + 1j])") is None  # the kernel moves the page, too
    expect(root).to_have_attribute("data-continuous", "unstable")
    lab_page.check_names(POLES)
    lab_page.check_keys_stay(root.get_by_role("slider", name="Pole 1 of 1"), delta, root.get_by_label("Discretisation"))


def drag(view, mark, x, y):
    """Drag a mark by so many pixels, in steps."""
    box = mark.locator(".hit").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    view.page.mouse.move(*middle)
    view.page.mouse.down()
    for k in range(1, 6):
        view.page.mouse.move(middle[0] + x * k / 5, middle[1] + y * k / 5)
    view.page.mouse.up()


def test_a_dragged_pole_takes_its_conjugate_along(plain_page):
    view = plain_page(page(PolePlane(poles=[-1 + 2j, -4]), "Drag"))
    root = view.widget("pole-plane")
    unit = root.locator("svg").first.bounding_box()["width"] / 1140 * 400 / 8  # pixels for 1/s

    def poles():
        view.page.evaluate("() => new Promise(requestAnimationFrame)")
        return [pytest.approx(p, abs=0.03) for p in json.loads(root.get_attribute("data-poles"))]

    drag(view, root.locator('[data-pole="0"]:not([data-lower])'), -unit, -unit)
    assert poles()[0] == [-2, 3]
    drag(view, root.locator('[data-pole="0"][data-lower]'), 0.5 * unit, unit / 2)
    assert poles()[0] == [-1.5, 3.5]
    drag(view, root.locator('[data-pole="0"]:not([data-lower])'), 0, 5 * unit)  # it stops above the axis
    assert json.loads(root.get_attribute("data-poles"))[0][1] == 0.05
    drag(view, root.locator('[data-pole="1"]'), 9 * unit, unit)  # and at the edge of the plane
    assert poles()[1] == [2, 0]
    expect(root).to_have_attribute("data-selected", "1")
    expect(root).to_have_attribute("data-continuous", "unstable")
    cells = root.locator("tbody tr").nth(1).locator("td").all_inner_texts()
    assert cells[:2] == ["2.00", "never"]
    assert float(cells[4]) == pytest.approx(math.exp(2 * 0.3), abs=1e-3)
    view.check_names(POLES)


@pytest.mark.parametrize(
    ("poles", "method", "delta", "continuous", "steps"),
    [
        ([-1.0], "euler", 1.9, "stable", "stable"),
        ([-1.0], "euler", 2.0, "stable", "edge"),
        ([-2.0], "euler", 1.9, "stable", "unstable"),
        ([3j], "euler", 0.02, "edge", "unstable"),
        ([3j], "bilinear", 1.0, "edge", "edge"),
        ([3j], "zoh", 1.0, "edge", "edge"),
        ([1.0], "bilinear", 2.0, "unstable", "unstable"),  # at 2 / delta, where the bilinear step is infinite
        ([2.0], "bilinear", 2.0, "unstable", "unstable"),
        ([-6 + 4j], "bilinear", 2.0, "stable", "stable"),
    ],
)
def test_stability_is_told(plain_page, poles, method, delta, continuous, steps):
    root = plain_page(page(PolePlane(poles=poles, method=method, delta=delta), "Stable?")).widget("pole-plane")
    expect(root).to_have_attribute("data-continuous", continuous)
    expect(root).to_have_attribute("data-steps", steps)
    paths = root.locator("svg path").evaluate_all("all => all.map((path) => path.getAttribute('d')).join()")
    assert "NaN" not in paths
    assert "Infinity" not in paths


def test_tokens_by_mouse_and_keyboard_in_jupyterlab(lab_page):
    cells = ("from mambaout_edu.widgets.selection import Selection", "w = Selection()\nw")
    lab_page.open_cells(*cells).run_all()
    root, kernel, keyboard = lab_page.widget("selection"), lab_page.kernel, lab_page.page.keyboard
    first = root.get_by_role("button", name="Token 1, 我: open")
    expect(first).to_have_attribute("aria-pressed", "true")
    first.focus()
    keyboard.press("Enter")
    kernel.wait_for("w.deltas[0]", 0.0)
    expect(first).to_have_attribute("aria-pressed", "false")
    expect(root.get_by_role("status")).to_contain_text("我 passes by")
    keyboard.press("Space")
    kernel.wait_for("w.deltas[0]", 0.7)
    slider = root.get_by_role("slider", name="Δ of token 2, 想")
    slider.focus()
    keyboard.press("End")
    kernel.wait_for("w.deltas[1]", 5.0)
    kernel.wait_for("bool(w.weights()[-1, 0] < 0.005)", True)
    expect(root.locator(".panel.selective .told")).to_contain_text(re.compile(r"below 5 %\): 我"))

    root.get_by_label("Sequence").select_option(index=1)  # another length: tokens and steps must arrive together
    kernel.wait_for("(len(w.tokens), len(w.deltas))", (8, 8))
    expect(root.get_by_role("button", name="Token 8, apples: open")).to_be_visible()
    switch = root.get_by_role("switch")
    switch.click()
    kernel.wait_for("w.first_order", True)
    same = root.get_by_role("slider", name="Δ of all tokens")
    same.focus()
    keyboard.press("Home")
    kernel.wait_for("w.constant", 0.0)
    assert kernel.ask("setattr(w, 'constant', 1.0)") is None
    expect(same).to_have_attribute("aria-valuetext", "Δ = 1.00")
    lab_page.check_names(STATE)
    button = root.get_by_role("button", name="Token 8, apples: open")
    lab_page.check_keys_stay(button, switch, same, root.locator("summary"))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_sequence_of_ones_own_without_a_kernel(plain_page, theme):
    widget = Selection(tokens=["<b>", "&", "a very long word indeed"], deltas=[1.0, 0.0, 0.5], constant=2.0)
    view = plain_page(page(widget, "State", theme=theme))
    root = view.widget("selection")
    for name, constant in (("end", False), ("constant", True)):
        np.testing.assert_allclose(json.loads(root.get_attribute("data-" + name)), widget.weights(constant)[-1])
    assert root.locator(".word").all_inner_texts() == widget.tokens
    root.locator("summary").click()
    shares = root.locator("tbody tr").last.locator("td").all_inner_texts()[1:]
    expected = [100 * widget.weights(constant)[-1].sum() for constant in (False, True)]
    assert [float(share) for share in shares] == pytest.approx(expected, abs=0.06)
    overflow = root.locator("svg text.under").last.evaluate("e => e.getBBox().x + e.getBBox().width")
    assert overflow <= 541
    root.get_by_role("button", name="Token 2, &: open").click()
    expect(root.get_by_role("button", name="Token 2, &: open")).to_have_attribute("aria-pressed", "true")
    end = state_weights([1.0, 0.7, 0.5])[-1]
    np.testing.assert_allclose(json.loads(root.get_attribute("data-end")), end)
    expect(root.get_by_role("status")).to_contain_text("50 % of it comes in, 50 % of the past stays")
    view.check_names(STATE)
    left = view.page.evaluate(
        "() => { const s = document.querySelector('section'); s.close_widget(); s.model.set('constant', 1);"
        " return s.querySelector('[data-testid]').childElementCount; }"
    )
    assert left == 0


@pytest.mark.parametrize(("module", "name"), [("pole_plane", "PolePlane"), ("selection", "Selection")])
def test_follows_the_theme(lab_page, module, name):
    lab_page.open_cells(f"from mambaout_edu.widgets.{module} import {name}", f"{name}()").run_all()
    root = lab_page.widget(module.replace("_", "-"))
    inks = set()
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        lab_page.theme(theme)
        root.scroll_into_view_if_needed()
        lab_page.screenshot("_" + theme.split()[-1].lower())
        inks.add(root.locator("svg text").first.evaluate("e => getComputedStyle(e).fill"))
    assert len(inks) == 2


# The milliseconds that drawing and layout take in a frame, from just before the widget's callback to just after it:
# the lower quartile, since what else runs on the machine adds to the others.
FRAMES = """async ([trait, values]) => {
    const section = document.querySelector("section"), spent = [];
    const frame = (work) => new Promise((done) => requestAnimationFrame(() => { work(); done(performance.now()); }));
    for (const value of values) {
        const start = frame(() => {});
        section.model.set(trait, value);
        const end = frame(() => section.getBoundingClientRect());
        spent.push(-(await start) + (await end));
    }
    return spent.sort((a, b) => a - b)[Math.floor(spent.length / 4)];
}"""


@pytest.mark.parametrize("kind", [PolePlane, Selection])
def test_a_frame_is_drawn_in_time(plain_page, kind):
    """60 frames a second leave 16.7 ms for each; here with as many poles, steps and tokens as there can be."""
    widget = PolePlane(poles=[-1 + 2j] * 6, delta=0.02) if kind is PolePlane else Selection(tokens=["a"] * 12)
    trait = "poles" if kind is PolePlane else "constant"
    values = [[[-1 - k / 100, 2 + k / 100]] * 6 if kind is PolePlane else 1 + k / 100 for k in range(90)]
    view = plain_page(page(widget, "Fast"))
    assert 0 < view.page.evaluate(FRAMES, [trait, values]) < 16.7
