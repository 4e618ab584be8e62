"""What every image model asks of its input, and what it says when it gets something else."""

import torch
from torch import Tensor

__all__ = ["check_images"]


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
