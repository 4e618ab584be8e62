"""The state of a run on disk: whole or not there, and never a torn file that is read as a good one.

A checkpoint is written beside its place, forced to the disk and renamed. Its name carries a checksum of its content:

    step_00000120-3f9a60d1c2b4e587.pt

so that one file is enough, and `torch.load(..., weights_only=True)` reads it as any other.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

__all__ = ["CheckpointNotWritten", "Checkpoints", "TornCheckpoint", "read_checkpoint", "write_checkpoint"]

_NAME = re.compile(r"step_(\d{8,})-([0-9a-f]{16})\.pt")


class TornCheckpoint(ValueError):  # noqa: N818 - what the file is
    """A checkpoint whose content is not what was written."""


class CheckpointNotWritten(OSError):  # noqa: N818 - what happened
    """A checkpoint could not be written, such as on a full disk; those from before are as they were."""


def write_checkpoint(folder: Path, step: int, state: Mapping[str, Any]) -> Path:
    """Write a state of tensors, numbers, words, lists and dictionaries; return the file, whose name has its checksum.

    Raises CheckpointNotWritten where the system refuses; nothing is left behind then.

    >>> import tempfile
    >>> path = write_checkpoint(Path(tempfile.mkdtemp()), 3, {"step": 3, "model": {"w": torch.ones(2)}})
    >>> path.name.startswith("step_00000003-"), read_checkpoint(path)["model"]["w"].tolist()
    (True, [1.0, 1.0])
    """
    content = io.BytesIO()
    torch.save(dict(state), content)
    path = folder / f"step_{step:08d}-{_checksum(content.getvalue())}.pt"
    _write(path, content.getvalue())
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state in a file, on the CPU; TornCheckpoint where it is not what was written."""
    named = _NAME.fullmatch(path.name)
    if named is None:
        raise TornCheckpoint(f"{path.name!r} is not the name of a checkpoint; expected step_00000120-<checksum>.pt")
    content = path.read_bytes()
    if _checksum(content) != named.group(2):
        raise TornCheckpoint(
            f"the checkpoint {path.name} is torn: its content ({len(content):,} bytes) does not have the checksum "
            "in its name. Take another one"
        )
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


class Checkpoints:
    """The checkpoints of one run: the last ones and the best one are kept.

    Parameters
    ----------
    folder
        Where they lie; made when the first one is written.
    keep
        How many of the last ones to keep.

    Attributes
    ----------
    torn
        The files that `latest` passed over, with the reason.

    Examples
    --------
    >>> import tempfile
    >>> kept = Checkpoints(Path(tempfile.mkdtemp()), keep=2)
    >>> for step, score in [(1, 0.9), (2, 0.5), (3, 0.6), (4, None)]:
    ...     path = kept.save({"step": step}, step, score)
    >>> [read_checkpoint(path)["step"] for path in kept.files()], read_checkpoint(kept.best())["step"]
    ([1, 3, 4], 1)
    """

    def __init__(self, folder: Path, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}; expected 1 or more checkpoints")
        self.folder, self.keep = folder, keep
        self.torn: list[tuple[Path, str]] = []

    def files(self) -> list[Path]:
        """Return all checkpoints, the oldest first."""
        named = [path for path in self.folder.glob("step_*.pt") if _NAME.fullmatch(path.name)]
        return sorted(named, key=lambda path: (step_of(path), path.stat().st_mtime_ns))

    def save(self, state: Mapping[str, Any], step: int, score: float | None = None) -> Path:
        """Write a checkpoint, note it as the best if no score was higher, and remove what need not be kept."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = write_checkpoint(self.folder, step, state)
            if score is not None and score >= self._best().get("score", float("-inf")):
                _write(self.folder / "best.json", json.dumps({"file": path.name, "score": score}).encode())
        except OSError as error:
            raise CheckpointNotWritten(
                error.errno,
                f"the checkpoint of step {step} could not be written ({error.strerror or error}). Those from before "
                "are whole: make room, then resume the run",
                str(self.folder),
            ) from error
        best = self.best()
        for old in self.files()[: -self.keep]:
            if old not in (path, best):
                old.unlink(missing_ok=True)
        return path

    def latest(self) -> Path | None:
        """Return the newest whole checkpoint; a torn one is passed over with a warning, and listed in `torn`."""
        for path in reversed(self.files()):
            try:
                read_checkpoint(path)
            except (TornCheckpoint, OSError) as error:
                self.torn.append((path, str(error)))
                warnings.warn(f"{error}; the one before it is used", RuntimeWarning, stacklevel=2)
                continue
            return path
        return None

    def best(self) -> Path | None:
        """Return the checkpoint with the highest score, if it is there and whole."""
        name = self._best().get("file")
        path = self.folder / name if name else None
        if path is None or not path.is_file():
            return None
        try:
            read_checkpoint(path)
        except (TornCheckpoint, OSError):
            return None
        return path

    def _best(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / "best.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found


def step_of(path: Path) -> int:
    """Return the number of updates in a checkpoint, from its name."""
    named = _NAME.fullmatch(path.name)
    return int(named.group(1)) if named else -1


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f"{path.name}.part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the name itself must reach the disk too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
