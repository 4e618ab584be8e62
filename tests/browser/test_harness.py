"""The harness itself: it says when it cannot run, and it sees what it is there to see."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TARGET = f"{Path(__file__).parent / 'test_training_curve.py'}::test_before_the_first_step"


@pytest.mark.parametrize(("ci", "outcome", "code"), [("", "1 skipped", 0), ("true", "1 error", 1)])
def test_without_chromium(tmp_path, ci, outcome, code):
    """No browser on PATH: skipped with a reason, but a failure where CI=true asks for everything."""
    command = [sys.executable, "-m", "pytest", TARGET, "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PATH": str(tmp_path), "CI": ci}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == code, result.stdout
    assert outcome in result.stdout
    assert "no Chromium on PATH" in result.stdout


NAMELESS = """<!doctype html><title>t</title><section data-ready="true">
<button></button><label>Size <input type="range"></label></section>"""


def test_a_control_without_a_name_is_seen(plain_page):
    view = plain_page(NAMELESS)
    assert view.controls("section") == [("button", ""), ("slider", "Size")]
    with pytest.raises(AssertionError, match=r"without a name inside section: \['button'\]"):
        view.check_names("section")


def test_errors_and_requests_are_seen(plain_page):
    view = plain_page("<!doctype html><title>t</title><p>nothing</p>")
    view.page.evaluate("() => { new Image().src = 'http://127.0.0.1:9/a.png'; }")
    view.page.evaluate("() => { console.error('spoken'); setTimeout(() => { throw new Error('thrown'); }); }")
    view.page.wait_for_timeout(200)
    assert {"spoken", "thrown"} <= set(view.errors)
    assert view.outside == ["http://127.0.0.1:9/a.png"]
    view.errors.clear()
    view.outside.clear()


def test_keys_that_leak_are_seen(lab_page):
    """A slider of ipywidgets hands its keys on, and JupyterLab takes them for its own."""
    lab_page.open_cells("from ipywidgets import IntSlider\nIntSlider()", "2").run_all()
    with pytest.raises(AssertionError, match="'b' pressed inside the widget changed"):
        lab_page.check_keys_stay(lab_page.page.locator(".noUi-handle"))


def test_failures_of_a_notebook_are_seen(lab_page):
    lab_page.open_cells("import sys\nprint('careful', file=sys.stderr)", "1 / 0", "3").run_all()
    assert [line.split(":")[1].strip() for line in lab_page.complaints()] == ["ZeroDivisionError", "stderr"]
