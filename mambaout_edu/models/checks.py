"""What every image model asks of its input and its arguments, and what it says when it gets something else."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["check_choice", "check_head", "check_images", "check_plan"]


def check_choice(option: str, value: object, known: Sequence[object]) -> None:
    """Refuse a value that is none of the known ones, with a ValueError that names them.

    >>> check_choice("stem", "conv", ("conv", "patch"))
    """
    if value not in known:
        raise ValueError(f"{option} must be one of {', '.join(map(repr, known))}; got {value!r}")


def check_plan(depths: Sequence[int], dims: Sequence[int]) -> None:
    """Refuse numbers of blocks and of channels that are no plan of stages, with a ValueError.

    >>> check_plan((3, 3, 9, 3), (96, 192, 384, 576))
    """
    if len(depths) != len(dims) or not depths or min(*depths, *dims) < 1:
        raise ValueError(
            f"depths and dims need one positive entry a stage; got depths = {tuple(depths)}, dims = {tuple(dims)}"
        )


def check_head(num_classes: int, global_pool: str | None, pools: Sequence[str] = ("avg",)) -> None:
    """Refuse a negative number of classes, and a pooling that is none of `pools`, "" (none) or None (as before).

    Raises ValueError.

    >>> check_head(0, "avg")
    """
    if global_pool not in (None, "", *pools):
        known = ", ".join(map(repr, pools))
        raise ValueError(f"global_pool must be {known} or '' (no pooling); got {global_pool!r}")
    if num_classes < 0:
        raise ValueError(f"num_classes must be 0 (features only) or more; got {num_classes}")


def check_images(x: Tensor, in_chans: int, weight: Tensor) -> None:
    """Refuse anything but images [B, in_chans, H, W] of the floating type of the weights.

    Under autocast any type but float64 will do: autocast converts the others.

    Raises
    ------
    ValueError
        For another number of axes or channels, or an image without pixels.
    TypeError
        For integers or another floating type than the weights'.

    Examples
    --------
    >>> check_images(torch.zeros(1, 3, 8, 8), 3, torch.zeros(1))
    """
    shape = tuple(x.shape)
    if x.ndim != 4:
        hint = " Add the batch axis with x[None]." if x.ndim == 3 else ""
        raise ValueError(f"expected images [B, {in_chans}, H, W]; got {x.ndim} axes, shape {shape}.{hint}")
    if x.shape[1] != in_chans:
        hint = (
            "Move the channels with x.permute(0, 3, 1, 2)."
            if x.shape[3] == in_chans
            else f"Create the model with in_chans={x.shape[1]}, or convert the images."
        )
        raise ValueError(f"expected images [B, {in_chans}, H, W]; got {x.shape[1]} channels, shape {shape}. {hint}")
    if x.shape[2] == 0 or x.shape[3] == 0:
        raise ValueError(f"expected images with at least one pixel; got shape {shape}")
    if not x.is_floating_point():
        raise TypeError(f"expected floating-point images; got {x.dtype}. Scale them first: x.float() / 255.")
    if torch.compiler.is_compiling() or x.dtype == weight.dtype:
        return
    if x.dtype != torch.float64 and torch.is_autocast_enabled(x.device.type):
        return
    raise TypeError(
        f"the images are {x.dtype}, the weights {weight.dtype}. Convert one: x.to({weight.dtype}) or "
        f"model.to({x.dtype})."
    )
