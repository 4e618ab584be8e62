"""Orders and paths applied to tensors: flatten, unflatten, flatten along several paths, and merge. With gradients.

glossary
    B, H, W, C   batch, height, width, channels        L   steps of a path        K   paths
"""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mambaout_edu.flatten.checks import check_order, check_size
from mambaout_edu.flatten.gather import Plan, plan, put, take

__all__ = ["flatten", "flatten_paths", "merge", "unflatten"]


def flatten(x: Tensor, order: str | ArrayLike, **options: Any) -> Tensor:
    """Return the pixels of a picture in the sequence of an order.

    Parameters
    ----------
    x
        [B, H, W, C].
    order
        A name of `ORDERS` (its options follow as keywords), or row-major indices [L]; they may leave pixels out.

    Returns
    -------
    Tensor
        [B, L, C]; L = H*W for a name.

    Raises
    ------
    ValueError
        If `x` has other axes, or an index is outside the grid.
    TypeError
        If the indices are no whole numbers, or options are given with them.

    Examples
    --------
    >>> picture = torch.arange(6).reshape(1, 2, 3, 1)
    >>> flatten(picture, "serpentine").flatten()
    tensor([0, 1, 2, 5, 4, 3])
    >>> flatten(picture, [5, 0]).flatten()
    tensor([5, 0])
    """
    height, width = _grid(x)
    return take(x.flatten(1, 2), plan("order", order, options, height, width, x.device))


def unflatten(seq: Tensor, order: str | ArrayLike, size: tuple[int, int], **options: Any) -> Tensor:
    """Return the picture whose pixels stand in the sequence of an order; undoes `flatten`.

    Parameters
    ----------
    seq
        [B, L, C] with L = H*W.
    order
        As in `flatten`, but every pixel must be visited once.
    size
        Height and width of the grid.

    Returns
    -------
    Tensor
        [B, H, W, C].

    Raises
    ------
    ValueError
        If the shapes do not fit, or an index is outside, repeated or missing.
    TypeError
        If the indices are no whole numbers, or options are given with them.

    Examples
    --------
    >>> unflatten(torch.tensor([0, 1, 2, 5, 4, 3]).reshape(1, 6, 1), "serpentine", (2, 3)).flatten()
    tensor([0, 1, 2, 3, 4, 5])
    """
    height, width = check_size(*size)
    if seq.ndim != 3 or seq.shape[1] != height * width:
        raise ValueError(
            f"seq must be [B, L, C] with L = {height} * {width} = {height * width}; got {tuple(seq.shape)}"
        )
    way = plan("order", order, options, height, width, seq.device)
    if way.visits != 1 and not torch.compiler.is_dynamo_compiling():
        check_order(order, height * width)  # says which index is missing or repeated
    return put(seq, way).unflatten(1, (height, width))


def flatten_paths(x: Tensor, paths: str | Sequence[ArrayLike], **options: Any) -> Tensor:
    """Return the pixels of a picture along several paths of one length, side by side.

    The layout makes the paths the groups of one selective scan: `[B, L, K, C]` seen as `[B, L, K*C]` is its `u` for
    `layout="bld"`.

    Parameters
    ----------
    x
        [B, H, W, C].
    paths
        A name of `PATHS` or `ORDERS` (its options follow as keywords), or K rows of indices [L], such as `paths`
        returns. Inside torch.compile give a name.

    Returns
    -------
    Tensor
        [B, L, K, C].

    Raises
    ------
    ValueError
        If `x` has other axes, an index is outside the grid, or the paths differ in length (flatten those one by one).
    TypeError
        If the indices are no whole numbers, or options are given with them.

    Examples
    --------
    >>> picture = torch.arange(4).reshape(1, 2, 2, 1)
    >>> flatten_paths(picture, "cross")[0, :, :, 0].T
    tensor([[0, 1, 2, 3],
            [0, 2, 1, 3],
            [3, 2, 1, 0],
            [3, 1, 2, 0]])
    """
    height, width = _grid(x)
    way = plan("paths", paths, options, height, width, x.device)
    if len(set(way.lengths)) != 1:
        raise ValueError(
            f"the paths have {', '.join(map(str, way.lengths))} steps; expected one length. "
            "Use flatten(x, path) for each, and give merge the list"
        )
    return take(x.flatten(1, 2), way).unflatten(1, (way.lengths[0], len(way.lengths)))


def merge(
    y: Tensor | Sequence[Tensor], paths: str | Sequence[ArrayLike], size: tuple[int, int], **options: Any
) -> Tensor:
    """Return the sum of all paths, each put back in its place; a pixel gets nothing from a path that leaves it out.

    It is the transpose of `flatten_paths`: merging what that returns gives K times the picture.

    Parameters
    ----------
    y
        [B, L, K, C], or a list of K tensors [B, L_k, C] for paths of different length.
    paths
        As in `flatten_paths`; here the lengths may differ.
    size
        Height and width of the grid.

    Returns
    -------
    Tensor
        [B, H, W, C].

    Raises
    ------
    ValueError
        If the shapes do not fit the paths, or an index is outside the grid.
    TypeError
        If the indices are no whole numbers, or options are given with them.

    Examples
    --------
    >>> picture = torch.arange(4.0).reshape(1, 2, 2, 1)
    >>> merge(flatten_paths(picture, "cross"), "cross", (2, 2)).flatten()
    tensor([ 0.,  4.,  8., 12.])
    """
    height, width = check_size(*size)
    if not isinstance(y, Tensor) and not y:
        raise ValueError("y is an empty list; expected one tensor [B, L, C] a path")
    way = plan("paths", paths, options, height, width, y[0].device, apart=not isinstance(y, Tensor))
    if not _fits(y, way):
        raise ValueError(
            f"y has {_shapes(y)}, but the paths have {', '.join(map(str, way.lengths))} steps on the grid of "
            f"{height} x {width}; expected [B, L, K, C], or a list of one [B, L, C] a path"
        )
    rows = y.flatten(1, 2) if isinstance(y, Tensor) else torch.cat(list(y), dim=1)  # [B, all steps of all paths, C]
    return put(rows, way).unflatten(1, (height, width))


def _fits(y: Tensor | Sequence[Tensor], way: Plan) -> bool:
    if isinstance(y, Tensor):
        return y.ndim == 4 and len(way.lengths) == y.shape[2] and set(way.lengths) == {y.shape[1]}
    return [part.ndim for part in y] == [3] * len(way.lengths) and [part.shape[1] for part in y] == list(way.lengths)


def _shapes(y: Tensor | Sequence[Tensor]) -> str:
    if isinstance(y, Tensor):
        return f"shape {tuple(y.shape)}"
    return f"shapes {', '.join(str(tuple(part.shape)) for part in y)}"


def _grid(x: Tensor) -> tuple[int, int]:
    if x.ndim != 4:
        raise ValueError(f"x must be a picture [B, H, W, C]; got shape {tuple(x.shape)}")
    return check_size(x.shape[1], x.shape[2])
