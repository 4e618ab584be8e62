"""The parts of the machine, one short examination each."""

import ctypes
import importlib.util
import json
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from mambaout_edu.doctor.finding import Finding, say
from mambaout_edu.doctor.packages import import_quietly, installed, numbers, package

__all__ = ["PARTS"]

DISK_GB, MEMORY_GB = 2.0, 2.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC_BROWSERS = ("/Applications/Chromium.app", "/Applications/Google Chrome.app")
# ipywidgets' major version, and the majors of the two packages that carry its half inside JupyterLab.
FRONT_ENDS = {8: {"jupyterlab_widgets": 3, "@jupyter-widgets/jupyterlab-manager": 5}}


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding(say("python"), "ok", version)
    return Finding(
        say("python"), "missing", say("python_range", version=version), say("python_why"), say("python_mend")
    )


def _has_cuda() -> bool:
    try:
        torch = import_quietly("torch")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an old driver warns here; the table says it in its own words
            return bool(torch.cuda.is_available())
    except Exception:
        return False


def _torch() -> Finding:
    version, fault = package("torch", "torch", "torch")
    if fault:
        return fault
    torch = import_quietly("torch")
    if _has_cuda():
        detail = say("torch_cuda", version=version, device=torch.cuda.get_device_name(0), cuda=torch.version.cuda)
        return Finding(say("torch"), "ok", detail)
    if shutil.which("nvidia-smi"):
        detail = say("torch_gpu_unused", version=version)
        return Finding(say("torch"), "optional", detail, say("torch_gpu_why"), say("torch_gpu_mend"))
    if torch.backends.mps.is_available():
        return Finding(say("torch"), "ok", say("torch_mps", version=version))
    return Finding(say("torch"), "ok", say("torch_cpu", version=version, threads=torch.get_num_threads()))


def _timm() -> Finding:
    version, fault = package("timm", "timm")
    if fault:
        return fault
    try:
        _load_torchvision_library()  # importing timm takes seconds; this is the part of it that breaks
    except Exception:
        names = {"torchvision": installed("torchvision") or say("not_installed"), "torch": installed("torch") or "-"}
        detail = say("timm_torchvision", version=version, **names)
        return Finding(
            say("timm"), "missing", detail, say("timm_why"), say("mend_repair", requirement='torch" "torchvision')
        )
    return Finding(say("timm"), "ok", version)


def _load_torchvision_library() -> None:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("torchvision is not installed")
    torch = import_quietly("torch")
    for folder in spec.submodule_search_locations:
        for library in sorted(Path(folder).glob("_C*")):
            torch.ops.load_library(str(library))


def _numba() -> Finding:
    version, fault = package("numba", "numba", "numba")
    return fault or Finding(say("numba"), "ok", version)


def _triton() -> Finding:
    cuda = _has_cuda()  # without a GPU nothing imports it
    version, fault = package("triton", "triton", "triton" if cuda else "", absent="optional")
    return fault or Finding(say("triton"), "ok", version if cuda else say("triton_idle", version=version))


def _mamba_ssm() -> Finding:
    version = installed("mamba-ssm")
    if version:
        return Finding(say("mamba_ssm"), "ok", version)
    return Finding(say("mamba_ssm"), "optional", say("not_installed"), say("mamba_ssm_why"), say("mamba_ssm_mend"))


def _jupyterlab() -> Finding:
    version, fault = package("jupyterlab", "jupyterlab")
    return fault or Finding(say("jupyterlab"), "ok", version)


def _front_end(name: str) -> str | None:
    """Return the version of a JupyterLab extension in this environment, None where there is none."""
    path = Path(sys.prefix, "share", "jupyter", "labextensions", *name.split("/"), "package.json")
    return str(json.loads(path.read_text(encoding="utf-8"))["version"]) if path.is_file() else None


