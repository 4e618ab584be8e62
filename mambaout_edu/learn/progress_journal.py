"""The journals behind `progress`: how an entry gets to disk and back.

Every process appends JSON lines to a file of its own, so two notebooks open at once cannot overwrite
each other's entries, on any operating system and without locks between processes. A line torn by a
crash is skipped, and no later line can be glued to it.
"""

import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mambaout_edu import strings

__all__ = ["Entry", "Journal", "folder", "journal", "journals", "read"]


@dataclass(frozen=True)
class Entry:
    """One thing that the reader did: when (UTC, ISO 8601), of which kind, on what, and how it went."""

    time: str
    kind: str
    key: str
    value: Any


def folder() -> Path | None:
    """Return the folder that holds the journals, or None when nothing is to be kept on disk.

    >>> folder() is None  # doctests run under a test runner
    True
    """
    given = os.environ.get("MAMBAOUT_EDU_DATA")
    if given is not None:
        return Path(given).expanduser() / "progress" if given.strip() else None
    if os.environ.get("CI") or "PYTEST_CURRENT_TEST" in os.environ or "PYTEST_VERSION" in os.environ:
        return None
    import platformdirs

    return Path(platformdirs.user_data_dir("mambaout_edu", appauthor=False)) / "progress"


class Journal:
    """The journal of this process: one file, opened for each entry, plus what could not be written."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        """Start a journal of a new name, with nothing in memory."""
        self.pid = os.getpid()
        # Unique for good, so that a number given again by the system cannot meet an old file.
        self.name = f"{time.strftime('%Y%m%d', time.gmtime())}-{uuid.uuid4().hex[:12]}.jsonl"
        self.kept_in_memory: list[Entry] = []
        self.told = False

    def append(self, entry: Entry) -> bool:
        """Write one entry and return whether it is on disk."""
        if self.pid != os.getpid():  # after a fork the parent goes on with the old file
            self.begin()
        line = json.dumps(vars(entry), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self.lock:
            place = folder()
            if place is None:
                self.kept_in_memory.append(entry)
                return False
            try:
                place.mkdir(parents=True, exist_ok=True)
                _append_line(place / self.name, line)
            except OSError as error:
                self.kept_in_memory.append(entry)
                self._tell_once(place, error)
                return False
            return True

    def _tell_once(self, place: Path, error: OSError) -> None:
        if not self.told:
            self.told = True
            reason = error.strerror or type(error).__name__
            sys.stderr.write(strings.text("learn", "progress.not_kept", folder=place, reason=reason) + "\n")


def _append_line(path: Path, line: bytes) -> None:
    # All through one open file: a reset of another process may move it away meanwhile, and the line goes along.
    with path.open("a+b") as file:
        # An earlier write of this process may have stopped half-way (a full disk): start on a fresh line.
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def journals(place: Path) -> list[Path]:
    """Return the journals in a folder; none where it cannot be read."""
    try:
        return sorted(path for path in place.iterdir() if path.suffix == ".jsonl")
    except OSError:
        return []


def read(path: Path) -> Iterator[Entry]:
    """Yield the entries of a journal; torn and foreign lines are left out."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return
    for line in lines:
        try:
            data = json.loads(line)
            entry = Entry(data["time"], data["kind"], data["key"], data["value"])
        except (ValueError, TypeError, KeyError):
            continue
        if isinstance(entry.time, str) and isinstance(entry.kind, str) and isinstance(entry.key, str):
            yield entry


journal = Journal()
if hasattr(os, "register_at_fork"):  # a lock held by another thread at the fork would stay locked in the child
    os.register_at_fork(after_in_child=lambda: setattr(journal, "lock", threading.Lock()))
