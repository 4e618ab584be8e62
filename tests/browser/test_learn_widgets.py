"""Predictions and quizzes by keyboard alone (answer, reveal, next), in JupyterLab and without a kernel."""

import itertools
import json
import re

import pytest
from playwright.sync_api import Locator, Page, expect

from mambaout_edu.learn.predictions import predict
from mambaout_edu.learn.quiz_items import load, quiz
from mambaout_edu.widgets import page

PREDICTION, QUIZ = '[data-testid="prediction"]', '[data-testid="quiz"]'
IMPORTS = "from mambaout_edu.learn import progress\nfrom mambaout_edu.learn.predictions import predict"
ITEMS = load("06")


def right_choice(item: dict) -> int:
    return next(i for i, choice in enumerate(item["choices"]) if choice.get("right"))


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def tab_to(page: Page, target: Locator, most: int = 12) -> None:
    """Press Tab until the target has the focus: it can be reached from where the focus is."""
    for _ in range(most):
        if target.evaluate("e => e === document.activeElement"):
            return
        page.keyboard.press("Tab")
    expect(target).to_be_focused()


def test_a_choice_is_made_committed_and_left_by_keyboard(lab_page):
    lab_page.open_cells(IMPORTS, 'p = predict("06.box")\np', "'the next cell'").run_all()
    root, keys = lab_page.widget("prediction"), lab_page.page
    expect(root).to_have_attribute("data-state", "open")
    expect(root.get_by_text("it came out", exact=True)).to_have_count(0)
    lab_page.check_keys_stay(root.get_by_role("radio").first, root.get_by_role("button", name="Commit"))

    tab_to(keys, root.get_by_role("button", name="Commit"))
    press(keys, "Enter")  # nothing is chosen yet: a sentence says so, nothing is committed
    expect(root.get_by_role("alert")).to_contain_text("Choose an answer first")
    expect(root).to_have_attribute("data-state", "open")

    press(keys, "Shift+Tab", "Space", "ArrowDown")
    chosen = root.locator("input:checked")
    key = chosen.get_attribute("value")
    press(keys, "Enter")
    expect(root).to_have_attribute("data-state", "revealed")
    expect(root.locator(".result")).to_be_focused()
    expect(root.get_by_text("you predicted", exact=True)).to_be_visible()
    expect(root.get_by_text("it came out", exact=True)).to_be_visible()
    expect(root.locator(".why")).to_contain_text("equations 8 to 11")
    lab_page.kernel.wait_for("p.committed", True)
    assert lab_page.kernel.ask("p.answer") == key
    assert lab_page.kernel.ask("[(e.kind, e.key, e.value) for e in progress.entries()][-1]") == (
        "prediction",
        "06.box",
        {"answer": key, "outcome": "ssm"},
    )
    tab_to(keys, root.get_by_role("button", name="Go on"))
    press(keys, "Enter")
    following = lab_page.book.locator('.jp-Cell[data-windowed-list-index="2"]')
    expect(following).to_be_focused()
    assert lab_page.complaints() == []


def test_a_number_and_its_outcome_worked_out_after_the_commit(lab_page):
    cells = (IMPORTS, 'ran = []\np = predict("06.share", outcome=lambda: ran.append(1) or 2.33)\np')
    lab_page.open_cells(*cells).run_all()
    root, keys = lab_page.widget("prediction"), lab_page.page
    slider = root.get_by_role("slider", name="share of the multiply-adds")
    assert slider.get_attribute("aria-valuetext") == "not set yet"
    slider.focus()
    press(keys, "Home", "ArrowRight", "ArrowRight")
    lab_page.kernel.wait_for("p.answer", 1.0)
    assert lab_page.kernel.ask("ran") == []
    tab_to(keys, root.get_by_role("spinbutton", name="exact"))
    press(keys, "Control+A", "3", "0", "Tab")
    lab_page.kernel.wait_for("p.answer", 30.0)
    tab_to(keys, root.get_by_role("button", name="Commit"))
    press(keys, "Space")
    expect(root).to_have_attribute("data-state", "revealed")
    expect(root.locator(".verdict")).to_contain_text("28 percentage points too high")
    expect(root.get_by_role("status")).to_contain_text("2.33 %")
    assert lab_page.kernel.ask("ran") == [1]

    tab_to(keys, root.get_by_role("button", name="Predict again"))
    press(keys, "Enter")
    expect(root).to_have_attribute("data-state", "open")
    tab_to(keys, root.get_by_role("button", name="Show without predicting"))
    press(keys, "Enter")
    expect(root).to_have_attribute("data-state", "revealed")
    expect(root.get_by_text("you predicted", exact=True)).to_have_count(0)
    expect(root.locator(".big")).to_have_text("2.33 %")
    lab_page.check_names(PREDICTION)


