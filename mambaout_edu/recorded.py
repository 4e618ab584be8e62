"""Recorded runs: results that say when, where and by which command they were measured.

They lie in `assets/recorded/` of a checkout, one JSON file a run, and are shown with their label, so
that no reader takes a number from another machine for one of this run.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

__all__ = ["device_name", "label", "load", "save"]

_FOLDER = Path(__file__).resolve().parent.parent / "assets" / "recorded"


def device_name(device: str = "cpu") -> str:
    """Return the name of the processor ("cpu"), or of the GPU ("cuda"), that a run is measured on.

    >>> "cores" in device_name()
    True
    """
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device))
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores"


def save(
    name: str, results: dict[str, Any], *, folder: Path = _FOLDER, command: str | None = None, device: str = "cpu"
) -> Path:
    """Write results as `name`.json with the date, the device, the versions and the command that made them.

    Parameters
    ----------
    name
        File name without its ending.
    results
        What was measured; must be JSON.
    folder
        Where to write; the checkout's `assets/recorded` by default.
    command
        How to measure again; this process's own command line by default.
    device
        What was measured: "cpu", or a GPU as torch names it.

    Raises
    ------
    TypeError
        If the results are not JSON; nothing is written then.

    Examples
    --------
    >>> import tempfile
    >>> path = save("demo", {"ratio": 0.9}, folder=Path(tempfile.mkdtemp()), command="python demo.py")
    >>> load("demo", folder=path.parent)["results"]
    {'ratio': 0.9}
    """
    versions = {p: importlib.metadata.version(p) for p in ("torch", "timm", "numpy")}
    record = {
        "command": command or shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": device_name(device),
        "versions": {"python": platform.python_version(), **versions},
        "results": results,
    }
    text = json.dumps(record, indent=1) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{name}.json.part"
    beside.write_text(text, encoding="utf-8")
    return beside.replace(folder / f"{name}.json")


def load(name: str, *, folder: Path = _FOLDER) -> dict[str, Any]:
    """Return a recorded run: its `results`, and `date`, `device`, `versions`, `command`.

    Raises FileNotFoundError where there is none, with the runs that there are; an installed package
    has none, they come with a checkout of the repository.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.json"))) or "none"
        raise FileNotFoundError(
            f"no recorded run {name!r}; found: {known}. Recorded runs come with a checkout of the repository, "
            "not with an installed package."
        )
    return json.loads(path.read_text(encoding="utf-8"))


def label(record: dict[str, Any]) -> str:
    """Return one line that says when, where and by which command a run was recorded.

    >>> label({"date": "2026-01-31", "device": "a laptop", "command": "python b.py", "versions": {"torch": "2.9"}})
    'recorded 2026-01-31 on a laptop (torch 2.9) by: python b.py'
    """
    return (
        f"recorded {record['date']} on {record['device']} (torch {record['versions']['torch']}) by: {record['command']}"
    )
