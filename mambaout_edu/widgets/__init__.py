"""Pictures that the learner can touch: one folder a widget, each with its ES module and its style.

All state is in traits, all drawing and counting happens in the page, so every widget also works on
a page without a kernel: `page(widget, title)` writes one.
"""

import importlib
from typing import Any

_HOMES = {
    "ArchitectureExplorer": "architecture_explorer",
    "BlockDiagram": "block_diagram",
    "MemoryBank": "memory_bank",
    "PolePlane": "pole_plane",
    "Prediction": "prediction",
    "ProgressPanel": "progress_map",
    "Quiz": "quiz",
    "ScanExplorer": "scan_explorer",
    "Selection": "selection",
    "TrainingCurve": "training_curve",
    "TrainingRun": "training_run",
    "Widget": "_base",
    "page": "_page",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
