"""What a test does on a page: open, run, press, read; in JupyterLab, or on a page without a kernel."""

import re
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Locator, Page, expect

from .lab import Kernel, Lab

OPEN_NOTEBOOK = "window.jupyterapp && window.jupyterapp.shell.currentWidget?.sessionContext"
# The execution indicator says "idle" before there is a kernel; only the kernel's own answer tells.
KERNEL_READY = """async () => {
    await jupyterapp.restored;
    const widget = jupyterapp.shell.currentWidget;
    await widget.context.ready;
    await widget.sessionContext.ready;
    await widget.sessionContext.session.kernel.info;
}"""
RUN_ALL = "() => jupyterapp.commands.execute('notebook:run-all-cells')"
AS_JSON = "() => jupyterapp.shell.currentWidget.context.model.toJSON()"
KERNEL = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
INTERACTIVE = {
    *("button", "checkbox", "combobox", "link", "listbox", "menuitem", "option", "radio", "searchbox", "slider"),
    *("spinbutton", "switch", "tab", "textbox", "DisclosureTriangle"),
}


class BrowserPage:
    """A page with its console errors, and the checks that hold for every widget."""

    def __init__(self, page: Page, results: Path, name: str) -> None:
        self.page, self.results, self.name = page, results, name
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)

    def screenshot(self, suffix: str = "") -> Path:
        """Keep a picture of the page in test-results/browser/."""
        self.results.mkdir(parents=True, exist_ok=True)
        file = self.results / (re.sub(r"[^\w.-]+", "_", self.name + suffix) + ".png")
        self.page.screenshot(path=str(file))
        return file

    def controls(self, selector: str) -> list[tuple[str, str]]:
        """Return (role, name) of every control inside an element, as assistive technology is told them."""
        session = self.page.context.new_cdp_session(self.page)
        try:
            found = session.send("Runtime.evaluate", {"expression": f"document.querySelector({selector!r})"})
            nodes = session.send("Accessibility.queryAXTree", {"objectId": found["result"]["objectId"]})["nodes"]
        finally:
            session.detach()
        told = [node for node in nodes if not node.get("ignored")]
        pairs = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in told if "role" in node]
        return [pair for pair in pairs if pair[0] in INTERACTIVE]

    def check_names(self, selector: str) -> None:
        """Every control inside an element has a name, and there is at least one control."""
        controls = self.controls(selector)
        assert controls, f"no control found inside {selector}"
        nameless = [role for role, name in controls if not name.strip()]
        assert not nameless, f"controls without a name inside {selector}: {nameless}"


class PlainPage(BrowserPage):
    """A page of `widgets.page`, without a kernel; `outside` lists every request that left the page."""

    def __init__(self, page: Page, results: Path, name: str) -> None:
        super().__init__(page, results, name)
        self.outside: list[str] = []
        page.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        if not url.startswith(("file:", "blob:", "data:")):
            self.outside.append(url)

    def open(self, file: Path) -> "PlainPage":
        self.page.goto(file.as_uri())
        for section in self.page.locator("section").all():
            expect(section).to_have_attribute("data-ready", "true")
        return self

    def widget(self, name: str) -> Locator:
        return self.page.get_by_test_id(name)


class LabPage(BrowserPage):
    """A notebook in JupyterLab: its cells, its kernel, its widgets."""

    def __init__(self, page: Page, lab: Lab, results: Path, name: str) -> None:
        super().__init__(page, results, name)
        self.lab = lab
        self._kernel: Kernel | None = None
        self._dark = False

    def open_cells(self, *cells: str) -> "LabPage":
        """Write a notebook of these code cells into the scratch root, and open it."""
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        book.metadata["kernelspec"] = KERNEL  # without it JupyterLab asks which kernel to take, and waits
        path = re.sub(r"\W+", "_", self.name) + ".ipynb"
        nbformat.write(book, self.lab.root / path)
        return self.open(path)

    def open(self, path: str) -> "LabPage":
        self.path = path
        self.page.goto(f"{self.lab.url}lab/tree/{path}?token={self.lab.token}&reset")
        self.page.wait_for_function(OPEN_NOTEBOOK, timeout=60_000)
        self.page.evaluate(KERNEL_READY)
        self.book = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        return self

    def run_all(self, wait: bool = True) -> "LabPage":
        """Run every cell; wait for the last, or go on while they run."""
        self.page.evaluate(RUN_ALL if wait else RUN_ALL.replace("=>", "=> void"))
        return self

    @property
    def kernel(self) -> Kernel:
        """A second client of this notebook's kernel."""
        if self._kernel is None:
            self._kernel = Kernel(self.lab, self.path)
        return self._kernel

    def widget(self, name: str) -> Locator:
        return self.book.get_by_test_id(name)

    def notebook(self) -> dict[str, Any]:
        """Return the notebook as JupyterLab holds it now."""
        return self.page.evaluate(AS_JSON)

    def sources(self) -> list[str]:
        return ["".join(cell["source"]) for cell in self.notebook()["cells"]]

    def complaints(self) -> list[str]:
        """Return what went wrong in the outputs: errors, and everything on stderr."""
        outputs = [(i, out) for i, cell in enumerate(self.notebook()["cells"]) for out in cell.get("outputs", [])]
        errors = [f"cell {i}: {out['ename']}: {out['evalue']}" for i, out in outputs if out["output_type"] == "error"]
        stderr = [f"cell {i}: stderr: {out['text']}" for i, out in outputs if out.get("name") == "stderr"]
        return errors + stderr

    def theme(self, name: str) -> None:
        """Choose "JupyterLab Light" or "JupyterLab Dark"."""
        self.page.evaluate("(theme) => jupyterapp.commands.execute('apputils:change-theme', { theme })", name)
        light = str(name.endswith("Light")).lower()
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-light", light)
        expect(self.page.locator("#jupyterlab-splash")).to_have_count(0)
        self._dark = not name.endswith("Light")

    def check_keys_stay(self, *controls: Locator) -> None:
        """Keys of JupyterLab's command mode (b adds a cell, x cuts one) do nothing when pressed in a widget."""
        before = self.sources()
        for control in controls:
            for key in ("b", "x", "a"):
                control.focus()
                self.page.keyboard.press(key)
                assert self.sources() == before, f"{key!r} pressed inside the widget changed the notebook's cells"

    def close(self) -> None:
        if self._dark:
            self.theme("JupyterLab Light")  # the server remembers it for the next test
        if self._kernel is not None:
            self._kernel.close()
        self.lab.close_sessions()
