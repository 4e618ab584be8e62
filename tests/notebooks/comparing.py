"""Compare a fresh run with what is stored: texts through nbval, pictures through their pixels."""

import base64
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
CELL_TIMEOUT = 120
LEVELS = 24  # a pixel has changed when a channel moved by more than this
MOST_CHANGED = 0.002  # share of pixels that may change: fonts are hinted a little differently by each version
PICTURE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")


def nbval(path: Path) -> subprocess.CompletedProcess[str]:
    """Run one notebook under nbval in lax mode: it runs everything and compares the marked cells."""
    command = [sys.executable, "-m", "pytest", "-c", str(HERE / "nbval.ini"), "--rootdir", str(path.parent), str(path)]
    command += ["--nbval-lax", "--nbval-current-env", f"--nbval-cell-timeout={CELL_TIMEOUT}", "--color=no", "-q"]
    command += ["--nbval-sanitize-with", str(HERE / "sanitize.cfg"), "-p", "no:cacheprovider", "-W", "error"]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=path.parent)


def pictures(book: Any) -> list[tuple[int, np.ndarray]]:
    """Return (cell, pixels [H, W, 4]) of every PNG in the outputs, bare or inside HTML."""
    found = []
    for i, cell in enumerate(book.cells):
        for out in cell.get("outputs", []):
            data = out.get("data", {})
            encoded = PICTURE.findall(data.get("text/html", "")) or ([data["image/png"]] if "image/png" in data else [])
            found += [(i, pixels(text)) for text in encoded]
    return found


def pixels(encoded: str) -> np.ndarray:
    """Decode a base64 PNG to int16 [H, W, 4]."""
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        return np.asarray(image.convert("RGBA"), dtype=np.int16)


def share_changed(stored: np.ndarray, fresh: np.ndarray) -> float:
    """Return the share of pixels that differ by more than `LEVELS`; 1.0 for pictures of different sizes."""
    if stored.shape != fresh.shape:
        return 1.0
    return float((np.abs(stored - fresh).max(axis=-1) > LEVELS).mean())
