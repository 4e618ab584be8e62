"""Values of known types: what kind they are, how to copy them, how to show them in a few characters.

Only the operations of the types themselves are used, so a subclass cannot tell lies about itself.
NumPy and torch are not imported here; a value can only be an array or a tensor where they already are.
"""

import sys
import types
from typing import Any

__all__ = ["dtype_of", "items_of", "kind_of", "plain_number", "same", "shape_of", "show", "snapshot", "type_name"]

_DEPTH = 8  # deeper nesting is left as it is: no exercise returns such a thing


def kind_of(value: Any) -> str:
    """Name the kind of a value by its true type, whatever it says of itself.

    >>> kind_of(True), kind_of((1, 2)), kind_of("a"), kind_of(len)
    ('number', 'sequence', 'str', 'other')
    """
    cls = type(value)
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch and cls in (torch.Tensor, torch.nn.Parameter):
        return "number" if _is_counter(value) else "tensor"
    if numpy and cls is numpy.ndarray:
        return "array"
    if cls in (bool, int, float, complex) or (numpy and issubclass(cls, numpy.number | numpy.bool_)):
        return "number"
    if issubclass(cls, tuple | list):
        return "sequence"
    if issubclass(cls, dict):
        return "mapping"
    return cls.__name__ if cls in (str, bytes, type(None)) else "other"


def _is_counter(value: Any) -> bool:
    """Tell whether a tensor is one whole number, as `x.sum()` of integers is: that is as good as an int."""
    torch = sys.modules["torch"]
    return value.ndim == 0 and value.device.type != "meta" and value.dtype in (torch.int64, torch.int32)


def items_of(value: Any) -> list[Any]:
    """Return the items of a list or tuple, past any `__iter__` of a subclass.

    >>> items_of((1, 2))
    [1, 2]
    """
    return list(list.__iter__(value) if issubclass(type(value), list) else tuple.__iter__(value))


def plain_number(value: Any) -> Any:
    """Return a number as one of Python's own types.

    >>> import numpy as np
    >>> plain_number(np.int32(3))
    3
    """
    value = value.item() if type(value) not in (bool, int, float, complex) else value
    return value if type(value) in (bool, int, float, complex) else float(value)  # NumPy's long double


def snapshot(value: Any, depth: int = 0) -> Any:
    """Return a copy of a value that later changes cannot reach; objects of unknown type stay as they are.

    >>> value = [[1], 2]
    >>> copy = snapshot(value)
    >>> value[0].append(3)
    >>> copy
    [[1], 2]
    """
    kind = kind_of(value)
    if kind == "tensor":
        return value if value.layout != sys.modules["torch"].strided else value.detach().clone()
    if kind == "number":
        return value.detach().clone() if hasattr(type(value), "detach") else value
    if kind == "array":
        return value.copy()
    if kind == "sequence" and depth < _DEPTH:
        copies = [snapshot(item, depth + 1) for item in items_of(value)]
        return copies if issubclass(type(value), list) else tuple(copies)
    if kind == "mapping" and depth < _DEPTH:
        return {key: snapshot(item, depth + 1) for key, item in dict.items(value)}
    return value


def same(before: Any, after: Any) -> bool:
    """Tell whether a value is unchanged, to the bit, kind and shape (functions and other objects always are).

    >>> same([1, 2], [1, 2]), same([1, 2], [2, 1])
    (True, False)
    """
    kind = kind_of(before)
    if kind != kind_of(after):
        return False
    if kind in ("tensor", "array"):
        return show(before) == show(after) and _bytes(before) == _bytes(after)
    if kind == "sequence":
        pairs = list(zip(items_of(before), items_of(after), strict=False))
        return len(before) == len(after) and all(same(a, b) for a, b in pairs)
    if kind == "mapping":
        return before.keys() == after.keys() and all(same(before[key], after[key]) for key in before)
    return kind == "other" or repr(before) == repr(after)


def _bytes(value: Any) -> bytes:
    value = value.detach().cpu().contiguous().flatten() if kind_of(value) == "tensor" else value
    return value.tobytes() if kind_of(value) == "array" else bytes(value.view(sys.modules["torch"].uint8).numpy())


def show(value: Any) -> str:
    """Return a value in a few characters: numbers to six digits, arrays by their shape.

    >>> show(1 / 3), show([1, 2]), show(len)
    ('0.333333', '[1, 2]', 'len')
    """
    kind = kind_of(value)
    if kind in ("tensor", "array"):
        return f"{dtype_of(value)} {kind} {shape_of(value)}"
    if kind == "number":
        return _show_number(value)
    if kind == "sequence":
        ends = "[]" if issubclass(type(value), list) else "()"
        items = items_of(value)
        shown = [show(item) for item in items[:8]] + (["…"] if len(items) > 8 else [])
        comma = "," if len(shown) == 1 and ends == "()" else ""
        return f"{ends[0]}{', '.join(shown)}{comma}{ends[1]}"
    if kind in ("str", "NoneType"):
        return repr(value) if len(repr(value)) < 60 else f"{repr(value)[:57]}…"
    known = (types.FunctionType, types.BuiltinFunctionType)
    return value.__name__ if type(value) in known else type(value).__name__


def _show_number(value: Any) -> str:
    value = plain_number(value)
    if isinstance(value, float):
        return f"{value:.6g}" if value != round(value, 0) or abs(value) >= 1e16 else repr(value)
    if isinstance(value, complex):
        return f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return f"a whole number of {value.bit_length()} bits"
    return str(value)


def shape_of(value: Any) -> str:
    """Return the shape of an array or tensor as it is shown, such as "[2, 3]".

    >>> import numpy as np
    >>> shape_of(np.zeros((2, 3)))
    '[2, 3]'
    """
    return f"[{', '.join(map(str, value.shape))}]"


def dtype_of(value: Any) -> str:
    """Return the dtype's name, the same for NumPy and torch.

    >>> import numpy as np
    >>> dtype_of(np.zeros(1))
    'float64'
    """
    return str(value.dtype).removeprefix("torch.")


def type_name(value: Any) -> str:
    """Return the name of a value's type, with its package unless that is Python itself.

    >>> import numpy as np
    >>> type_name([]), type_name(np.zeros(1))
    ('list', 'numpy.ndarray')
    """
    cls = type(value)
    if cls.__module__ in ("builtins", "__main__"):
        return cls.__name__
    return f"{str(cls.__module__).split('.')[0]}.{cls.__name__}"
