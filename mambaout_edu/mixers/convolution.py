"""The gated CNN's token mixer: a depthwise convolution."""

from torch import Tensor, nn

__all__ = ["DepthwiseConv"]


class DepthwiseConv(nn.Conv2d):
    """Mix each channel with its k x k neighbourhood, apart from all other channels.

    It is a `torch.nn.Conv2d` (so its state has `weight` [C, 1, k, k] and `bias` [C]) whose images are
    channels-last. Source: MambaOut, eq. 10 (k = 7 in all published variants).

    Parameters
    ----------
    dim
        Number of channels C; all of them are mixed.
    kernel_size
        Side k of the window in pixels; odd, so that the output keeps the size of the input.

    Raises
    ------
    ValueError
        If `kernel_size` is even or not positive, or the input is not [B, H, W, C] with C = `dim`.

    Examples
    --------
    >>> import torch
    >>> DepthwiseConv(8)(torch.zeros(2, 5, 3, 8)).shape
    torch.Size([2, 5, 3, 8])
    """

    part = "token mixing"  # what models.profile books its parameters and multiply-adds under

    def __init__(self, dim: int, kernel_size: int = 7) -> None:
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size must be odd and positive, so that the image keeps its size; got {kernel_size}. "
                f"Use {max(kernel_size, 0) + 1}, for example."
            )
        super().__init__(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, H, W, C] to the same shape."""
        if x.ndim != 4 or x.shape[-1] != self.in_channels:
            raise ValueError(
                f"DepthwiseConv({self.in_channels}) expects images [B, H, W, C] with C = {self.in_channels} last; "
                f"got shape {tuple(x.shape)}. A torch image [B, C, H, W] becomes one with x.permute(0, 2, 3, 1)."
            )
        x = x.permute(0, 3, 1, 2)  # [B, C, H, W], a view: the memory stays channels-last
        x = super().forward(x)
        return x.permute(0, 2, 3, 1)  # [B, H, W, C]
