"""Mixers without a parameter: an average over neighbours, and none at all (what is left of a MetaFormer then)."""

import torch.nn.functional as F
from torch import Tensor, nn

from mambaout_edu.mixers.faces import as_image
from mambaout_edu.mixers.selective import check_sizes

__all__ = ["Identity", "Pooling"]


class Pooling(nn.Module):
    """Replace each token by the average of its k x k neighbourhood, less the token itself.

    Less itself, because the block around it adds the token again. Neighbours outside the image do not count; a
    sequence is an image of one row. Source: PoolFormer, arXiv 2111.11418, eq. 4 (k = 3).

    Parameters
    ----------
    channels
        C; it is only checked.
    kernel_size
        Side k of the window in pixels; odd.

    Raises
    ------
    ValueError
        If `kernel_size` is even or not positive, or the input is neither [B, L, C] nor [B, H, W, C].

    Examples
    --------
    >>> import torch
    >>> Pooling(1)(torch.tensor([[[1.0], [2.0], [6.0]]])).flatten().tolist()
    [0.5, 1.0, -2.0]
    """

    part = "token mixing"

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        check_sizes(channels=channels)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size must be odd and positive, so that the image keeps its size; got {kernel_size}. "
                f"Use {max(kernel_size, 0) + 1}, for example."
            )
        self.channels, self.kernel_size = channels, kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, L, C] or [B, H, W, C] to the same shape."""
        image = as_image(x, self.channels, "Pooling").permute(0, 3, 1, 2)  # [B, C, H, W]
        mean = F.avg_pool2d(image, self.kernel_size, 1, self.kernel_size // 2, count_include_pad=False)
        return (mean - image).permute(0, 2, 3, 1).reshape(x.shape)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.channels}, kernel_size={self.kernel_size}"


class Identity(nn.Module):
    """Mix nothing: every token stays as it is. Source: IdentityFormer, arXiv 2210.13452, section 2.2.

    Parameters
    ----------
    channels
        C; it is only checked.

    Raises
    ------
    ValueError
        If `channels` is below 1, or the input is neither [B, L, C] nor [B, H, W, C].

    Examples
    --------
    >>> import torch
    >>> Identity(1)(torch.tensor([[[1.0], [2.0]]])).flatten().tolist()
    [1.0, 2.0]
    """

    part = "token mixing"

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_sizes(channels=channels)
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, L, C] or [B, H, W, C] as it is."""
        as_image(x, self.channels, "Identity")
        return x
