"""Rows taken by index and put back: what `flatten` and `merge` do to a picture seen as [B, H*W, C].

Taking is one gather for all paths. Putting back is its transpose, a sum over paths. Where every pixel is visited
equally often, as in all strategies of the package, that is gathers too, one a path: unlike a scatter, it adds in one
order on every device. Index tensors are made once for each strategy, grid and device.
"""

import operator
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mambaout_edu.flatten.checks import as_index
from mambaout_edu.flatten.orders import atrous_groups, made
from mambaout_edu.flatten.orders import order as order_of
from mambaout_edu.flatten.strategies import paths as paths_of

__all__ = ["Plan", "plan", "put", "take"]

Key = tuple[str, Any, tuple[tuple[str, Any], ...]]  # kind, name or bytes of every path, options

# torch.compile then calls them once and keeps their result; it cannot follow all of NumPy.
torch.compiler.assume_constant_result(made)
torch.compiler.assume_constant_result(atrous_groups)


class Plan(NamedTuple):
    """Which rows are taken, and where each comes back from.

    Attributes
    ----------
    lengths
        Steps of each path.
    rows
        int64 [M]: the pixel of each of the M steps of all paths.
    back
        int64 [visits * H*W]: the steps that visit each pixel, all pixels' first step before the second ones.
    pixels
        H*W.
    visits
        How often each pixel is visited; 0 where that differs, and `back` is empty.
    """

    lengths: tuple[int, ...]
    rows: Tensor
    back: Tensor
    pixels: int
    visits: int


def plan(
    kind: str,
    what: str | ArrayLike | Sequence[ArrayLike],
    options: dict[str, Any],
    height: int,
    width: int,
    device: torch.device,
    *,
    apart: bool = False,
) -> Plan:
    """Return the plan of an order or of paths, given by name or as indices.

    Steps stand side by side, as [L, K] is laid out, or with `apart` path after path.

    Raises ValueError for unknown names and for indices outside the grid, TypeError for options with indices.

    >>> plan("order", "column", {}, 2, 2, torch.device("cpu")).rows
    tensor([0, 2, 1, 3])
    """
    height, width = operator.index(height), operator.index(width)  # a plan is for one size: torch.compile must know
    if isinstance(what, str):
        key: Key = (kind, what, tuple(sorted(options.items())))
    else:
        if options:
            raise TypeError(
                f"options {', '.join(sorted(options))} go with a name; the indices given are used as they are"
            )
        several = cast(Sequence[ArrayLike], [what] if kind == "order" else what)
        if torch.compiler.is_dynamo_compiling():
            return _traced(several, height * width, device, apart)
        key = ("indices", tuple(as_index(path).tobytes() for path in several), ())
    lengths = _lengths(key, height, width)
    apart = apart or len(set(lengths)) > 1
    rows, back = (_index(part, key, height, width, apart, device) for part in ("rows", "back"))
    return Plan(lengths, rows, back, height * width, _visits(key, height, width))


def take(x: Tensor, way: Plan) -> Tensor:
    """Return the rows of x [B, H*W, C] that a plan visits, [B, M, C].

    >>> take(torch.tensor([[[1.0], [2.0]]]), plan("paths", "bidirectional", {}, 1, 2, torch.device("cpu"))).flatten()
    tensor([1., 2., 2., 1.])
    """
    if way.visits == 0:
        return x.index_select(1, way.rows)
    return cast(Tensor, _Take.apply(x, way.rows, way.back, way.visits))


def put(rows: Tensor, way: Plan) -> Tensor:
    """Return the sum over the rows [B, M, C] that belong to each of the pixels, [B, H*W, C].

    >>> steps = torch.tensor([[[1.0], [2.0], [20.0], [10.0]]])
    >>> put(steps, plan("paths", "bidirectional", {}, 1, 2, torch.device("cpu"))).flatten()
    tensor([11., 22.])
    """
    if way.visits == 0:
        return rows.new_zeros(rows.shape[0], way.pixels, rows.shape[2]).index_add(1, way.rows, rows)
    return cast(Tensor, _Put.apply(rows, way.rows, way.back, way.visits))


