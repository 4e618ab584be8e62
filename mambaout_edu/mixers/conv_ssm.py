"""The token mixer of the Mamba block on images: what MambaOut takes out again."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from mambaout_edu.mixers.convolution import DepthwiseConv
from mambaout_edu.mixers.selective import SelectiveSSM

__all__ = ["ConvSSM"]


class ConvSSM(SelectiveSSM):
    """Mix tokens with SSM(act(Conv(Z))): a depthwise convolution on the image, then a selective scan over its rows.

    In `GatedBlock` it makes the Mamba block of MambaOut's eq. 11, where `DepthwiseConv` makes the gated CNN block of
    eq. 10. The scan is causal: it starts at the top left and ends at the bottom right.

    Parameters
    ----------
    channels
        C; all of them are mixed.
    kernel_size
        Side k of the convolution's window in pixels, odd.
    act_layer
        Constructor of the activation between convolution and scan; SiLU in Mamba.
    d_state, **ssm
        As in `SelectiveSSM`.

    Raises
    ------
    ValueError
        If a size is impossible, or the input is not [B, H, W, C] with C = `channels`.

    Examples
    --------
    >>> import torch
    >>> from functools import partial
    >>> from mambaout_edu.blocks import GatedBlock
    >>> block = GatedBlock(16, mixer=partial(ConvSSM, kernel_size=7))
    >>> block(torch.zeros(2, 5, 3, 16)).shape
    torch.Size([2, 5, 3, 16])
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 7,
        d_state: int = 16,
        act_layer: Callable[[], nn.Module] = nn.SiLU,
        **ssm: Any,
    ) -> None:
        super().__init__(channels, d_state, **ssm)
        self.conv = DepthwiseConv(channels, kernel_size)
        self.act = act_layer()

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, H, W, C] to the same shape."""
        return super().forward(self.act(self.conv(x)))
