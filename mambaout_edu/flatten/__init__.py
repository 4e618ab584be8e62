"""An image as a sequence: scan orders, multi-path strategies, how local they are, and their use on tensors.

The orders and the measures are NumPy; torch is imported by the first of `flatten`, `unflatten`, `flatten_paths` and
`merge` that is used.
"""

from typing import TYPE_CHECKING, Any

from mambaout_edu.flatten.checks import check_order
from mambaout_edu.flatten.measures import (
    Locality,
    Reach,
    autocorrelation,
    locality,
    memory_map,
    neighbour_distances,
    neighbour_map,
    reach,
)
from mambaout_edu.flatten.orders import ORDERS, inverse, order
from mambaout_edu.flatten.strategies import PATHS, paths

if TYPE_CHECKING:
    from mambaout_edu.flatten.apply import flatten, flatten_paths, merge, unflatten

_NEED_TORCH = ("flatten", "flatten_paths", "merge", "unflatten")

__all__ = [
    "ORDERS",
    "PATHS",
    "Locality",
    "Reach",
    "autocorrelation",
    "check_order",
    "flatten",
    "flatten_paths",
    "inverse",
    "locality",
    "memory_map",
    "merge",
    "neighbour_distances",
    "neighbour_map",
    "order",
    "paths",
    "reach",
    "unflatten",
]


def __getattr__(name: str) -> Any:
    if name in _NEED_TORCH:
        from mambaout_edu.flatten import apply

        return getattr(apply, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
