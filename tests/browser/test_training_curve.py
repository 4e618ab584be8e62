"""The training curve, live, by mouse and by keyboard, in JupyterLab and without a kernel."""

import re

import numpy as np
import pytest
from playwright.sync_api import expect

from mambaout_edu.widgets import TrainingCurve, page

CELLS = (
    "from mambaout_edu.widgets import TrainingCurve\nc = TrainingCurve(total=400)\nc",
    "import time, threading\nfor i in range(300):\n    c.update(i, 2.3 / (1 + i / 20), lr=1e-3)",
    "c.mark(299, 0.5)\nc.finish()",
)
ROOT = '[data-testid="training-curve"]'


def test_live_in_jupyterlab(lab_page):
    lab_page.open_cells(*CELLS).run_all()
    root, kernel, keyboard = lab_page.widget("training-curve"), lab_page.kernel, lab_page.page.keyboard
    expect(root).to_have_attribute("data-points", "300")
    expect(root).to_have_attribute("data-running", "false")
    expect(root.locator(".state")).to_contain_text("step 299")
    expect(root.locator(".state")).to_contain_text("50.0 %")

    # The kernel goes on, the page follows; a burst of steps is all there in the end.
    assert kernel.ask("[c.update(i, 0.1) for i in range(300, 350)] and None") is None
    assert kernel.ask("c.finish()") is None
    expect(root).to_have_attribute("data-last", "349")

    reader = root.get_by_role("slider", name="Step to read")
    reader.focus()
    keyboard.press("Home")
    kernel.wait_for("c.read_step", 0)
    expect(reader).to_have_attribute("aria-valuetext", re.compile("step 0: loss 2.30"))
    keyboard.press("ArrowRight")
    kernel.wait_for("c.read_step", 1)
    expect(root.get_by_role("status")).to_contain_text("step 1")
    keyboard.press("End")
    kernel.wait_for("c.read_step", 349)
    keyboard.press("Escape")
    kernel.wait_for("c.read_step", -1)

    box = reader.bounding_box()
    lab_page.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 100)
    expect(root.get_by_test_id("readout")).to_contain_text("learning rate 0.001")
    kernel.wait_for("150 < c.read_step < 230", True)

    switch = root.get_by_role("switch")
    switch.focus()
    keyboard.press("Enter")
    kernel.wait_for("c.log_scale", True)
    smoothing = root.get_by_role("slider", name=re.compile("Smoothing"))
    smoothing.focus()
    keyboard.press("Home")
    kernel.wait_for("c.smoothing", 0)
    lab_page.check_names(ROOT)
    lab_page.check_keys_stay(reader, switch, smoothing, root.locator("summary"))


def test_draws_while_a_cell_runs(lab_page):
    loop = "import time\nfor i in range(60):\n    c.update(i, 1 / (i + 1))\n    time.sleep(0.1)\nc.finish()"
    lab_page.open_cells(CELLS[0], loop).run_all(wait=False)
    root = lab_page.widget("training-curve")
    expect(root).to_have_attribute("data-running", "true")
    seen = {int(root.get_attribute("data-points")) for _ in range(20) if not lab_page.page.wait_for_timeout(100)}
    assert len(seen) >= 4, f"the curve stood still while the cell ran: {seen}"
    expect(root).to_have_attribute("data-running", "false")
    expect(root).to_have_attribute("data-points", "60")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page_without_a_kernel(plain_page, theme):
    losses = np.random.default_rng(0).random(200) + 0.5
    curve = TrainingCurve(smoothing=0.8)
    for step, loss in enumerate(losses):
        curve.update(step, float(loss))
    for step in (99, 199):
        curve.mark(step, step / 200)
    curve.finish()
    view = plain_page(page(curve, "A curve", theme=theme))
    root = view.widget("training-curve")
    expect(root).to_have_attribute("data-marks", "2")
    view.check_names(ROOT)

    # The smoothed line is the exponential mean, corrected for its start.
    mean = weight = 0.0
    for loss in np.float32(losses):
        mean, weight = 0.8 * mean + 0.2 * float(loss), 0.8 * weight + 0.2
    assert float(root.get_attribute("data-smooth")) == pytest.approx(mean / weight, abs=1e-6)

    root.locator("summary").click()
    steps = root.locator("tbody").first.locator("th").all_inner_texts()
    assert len(steps) == 12
    assert (steps[0], steps[-1]) == ("0", "199")
    assert root.locator("tbody").last.locator("td").all_inner_texts() == ["49.5", "99.5"]


def test_a_loss_that_is_no_number_leaves_a_gap(plain_page):
    curve = TrainingCurve(log_scale=True)
    for step, loss in enumerate([1.0, 0.5, float("nan"), 0.25, 0.0, 0.1]):
        curve.update(step, loss)
    curve.finish()
    view = plain_page(page(curve, "Gaps"))
    assert view.widget("training-curve").locator("path.raw").get_attribute("d").count("M") == 3
    view.page.keyboard.press("Tab")
    for _ in range(3):
        view.page.keyboard.press("ArrowLeft")
    expect(view.widget("training-curve").get_by_test_id("readout")).to_contain_text("loss not a number")


def test_before_the_first_step(plain_page):
    view = plain_page(page(TrainingCurve(), "Empty"))
    expect(view.widget("training-curve").locator(".state")).to_contain_text("No steps yet")
    view.page.keyboard.press("Tab")
    view.page.keyboard.press("ArrowLeft")
