"""Every notebook in real JupyterLab: opened, run to its end, without an error anywhere."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.sign import NotebookNotary
from playwright.sync_api import expect

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
TOOL = Path(__file__).parents[2] / "tools" / "store_outputs.py"


@pytest.mark.timeout(420)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_in_jupyterlab(lab_page, notebook):
    lab_page.page.set_default_timeout(300_000)
    lab_page.open(f"notebooks/{notebook.name}").run_all()
    book = lab_page.notebook()
    assert lab_page.complaints() == []
    counts = [cell["execution_count"] for cell in book["cells"] if cell["cell_type"] == "code" and cell["source"]]
    assert counts == list(range(1, len(counts) + 1))
    # Every widget of the course that a cell shows has drawn itself.
    expect(lab_page.book.locator(".mambaout-widget:empty")).to_have_count(0)
    assert not lab_page.book.get_by_text("Error displaying widget").count()
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        lab_page.theme(theme)
        lab_page.screenshot("_" + theme.split()[-1].lower())


def test_stored_widgets_show_before_anything_runs(lab_page):
    """What `tools/store_outputs.py` keeps is enough for JupyterLab to draw a widget of a trusted notebook."""
    path = lab_page.lab.root / "stored.ipynb"
    cell = nbformat.v4.new_code_cell("from mambaout_edu.widgets import BlockDiagram\nBlockDiagram(dim=48, ssm=False)")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    subprocess.run([sys.executable, str(TOOL), str(path)], check=True, timeout=120)
    notary = NotebookNotary(data_dir=str(lab_page.lab.scratch / "data"))
    notary.sign(nbformat.read(path, as_version=4))
    notary.store.close()
    lab_page.open("stored.ipynb")
    root = lab_page.widget("block-diagram")
    expect(root).to_have_attribute("data-ssm", "false")
    root.get_by_role("switch").click()
    expect(root).to_have_attribute("data-ssm", "true")
