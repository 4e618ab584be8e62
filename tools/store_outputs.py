"""Run notebooks from top to bottom and store their outputs: `python tools/store_outputs.py [notebooks...]`.

What is stored is clean: no timings, no random ids, no progress bars, no errors, nothing on stderr.
The state of the course's own widgets is kept while it is small, so that they show when a notebook
is opened, before anything has run. A notebook that fails stays as it was.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from notebook_lesson import Lesson, check
from notebook_stored import STORED

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
MOST_BYTES_STATE = 400_000
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# Not every notebook is a lesson: what it must compare is for the tests to say.
CHECKED = {name: STORED[name] for name in ("no_complaints", "no_machine_paths", "small_outputs")}


def execute(path: Path, cell_timeout: int = 300) -> tuple[Any, float]:
    """Run a notebook in a fresh kernel, in its own folder; return it and the seconds that took."""
    book = nbformat.read(path, as_version=4)
    begin = time.monotonic()
    client = NotebookClient(
        book, timeout=cell_timeout, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    return book, time.monotonic() - begin


def clean(book: Any) -> Any:
    """Take out of a notebook, in place, whatever differs from run to run."""
    state = book.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    kept = _own_widgets(state)
    names = {old: f"{i:032x}" for i, old in enumerate(_appearance(book, kept), start=1)}
    for i, cell in enumerate(book.cells):
        cell["id"] = cell.get("id") or f"cell-{i:02d}"
        cell.metadata = nbformat.from_dict({"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {})
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if not _is_progress(out, kept)]
            for out in cell.outputs:
                _name_view(out, names)
    book.metadata = nbformat.from_dict(METADATA)
    if names:
        book.metadata["widgets"] = {STATE: _named_state(kept, names)}
    return book


def _own_widgets(state: dict[str, Any]) -> dict[str, Any]:
    """Return the course's widgets and their layouts; none where they are too large to store."""
    own = {key: model for key, model in state.items() if model["model_module"] == "anywidget"}
    layouts = {str(model["state"].get("layout", "")).removeprefix("IPY_MODEL_") for model in own.values()}
    kept = {key: model for key, model in state.items() if key in own or key in layouts}
    return kept if len(json.dumps(kept)) <= MOST_BYTES_STATE else {}


def _appearance(book: Any, kept: dict[str, Any]) -> list[str]:
    """Return the ids of the widgets that are shown, in the order of the notebook, each before its layout."""
    shown = [
        out["data"][VIEW]["model_id"]
        for cell in book.cells
        for out in cell.get("outputs", [])
        if VIEW in out.get("data", {})
    ]
    order: dict[str, None] = {}
    for key in shown:
        if key in kept:
            order[key] = None
            if layout := str(kept[key]["state"].get("layout", "")).removeprefix("IPY_MODEL_"):
                order[layout] = None
    return list(order)


def _named_state(kept: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    state = {}
    for old, new in names.items():
        text = json.dumps(kept[old], sort_keys=True)
        for other, name in names.items():
            text = text.replace(other, name)
        state[new] = json.loads(text)
    return {"state": state, "version_major": 2, "version_minor": 0}


def _is_progress(out: Any, kept: dict[str, Any]) -> bool:
    """Return whether an output is a widget of somebody else, such as a progress bar, which is no result."""
    view = out.get("data", {}).get(VIEW)
    text = out.get("data", {}).get("text/plain", "")
    return view is not None and view["model_id"] not in kept and ("%|" in text or "it/s" in text or not text)


def _name_view(out: Any, names: dict[str, str]) -> None:
    view = out.get("data", {}).get(VIEW)
    if view is not None and view["model_id"] in names:
        view["model_id"] = names[view["model_id"]]
    elif view is not None:
        del out["data"][VIEW]  # its text stays: a view without its model shows an error


def write(book: Any, path: Path) -> None:
    """Write beside, then rename, so that a notebook is never half written."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        nbformat.write(book, beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def store(path: Path, folder: Path | None = None) -> tuple[float, list[str]]:
    """Run, clean and write one notebook; return its seconds and what is wrong, in which case nothing is written."""
    try:
        book, seconds = execute(path)
    except CellExecutionError as error:
        return 0.0, [f"{path.stem}: a cell raised {error.ename}: {error.evalue}"]
    clean(book)
    findings = check(Lesson(path.stem, book.cells), CHECKED)
    if not findings:
        write(book, path if folder is None else folder / path.name)
    return seconds, findings


def main(arguments: list[str] | None = None) -> int:
    """Store the outputs of the named notebooks, or of all; return 1 if one was refused."""
    parser = argparse.ArgumentParser(description="Run notebooks and store their outputs.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: notebooks/*.ipynb")
    parser.add_argument("--output", type=Path, help="write here instead of in place, with the times in times.json")
    options = parser.parse_args(arguments)
    os.environ["MAMBAOUT_EDU_DATA"] = ""  # nobody's own progress is stored
    paths = options.notebooks or sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
    times, refused = {}, []
    for path in paths:
        seconds, findings = store(path, options.output)
        times[path.stem] = seconds
        refused += findings
        print("\n".join(findings) or f"{path.stem}: {seconds:.1f} s", flush=True)
    if options.output is not None:
        (options.output / "times.json").write_text(json.dumps(times), encoding="utf-8")
    return int(bool(refused))


if __name__ == "__main__":
    sys.exit(main())
