"""The reader's progress as a small table, with a copy to save and a fresh start that can be undone."""

import json
import threading
from typing import Any

import traitlets

from mambaout_edu import strings
from mambaout_edu.learn import lessons, progress
from mambaout_edu.widgets._base import Widget

__all__ = ["ProgressPanel"]


class ProgressPanel(Widget):
    """Show what was done, lesson by lesson; save a copy, start afresh, and take a fresh start back.

    The page asks through the trait `request` ({"action": "refresh", "export", "reset" or "restore"});
    the kernel answers in the others. Without a kernel the table is shown and the buttons do nothing.

    Examples
    --------
    >>> ProgressPanel()
    ProgressPanel()
    """

    strings_part = "learn"
    strings_prefix = "panel."

    rows = traitlets.List().tag(sync=True)  # [lesson, what was done]
    request = traitlets.Dict().tag(sync=True)
    copy = traitlets.Unicode().tag(sync=True)  # the export, for the page to save as a file
    backup = traitlets.Unicode().tag(sync=True)  # the folder that `restore` takes back
    message = traitlets.Unicode().tag(sync=True)

    def __init__(self, **kwargs: Any) -> None:
        self._lock = threading.RLock()
        super().__init__(**kwargs)
        self._refresh()
        self.observe(self._asked, "request")

    def _refresh(self) -> None:
        done = progress.summary()
        known = [lesson for lesson in lessons.registry() if lesson.number in done.lessons]
        self.rows = [[f"{lesson.number} {lesson.title}", done.in_words(lesson.number)] for lesson in known]

    def _asked(self, change: Any) -> None:
        action = change["new"].get("action")
        work = {"refresh": lambda: "", "export": self._export, "reset": self._reset, "restore": self._restore}
        if action not in work:
            return
        with self._lock:
            try:
                said = work[action]()
            except (OSError, ValueError) as error:
                said = strings.text("learn", "panel.failed", problem=error)
            self._refresh()
            self.message = ""  # so that the same words said twice are a change
            self.message = said

    def _export(self) -> str:
        self.copy = ""
        self.copy = json.dumps(progress.content(), ensure_ascii=False, indent=1) + "\n"
        return strings.text("learn", "panel.exported")

    def _reset(self) -> str:
        there_was = bool(progress.entries())
        backup = progress.reset()
        self.backup = "" if backup is None else str(backup)
        return strings.text("learn", "panel.was_reset" if there_was else "panel.nothing")

    def _restore(self) -> str:
        progress.restore(self.backup)
        self.backup = ""
        return strings.text("learn", "panel.restored")
