"""What the reader has done, kept on the reader's machine: predictions, exercises, quizzes.

Every process writes a journal of its own (`progress_journal`) into one folder; readers merge them by time.

The folder is the platform's place for user data. `MAMBAOUT_EDU_DATA` names another one; set to the
empty string it means: keep nothing on disk. Under a test runner and in CI nothing is kept on disk
unless the variable names a folder.
"""

import json
import os
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambaout_edu import strings
from mambaout_edu.learn.progress_journal import Entry, folder, journals, read
from mambaout_edu.learn.progress_journal import journal as _journal

if TYPE_CHECKING:
    from mambaout_edu.widgets.progress_map import ProgressPanel

__all__ = [
    "Entry",
    "LessonProgress",
    "Summary",
    "content",
    "entries",
    "export",
    "folder",
    "panel",
    "record",
    "reset",
    "restore",
    "summary",
]


def record(kind: str, key: str, value: Any = None) -> bool:
    """Keep one entry and return whether it is on disk (it is in memory otherwise, for this process).

    Never raises for a folder that cannot be written: a sentence on standard error says so, once.
    Raises TypeError when `kind` or `key` is no text or `value` cannot be written as JSON.

    >>> record("exercise", "block.split", {"passed": True})  # nothing goes to disk under a test runner
    False
    """
    for name, given in (("kind", kind), ("key", key)):
        if not isinstance(given, str) or not given:
            raise TypeError(f'{name} is {given!r}; expected a text such as "exercise" or "block.split"')
    try:
        value = json.loads(json.dumps(value, allow_nan=False))  # a copy: what is changed later stays out of it
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"the value {value!r} cannot be kept as JSON ({error}); give numbers, texts, lists, dicts or None"
        ) from None
    stamp = datetime.now(UTC).isoformat(timespec="microseconds")
    return _journal.append(Entry(stamp, kind, key, value))


def entries() -> list[Entry]:
    """Return every entry of every process, oldest first; torn or foreign lines are left out.

    >>> all(isinstance(entry, Entry) for entry in entries())
    True
    """
    place = folder()
    found = list(_journal.kept_in_memory) if _journal.pid == os.getpid() else []
    if place is not None:
        for path in journals(place):
            found += read(path)
    return sorted(found, key=lambda entry: entry.time)  # stable: the order in a file is kept


@dataclass
class LessonProgress:
    """What was done in one lesson: ids of predictions and passed exercises, the best quiz score."""

    predictions: set[str] = field(default_factory=set)
    exercises: set[str] = field(default_factory=set)
    quiz: tuple[int, int] | None = None  # right answers, items

    def __bool__(self) -> bool:
        return bool(self.predictions or self.exercises or self.quiz)


@dataclass(frozen=True)
class Summary:
    """Progress by lesson number ("06"); lessons in which nothing was done are absent."""

    lessons: dict[str, LessonProgress]

    def __repr__(self) -> str:
        if not self.lessons:
            return strings.text("learn", "progress.empty")
        words = ((number, self.in_words(number)) for number in sorted(self.lessons))
        return "\n".join(strings.text("learn", "progress.lesson", number=number, done=done) for number, done in words)

    def in_words(self, number: str) -> str:
        """Say what was done in a lesson of the summary."""
        done = self.lessons[number]
        parts = [strings.text("learn", "progress.predictions", count=len(done.predictions))]
        parts += [strings.text("learn", "progress.exercises", count=len(done.exercises))]
        if done.quiz:
            parts += [strings.text("learn", "progress.quiz", right=done.quiz[0], items=done.quiz[1])]
        return ", ".join(parts)


def summary() -> Summary:
    """Return what was done, by lesson.

    >>> isinstance(summary(), Summary)
    True
    """
    lessons: dict[str, LessonProgress] = {}
    for entry in entries():
        value = entry.value if isinstance(entry.value, dict) else {}
        number = value.get("lesson") or _lesson_of(entry)
        if not isinstance(number, str):
            continue
        done = lessons.setdefault(number, LessonProgress())
        if entry.kind == "prediction":
            done.predictions.add(entry.key)
        elif entry.kind == "exercise" and value.get("passed", True) is not False:
            done.exercises.add(entry.key)
        elif entry.kind == "quiz":
            right, items = value.get("right"), value.get("items")
            if isinstance(right, int) and isinstance(items, int):
                done.quiz = max(done.quiz or (0, 0), (right, items))
    return Summary({number: done for number, done in lessons.items() if done})


def _lesson_of(entry: Entry) -> str | None:
    """Find the lesson: the id begins with its number ("06.share"), or the exercise's record tells."""
    if entry.key[:2].isdigit():
        return entry.key[:2]
    from mambaout_edu.learn import lessons

    return lessons.exercise_lessons().get(entry.key)


def reset() -> Path | None:
    """Start afresh: move all journals into a backup folder and return it (None when there was nothing).

    Entries that another notebook writes at the same moment land either in the backup or in the new
    journal, never nowhere. `restore(folder)` takes a backup back.
    """
    _journal.kept_in_memory.clear()
    place = folder()
    found = journals(place) if place is not None else []
    if place is None or not found:
        return None
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    backup = place / f"backup-{stamp}"
    backup.mkdir()
    for path in found:
        _move(path, backup / path.name)
    return backup


def restore(backup: str | os.PathLike[str]) -> int:
    """Take the journals of a backup folder back; return how many entries there are now.

    Raises ValueError when the folder is not a backup made by `reset` in the folder in use.
    """
    place, source = folder(), Path(backup)
    if place is None or not source.is_dir() or not journals(source):
        raise ValueError(f"{source} holds no journals; give the folder that progress.reset() returned")
    for path in journals(source):
        target = place / path.name
        # A process that went on after the reset has a journal of the same name: keep both.
        _move(path, target if not target.exists() else target.with_name(f"{path.stem}-{uuid.uuid4().hex[:6]}.jsonl"))
    return len(entries())


def _move(source: Path, target: Path) -> None:
    for attempt in range(20):
        try:
            source.replace(target)
        except PermissionError:  # Windows, while another process has the file open for a moment
            if attempt == 19:
                raise
            time.sleep(0.05)
        else:
            return


def content() -> dict[str, Any]:
    """Return all entries in the form that is exported.

    >>> content()["format"]
    'mambaout_edu progress 1'
    """
    return {"format": "mambaout_edu progress 1", "entries": [vars(entry) for entry in entries()]}


def export(path: str | os.PathLike[str]) -> Path:
    """Write all entries to one JSON file and return its path; the file is whole or absent.

    Raises OSError when the file cannot be written.
    """
    target = Path(path).expanduser()
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        beside.write_text(json.dumps(content(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    return target


def panel() -> "ProgressPanel":
    """Show progress as a table with buttons: save a copy, start afresh, take the fresh start back.

    >>> panel()
    ProgressPanel()
    """
    from mambaout_edu.widgets.progress_map import ProgressPanel

    return ProgressPanel()
