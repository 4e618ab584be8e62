"""The wheel holds the whole package, and the package passes its tests where only the wheel is installed."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# These look at the checkout itself; all other unit tests look at the package alone.
OF_THE_CHECKOUT = {"test_packaging.py", "test_readme.py", "test_setup.py"}
QUICK = ("test_doctor.py", "test_cli.py", "test_import.py", "test_blocks.py", "test_models.py")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def package_files() -> set[str]:
    """Return what belongs to the package: every file of its tree but what Python and tools leave there."""
    found = {path for path in (ROOT / "mambaout_edu").rglob("*") if path.is_file()}
    left = {path for path in found if {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)}
    return {path.relative_to(ROOT).as_posix() for path in found - left}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the network off, from a copy of what it is built from."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    shutil.copytree(ROOT / "mambaout_edu", source / "mambaout_edu", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "CITATION.cff", ".gitignore"):
        shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source, cwd=source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel, and finds its dependencies, but not this checkout."""
    venv = tmp_path_factory.mktemp("clean") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=venv.parent)
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps"]
    run(*pip, "--disable-pip-version-check", wheel, cwd=venv.parent)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=venv.parent).strip()
    # A folder named in a .pth file lends its packages; the .pth files in it, an editable install's too, stay unread.
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return python


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert inside == package_files()
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_what_is_not_python_travels_too(wheel: Path) -> None:
    """Strings, and beside every widget its page half."""
    endings = {name.rsplit(".", 1)[-1] for name in zipfile.ZipFile(wheel).namelist()}
    assert {"py", "json", "js", "css", "typed"} <= endings


def test_the_wheel_names_its_command_its_extras_and_its_pythons(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        read = {name.rsplit("/", 1)[-1]: name for name in archive.namelist() if ".dist-info/" in name}
        entry = archive.read(read["entry_points.txt"]).decode()
        metadata = archive.read(read["METADATA"]).decode()
    assert "mambaout-edu = mambaout_edu.cli:main" in entry
    assert all(f"Provides-Extra: {extra}\n" in metadata for extra in ("lab", "train", "test"))
    assert "Requires-Python: <3.14,>=3.11" in metadata


def test_the_clean_environment_uses_the_wheel(clean_python: Path, tmp_path: Path) -> None:
    where = run(clean_python, "-c", "import mambaout_edu; print(mambaout_edu.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(clean_python.parents[1])
    assert not Path(where).is_relative_to(ROOT)


def copied_tests(tmp_path: Path, names: set[str] | None = None) -> Path:
    """Copy the tests out of the checkout, with those unit tests that are named (all that need no checkout)."""

    def leave_out(folder: str, entries: list[str]) -> set[str]:
        out = {"__pycache__", "browser", "notebooks", "parity"} & set(entries)
        if Path(folder).name == "unit":
            tests = {entry for entry in entries if entry.startswith("test_")}
            out |= tests & OF_THE_CHECKOUT if names is None else tests - names
        return out

    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=leave_out)
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")  # for pytest's settings
    return tmp_path


@pytest.mark.timeout(600)
def test_the_wheel_passes_the_tests(clean_python: Path, tmp_path: Path) -> None:
    place = copied_tests(tmp_path, set(QUICK))
    said = run(clean_python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit", cwd=place)
    assert " passed" in said
    assert "failed" not in said


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_wheel_passes_all_unit_tests_and_examples(clean_python: Path, tmp_path: Path) -> None:
    place = copied_tests(tmp_path)
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--doctest-modules", "--pyargs", "mambaout_edu"]
    done = subprocess.run([clean_python, *command, "tests/unit"], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:]
