"""The parts of VMamba that MambaOut has not: block, head, and the first version's stem and downsampling.

Images are [B, C, H, W] before the stem and channels-last after it.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp
from torch import Tensor, nn

from mambaout_edu.models.checks import check_head
from mambaout_edu.models.parts import NormLayer

__all__ = ["NormHead", "PatchMerge", "PatchStem", "VSSBlock"]


class PatchStem(nn.Module):
    """Cut the image into patches without overlap, one linear map for all: the stem of the first version.

    Rows and columns beyond the last whole patch are left out, as in the authors' code.

    >>> PatchStem(3, 8)(torch.zeros(1, 3, 18, 12)).shape
    torch.Size([1, 4, 3, 8])
    """

    part = "stem"

    def __init__(self, in_chans: int, dim: int, patch_size: int = 4, norm_layer: NormLayer = nn.LayerNorm) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.conv = nn.Conv2d(in_chans, dim, patch_size, stride=patch_size)
        self.norm = norm_layer(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, in_chans, H, W] to [B, H / patch_size, W / patch_size, dim]."""
        if min(x.shape[2:]) < self.patch_size:
            raise ValueError(
                f"expected images of at least one patch, {self.patch_size} x {self.patch_size} pixels; got "
                f"{x.shape[2]} x {x.shape[3]}. Enlarge them, or create the model with a smaller stem_stride."
            )
        return self.norm(self.conv(x).permute(0, 2, 3, 1))


class PatchMerge(nn.Module):
    """Halve the resolution: 2 x 2 neighbours side by side, norm, linear to the next width. The first version's way.

    An odd side is padded with zeros.

    >>> PatchMerge(8, 16)(torch.zeros(1, 3, 4, 8)).shape
    torch.Size([1, 2, 2, 16])
    """

    part = "downsampling"

    def __init__(self, dim: int, dim_out: int, norm_layer: NormLayer = nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm_layer(4 * dim)
        self.reduction = nn.Linear(4 * dim, dim_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, H, W, dim] to [B, H / 2, W / 2, dim_out], rounding up."""
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        neighbours = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(neighbours, dim=-1)))


class VSSBlock(nn.Module):
    """Norm, token mixer, add; then, in the later versions, norm, MLP, add.

    >>> from mambaout_edu.mixers import SS2D
    >>> VSSBlock(8, SS2D(8))(torch.zeros(1, 5, 3, 8)).shape
    torch.Size([1, 5, 3, 8])
    """

    part = "channel mixing"  # all but the mixer, which books itself as token mixing

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        mlp_ratio: float = 4.0,
        norm_layer: NormLayer = nn.LayerNorm,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm = norm_layer(dim)
        self.mixer = mixer
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()
        self.norm2 = norm_layer(dim) if mlp_ratio > 0 else None
        self.mlp = Mlp(dim, int(mlp_ratio * dim), act_layer=act_layer) if mlp_ratio > 0 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, H, W, C] to the same shape."""
        x = x + self.drop_path(self.mixer(self.norm(x)))
        if self.norm2 is not None and self.mlp is not None:
            x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


class NormHead(nn.Module):
    """Norm every position, pool over them, one linear layer to the classes.

    >>> NormHead(8, num_classes=3)(torch.zeros(2, 5, 5, 8)).shape
    torch.Size([2, 3])
    """

    part = "head"

    def __init__(
        self,
        dim: int,
        num_classes: int,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        norm_layer: NormLayer = nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.num_features = dim
        self.norm = norm_layer(dim)
        self.drop = nn.Dropout(drop_rate)
        self.reset(num_classes, global_pool)

    def reset(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the linear layer by a new, untrained one (identity for 0 classes)."""
        check_head(num_classes, global_pool)
        if global_pool is not None:
            self.global_pool = global_pool
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        if (like := next(self.norm.parameters(), None)) is not None:
            self.fc.to(like.device, like.dtype)
        self.fc.train(self.training)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map [B, H, W, dim] to class scores, or to what the last layer would get."""
        x = self.norm(x)
        if self.global_pool == "avg":
            x = x.mean((1, 2))  # [B, dim]
        x = self.drop(x)
        return x if pre_logits else self.fc(x)  # [B, num_classes]
