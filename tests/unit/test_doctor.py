"""The environment check: every part missing, too old, broken or mismatched is told apart, and nothing raises."""

import importlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from mambaout_edu import doctor, strings
from mambaout_edu.doctor import Finding, Report, parts
from mambaout_edu.doctor.packages import in_range, without_paths

REQUIRES = ["torch>=2.8", "timm<2,>=1.0.20", "numba>=0.61", 'jupyterlab<5,>=4.4; extra == "lab"']
VERSIONS = {
    "torch": "2.15.0",
    "torchvision": "0.29.2",
    "timm": "1.0.31",
    "numba": "0.68.1",
    "triton": "3.9.0",
    "mamba-ssm": "2.3.0",
    "jupyterlab": "4.6.6",
    "ipywidgets": "8.1.9",
    "jupyterlab_widgets": "3.0.17",
    "anywidget": "0.11.0",
}


def fake_torch(cuda: bool = False, load_library: Callable[[str], None] = lambda path: None) -> Any:
    return SimpleNamespace(
        cuda=SimpleNamespace(is_available=lambda: cuda, get_device_name=lambda index: "NVIDIA H200"),
        version=SimpleNamespace(cuda="13.2"),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False)),
        ops=SimpleNamespace(load_library=load_library),
        get_num_threads=lambda: 2,
    )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A machine where all is well; a test then takes something away from it."""
    modules = {name: SimpleNamespace() for name in ("numba", "triton")} | {"torch": fake_torch()}
    versions = dict(VERSIONS)

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    really_import = importlib.import_module

    def import_module(name: str, package: str | None = None) -> Any:
        if name not in modules:
            return really_import(name, package)
        if isinstance(modules[name], Exception):
            raise modules[name]
        return modules[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIRES)
    monkeypatch.setattr(importlib, "import_module", import_module)
    bin_, vision = tmp_path / "bin", tmp_path / "torchvision"
    for folder in (bin_, vision):
        folder.mkdir()
    (vision / "_C.so").touch()
    spec = SimpleNamespace(submodule_search_locations=[str(vision)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(parts, "MAC_BROWSERS", ())
    monkeypatch.setattr(parts, "_memory_gb", lambda: (20.0, 24.0))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=70e9))
    monkeypatch.setenv("PATH", str(bin_))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    world = SimpleNamespace(modules=modules, versions=versions, bin=bin_, prefix=tmp_path)
    command(world, "chromium")
    front_end(world, "@jupyter-widgets/jupyterlab-manager", "5.0.16")
    front_end(world, "anywidget", "0.11.0")
    return world


def command(world: SimpleNamespace, name: str) -> None:
    path = world.bin / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


def front_end(world: SimpleNamespace, name: str, version: str) -> Path:
    folder = world.prefix / "share" / "jupyter" / "labextensions" / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "package.json"
    path.write_text(json.dumps({"name": name, "version": version}))
    return path


def found(part: str) -> Finding:
    return next(finding for finding in doctor.examine() if finding.part == part)


def test_a_machine_with_everything_is_healthy(machine: SimpleNamespace) -> None:
    report = doctor.report()
    assert [finding.status for finding in report.findings] == ["ok"] * 11
    assert report.healthy
    assert str(report).splitlines()[1] == "ok        PyTorch      2.15.0, on the CPU (2 threads)"
    assert "why:" not in str(report)


@pytest.mark.parametrize(
    ("package", "part", "status"),
    [
        ("torch", "PyTorch", "missing"),
        ("timm", "timm", "missing"),
        ("numba", "Numba", "missing"),
        ("jupyterlab", "JupyterLab", "missing"),
        ("ipywidgets", "Widgets", "missing"),
        ("anywidget", "Widgets", "missing"),
        ("jupyterlab_widgets", "Widgets", "missing"),
        ("triton", "Triton", "optional"),
        ("mamba-ssm", "mamba-ssm", "optional"),
    ],
)
def test_a_package_that_is_not_there(machine: SimpleNamespace, package: str, part: str, status: str) -> None:
    del machine.versions[package]
    finding = found(part)
    assert finding.status == status
    assert finding.why
    assert finding.mend
    assert doctor.report().healthy is (status == "optional")


@pytest.mark.parametrize(("version", "fits"), [("1.0.19", False), ("1.0.20", True), ("1.9", True), ("2.0.0", False)])
def test_a_version_outside_the_range_that_we_ask_for(machine: SimpleNamespace, version: str, fits: bool) -> None:
    machine.versions["timm"] = version
    finding = found("timm")
    assert (finding.status == "ok") is fits
    if not fits:
        assert "timm<2,>=1.0.20" in finding.detail
        assert version in finding.detail
        assert 'pip install "timm<2,>=1.0.20"' in finding.mend


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError, AttributeError])
@pytest.mark.parametrize(("module", "part"), [("torch", "PyTorch"), ("numba", "Numba")])
def test_a_part_whose_import_fails(machine: SimpleNamespace, error: type, module: str, part: str) -> None:
    machine.modules[module] = error("/home/ada/env/lib/libcudart.so.13: cannot open shared object file\nmore")
    findings = {finding.part: finding for finding in doctor.examine()}
    assert findings[part].status == "missing"
    assert f"{error.__name__}: libcudart.so.13: cannot open" in findings[part].detail
    assert "make repair" in findings[part].mend
    assert findings["JupyterLab"].status == "ok"
    assert "/home" not in str(doctor.report())


def test_torch_names_its_device(machine: SimpleNamespace) -> None:
    machine.modules["torch"] = fake_torch(cuda=True)
    assert found("PyTorch").detail == "2.15.0, on NVIDIA H200 (CUDA 13.2)"
    assert found("Triton").detail == "3.9.0"


def test_a_gpu_that_torch_cannot_use_is_told(machine: SimpleNamespace) -> None:
    command(machine, "nvidia-smi")
    finding = found("PyTorch")
    assert finding.status == "optional"
    assert "NVIDIA GPU" in finding.detail
    assert "driver" in finding.why


def test_torchvision_of_another_torch_is_told(machine: SimpleNamespace) -> None:
    def refuse(path: str) -> None:
        raise OSError("undefined symbol")

    machine.modules["torch"] = fake_torch(load_library=refuse)
    finding = found("timm")
    assert finding.status == "missing"
    assert "torchvision 0.29.2 does not fit PyTorch 2.15.0" in finding.detail


def test_torchvision_that_is_not_there_is_told(machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert found("timm").status == "missing"


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [
        ("@jupyter-widgets/jupyterlab-manager", "3.1.0", ["ipywidgets 8.1.9", "3.1.0", "5.*"]),
        ("anywidget", "0.9.21", ["anywidget 0.11.0", "0.9.21", "0.11.*"]),
    ],
)
def test_a_front_end_of_another_version(machine: SimpleNamespace, name: str, version: str, words: list[str]) -> None:
    front_end(machine, name, version)
    finding = found("Widgets")
    assert finding.status == "missing"
    assert all(word in finding.detail for word in words)


@pytest.mark.parametrize("name", ["@jupyter-widgets/jupyterlab-manager", "anywidget"])
def test_a_front_end_that_is_not_in_this_environment(machine: SimpleNamespace, name: str) -> None:
    front_end(machine, name, "1.0").unlink()
    assert "has no front end" in found("Widgets").detail


def test_jupyterlab_widgets_of_the_other_generation(machine: SimpleNamespace) -> None:
    machine.versions["jupyterlab_widgets"] = "1.1.11"
    assert "3.*" in found("Widgets").detail


def test_a_front_end_that_cannot_be_read_is_a_finding(machine: SimpleNamespace) -> None:
    front_end(machine, "anywidget", "0.11.0").write_text("{half")
    finding = found("Widgets")
    assert finding.status == "missing"
    assert "JSONDecodeError" in finding.detail


def test_no_browser_is_no_fault(machine: SimpleNamespace) -> None:
    (machine.bin / "chromium").unlink()
    assert found("Chromium").status == "optional"
    assert doctor.report().healthy


def test_short_disk_and_memory(machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0.4e9))
    monkeypatch.setattr(parts, "_memory_gb", lambda: (0.7, 4.0))
    assert found("Free disk").detail == "0.4 GB, but 2 GB is wanted"
    assert found("Free memory").detail == "0.7 of 4 GB, but 2 GB is wanted"
    assert doctor.report().verdict == "Missing for the lessons: Free disk, Free memory."


def test_python_that_is_too_old(machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    finding = found("Python")
    assert finding.status == "missing"
    assert finding.detail == "3.10.4, but 3.11 to 3.13 is wanted"


def test_without_our_own_metadata_versions_are_not_judged(
    machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def requires(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    machine.versions["timm"] = "0.1"
    assert found("timm").status == "ok"


def test_real_memory_is_read() -> None:
    free, total = parts._memory_gb()
    assert 0 < free <= total < 1e5


def test_every_part_has_its_strings() -> None:
    table = strings.table("doctor")
    for key in parts.PARTS:
        assert table[key]
        assert table[f"{key}_why"].endswith(".")
    assert len({table[key] for key in parts.PARTS}) == len(parts.PARTS)


def test_html_is_escaped_has_no_hard_colours_and_names_the_status_in_words() -> None:
    report = Report((Finding("<b>Part</b>", "missing", "a & b", "why <i>", "mend > it"), Finding("P", "ok", "1")))
    page = report._repr_html_()
    assert "<b>" not in page
    assert "<i>" not in page
    assert "&lt;b&gt;Part&lt;/b&gt;" in page
    assert not re.search(r"#[0-9a-fA-F]{3,6}\b|rgb\(", page)
    assert "missing" in page
    assert 'scope="row"' in page
    assert "<caption" in page
    assert page == report._repr_html_()


def test_text_says_why_and_mend_only_where_something_is_to_be_done() -> None:
    report = Report((Finding("P", "ok", "1", "because", "do"), Finding("Q", "optional", "none", "because", "do")))
    assert str(report).splitlines() == [
        "ok        P            1",
        "optional  Q            none",
        "          why:   because",
        "          mend:  do",
        "Everything that the lessons need is here.",
    ]


def test_the_real_machine_is_examined_without_a_path_or_an_exception() -> None:
    code = "from mambaout_edu import doctor; r = doctor.report(); print(r); print(r._repr_html_())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert "PyTorch" in done.stdout
    for path in (sys.prefix, str(Path.home()), str(Path.cwd()), "site-packages"):
        assert path == "/" or path not in done.stdout


@given(st.lists(st.integers(0, 30), min_size=1, max_size=3), st.lists(st.integers(0, 30), min_size=1, max_size=3))
def test_ranges_mean_what_packaging_says(version: list[int], bound: list[int]) -> None:
    given_, limit = (".".join(map(str, numbers)) for numbers in (version, bound))
    for sign in (">=", "<"):
        assert in_range(given_, f"p{sign}{limit}") == SpecifierSet(f"{sign}{limit}").contains(given_)


@given(st.lists(st.text("abcXYZ09_-. ", min_size=1).filter(str.strip), min_size=1, max_size=5))
def test_no_folder_survives_in_an_error(folders: list[str]) -> None:
    path = "/" + "/".join(folders) + "/libx.so"
    assert without_paths(OSError(f"{path}: cannot open")) == "OSError: libx.so: cannot open"
    assert without_paths(OSError("C:\\" + "\\".join(folders) + "\\x.dll")) == "OSError: x.dll"
