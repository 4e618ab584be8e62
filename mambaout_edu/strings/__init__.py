"""Every sentence that a reader sees, in tables: one folder a language, one JSON file a part.

A second language is a second folder with the same files and keys. Error messages for developers
are not here: they stay beside the check that raises them.
"""

import functools
import json
import os
from importlib.resources import files
from typing import Any

__all__ = ["language", "table", "text"]


def language() -> str:
    """Return the language in use: `MAMBAOUT_EDU_LANGUAGE` from the environment, English by default.

    >>> language()
    'en'
    """
    return os.environ.get("MAMBAOUT_EDU_LANGUAGE", "en")


@functools.cache
def _load(part: str, lang: str) -> dict[str, Any]:
    source = files(__name__) / lang / f"{part}.json"
    if not source.is_file():
        known = sorted(f.name.removesuffix(".json") for f in (files(__name__) / "en").iterdir())
        raise ValueError(
            f"no strings for part {part!r} in language {lang!r}; the parts are {', '.join(known)}. "
            f"Unset MAMBAOUT_EDU_LANGUAGE to read English."
        )
    return json.loads(source.read_text(encoding="utf-8"))


def table(part: str) -> dict[str, Any]:
    """Return all strings of one part, in the language in use (what a widget hands to its page).

    Raises ValueError for a part or a language that has no table.

    >>> sorted(table("plots"))[:1]
    ['accuracy']
    """
    return dict(_load(part, language()))


def text(part: str, key: str, **values: object) -> str:
    """Return one string with its `{named}` places filled in.

    Raises KeyError for an unknown key or a place that was given no value.

    >>> text("plots", "accuracy")
    'accuracy'
    """
    strings = _load(part, language())
    if key not in strings:
        raise KeyError(f"no string {key!r} in part {part!r}; it has {', '.join(sorted(strings))}")
    return str(strings[key]).format(**values)
