"""What a learner touches: predictions, exercises with checks and hints, quizzes, progress, the map of lessons.

Names load on first use; none of them imports torch by itself.
"""

import importlib
from typing import Any

_HOMES = {
    "card": "exercises",
    "check": "checks",
    "claims_table": "claims",
    "hint": "hints",
    "lesson_map": "lesson_map_view",
    "objectives_table": "objectives",
    "predict": "predictions",
    "quiz": "quiz_items",
    "solution": "solutions",
}
_MODULES = ("lessons", "progress")

__all__ = [*_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(sorted(__all__))}")


def __dir__() -> list[str]:
    return sorted(__all__)
