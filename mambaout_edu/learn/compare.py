"""Compare a learner's value with the expected one, and say where and how they differ.

Only values of known types are looked at, through the operations of those types: an object that
claims to equal everything is a value of the wrong type.
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mambaout_edu.learn.compare_values import dtype_of, items_of, kind_of, plain_number, shape_of, show, type_name

__all__ = ["Finding", "compare"]

_HALF = 2e-3  # relative error of 16-bit arithmetic
_TOLERANCE = {"float64": 1e-10, "complex128": 1e-10, "float32": 1e-5, "complex64": 1e-5}  # coarser types: _HALF
_PRECISION = {"float16": 1, "bfloat16": 1, "float32": 2, "complex64": 2, "float64": 3, "complex128": 3}


@dataclass(frozen=True)
class Finding:
    """One difference: its kind (a key of the strings table), where it is, and the words to fill in."""

    status: str
    where: str
    values: Mapping[str, Any]


def compare(
    expected: Any, given: Any, tolerance: float | None = None, where: str = "", scale: float = 0.0
) -> Finding | None:
    """Return the first difference between an expected value and a given one, or None.

    Lists and tuples count as the same, and so do numbers of Python and of NumPy. Whole numbers must
    be equal; others may differ by `tolerance`, relative in norm: by default 1e-10 in float64 and 1e-5
    in float32. More precision than expected is right, less is a difference of its own. A number in a
    list or tuple may differ by its share of the largest there (`scale`), as it would in an array.

    >>> compare((1, 2.0), [1, 2.0 + 1e-14]) is None
    True
    >>> compare((1, 2), (1, 3)).where
    '[1]'
    """
    kind = kind_of(expected)
    if given is None and expected is not None:
        return Finding("none", where, {})
    if given is ...:
        return Finding("unfinished", where, {})
    if kind != kind_of(given):
        return Finding("type", where, {"given": type_name(given), "expected": type_name(expected)})
    if kind == "number":
        return _number(expected, given, tolerance, where, scale)
    return _COMPARE[kind](expected, given, tolerance, where)


def _sequence(expected: Any, given: Any, tolerance: float | None, where: str) -> Finding | None:
    ours, theirs = items_of(expected), items_of(given)
    if len(ours) != len(theirs):
        return Finding("length", where, {"given": len(theirs), "expected": len(ours)})
    scale = max((abs(item) for item in ours if isinstance(item, float) and math.isfinite(item)), default=0.0)
    pairs = enumerate(zip(ours, theirs, strict=True))
    return _first(compare(a, b, tolerance, f"{where}[{i}]", scale) for i, (a, b) in pairs)


def _mapping(expected: Any, given: Any, tolerance: float | None, where: str) -> Finding | None:
    theirs = dict(dict.items(given))
    if [key for key in theirs if type(key) not in (str, int)] or theirs.keys() != expected.keys():
        return Finding("keys", where, {"given": show(list(theirs)), "expected": show(list(expected))})
    return _first(compare(expected[key], theirs[key], tolerance, f"{where}[{key!r}]") for key in expected)


def _first(findings: Any) -> Finding | None:
    return next((finding for finding in findings if finding is not None), None)


def _number(expected: Any, given: Any, tolerance: float | None, where: str, scale: float) -> Finding | None:
    ours, theirs = plain_number(expected), plain_number(given)
    words = {"given": show(theirs), "expected": show(ours)}
    if isinstance(ours, int):  # a bool is one, too
        if type(ours) is not type(theirs):
            words = {"given": f"{type(theirs).__name__} {words['given']}", "expected": type(ours).__name__}
            return Finding("dtype", where, words)
        return None if ours == theirs else Finding("differs", where, words)
    if isinstance(theirs, bool) or (isinstance(theirs, complex) and isinstance(ours, float)):
        return Finding("dtype", where, {"given": type(theirs).__name__, "expected": type(ours).__name__})
    try:
        error, size = abs(ours - theirs), abs(ours)
    except OverflowError:  # a whole number too large for a float
        return Finding("differs", where, words)
    if math.isfinite(size) and not math.isfinite(abs(theirs)):
        return Finding("non_finite", where, words)
    limit = _TOLERANCE["float64"] if tolerance is None else tolerance
    if error <= limit * (max(size, scale) or 1.0):
        return None
    if error <= _HALF * size:
        return Finding("precision", where, {"error": f"{error / size:.0e}", "limit": f"{limit:.0e}"})
    return Finding("differs", where, words)


def _array(expected: Any, given: Any, tolerance: float | None, where: str) -> Finding | None:
    return _numbers(expected, given, tolerance, where, lambda array: array)


def _tensor(expected: Any, given: Any, tolerance: float | None, where: str) -> Finding | None:
    torch = sys.modules["torch"]
    if given.layout != torch.strided:
        return Finding("type", where, {"given": f"{given.layout} tensor", "expected": "dense tensor"})
    if given.device != expected.device:
        return Finding("device", where, {"given": given.device, "expected": expected.device})

    def as_array(tensor: Any) -> Any:
        tensor = tensor.detach().resolve_conj().resolve_neg()
        return (tensor.double() if tensor.is_floating_point() else tensor).cpu().numpy()

    return _numbers(expected, given, tolerance, where, as_array)


def _numbers(
    expected: Any, given: Any, tolerance: float | None, where: str, as_array: Callable[[Any], Any]
) -> Finding | None:
    if tuple(given.shape) != tuple(expected.shape):
        return Finding("shape", where, {"given": shape_of(given), "expected": shape_of(expected)})
    name, wanted = dtype_of(given), dtype_of(expected)
    different = Finding("dtype", where, {"given": name, "expected": wanted})
    if _family(name) != _family(wanted):
        return different
    ours, theirs = as_array(expected), as_array(given)
    if wanted not in _PRECISION:
        index = _first_index(ours != theirs)
        return _differs(ours, theirs, index, where) if index is not None else None
    limit = _TOLERANCE.get(wanted, _HALF) if tolerance is None else tolerance
    return _rounded(ours, theirs, where, limit, different if _PRECISION[name] < _PRECISION[wanted] else None)


def _family(dtype: str) -> str:
    if dtype in _PRECISION:
        return "complex" if dtype.startswith("complex") else "float"
    return "whole" if dtype.startswith(("int", "uint")) else dtype


def _rounded(ours: Any, theirs: Any, where: str, limit: float, coarser: Finding | None) -> Finding | None:
    import numpy as np

    index = _first_index(np.isfinite(ours) & ~np.isfinite(theirs))
    if index is not None:
        words = {"given": show(theirs[index].item()), "expected": show(ours[index].item())}
        place = where + (_index(index) if index else "")
        return Finding("overflow" if coarser else "non_finite", place, words)
    if coarser:
        return coarser
    with np.errstate(all="ignore"):
        difference, finite = np.abs(ours - theirs), np.isfinite(ours)
        error, size = (float(np.linalg.norm(np.where(finite, part, 0).ravel())) for part in (difference, ours))
        strange = ~finite & ~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)))
    relative = error / size if size else error
    if relative <= limit and not strange.any():
        return None
    if relative <= _HALF and not strange.any():
        return Finding("precision", where, {"error": f"{relative:.0e}", "limit": f"{limit:.0e}"})
    # Rounding differs everywhere: the first difference is the first that is as large as the mean one may be.
    large = difference > limit * size / math.sqrt(max(1, ours.size))
    return _differs(ours, theirs, _first_index(strange | large), where)


def _differs(ours: Any, theirs: Any, index: tuple[int, ...] | None, where: str) -> Finding:
    index = index if index is not None else (0,) * ours.ndim
    words = {"given": show(theirs[index].item()), "expected": show(ours[index].item())}
    return Finding("differs", where + (_index(index) if index else ""), words)


def _first_index(where: Any) -> tuple[int, ...] | None:
    import numpy as np

    found = np.argwhere(where)
    return tuple(int(i) for i in found[0]) if len(found) else None


def _index(index: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, index))}]"


_COMPARE: dict[str, Callable[[Any, Any, float | None, str], Finding | None]] = {
    "array": _array,
    "tensor": _tensor,
    "sequence": _sequence,
    "mapping": _mapping,
    "str": lambda a, b, _, where: (
        None if a == b else Finding("differs", where, {"given": show(b), "expected": show(a)})
    ),
    "NoneType": lambda *_: None,
}
