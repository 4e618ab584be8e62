"""Make the environment of the course: check the machine, create it, install, and leave a stamp.

The Makefile runs this with whatever Python the machine has. So it uses the standard library alone, and
syntax that an old Python can read: an old Python then gets a plain sentence and not a traceback.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST, NEWEST = (3, 11), (3, 13)  # pyproject.toml says the same; a test holds them together
UV = "uv>=0.8"  # the first that has --torch-backend without a preview flag is 0.7.14
GB_CUDA, GB_PLAIN, GB_TOP_UP = 8.0, 3.0, 1.0
STAMP, UNFINISHED = "mambaout_edu.json", "mambaout_edu.unfinished"


class SetupError(Exception):
    """Something the reader has to mend; its text is a plain sentence."""


# ---------------------------------------------------------------- what the machine has


def python_trouble(version: "tuple[int, ...]", others: "list[str]") -> "str | None":
    """Say what is wrong with this version of Python, or None; `others` are better ones found on the machine."""
    if OLDEST <= tuple(version[:2]) <= NEWEST:
        return None
    given, what = ".".join(map(str, version[:3])), "too old" if tuple(version[:2]) < OLDEST else "too new"
    wanted = f"it needs Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    if others:
        return f"Python {given} is {what} for this course: {wanted}. This machine has one: make lab PYTHON={others[0]}"
    return f"Python {given} is {what} for this course: {wanted}. Install one and name it: make lab PYTHON=python3.12"


def suitable_pythons() -> "list[str]":
    """Return the commands on this machine that run a suitable Python, newest first."""
    names = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    return [name for name in names if shutil.which(name) and answer_of([name, "-c", "print(1)"]) == "1"]


def gigabytes_needed(torch_backend: "str | None", platform: str, has_torch: bool) -> float:
    """Return the free disk an installation wants: PyTorch for Linux brings CUDA unless another backend is named."""
    if has_torch:
        return GB_TOP_UP
    return GB_CUDA if platform.startswith("linux") and torch_backend != "cpu" else GB_PLAIN


def disk_trouble(free: float, needed: float) -> "str | None":
    """Say that the disk is short, in gigabytes, or None."""
    if free >= needed:
        return None
    hint = " Without an NVIDIA GPU, TORCH_BACKEND=cpu needs about 3 GB." if needed == GB_CUDA else ""
    return f"The disk is short: about {needed:.0f} GB are needed, {free:.1f} GB are free.{hint} Make room first."


def answer_of(command: "list[str]") -> "str | None":
    """Run a short command and return what it printed, or None where it failed."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


# ---------------------------------------------------------------- the environment and its stamp


def venv_python(venv: Path) -> Path:
    """Return the interpreter inside an environment."""
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def venv_version(venv: Path) -> "str | None":
    """Return the Python version ("3.12") of an environment that works and has pip, or None."""
    return answer_of([str(venv_python(venv)), "-c", "import pip, sys; print('%d.%d' % sys.version_info[:2])"])


