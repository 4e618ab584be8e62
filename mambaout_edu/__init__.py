"""Do we really need Mamba for vision? The package behind the course, usable without it.

Subpackages load on first use, so `import mambaout_edu` stays light: torch, timm, numba and the
widgets are imported by the first name that needs them.

>>> import mambaout_edu
>>> model = mambaout_edu.models.create_model("mambaout_femto", num_classes=10)
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"

_SUBPACKAGES = (
    "blocks",
    "data",
    "doctor",
    "flatten",
    "learn",
    "memory",
    "mixers",
    "models",
    "plots",
    "published",
    "recorded",
    "scan",
    "seen",
    "strings",
    "systems",
    "training",
    "widgets",
)

__all__ = [*_SUBPACKAGES, "__version__"]


def __getattr__(name: str) -> ModuleType:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_SUBPACKAGES)}")


def __dir__() -> list[str]:
    return sorted(__all__)
