"""Fixtures of the browser tests: `lab_page` for a notebook in JupyterLab, `plain_page` for a page without a kernel.

Both keep a picture in test-results/browser/, and both fail a test after which an error stands in the
console. Without Chromium the tests are skipped with a reason; with CI=true that is a failure.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="playwright is not installed (extra `test`)")

from playwright.sync_api import Browser, expect, sync_playwright

from .lab import Lab, running_lab
from .pages import LabPage, PlainPage

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-color-profile=srgb"]

expect.set_options(timeout=15_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


# Playwright's event loop runs in the thread of the tests as long as it is open, and asyncio.run() refuses to
# start there. Package scope closes it before the tests of other folders begin.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        reason = f"no Chromium on PATH (looked for {', '.join(NAMES)}); install one to run the browser tests"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def lab(chromium: Browser, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Lab]:
    scratch = tmp_path_factory.mktemp("lab")
    root = scratch / "root"
    root.mkdir()
    # The lessons find the checkout's assets beside their folder.
    for folder in ("notebooks", "assets"):
        if (source := pytestconfig.rootpath / folder).is_dir():
            shutil.copytree(source, root / folder)
    with running_lab(root, scratch) as server:
        yield server


@pytest.fixture
def results(pytestconfig: pytest.Config) -> Path:
    return pytestconfig.rootpath / "test-results" / "browser"


@pytest.fixture
def lab_page(lab: Lab, chromium: Browser, results: Path, request: pytest.FixtureRequest) -> Iterator[LabPage]:
    """A page in JupyterLab that asks for less motion; its sessions are closed after the test."""
    context = chromium.new_context(viewport={"width": 1360, "height": 1200}, reduced_motion="reduce")
    page = LabPage(context.new_page(), lab, results, request.node.name)
    try:
        yield page
        page.screenshot()
        assert page.errors == []
    finally:
        page.close()
        context.close()


@pytest.fixture
def plain_page(
    chromium: Browser, results: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[str], PlainPage]]:
    """Open an HTML text as a page without a kernel; nothing may be fetched from it."""
    context = chromium.new_context(viewport={"width": 1200, "height": 1000})
    page = PlainPage(context.new_page(), results, request.node.name)

    def show(text: str) -> PlainPage:
        file = tmp_path / "page.html"
        file.write_text(text, encoding="utf-8")
        return page.open(file)

    try:
        yield show
        page.screenshot()
        assert page.errors == []
        assert page.outside == []
    finally:
        context.close()
