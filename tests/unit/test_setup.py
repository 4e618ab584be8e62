"""Setting up: plain sentences for what is wrong, nothing done twice, and ranges that agree everywhere."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


setup_env, setup_lock = tool("setup_env"), tool("setup_lock")


# ---------------------------------------------------------------- what the machine has


def test_an_old_python_can_read_the_script() -> None:
    """It is run by the Python that may be too old, so its syntax is 3.6's."""
    source = (ROOT / "tools" / "setup_env.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 6))
    assert "annotations" not in re.findall(r"^from __future__ import (\w+)", source, re.MULTILINE)


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 7), (3, 13, 1)])
def test_supported_pythons(version: tuple[int, ...]) -> None:
    assert setup_env.python_trouble(version, []) is None


@pytest.mark.parametrize(
    ("version", "word"),
    [((2, 7, 18), "too old"), ((3, 10, 13), "too old"), ((3, 14, 0), "too new"), ((4, 0, 0), "new")],
)
def test_other_pythons_are_refused_in_a_sentence(version: tuple[int, ...], word: str) -> None:
    said = setup_env.python_trouble(version, [])
    assert ".".join(map(str, version)) in said
    assert word in said
    assert "3.11 to 3.13" in said
    assert "PYTHON=python3.13" in setup_env.python_trouble(version, ["python3.13", "python3.11"])


def test_the_range_of_pythons_is_the_projects() -> None:
    wanted = SpecifierSet(PROJECT["requires-python"])
    for minor in range(8, 17):
        assert (setup_env.python_trouble((3, minor, 0), []) is None) == wanted.contains(f"3.{minor}.0")


@pytest.mark.parametrize(
    ("backend", "platform", "has_torch", "gigabytes"),
    [
        (None, "linux", False, 8),
        ("cu128", "linux", False, 8),
        ("cpu", "linux", False, 3),
        (None, "darwin", False, 3),
        (None, "linux", True, 1),
    ],
)
def test_disk_wanted(backend: str | None, platform: str, has_torch: bool, gigabytes: float) -> None:
    assert setup_env.gigabytes_needed(backend, platform, has_torch) == gigabytes


def test_a_short_disk_is_told_in_a_sentence() -> None:
    assert setup_env.disk_trouble(8.0, 8.0) is None
    said = setup_env.disk_trouble(2.34, 8.0)
    assert "8 GB" in said
    assert "2.3 GB" in said
    assert "TORCH_BACKEND=cpu" in said
    assert "TORCH_BACKEND" not in setup_env.disk_trouble(0.5, 3.0)


# ---------------------------------------------------------------- the commands


def test_uv_installs_the_tested_set() -> None:
    command = setup_env.install_command("py", ["lab", "train"], uv=True)
    assert command[:5] == ["py", "-m", "uv", "pip", "install"]
    assert command[command.index("--constraint") + 1] == "constraints.txt"
    assert command[command.index("--editable") + 1] == ".[lab,train]"
    assert "--torch-backend" not in command


def test_pip_installs_the_same_where_uv_cannot_be_had() -> None:
    command = setup_env.install_command("py", ["lab"], uv=False)
    assert command[:4] == ["py", "-m", "pip", "install"]
    assert "uv" not in command
    assert command[command.index("--constraint") + 1] == "constraints.txt"
    assert command[command.index("--editable") + 1] == ".[lab]"


def test_the_torch_backend_goes_to_uv_and_needs_it() -> None:
    command = setup_env.install_command("py", ["lab"], uv=True, torch_backend="cpu")
    assert command[command.index("--torch-backend") + 1] == "cpu"
    assert "--reinstall-package" not in command
    assert "torchvision" in setup_env.install_command("py", [], uv=True, torch_backend="cpu", other_torch=True)
    with pytest.raises(setup_env.SetupError, match="TORCH_BACKEND=cpu is done by uv"):
        setup_env.install_command("py", ["lab"], uv=False, torch_backend="cpu")


def test_the_lowest_versions_are_not_held_to_the_tested_set() -> None:
    command = setup_env.install_command("py", ["test"], uv=True, resolution="lowest-direct")
    assert "--constraint" not in command
    assert command[command.index("--resolution") + 1] == "lowest-direct"


def test_modules_are_compiled_where_python_may_not_store_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "--compile-bytecode" in setup_env.install_command("py", [], uv=True)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE")
    assert "--compile-bytecode" not in setup_env.install_command("py", [], uv=True)


