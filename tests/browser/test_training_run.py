"""Training runs in JupyterLab, live and after the kernel was restarted, and on a page without a kernel."""

import json
import re
import time
from itertools import pairwise

import numpy as np
import pytest
from playwright.sync_api import expect

from mambaout_edu.training import wilson_interval
from mambaout_edu.widgets import TrainingRun, page

ROOT = '[data-testid="training-run"]'
STEPS = 400


def step_line(step, loss, *, when=0.0, memory=None, total=STEPS):
    return {
        "kind": "step", "step": step, "epoch": step / 20, "loss": loss, "lr": 4e-3 * (1 - step / total),
        "images_per_second": 812.0, "seconds_left": (total - step) * 0.5, "gpu_memory": memory, "time": when,
    }  # fmt: skip


def lines_of(seed, *, steps=STEPS, memory=None, level=1.0):
    """Make a run that falls, is measured every 40 steps, is stopped once and resumed, and ends."""
    rng = np.random.default_rng(seed)
    yield {"kind": "run", "model": "mambaout_pico_8", "data": "digits", "device": "cpu", "total_steps": STEPS}
    for step in range(1, steps + 1):
        loss = level * (2.3 * np.exp(-step / 80) + 0.3 + 0.15 * rng.random())
        yield step_line(step, float(loss), memory=memory)
        if step % 40 == 0:
            correct = int(450 * (1 - 0.8 * np.exp(-step / 100)) - 20 * (level - 1))
            yield {"kind": "eval", "step": step, "epoch": step / 20, "correct": correct, "total": 450, "loss": 0.4}
        if step == 160:
            yield {"kind": "event", "step": step, "what": "stopped", "detail": "SIGTERM"}
            yield {"kind": "event", "step": step, "what": "resumed", "detail": ""}
        if step in (200, 201):
            yield {"kind": "event", "step": step, "what": "bad_image", "detail": "17: cut short"}
    if steps == STEPS:
        yield {"kind": "event", "step": steps, "what": "finished", "detail": ""}


def fed(view, name, lines):
    for line in lines:
        view.on_log(line, run=name)
    view.stop()
    return view


def paths(root, panel, kind):
    return [node.get_attribute("d") for node in root.locator(f'[data-panel="{panel}"] path.{kind}').all()]


def points(path):
    return np.array(re.findall(r"(-?[\d.]+),(-?[\d.]+)", path), dtype=float)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_two_runs_on_a_page_without_a_kernel(plain_page, theme):
    view = TrainingRun(["first try", "half the rate"])
    fed(view, "first try", lines_of(0, memory=3 * 2**30))
    fed(view, "half the rate", lines_of(1, steps=230, level=1.3))
    shown = plain_page(page(view, "Two runs", theme=theme))
    root = shown.widget("training-run")
    expect(root).to_have_attribute("data-rows", "400,230")
    expect(root.locator("li").first).to_contain_text("finished step 400 of 400 (100 %) · epoch 20.0")
    low, high = wilson_interval(443, 450)  # the last measurement that lines_of(0) makes
    expect(root.locator("li").first).to_contain_text(f"accuracy 98.4 % ({100 * low:.1f} to {100 * high:.1f})")
    expect(root.locator("li").first).to_contain_text("3 GiB GPU memory")
    expect(root.locator("li").last).to_contain_text(re.compile(r"no new line for .* step 230 of 400 \(57 %\)"))
    expect(root.locator(".happened")).to_contain_text("bad image left out (4 times)")
    assert root.locator(".event").count() == 5 + 4  # every step is a column of its own here
    # What happened at the same step, or in both runs, stands side by side; of a kind that would touch, one is shown.
    boxes = sorted((glyph.bounding_box() for glyph in root.locator(".event .glyph").all()), key=lambda box: box["x"])
    assert len(boxes) == 4 + 3
    assert all(a["x"] + a["width"] <= b["x"] for a, b in pairwise(boxes))
    assert [len(paths(root, name, "line")) for name in ("loss", "accuracy", "lr", "speed", "memory")] == [2] * 5
    shown.check_names(ROOT)

    # The smoothed line is the exponential mean, corrected for its start.
    losses = np.float32([line["loss"] for line in lines_of(0) if line["kind"] == "step"])
    mean = weight = 0.0
    for loss in losses:
        mean, weight = 0.9 * mean + 0.1 * float(loss), 0.9 * weight + 0.1
    assert float(root.get_attribute("data-smooth").split(",")[0]) == pytest.approx(mean / weight, abs=1e-6)

    # What is hidden is neither drawn nor read, and the keys still work.
    second = root.get_by_role("button", name="half the rate")
    second.focus()
    shown.page.keyboard.press("Enter")
    expect(second).to_have_attribute("aria-pressed", "false")
    assert len(paths(root, "loss", "line")) == 1
    expect(second).to_be_focused()
    second.click()
    expect(second).to_have_attribute("aria-pressed", "true")
    reader = root.get_by_role("slider", name="Place to read")
    reader.focus()
    shown.page.keyboard.press("Home")
    expect(root.get_by_test_id("readout").locator("p").first).to_contain_text("first try: step 1 of 400 (0 %)")
    shown.page.keyboard.press("PageUp")
    expect(root.get_by_role("status")).to_contain_text("half the rate: step 41")
    shown.page.keyboard.press("Escape")
    expect(root.get_by_test_id("readout")).to_contain_text("Point at the curves")

    root.locator("summary").click()
    expect(root.locator("table")).to_have_count(6)
    assert len(root.locator("tbody").first.locator("tr").all()) == 12
    what = root.locator("table").nth(2).locator("tbody tr").all_inner_texts()
    assert what[2:4] == [f"{step}\tbad image left out\t1\t17: cut short" for step in (200, 201)]
    shown.page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    shown.page.set_viewport_size({"width": 1200, "height": 1400})
    shown.screenshot("_seen")