def test_an_error_of_the_notebook_is_told_in_words(lab_page):
    lab_page.open_cells(IMPORTS, 'p = predict("06.margin", outcome=lambda: 1 / 0)\np').run_all()
    root = lab_page.widget("prediction")
    root.get_by_role("slider").focus()
    press(lab_page.page, "End", "Tab", "Tab", "Enter")
    expect(root.locator(".result")).to_contain_text("ZeroDivisionError: division by zero")
    assert lab_page.complaints() == []


def test_a_curve_is_sketched_by_keyboard_and_its_outcome_given_later(lab_page):
    lab_page.open_cells(IMPORTS, 'p = predict("06.stages")\np').run_all()
    root, keys, kernel = lab_page.widget("prediction"), lab_page.page, lab_page.kernel
    points = root.get_by_role("slider")
    expect(points).to_have_count(4)
    points.first.focus()
    press(keys, "End", "ArrowRight", "PageUp", "ArrowRight", "ArrowDown", "ArrowRight", "Home")
    kernel.wait_for("p.answer", [800.0, 500.0, 380.0, 0.0])
    expect(points.nth(3)).to_be_focused()
    expect(points.nth(1)).to_have_attribute("aria-valuetext", "500 thousand numbers")
    lab_page.check_keys_stay(points.nth(3))
    points.nth(3).focus()
    tab_to(keys, root.get_by_role("button", name="Commit"))
    press(keys, "Enter")
    expect(root.locator(".result")).to_contain_text("comes further down")
    expect(root.locator("path.came")).to_have_count(0)
    assert kernel.ask("p.reveal([301.056, 150.528, 75.264, 28.224])") is None
    expect(root).to_have_attribute("data-state", "revealed")
    expect(root.locator("svg path.came").first).to_be_visible()
    root.locator("summary").focus()
    press(keys, "Enter")
    assert root.locator("tbody tr").nth(1).locator("th, td").all_inner_texts() == ["2", "500", "150.5"]
    lab_page.check_names(PREDICTION)


def test_a_curve_is_drawn_with_the_mouse(plain_page):
    view = plain_page(page(predict("06.loss", outcome=[(0, 2.3), (30, 0.5), (100, 0.1)]), "Sketch"))
    root = view.widget("prediction")
    box = root.locator(".curve > svg").bounding_box()
    at = lambda x, y: (box["x"] + x * box["width"], box["y"] + y * box["height"])  # noqa: E731
    view.page.mouse.move(*at(0.1, 0.1))
    view.page.mouse.down()
    view.page.mouse.move(*at(0.99, 0.8), steps=3)  # a quick stroke: the points that it passes are set as well
    view.page.mouse.up()
    values = [float(point.get_attribute("aria-valuenow")) for point in root.get_by_role("slider").all()]
    assert len(values) == 9
    assert all(earlier > later for earlier, later in itertools.pairwise(values)), values
    root.get_by_role("button", name="Commit").click()
    expect(root.locator(".verdict")).to_contain_text("On average the two curves lie")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_predictions_without_a_kernel_by_keyboard(plain_page, theme):
    widgets = [predict("06.box"), predict("06.share", outcome=2.33), predict("06.stages", outcome=[301, 150, 75, 28])]
    view = plain_page(page([*widgets, quiz("06")], "Predict", theme=theme))
    first, second, third = view.widget("prediction").all()
    keys = view.page
    tab_to(keys, first.get_by_role("radio").first)
    press(keys, "ArrowDown", "Enter")
    expect(first).to_have_attribute("data-state", "revealed")
    expect(first.locator(".verdict")).to_contain_text("otherwise")
    press(keys, "Tab", "Enter")  # on to the next widget
    expect(second).to_be_focused()
    press(keys, "Tab", "End", "Tab", "Tab", "Enter")
    expect(second.locator(".verdict")).to_contain_text("98 percentage points too high")
    press(keys, "Tab", "Enter")
    expect(third).to_be_focused()
    press(keys, "Tab", "ArrowUp", "Tab", "Enter")
    expect(third.locator(".verdict")).to_contain_text("On average")
    view.check_names(PREDICTION)
    left = keys.evaluate(
        "() => { const s = document.querySelector('section'); s.close_widget(); s.model.set('answer', 'gate');"
        " return s.querySelector('[data-testid]').childElementCount; }"
    )
    assert left == 0


