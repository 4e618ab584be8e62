"""The block of a Vim, and the norm of the published ones. Sequences are [B, L, D]."""

from collections.abc import Callable
from functools import partial

from timm.layers import DropPath
from torch import Tensor, nn

from mambaout_edu.mixers import BiMamba
from mambaout_edu.models.parts import NormLayer

__all__ = ["RMSNorm", "VimBlock"]

RMSNorm = partial(nn.RMSNorm, eps=1e-5)


class VimBlock(nn.Module):
    """Norm, mix the tokens, add. There is no MLP: the mixer's own projections mix the channels.

    The input keeps its floating type, so that 16-bit weights can work on a residual stream of 32 bits.

    >>> import torch
    >>> VimBlock(16)(torch.zeros(2, 5, 16)).shape
    torch.Size([2, 5, 16])
    """

    part = "token mixing"

    def __init__(
        self,
        dim: int,
        mixer: Callable[[int], nn.Module] = BiMamba,
        norm_layer: NormLayer = RMSNorm,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm = norm_layer(dim)
        self.mixer = mixer(dim)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [B, L, D] to the same shape."""
        weight: Tensor = self.norm.weight  # type: ignore[assignment]
        return x + self.drop_path(self.mixer(self.norm(x.to(weight.dtype))))