def test_the_picture_says_what_the_log_says(plain_page):
    """The drawn heights, turned back into numbers by the axis' own ticks, are the log's."""
    view = fed(TrainingRun(smoothing=0.0), "run", lines_of(3))
    root = plain_page(page(view, "Numbers")).widget("training-run")
    losses = np.array([line["loss"] for line in lines_of(3) if line["kind"] == "step"])
    drawn = points(paths(root, "loss", "line")[0])
    scale = np.polyfit(drawn[:, 1], losses, 1)
    np.testing.assert_allclose(np.polyval(scale, drawn[:, 1]), losses, atol=2e-3)
    ticks = root.locator('[data-panel="loss"] line.grid')
    names = root.locator('[data-panel="loss"] text[text-anchor="end"]').all_text_contents()
    for i in range(ticks.count()):
        assert np.polyval(scale, float(ticks.nth(i).get_attribute("y1"))) == pytest.approx(float(names[i]), abs=5e-3)

    evals = [line for line in lines_of(3) if line["kind"] == "eval"]
    band, line = points(paths(root, "accuracy", "band")[0]), points(paths(root, "accuracy", "line")[0])
    scale = np.polyfit(line[:, 1], [e["correct"] / e["total"] for e in evals], 1)
    ends = [wilson_interval(e["correct"], e["total"]) for e in evals]
    expected = [high for _, high in ends] + [low for low, _ in reversed(ends)]
    np.testing.assert_allclose(np.polyval(scale, band[:, 1]), expected, atol=1e-3)


def test_a_long_run_is_thinned_and_keeps_its_spike(plain_page):
    view = TrainingRun()
    for step in range(1, 30_001):
        view.on_log(step_line(step, 9.0 if step == 12_345 else 1.0, total=30_000))
    view.stop()
    shown = plain_page(page(view, "Long"))
    root = shown.widget("training-run")
    band = points(paths(root, "loss", "band")[0])
    assert 900 < len(band) <= 2000
    assert band[:, 1].min() < 90 < 200 < np.median(band[:, 1])
    assert len(points(paths(root, "loss", "line")[0])) <= 1000
    root.locator("summary").click()
    expect(root.locator("details")).to_contain_text("One row of the curves stands for 32 steps")


def test_a_loss_that_is_no_number(plain_page):
    view = TrainingRun(log_scale=True, smoothing=0.0)
    for step, loss in enumerate([2.0, 1.0, None, None, 0.5, 0.25], 1):
        view.on_log(step_line(step, loss))
    view.on_log({"kind": "event", "step": 6, "what": "nan", "detail": "<b>stages.0</b>"})
    shown = plain_page(page(view, "Gaps"))
    root = shown.widget("training-run")
    assert paths(root, "loss", "band")[0].count("M") == 2
    expect(root.locator("li")).to_contain_text("stopped: the loss was not a number")
    root.get_by_role("slider", name="Place to read").focus()
    for _ in range(2):
        shown.page.keyboard.press("ArrowLeft")
    expect(root.get_by_test_id("readout")).to_contain_text("step 4 of" if view.runs[0]["total_steps"] else "step 4")
    expect(root.get_by_test_id("readout")).to_contain_text("loss not a number")
    root.locator("summary").click()
    expect(root.locator("details")).to_contain_text("<b>stages.0</b>")


def test_before_the_first_step(plain_page):
    shown = plain_page(page(TrainingRun(), "Empty"))
    root = shown.widget("training-run")
    expect(root.locator("li")).to_contain_text("waiting for the first step")
    root.get_by_role("slider", name="Place to read").focus()
    for key in ("ArrowLeft", "Home", "End", "Escape"):
        shown.page.keyboard.press(key)
    root.locator("summary").click()
    root.locator("select").select_option("epoch")