def answer_all(root: Locator, keys: Page, wrong_at: int) -> None:
    """Go through the quiz by keyboard; the item at `wrong_at` is answered wrongly."""
    for number, item in enumerate(ITEMS):
        expect(root.locator(".badge")).to_contain_text(f"Item {number + 1} of {len(ITEMS)}")
        right = right_choice(item)
        chosen = (right + 1) % len(item["choices"]) if number == wrong_at else right
        tab_to(keys, root.get_by_role("radio").first, most=2)
        press(keys, "Space", *["ArrowDown"] * chosen, "Enter")
        expect(root.locator(".feedback")).to_be_focused()
        expect(root.locator(".feedback")).to_contain_text(item["choices"][chosen]["explanation"])
        expect(root.locator(".feedback")).to_contain_text(item["choices"][right]["explanation"])
        press(keys, "Tab", "Enter")  # next
        if number + 1 < len(ITEMS):
            expect(root.locator(".question")).to_be_focused()
    expect(root).to_have_attribute("data-state", "score")


def test_the_quiz_by_keyboard_in_jupyterlab(lab_page):
    lab_page.open_cells(IMPORTS, 'from mambaout_edu.learn.quiz_items import quiz\nq = quiz("06")\nq').run_all()
    root, keys, kernel = lab_page.widget("quiz"), lab_page.page, lab_page.kernel
    lab_page.check_keys_stay(root.get_by_role("radio").first, root.get_by_role("button", name="Check"))
    root.get_by_role("button", name="Check").focus()
    press(keys, "Enter")
    expect(root.get_by_role("alert")).to_contain_text("Choose an answer first")
    press(keys, "Shift+Tab")
    root.locator(".question").focus()
    answer_all(root, keys, wrong_at=1)
    expect(root.locator(".score")).to_have_text(f"{len(ITEMS) - 1} of {len(ITEMS)} right")
    expect(root).to_contain_text(ITEMS[1]["question"])
    kernel.wait_for("q.right", len(ITEMS) - 1)
    kernel.wait_for(
        "[(e.key, e.value['right']) for e in progress.entries() if e.kind == 'quiz'][-1:]", [("06", len(ITEMS) - 1)]
    )
    press(keys, "Tab", "Tab", "Enter")  # past the table: try again
    expect(root.locator(".question")).to_be_focused()
    kernel.wait_for("q.answers", {})
    lab_page.check_names(QUIZ)
    assert lab_page.complaints() == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_quiz_by_keyboard_without_a_kernel(plain_page, theme):
    view = plain_page(page(quiz("06"), "Quiz", theme=theme))
    root = view.widget("quiz")
    view.check_names(QUIZ)
    answer_all(root, view.page, wrong_at=3)
    expect(root.locator(".score")).to_have_text(f"{len(ITEMS) - 1} of {len(ITEMS)} right")
    right = (right_choice(ITEMS[3]) + 1) % len(ITEMS[3]["choices"])
    named = ITEMS[3]["choices"][right].get("misconception")
    assert named is None or quiz("06").misconceptions[named] in root.inner_text()


def rgba(color: str) -> list[float]:
    """Red, green, blue (0 to 1) and alpha of a computed CSS colour."""
    numbers = [float(value) for value in re.findall(r"[\d.]+", color.removeprefix("color(srgb"))]
    scale = 1 if color.startswith("color(srgb") else 255
    return [value / scale for value in numbers[:3]] + (numbers[3:] or [1.0])


def over(ink: list[float], ground: list[float]) -> list[float]:
    """What is seen of a colour that lets some of its ground through."""
    return [ink[3] * i + (1 - ink[3]) * g for i, g in zip(ink[:3], ground[:3], strict=True)] + [1.0]


