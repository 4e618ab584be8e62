"""Write constraints.txt: the exact versions of every package, for all supported Pythons and systems.

Run by `make lock`. uv resolves the project with all its extras; the file names versions only, never where
they came from.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# The tested set: one version of every package, for Python 3.11 to 3.13 on Linux, macOS and Windows.
# Made by `make lock` (uv pip compile --universal over all extras); do not edit by hand.
"""


def resolve(root: Path, upgrade: bool) -> str:
    """Return uv's answer as text, one `name==version ; marker` a line."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--universal", "--python-version", "3.11", "--all-extras"]
    command += ["--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--quiet"]
    command += [] if upgrade else ["--constraint", "constraints.txt"]
    return subprocess.run([*command, "pyproject.toml"], cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout


def tidy(resolved: str) -> str:
    r"""Return the file's text, and refuse a line that names a place instead of a version.

    >>> print(tidy("timm==1.0.31\n"), end="")  # doctest: +ELLIPSIS
    # The tested set...
    timm==1.0.31
    """
    lines = [line for line in resolved.splitlines() if line.strip() and not line.startswith("#")]
    bad = [line for line in lines if "://" in line or line.startswith("-") or "==" not in line]
    if bad:
        raise ValueError(f"expected lines like name==version, got {bad[0]!r}: a package came from a file or an address")
    return HEADER + "\n".join(lines) + "\n"


def main() -> int:
    """Resolve anew (or, with --keep, add only what is new) and write the file whole."""
    text = tidy(resolve(ROOT, upgrade="--keep" not in sys.argv))
    beside = ROOT / "constraints.txt.new"
    beside.write_text(text, encoding="utf-8")
    beside.replace(ROOT / "constraints.txt")
    print(f"constraints.txt: {len(text.splitlines()) - 2} packages.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