def test_epochs_on_the_axis(plain_page):
    shown = plain_page(page(fed(TrainingRun(), "run", lines_of(5)), "Epochs"))
    root = shown.widget("training-run")
    before = points(paths(root, "loss", "line")[0])
    root.get_by_label("Horizontal axis").select_option("epoch")
    expect(root.locator('[data-panel="loss"]')).to_contain_text("epoch")
    after = points(paths(root, "loss", "line")[0])
    np.testing.assert_allclose(after, before, atol=0.11)  # 20 steps each: the same picture, other numbers
    labels = root.locator('[data-panel="loss"] text[text-anchor="middle"]').all_text_contents()
    assert labels[-1] == "20"


CELLS = (
    "from mambaout_edu.widgets import TrainingRun\nc = TrainingRun.from_folder('{folder}', follow=True)\nc",
    "c.following",
)


def append(folder, *lines):
    folder.mkdir(exist_ok=True)
    with (folder / "log.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def test_followed_in_jupyterlab_and_again_after_a_restart(lab_page, tmp_path):
    """Another process trains: here the test itself, which writes the log that the notebook follows."""
    folder = tmp_path / "run"
    lab_page.open_cells(*(cell.format(folder=folder) for cell in CELLS)).run_all()
    root, kernel, keyboard = lab_page.widget("training-run"), lab_page.kernel, lab_page.page.keyboard
    expect(root.locator("li")).to_contain_text("waiting for the first step")
    now = time.time()
    append(
        folder, {"kind": "run", "total_steps": 60, "model": "m"}, *(step_line(i, 1 / i, when=now) for i in range(1, 31))
    )
    expect(root).to_have_attribute("data-last", "30")
    expect(root.locator("li")).to_contain_text("running step 30 of 60 (50 %)")

    reader = root.get_by_role("slider", name="Place to read")
    reader.focus()
    keyboard.press("Home")
    kernel.wait_for("c.read_at", 1.0)
    keyboard.press("ArrowRight")
    kernel.wait_for("c.read_at", 2.0)
    expect(reader).to_have_attribute("aria-valuetext", re.compile(r"step 2 of 60 .*loss 0\.5 · "))
    box = reader.bounding_box()
    lab_page.page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 150)
    kernel.wait_for("10 < c.read_at < 20", True)
    keyboard.press("Escape")
    kernel.wait_for("c.read_at", -1.0)
    switch, smoothing = root.get_by_role("switch"), root.get_by_label(re.compile("Smoothing"))
    switch.focus()
    keyboard.press("Enter")
    kernel.wait_for("c.log_scale", True)
    smoothing.focus()
    keyboard.press("Home")
    kernel.wait_for("c.smoothing", 0)
    lab_page.check_names(ROOT)
    lab_page.check_keys_stay(reader, switch, smoothing, root.locator("summary"))

    # The kernel dies and comes back; the run has gone on meanwhile.
    lab_page.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    append(folder, *(step_line(i, 1 / i, when=now) for i in range(31, 46)))
    lab_page.run_all()
    root = lab_page.widget("training-run")
    expect(root).to_have_attribute("data-last", "45", timeout=60_000)
    append(folder, step_line(46, 0.01, when=now), {"kind": "event", "step": 46, "what": "finished", "detail": ""})
    expect(root).to_have_attribute("data-states", "finished")
    expect(root).to_have_attribute("data-last", "46")
    assert lab_page.complaints() == []


def test_fed_live_while_a_cell_trains(lab_page):
    loop = (
        "from mambaout_edu import training, widgets\nimport tempfile, pathlib\n"
        "plan = training.RECIPES['digits_cpu'].with_(epochs=1, warmup_epochs=0, cooldown_epochs=0, log_every=1)\n"
        "folder = pathlib.Path(tempfile.mkdtemp()) / 'run'\nc = widgets.TrainingRun()\nc"
    )
    run = "r = training.train('mambaout_pico_8', 'digits', plan, folder, on_log=c.on_log, progress=False)"
    lab_page.open_cells(loop, run).run_all(wait=False)
    root = lab_page.widget("training-run")
    expect(root).to_have_attribute("data-states", "running", timeout=90_000)
    seen = set()
    while root.get_attribute("data-states") == "running":
        seen.add(root.get_attribute("data-last"))
        lab_page.page.wait_for_timeout(100)
    assert len(seen) >= 3, f"the curves stood still while the run went on: {seen}"
    expect(root).to_have_attribute("data-last", "21")
    expect(root).to_have_attribute("data-evals", "1")
    expect(root.locator("li")).to_contain_text("finished")
    expect(root.locator("li")).not_to_contain_text(" left")  # no time is left
    lab_page.theme("JupyterLab Dark")