def test_uv_that_cannot_be_installed_is_told_and_done_without(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup_env, "answer_of", lambda command: None)
    monkeypatch.setattr(setup_env.subprocess, "run", lambda *args, **options: SimpleNamespace(returncode=1))
    assert setup_env.have_uv("py") is False
    assert "pip installs the rest" in capsys.readouterr().out


# ---------------------------------------------------------------- a whole set-up, with an installer that only counts


class Checkout:
    """A small project, an installer that records what it was asked, and the set-up run on them."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.installed, self.created, self.fails = root, [], 0, ""
        for name in ("pyproject.toml", "constraints.txt"):
            (root / name).write_text(f"# {name}\n")
        monkeypatch.setattr(setup_env, "have_uv", lambda python: True)
        monkeypatch.setattr(setup_env, "install_command", self.record)
        monkeypatch.setattr(setup_env, "create", self.create)
        monkeypatch.setattr(setup_env, "venv_version", self.version)

    def record(self, python: str, extras: list[str], uv: bool, *rest: Any) -> list[str]:
        backend, _, other_torch = rest
        self.installed.append(SimpleNamespace(extras=extras, backend=backend, other_torch=other_torch))
        site = self.root / ".venv" / "lib" / "python3" / "site-packages"
        half = f"open({str(site / 'half')!r}, 'w'); " if self.fails == "half way" else ""
        return [sys.executable, "-c", f"{half}raise SystemExit({int(bool(self.fails))})"]

    def create(self, venv: Path, root: Path) -> None:
        self.created += 1
        python = setup_env.venv_python(venv)
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        (venv / "lib" / "python3" / "site-packages").mkdir(parents=True, exist_ok=True)
        for name in (setup_env.STAMP, setup_env.UNFINISHED):
            (venv / name).unlink(missing_ok=True)

    def version(self, venv: Path) -> str | None:
        here = "{}.{}".format(*sys.version_info)
        return here if setup_env.venv_python(venv).exists() else None

    def prepare(self, *arguments: str) -> None:
        setup_env.prepare(setup_env.parse(list(arguments)), self.root)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    return Checkout(tmp_path, monkeypatch)


def test_the_second_run_does_nothing_and_says_so(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    checkout.prepare()
    assert (checkout.created, len(checkout.installed)) == (1, 1)
    capsys.readouterr()
    start = time.perf_counter()
    checkout.prepare()
    assert time.perf_counter() - start < 2
    assert (checkout.created, len(checkout.installed)) == (1, 1)
    assert capsys.readouterr().out == "The environment in .venv is ready.\n"


def test_more_extras_are_added_and_fewer_do_nothing(checkout: Checkout) -> None:
    checkout.prepare("--extras", "lab,train")
    checkout.prepare("--extras", "lab,test")
    assert checkout.installed[-1].extras == ["lab", "test", "train"]
    checkout.prepare("--extras", "train")
    assert (checkout.created, len(checkout.installed)) == (1, 2)


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_requirement_installs_again(checkout: Checkout, name: str) -> None:
    checkout.prepare()
    (checkout.root / name).write_text("# another\n")
    checkout.prepare()
    assert len(checkout.installed) == 2
    assert checkout.created == 1


def test_an_interrupted_installation_is_repaired_by_running_again(checkout: Checkout) -> None:
    checkout.fails = "half way"
    with pytest.raises(setup_env.SetupError, match="failed"):
        checkout.prepare("--torch-backend", "cpu", "--extras", "lab,test")
    checkout.fails = ""
    checkout.prepare("--extras", "lab")
    assert checkout.created == 2
    assert checkout.installed[-1].backend == "cpu"
    assert checkout.installed[-1].extras == ["lab", "test"]
    checkout.prepare()
    assert (checkout.created, len(checkout.installed)) == (2, 3)  # "train" was added to a whole environment


def test_a_top_up_that_stops_half_way_leaves_nothing_called_ready(checkout: Checkout) -> None:
    checkout.prepare("--extras", "lab")
    checkout.fails = "half way"
    with pytest.raises(setup_env.SetupError, match="failed"):
        checkout.prepare("--extras", "test")
    checkout.fails = ""
    checkout.prepare("--extras", "lab")
    assert (checkout.created, len(checkout.installed)) == (2, 3)


def test_a_failure_that_touched_nothing_leaves_the_environment_ready(checkout: Checkout) -> None:
    checkout.prepare("--extras", "lab")
    checkout.fails = "at once"  # no network, say
    with pytest.raises(setup_env.SetupError, match="failed"):
        checkout.prepare("--extras", "test")
    checkout.prepare("--extras", "lab")
    assert (checkout.created, len(checkout.installed)) == (1, 2)


def test_a_broken_environment_is_made_anew(checkout: Checkout) -> None:
    checkout.prepare()
    setup_env.venv_python(checkout.root / ".venv").unlink()
    checkout.prepare()
    assert (checkout.created, len(checkout.installed)) == (2, 2)


def test_a_stamp_that_cannot_be_read_counts_as_none(checkout: Checkout) -> None:
    checkout.prepare()
    (checkout.root / ".venv" / setup_env.STAMP).write_text("{half")
    checkout.prepare()
    assert len(checkout.installed) == 2


def test_a_moved_checkout_gets_a_new_environment(checkout: Checkout) -> None:
    checkout.prepare()
    stamp = checkout.root / ".venv" / setup_env.STAMP
    stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"root": "elsewhere"}))
    checkout.prepare()
    assert checkout.created == 2


def test_the_torch_backend_stays_and_a_new_one_lays_torch_anew(checkout: Checkout) -> None:
    checkout.prepare("--torch-backend", "cpu")
    library = checkout.root / ".venv" / "lib" / "python3" / "site-packages" / "torch"
    library.mkdir()
    (library / "version.py").touch()
    checkout.prepare()
    assert len(checkout.installed) == 1
    checkout.prepare("--extras", "test")
    assert checkout.installed[-1].backend == "cpu"
    assert not checkout.installed[-1].other_torch
    checkout.prepare("--torch-backend", "cu128")
    assert checkout.installed[-1].other_torch


def test_repair_makes_it_anew_with_what_it_held(checkout: Checkout) -> None:
    checkout.prepare("--extras", "lab,test")
    checkout.prepare("--repair", "--extras", "lab")
    assert checkout.created == 2
    assert checkout.installed[-1].extras == ["lab", "test"]


def test_another_python_replaces_the_environment_only_when_it_is_asked_for(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout.prepare()
    monkeypatch.setattr(setup_env, "venv_version", lambda venv: "3.99")
    stamp = checkout.root / ".venv" / setup_env.STAMP
    stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"python": "3.99"}))
    checkout.prepare()
    assert checkout.created == 1
    checkout.prepare("--this-python")
    assert checkout.created == 2


def test_trouble_is_a_sentence_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(setup_env, "ROOT", tmp_path)
    monkeypatch.setattr(setup_env.prepare, "__defaults__", (tmp_path,))
    old = SimpleNamespace(version_info=(3, 9, 18), version="3.9.18", executable=sys.executable, stderr=sys.stderr)
    monkeypatch.setattr(setup_env, "sys", old)
    monkeypatch.setattr(setup_env, "suitable_pythons", lambda: ["python3.12"])
    assert setup_env.main([]) == 1
    said = capsys.readouterr().err
    assert "Python 3.9.18 is too old" in said
    assert "make lab PYTHON=python3.12" in said
    assert "Traceback" not in said
    assert not (tmp_path / ".venv").exists()


def test_an_interruption_says_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(setup_env, "prepare", interrupted)
    assert setup_env.main([]) == 130
    assert "Run the same command again" in capsys.readouterr().err


# ---------------------------------------------------------------- the Makefile and CI


def make(*words: str, **environment: str) -> str:
    env = {k: v for k, v in os.environ.items() if k not in {"PYTHON", "TORCH_BACKEND", "BROWSER", "PORT"}}
    command = ["make", "--no-print-directory", "-n", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=env | environment).stdout


def test_make_lab_opens_the_first_lesson_on_this_machine_only() -> None:
    said = make("lab")
    assert "/lab/tree/00_start_here.ipynb" in said
    assert "--ServerApp.ip=127.0.0.1" in said
    assert "--this-python" not in said
    assert "--torch-backend" not in said
    assert "--no-browser" not in said
    assert "token" not in said.lower()  # Jupyter's own, drawn anew at every start, stays on


def test_make_honours_its_variables() -> None:
    said = make("lab", "PYTHON=python3.12", "TORCH_BACKEND=cpu", "BROWSER=none", "PORT=0")
    assert said.startswith("python3.12 tools/setup_env.py --this-python --torch-backend cpu")
    assert "--no-browser" in said
    assert "--ServerApp.port=0" in said
    assert "--this-python" in make("test", PYTHON="python3.13")


def test_make_test_runs_everything_and_pytest_last() -> None:
    lines = make("test").strip().splitlines()
    assert "--extras lab,train,test" in lines[0]
    assert [re.search(r"-m (\w+( format)?)", line)[1] for line in lines[1:]] == [
        "ruff",
        "ruff format",
        "mypy",
        "pytest",
    ]
    assert "--doctest-modules mambaout_edu tests" in lines[-1]
    assert "--slow" in make("test-all")


def test_make_alone_lists_the_commands() -> None:
    said = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("lab", "test", "test-all", "test-lowest", "lock", "notebooks", "repair", "clean"):
        assert f"make {target} " in said


def test_ci_prepares_the_machine_and_ends_with_the_readmes_test_command() -> None:
    script = ROOT / ".ci" / "run"
    text = script.read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert os.access(script, os.X_OK)
    assert text.strip().splitlines()[-1] == "exec make test"
    assert "chromium" in text
    assert "fonts-noto-cjk" in text


# ---------------------------------------------------------------- ranges, pins, conda


def requirements() -> dict[str, Requirement]:
    lines = [*PROJECT["dependencies"], *(line for lines in PROJECT["optional-dependencies"].values() for line in lines)]
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def pins() -> dict[str, list[tuple[Version, Requirement]]]:
    found: dict[str, list[tuple[Version, Requirement]]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            pin = Requirement(line)
            (specifier,) = pin.specifier
            found.setdefault(pin.name, []).append((Version(specifier.version), pin))
    return found


def test_constraints_name_versions_and_no_places() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|^-|@ |/", text, re.MULTILINE)
    assert all(len(list(pin.specifier)) == 1 and "==" in str(pin.specifier) for p in pins().values() for _, pin in p)


@pytest.mark.parametrize("python", ["3.11.7", "3.12.1", "3.13.0"])
def test_every_requirement_is_pinned_inside_its_range_for_every_python(python: str) -> None:
    where = {"python_full_version": python, "python_version": python.rsplit(".", 1)[0], "sys_platform": "linux"}
    pinned = pins()
    for name, requirement in requirements().items():
        valid = [version for version, pin in pinned[name] if pin.marker is None or pin.marker.evaluate(where)]
        assert len(valid) == 1, f"{name} is pinned {len(valid)} times for Python {python}"
        assert requirement.specifier.contains(valid[0])


def test_torch_and_torchvision_are_pinned_together() -> None:
    assert [str(version) for version, _ in pins()["torch"]] == ["2.15.0"]
    assert [str(version) for version, _ in pins()["torchvision"]] == ["0.29.2"]


@pytest.mark.parametrize("line", ["timm @ file:///somewhere/timm.whl", "--index-url somewhere", "timm>=1"])
def test_the_lock_refuses_a_place(line: str) -> None:
    with pytest.raises(ValueError, match="expected lines like name==version"):
        setup_lock.tidy(f"numpy==2.4.6\n{line}\n")


def test_the_lock_keeps_what_uv_resolved() -> None:
    text = setup_lock.tidy("numpy==2.4.6 ; python_full_version < '3.12'\n\ntimm==1.0.31\n")
    assert text.splitlines()[-2:] == ["numpy==2.4.6 ; python_full_version < '3.12'", "timm==1.0.31"]
    assert "make lock" in text


CONDA_NAMES = {"pytorch-gpu": "torch", "matplotlib-base": "matplotlib"}
CONDA_ONLY = {"pip", "torchvision", "mamba-ssm"}  # torchvision comes with timm from PyPI


def test_conda_asks_for_the_same_ranges() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = {}
    for line in environment["dependencies"]:
        if isinstance(line, str):
            name, _, bounds = line.partition(" ")
            conda[CONDA_NAMES.get(name, name)] = SpecifierSet(bounds)
    assert conda.pop("python") == SpecifierSet(PROJECT["requires-python"])
    wanted = {name: r.specifier for name, r in requirements().items() if name not in of_the_tests()}
    assert {name: bounds for name, bounds in conda.items() if name not in CONDA_ONLY} == wanted
    assert environment["channels"] == ["conda-forge"]
    assert conda["mamba-ssm"] == SpecifierSet(">=2.3.0")


def of_the_tests() -> set[str]:
    return {Requirement(line).name for line in PROJECT["optional-dependencies"]["test"]}
