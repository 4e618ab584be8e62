"""Each notebook runs twice in all: once with nbval for the texts, once with the storing tool for pictures and time."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))  # notebook_lint, store_outputs

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "notebook" in metafunc.fixturenames:
        metafunc.parametrize("notebook", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


@dataclass(frozen=True)
class Run:
    """A notebook as it came out of a fresh run, and the seconds that took."""

    book: Any
    seconds: float


@pytest.fixture(scope="session")
def rerun(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Run]:
    """Run a notebook with the storing tool, in a process of its own; every notebook once a session."""
    done: dict[Path, Run] = {}

    def run(path: Path) -> Run:
        if path not in done:
            folder = tmp_path_factory.mktemp("rerun")
            command = [sys.executable, str(ROOT / "tools" / "store_outputs.py"), str(path), "--output", str(folder)]
            result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
            if result.returncode:
                pytest.fail(f"{path.stem} did not run:\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}")
            times = json.loads((folder / "times.json").read_text(encoding="utf-8"))
            done[path] = Run(nbformat.read(folder / path.name, as_version=4), times[path.stem])
        return done[path]

    return run
