"""Random changes to training images that keep their labels, for whole batches at once."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["random_affine", "random_shift"]


def random_shift(images: Tensor, generator: torch.Generator, pixels: int = 1) -> Tensor:
    """Move each image by a random whole number of pixels; what comes into view is zero.

    Parameters
    ----------
    images
        float [B, C, H, W].
    generator
        Where the random numbers come from (on the CPU).
    pixels
        The largest shift, up, down, left and right.

    Returns
    -------
    Tensor
        A new tensor [B, C, H, W].

    Raises
    ------
    ValueError
        For a wrong shape or a shift as large as the image.

    Examples
    --------
    >>> dot = torch.zeros(3, 1, 5, 5)
    >>> dot[:, :, 2, 2] = 1
    >>> moved = random_shift(dot, torch.Generator().manual_seed(0))
    >>> moved.sum(dim=(1, 2, 3))
    tensor([1., 1., 1.])
    """
    batch, _, height, width = _check(images)
    if not 0 <= pixels < min(height, width):
        raise ValueError(f"pixels is {pixels}; expected 0 to {min(height, width) - 1} for images of {height}x{width}")
    padded = F.pad(images, (pixels, pixels, pixels, pixels))
    start = torch.randint(0, 2 * pixels + 1, (2, batch, 1), generator=generator).to(images.device)
    rows = start[0] + torch.arange(height, device=images.device)  # [B, H]
    columns = start[1] + torch.arange(width, device=images.device)  # [B, W]
    item = torch.arange(batch, device=images.device)[:, None, None]
    # Three index tensors around the channel slice: the result is [B, H, W, C].
    return padded[item, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def random_affine(
    images: Tensor,
    generator: torch.Generator,
    degrees: float = 10.0,
    scale: float = 0.1,
    shear: float = 0.1,
    pixels: float = 1.0,
) -> Tensor:
    """Turn, resize, slant and move each image at random; what comes into view is zero.

    Parameters
    ----------
    images
        float [B, C, H, W].
    generator
        Where the random numbers come from (on the CPU).
    degrees
        The largest turn, both ways.
    scale
        The largest change of size, as a share of 1, both ways.
    shear
        The largest sideways slant per unit of height, both ways.
    pixels
        The largest shift along each axis, in pixels and parts of pixels.

    Returns
    -------
    Tensor
        A new tensor [B, C, H, W], sampled bilinearly.

    Raises
    ------
    ValueError
        For a wrong shape, a negative range or a change of size of 1 or more.

    Examples
    --------
    >>> random_affine(torch.ones(2, 1, 8, 8), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 1, 8, 8])
    """
    batch, _, height, width = _check(images)
    if min(degrees, scale, shear, pixels) < 0 or scale >= 1:
        raise ValueError(
            f"degrees {degrees}, scale {scale}, shear {shear}, pixels {pixels}: expected ranges of 0 or more, "
            "and scale below 1"
        )
    turn, size, slant, right, down = (2 * torch.rand(5, batch, generator=generator) - 1).to(images)
    angle = turn * math.radians(degrees)
    zoom = 1 + size * scale
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # affine_grid measures positions from -1 to 1, so one pixel is 2 / width.
    first = torch.stack([cos, slant * shear * cos - sin, right * pixels * 2 / width], dim=1)
    second = torch.stack([sin, slant * shear * sin + cos, down * pixels * 2 / height], dim=1)
    theta = torch.stack([first, second], dim=1)  # [B, 2, 3]
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _check(images: Tensor) -> tuple[int, int, int, int]:
    if images.ndim != 4:
        raise ValueError(f"images have shape {tuple(images.shape)}; expected [B, C, H, W]")
    batch, channels, height, width = images.shape
    return batch, channels, height, width
