"""The tests of notebooks, tested: a wrong number, a wrong picture and a broken notebook must be found."""

import base64
import io
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import store_outputs
from comparing import MOST_CHANGED, nbval, pictures, pixels, share_changed
from notebook_lesson import Lesson, check
from notebook_stored import no_complaints
from PIL import Image

CANARY = Path(__file__).parent / "fixtures" / "canary.ipynb"
VIEW = store_outputs.VIEW


def test_the_canary_fails(tmp_path):
    """One stored number of the canary is wrong; put right, the same command passes."""
    result = nbval(CANARY)
    assert result.returncode == 1
    assert "1 failed, 3 passed" in result.stdout
    assert "79329" in result.stdout

    book = nbformat.read(CANARY, as_version=4)
    wrong = [out for cell in book.cells for out in cell.get("outputs", []) if out.get("text") == "79329\n"]
    assert len(wrong) == 1
    wrong[0].text = "79328\n"
    nbformat.write(book, tmp_path / "sound.ipynb")
    sound = nbval(tmp_path / "sound.ipynb")
    assert sound.returncode == 0, sound.stdout
    assert "4 passed" in sound.stdout


def png(values: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3))


def test_a_picture_equals_itself_and_a_shade(picture):
    shade = np.clip(picture + 10, 0, 255)
    assert share_changed(pixels(png(picture)), pixels(png(shade))) == 0.0


def test_another_picture_is_found(picture):
    moved, square, small = np.roll(picture, 1, axis=1), picture.copy(), picture[:32]
    square[:8, :8] = [255, 0, 0]
    for other in (moved, square, small):
        assert share_changed(pixels(png(picture)), pixels(png(other))) > MOST_CHANGED


def test_pictures_are_found_in_html_and_bare(picture):
    html = nbformat.v4.new_output(
        "display_data", data={"text/html": f'<img alt="a" src="data:image/png;base64,{png(picture)}">'}
    )
    bare = nbformat.v4.new_output("display_data", data={"image/png": png(picture)})
    cells = [nbformat.v4.new_code_cell("", outputs=[out]) for out in (html, bare)]
    found = pictures(nbformat.v4.new_notebook(cells=cells))
    assert [i for i, _ in found] == [0, 1]
    assert all(np.array_equal(values[..., :3], picture) for _, values in found)


def notebook(path: Path, *sources: str) -> Path:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources]), path)
    return path


def test_storing_twice_gives_the_same_file(tmp_path, monkeypatch):
    """Widgets have random ids and bars have times: neither is left in the file."""
    path = notebook(
        tmp_path / "a.ipynb",
        "from mambaout_edu.widgets import BlockDiagram\nBlockDiagram(dim=48)",
        "from tqdm.auto import tqdm\nfor _ in tqdm(range(3)): pass\nprint('done')",
    )
    assert store_outputs.main([str(path)]) == 0
    first = path.read_bytes()
    assert store_outputs.main([str(path)]) == 0
    assert path.read_bytes() == first
    book = nbformat.read(path, as_version=4)
    assert [cell.execution_count for cell in book.cells] == [1, 2]
    state = book.metadata["widgets"][store_outputs.STATE]["state"]
    shown = book.cells[0].outputs[0]["data"][VIEW]["model_id"]
    assert state[shown]["state"]["dim"] == 48
    assert state[shown]["state"]["layout"].removeprefix("IPY_MODEL_") in state
    assert [out.get("text") for out in book.cells[1].outputs] == ["done\n"]
    nbformat.validate(book)


def test_large_widget_state_is_left_out(monkeypatch):
    model = {"model_module": "anywidget", "state": {"points": "x" * 100}}
    monkeypatch.setattr(store_outputs, "MOST_BYTES_STATE", 50)
    assert store_outputs._own_widgets({"a": model}) == {}


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("raise ValueError('no')", "ValueError"),
        ("import warnings\nwarnings.warn('old')", "stderr"),
        ("import os\nprint(os.path.join(os.sep, 'home', 'ada', 'x'))", "path of a machine"),
    ],
)
def test_a_bad_run_is_refused_and_the_file_stays(tmp_path, capsys, source, finding):
    path = notebook(tmp_path / "bad.ipynb", "print(1)", source)
    before = path.read_bytes()
    assert store_outputs.main([str(path)]) == 1
    assert finding in capsys.readouterr().out
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["bad.ipynb"]


def test_storing_elsewhere_leaves_the_notebook_alone(tmp_path):
    path = notebook(tmp_path / "a.ipynb", "print(1)")
    before, folder = path.read_bytes(), tmp_path / "out"
    folder.mkdir()
    assert store_outputs.main([str(path), "--output", str(folder)]) == 0
    assert path.read_bytes() == before
    assert sorted(file.name for file in folder.iterdir()) == ["a.ipynb", "times.json"]
    assert check(Lesson("a", nbformat.read(folder / "a.ipynb", as_version=4).cells), {"x": no_complaints}) == []


def test_asyncio_is_free():
    """The browser tests' event loop must not reach into other folders: kernels are driven with asyncio here."""
    import asyncio

    assert asyncio.run(asyncio.sleep(0, result=sys.version_info.major)) == 3
