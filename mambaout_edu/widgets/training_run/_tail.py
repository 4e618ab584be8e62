"""A log that is being written, read as it grows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mambaout_edu.training.run_log import NAME

__all__ = ["Tail"]

CHUNK = 4 << 20


class Tail:
    r"""Read what was added to the log of a run since the last time.

    The file is opened anew at each reading: a run that is resumed replaces it, and an open file could
    not be replaced on every system.

    Parameters
    ----------
    folder : str or Path
        The folder of a run; it may come later than this object.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> tail = Tail(folder)
    >>> tail.read()
    ([], False)
    >>> _ = (folder / "log.jsonl").write_text('{"kind": "step", "step": 1}\n{"kind": "st')
    >>> tail.read()
    ([{'kind': 'step', 'step': 1}], False)
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / NAME
        self._offset, self._number, self._last = 0, 0, b""

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the next lines, some megabytes at most, and whether they begin at the top of the log again.

        They do where the log was cut back or replaced. A line that is still being written waits until
        it is whole. Raises ValueError for a whole line that is no JSON.
        """
        try:
            text, anew = self._text()
        except FileNotFoundError:
            return [], False
        whole = text[: text.rfind(b"\n") + 1]
        found = []
        for line in whole.split(b"\n")[:-1]:
            self._number += 1
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise ValueError(
                    f"line {self._number} of {str(self.path)!r} is no JSON ({error}); the file was changed"
                ) from error
            self._last = line + b"\n"
        self._offset += len(whole)
        return found, anew

    def _text(self) -> tuple[bytes, bool]:
        with self.path.open("rb") as file:
            # What was read last must still stand there: every line of a step has its time, so a log
            # that was cut back and has grown again differs.
            file.seek(self._offset - len(self._last))
            anew = file.read(len(self._last)) != self._last
            if anew:
                file.seek(0)
                self._offset, self._number, self._last = 0, 0, b""
            text = file.read(CHUNK)
            while text and b"\n" not in text and (more := file.read(CHUNK)):
                text += more
            return text, anew