def luminance(color: list[float]) -> float:
    """Relative luminance (WCAG 2)."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in color[:3]]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


# The colours of an element's text and of every ground behind it, the nearest first.
LAYERS = """e => { const grounds = [], ink = getComputedStyle(e).color;
  for (let at = e; at; at = at.parentElement) grounds.push(getComputedStyle(at).backgroundColor);
  return [ink, grounds]; }"""


def contrast(element: Locator) -> float:
    ink, grounds = element.evaluate(LAYERS)
    ground = [1.0, 1.0, 1.0, 1.0]
    for layer in reversed(grounds):
        ground = over(rgba(layer), ground)
    light, dark = sorted((luminance(over(rgba(ink), ground)), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_both_themes_are_legible_in_jupyterlab(lab_page):
    cells = (
        IMPORTS + "\nfrom mambaout_edu.learn.quiz_items import quiz",
        'p = predict("06.stages", outcome=[301, 150, 75, 28])\np',
        'q = quiz("06")\nq',
        "from mambaout_edu.learn.lesson_map_view import lesson_map\nlesson_map()",
    )
    lab_page.open_cells(*cells).run_all()
    lab_page.kernel.ask("p.commit([500, 300, 200, 100])")
    lab_page.kernel.ask("q.answer('06.reach', 1)")
    expect(lab_page.widget("prediction")).to_have_attribute("data-state", "revealed")
    expect(lab_page.widget("quiz")).to_have_attribute("data-state", "answered")
    told = {
        PREDICTION: ".question, .badge, button, .verdict, .panel-name span, .why, summary",
        QUIZ: ".question, .mark, .badge, .feedback p, button",
        ".mambaout-map": "h4, a, p, .number, code",
    }
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        lab_page.theme(theme)
        for number, (root, parts) in enumerate(told.items()):
            lab_page.page.locator(root).scroll_into_view_if_needed()
            lab_page.screenshot(f"_{theme.split()[-1].lower()}_{number}")
            seen = [part for part in lab_page.page.locator(root).locator(parts).all() if part.is_visible()]
            assert len(seen) >= 6
            faint = {part.inner_text(): contrast(part) for part in seen if contrast(part) < 4.5}
            assert not faint, f"{theme}, {root}: {faint}"
    expect(lab_page.widget("prediction").get_by_role("button", name="Commit")).not_to_be_visible()


def test_the_map_opens_a_lesson_inside_jupyterlab(lab_page):
    lab_page.open_cells("from mambaout_edu.learn.lesson_map_view import lesson_map", "lesson_map()").run_all()
    lesson = lab_page.lab.root / "06_take_the_ssm_out.ipynb"
    lesson.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', encoding="utf-8")
    link = lab_page.book.get_by_role("link", name="Take the SSM out")
    link.focus()
    press(lab_page.page, "Enter")
    expect(lab_page.page.locator(".lm-TabBar-tab.jp-mod-current", has_text="06_take_the_ssm_out.ipynb")).to_be_visible()


def test_progress_is_saved_cleared_and_taken_back_by_keyboard(lab_page, tmp_path):
    lab_page.open_cells(
        IMPORTS, 'progress.reset()\nprogress.record("quiz", "06", {"right": 1, "items": 9})', "progress.panel()"
    ).run_all()
    root, keys = lab_page.widget("progress-panel"), lab_page.page
    expect(root.locator("tbody tr")).to_have_count(1)
    root.get_by_role("button", name="Look again").focus()
    tab_to(keys, root.get_by_role("button", name="Save a copy"))
    with keys.expect_download() as saved:
        press(keys, "Enter")
    saved.value.save_as(tmp_path / "copy.json")
    assert json.loads((tmp_path / "copy.json").read_text(encoding="utf-8"))["entries"][-1]["value"]["items"] == 9
    lab_page.check_keys_stay(root.get_by_role("button", name="Save a copy"))
    tab_to(keys, root.get_by_role("button", name="Start afresh", exact=True))
    press(keys, "Enter")
    expect(root.get_by_role("button", name="No, keep it")).to_be_focused()
    press(keys, "Shift+Tab", "Enter")
    expect(root.locator("tbody tr")).to_have_count(0)
    lab_page.kernel.wait_for("len(progress.entries())", 0)
    tab_to(keys, root.get_by_role("button", name="Undo the fresh start"))
    press(keys, "Enter")
    expect(root.locator("tbody tr")).to_have_count(1)
    expect(root.get_by_role("status")).to_contain_text("is back")
    lab_page.check_names('[data-testid="progress-panel"]')
    assert lab_page.complaints() == []
