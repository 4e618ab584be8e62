"""What a mixer sees: its mixing matrix, and the receptive field of any layer of any model.

`mixing_matrix` asks of one mixer how much output token t takes from input token s; `receptive_field` asks of a whole
model which pixels an output depends on, and how strongly; `reach` which ones it can depend on at all, and
`hidden_change` proves that it is no others.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mambaout_edu.seen.area import half_area

if TYPE_CHECKING:
    from mambaout_edu.seen.fields import receptive_field
    from mambaout_edu.seen.hooks import input_of
    from mambaout_edu.seen.matrices import mixing_matrix
    from mambaout_edu.seen.reachable import hidden_change, reach
    from mambaout_edu.seen.weights import Mixing, mixing

_NEED_TORCH = {
    "Mixing": "weights",
    "hidden_change": "reachable",
    "input_of": "hooks",
    "mixing": "weights",
    "mixing_matrix": "matrices",
    "reach": "reachable",
    "receptive_field": "fields",
}

__all__ = ["Mixing", "half_area", "hidden_change", "input_of", "mixing", "mixing_matrix", "reach", "receptive_field"]


def __getattr__(name: str) -> Any:
    if name in _NEED_TORCH:
        return getattr(importlib.import_module(f"{__name__}.{_NEED_TORCH[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