def fingerprint(root: Path) -> str:
    """Return a digest of the files that decide what is installed."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        path = root / name
        digest.update(path.read_bytes() if path.is_file() else b"-")
    return digest.hexdigest()


def read_stamp(path: Path) -> "dict":
    """Return what an installation recorded; empty where there is no such file, or none that can be read."""
    try:
        stamp = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def is_ready(stamp: "dict", options: argparse.Namespace, root: Path) -> bool:
    """Tell whether the environment holds what is asked for, so that nothing has to be done."""
    return (
        stamp.get("fingerprint") == fingerprint(root)
        and stamp.get("root") == str(root)
        and set(options.extras) <= set(stamp.get("extras", []))
        and options.torch_backend in (None, stamp.get("torch_backend"))
        and stamp.get("resolution") == options.resolution
        and (not options.this_python or stamp.get("python") == "{}.{}".format(*sys.version_info))
    )


def create(venv: Path, root: Path) -> None:
    """Create the environment with the Python that runs this, in place of whatever is there."""
    trouble = python_trouble(tuple(sys.version_info[:3]), suitable_pythons())
    if trouble:
        raise SetupError(trouble)
    say(f"Creating the environment in {venv.relative_to(root)} with Python {sys.version.split()[0]}.")
    if subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=False).returncode:
        raise SetupError(
            "This Python could not make an environment. On Debian and Ubuntu its venv module is a package: "
            "sudo apt-get install python3-venv"
        )


# ---------------------------------------------------------------- installing


def install_command(
    python: str,
    extras: "list[str]",
    uv: bool,
    torch_backend: "str | None" = None,
    resolution: "str | None" = None,
    other_torch: bool = False,
) -> "list[str]":
    """Return the command that installs the project; `other_torch` replaces PyTorch by another build of it."""
    if not uv and (torch_backend or resolution):
        what = f"TORCH_BACKEND={torch_backend}" if torch_backend else "trying the lowest versions"
        raise SetupError(f"{what} is done by uv, which could not be installed here. Mend that, or leave it out.")
    target = ["--editable", f".[{','.join(extras)}]" if extras else "."]
    # The lowest versions are found by the resolver; everywhere else the tested set is installed.
    target += [] if resolution else ["--constraint", "constraints.txt"]
    if not uv:
        return [python, "-m", "pip", "install", "--disable-pip-version-check", *target]
    command = [python, "-m", "uv", "pip", "install", "--python", python, *target]
    # uv leaves compiling modules to their first import. Where Python may not store them, each import would pay.
    command += ["--compile-bytecode"] if os.environ.get("PYTHONDONTWRITEBYTECODE") else []
    command += ["--torch-backend", torch_backend] if torch_backend else []
    command += ["--resolution", resolution] if resolution else []
    command += ["--reinstall-package", "torch", "--reinstall-package", "torchvision"] if other_torch else []
    return command


def have_uv(python: str) -> bool:
    """Put uv into the environment where it is not there yet; False where it cannot be had."""
    if answer_of([python, "-m", "uv", "--version"]):
        return True
    say("Installing uv, which installs the rest.")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV]
    if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode:
        say("uv cannot be had here, so pip installs the rest. That takes longer.")
        return False
    return True


def libraries(venv: Path) -> "list[Path]":
    """Return the folders of an environment into which packages are installed."""
    return [path for path in [*venv.glob("lib/python*/site-packages"), venv / "Lib" / "site-packages"] if path.is_dir()]


def install(venv: Path, root: Path, options: argparse.Namespace, known: "dict") -> None:
    """Install the extras asked for beside those `known` from earlier, and stamp the environment when all went well."""
    python, backend = str(venv_python(venv)), options.torch_backend or known.get("torch_backend")
    has_torch = any((folder / "torch" / "version.py").is_file() for folder in libraries(venv))
    needed = gigabytes_needed(backend, sys.platform, has_torch)
    trouble = disk_trouble(shutil.disk_usage(str(root)).free / 1e9, needed)
    if trouble:
        raise SetupError(trouble)
    extras = sorted(set(options.extras) | set(known.get("extras", [])))
    other_torch = has_torch and backend != known.get("torch_backend")
    command = install_command(python, extras, have_uv(python), backend, options.resolution, other_torch)
    say(f"Installing the package with {', '.join(extras)}. The first time takes minutes.")
    stamp = {
        "root": str(root),
        "fingerprint": fingerprint(root),
        "extras": extras,
        "torch_backend": backend,
        "resolution": options.resolution,
        "python": venv_version(venv),
    }
    (venv / UNFINISHED).write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    before = [folder.stat().st_mtime_ns for folder in libraries(venv)]
    if subprocess.run(command, cwd=str(root), check=False).returncode:
        if before == [folder.stat().st_mtime_ns for folder in libraries(venv)]:
            (venv / UNFINISHED).unlink()  # nothing was touched, so what was there is still whole
        raise SetupError("The installation failed; the lines above say why. Mend that and run the command again.")
    (venv / UNFINISHED).replace(venv / STAMP)


# ---------------------------------------------------------------- the command


def say(line: str) -> None:
    """Print one line at once, also where the output is a file."""
    print(line, flush=True)


def parse(argv: "list[str] | None") -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Make the environment of the course, or bring it up to date.")
    parser.add_argument("--extras", default="lab,train", help="extras of pyproject.toml, separated by commas")
    parser.add_argument("--venv", default=".venv", help="folder of the environment, inside the checkout")
    parser.add_argument("--torch-backend", default=None, help="uv's choice of PyTorch build: cpu, cu128, auto, ...")
    parser.add_argument("--resolution", default=None, help="uv's resolution, for trying the lowest versions")
    parser.add_argument("--this-python", action="store_true", help="insist on the Python that runs this")
    parser.add_argument("--repair", action="store_true", help="make the environment anew")
    options = parser.parse_args(argv)
    options.extras = [name.strip() for name in options.extras.split(",") if name.strip()]
    options.torch_backend = options.torch_backend or None
    return options


def prepare(options: argparse.Namespace, root: Path = ROOT) -> None:
    """Do what is needed, and nothing where all is there."""
    venv = root / options.venv
    stamp, half_done = read_stamp(venv / STAMP), (venv / UNFINISHED).exists()
    works = not half_done and not options.repair and venv_python(venv).exists()
    if works and is_ready(stamp, options, root):
        say(f"The environment in {options.venv} is ready.")
        return
    known = stamp or read_stamp(venv / UNFINISHED)
    have = venv_version(venv)
    asked_for_another = options.this_python and have != "{}.{}".format(*sys.version_info)
    moved = known.get("root", str(root)) != str(root)  # its scripts still name the old place
    if half_done or options.repair or have is None or asked_for_another or moved:
        create(venv, root)
    install(venv, root, options, known)
    say(f"The environment in {options.venv} is ready.")


def main(argv: "list[str] | None" = None) -> int:
    """Run, and turn every trouble into a plain sentence and an exit code."""
    options = parse(argv)
    try:
        prepare(options)
    except SetupError as trouble:
        print(f"\n{trouble}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again: it repairs what is half done.", file=sys.stderr, flush=True)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