class _Transposed(torch.autograd.Function):
    """What taking and putting share: the gradient of one is the other."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, rows, back, ctx.visits = inputs
        ctx.save_for_backward(rows, back)


class _Take(_Transposed):
    @staticmethod
    def forward(x: Tensor, rows: Tensor, back: Tensor, visits: int) -> Tensor:
        return x.index_select(1, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return _Put.apply(grad, *ctx.saved_tensors, ctx.visits), None, None, None


class _Put(_Transposed):
    @staticmethod
    def forward(steps: Tensor, rows: Tensor, back: Tensor, visits: int) -> Tensor:
        first, *others = back.chunk(visits)  # [H*W] each
        total = steps.index_select(1, first)
        for other in others:
            total = total + steps.index_select(1, other)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return _Take.apply(grad, *ctx.saved_tensors, ctx.visits), None, None, None


def _arrays(key: Key, height: int, width: int) -> list[NDArray[np.int64]]:
    kind, what, options = key
    if kind == "paths":
        return paths_of(what, height, width, **dict(options))
    if kind == "order":
        return [order_of(what, height, width, **dict(options))]
    arrays = [np.frombuffer(path, dtype=np.int64) for path in what]
    if not arrays:
        raise ValueError("there are no paths; expected at least one row of indices")
    for path in arrays:
        outside = path[(path < 0) | (path >= height * width)]
        if outside.size:
            raise ValueError(
                f"a path holds index {outside[0]}; expected 0 to {height * width - 1} on a grid of {height} x {width}"
            )
    return arrays


@torch.compiler.assume_constant_result
def _lengths(key: Key, height: int, width: int) -> tuple[int, ...]:
    return tuple(len(path) for path in _arrays(key, height, width))


@torch.compiler.assume_constant_result
def _visits(key: Key, height: int, width: int) -> int:
    counts = np.bincount(np.concatenate(_arrays(key, height, width)), minlength=height * width)
    return int(counts[0]) if counts.min() == counts.max() else 0


@torch.compiler.assume_constant_result
def _index(part: str, key: Key, height: int, width: int, apart: bool, device: torch.device) -> Tensor:
    def made() -> NDArray[np.int64]:
        arrays = _arrays(key, height, width)
        rows = np.concatenate(arrays) if apart else np.stack(arrays, axis=1).ravel()
        if part == "rows":
            return rows
        visits = _visits(key, height, width)
        return np.argsort(rows, kind="stable").reshape(-1, visits).T.ravel() if visits else rows[:0]

    return _kept((part, key, height, width, apart, device), made, device)


_CACHE: OrderedDict[tuple[Any, ...], Tensor] = OrderedDict()
_CACHED_AT_MOST = 64
_LOCK = threading.Lock()


def _kept(key: tuple[Any, ...], make: Callable[[], NDArray[np.int64]], device: torch.device) -> Tensor:
    known = _CACHE.get(key)
    if known is not None:
        return known
    with torch.inference_mode(False):  # a tensor made in inference mode could not be saved for backward later
        index = torch.from_numpy(np.array(make())).to(device)
    if type(index) is Tensor:  # not a stand-in that belongs to a trace
        with _LOCK:
            _CACHE[key] = index
            if len(_CACHE) > _CACHED_AT_MOST:
                _CACHE.popitem(last=False)  # the oldest
    return index


def _traced(several: Sequence[ArrayLike], pixels: int, device: torch.device, apart: bool) -> Plan:
    """Return a plan inside torch.compile, where the indices are values of the graph: unchecked, with a scatter back."""
    tensors = [torch.as_tensor(path).to(device) for path in several]
    lengths = tuple(len(path) for path in tensors)
    joined = torch.cat(tensors) if apart or len(set(lengths)) > 1 else torch.stack(tensors, dim=1).flatten()
    return Plan(lengths, joined, joined[:0], pixels, visits=0)