def _widgets() -> Finding:
    versions = {}
    for name in ("ipywidgets", "anywidget"):
        versions[name], fault = package("widgets", name)
        if fault:
            return Finding(fault.part, fault.status, f"{name} {fault.detail}", fault.why, fault.mend)
    problem = _front_end_problem(versions)
    if problem is None:
        return Finding(say("widgets"), "ok", say("widgets_ok", **versions))
    repair = say("mend_repair", requirement='ipywidgets" "jupyterlab_widgets" "anywidget')
    return Finding(say("widgets"), "missing", problem, say("widgets_why"), repair)


def _front_end_problem(versions: dict[str, str]) -> str | None:
    """Say which package lacks the half of it that runs in JupyterLab, or has another version's; None where all fit."""
    majors = FRONT_ENDS.get(numbers(versions["ipywidgets"])[0])
    if majors is None:
        return say("outside_range", version=versions["ipywidgets"], requirement="ipywidgets 8")
    manager = "@jupyter-widgets/jupyterlab-manager"
    pairs: list[tuple[str, str | None, tuple[int, ...]]] = [
        ("ipywidgets", installed("jupyterlab_widgets"), (majors["jupyterlab_widgets"],)),
        ("ipywidgets", _front_end(manager), (majors[manager],)),
        ("anywidget", _front_end("anywidget"), numbers(versions["anywidget"])[:2]),
    ]
    for name, front, wanted in pairs:
        if front is None:
            return say("widgets_no_front", package=name, version=versions[name])
        if numbers(front)[: len(wanted)] != wanted:
            fits = ".".join(map(str, wanted)) + ".*"
            return say("widgets_mismatch", package=name, version=versions[name], front=front, wanted=fits)
    return None


def _chromium() -> Finding:
    found = [name for name in BROWSERS if shutil.which(name)]
    found += [Path(path).stem for path in MAC_BROWSERS if Path(path).exists()]
    if found:
        return Finding(say("chromium"), "ok", say("chromium_found", command=found[0]))
    return Finding(say("chromium"), "optional", say("chromium_none"), say("chromium_why"), say("chromium_mend"))


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free >= DISK_GB:
        return Finding(say("disk"), "ok", say("disk_detail", free=free))
    return Finding(
        say("disk"), "missing", say("disk_short", free=free, wanted=DISK_GB), say("disk_why"), say("disk_mend")
    )


def _memory() -> Finding:
    free, total = _memory_gb()
    if total == 0:
        return Finding(say("memory"), "ok", say("memory_unknown"))
    if free >= MEMORY_GB:
        return Finding(say("memory"), "ok", say("memory_detail", free=free, total=total))
    detail = say("memory_short", free=free, total=total, wanted=MEMORY_GB)
    return Finding(say("memory"), "missing", detail, say("memory_why"), say("memory_mend"))


def _memory_gb() -> tuple[float, float]:
    """Return free and total memory in GB; (0, 0) where the system does not tell, all as free where it tells no more."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        rows = dict(re.findall(r"^(\w+):\s+(\d+) kB", meminfo.read_text(encoding="ascii"), re.MULTILINE))
        return int(rows["MemAvailable"]) / 1e6, int(rows["MemTotal"]) / 1e6
    if sys.platform == "win32":
        status = (ctypes.c_ulonglong * 8)()
        ctypes.cast(status, ctypes.POINTER(ctypes.c_ulong))[0] = ctypes.sizeof(status)
        ctypes.windll.kernel32.GlobalMemoryStatusEx(status)
        return status[2] / 1e9, status[1] / 1e9
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return total, total


PARTS: dict[str, Callable[[], Finding]] = {
    "python": _python,
    "torch": _torch,
    "timm": _timm,
    "numba": _numba,
    "triton": _triton,
    "mamba_ssm": _mamba_ssm,
    "jupyterlab": _jupyterlab,
    "widgets": _widgets,
    "chromium": _chromium,
    "disk": _disk,
    "memory": _memory,
}
