"""The parts of a hierarchical vision model around its blocks: stem, stage, downsampling, head.

Images are [B, C, H, W] before the stem and channels-last after it. Keys of the state are timm's.
"""

from collections.abc import Callable, Sequence

import torch
from timm.models import checkpoint_seq
from torch import Tensor, nn

from mambaout_edu.blocks.gated import LayerNorm
from mambaout_edu.models.checks import check_head

__all__ = ["Downsample", "Head", "NormLayer", "Stage", "Stem"]

NormLayer = Callable[[int], nn.Module]


class Stem(nn.Module):
    """Two 3x3 convolutions that take an image [B, in_chans, H, W] to [B, H / stride, W / stride, dim].

    `stride` 4 is the published stem (both convolutions halve). Small images would leave later stages
    nothing to mix: at 32x32 stage four would see a single position. So `stride` 2 lets only the first
    convolution halve (64x64 images), and 1 neither (32x32 and less); weights keep their shapes.

    >>> Stem(3, 48, stride=2)(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 32, 32, 48])
    """

    part = "stem"

    def __init__(
        self,
        in_chans: int,
        dim: int,
        stride: int = 4,
        mid_norm: bool = True,
        act_layer: Callable[[], nn.Module] = nn.GELU,
        norm_layer: NormLayer = LayerNorm,
    ) -> None:
        super().__init__()
        if stride not in (1, 2, 4):
            raise ValueError(f"stem_stride must be 1, 2 or 4 (4 is the published stem); got {stride}")
        self.conv1 = nn.Conv2d(in_chans, dim // 2, 3, stride=1 if stride == 1 else 2, padding=1)
        self.norm1 = norm_layer(dim // 2) if mid_norm else None
        self.act = act_layer()
        self.conv2 = nn.Conv2d(dim // 2, dim, 3, stride=2 if stride == 4 else 1, padding=1)
        self.norm2 = norm_layer(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, in_chans, H, W] to [B, H / stride, W / stride, dim]."""
        x = self.conv1(x)  # [B, dim / 2, H / 2, W / 2]
        if self.norm1 is not None:
            x = self.norm1(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.conv2(self.act(x))  # [B, dim, H / 4, W / 4]
        return self.norm2(x.permute(0, 2, 3, 1))  # [B, H / 4, W / 4, dim]


class Downsample(nn.Module):
    """Halve the resolution and widen the channels: a 3x3 convolution of stride 2, with its norm after or before.

    >>> Downsample(96, 192)(torch.zeros(1, 7, 7, 96)).shape
    torch.Size([1, 4, 4, 192])
    """

    part = "downsampling"

    def __init__(self, dim: int, dim_out: int, norm_first: bool = False, norm_layer: NormLayer = LayerNorm) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.conv = nn.Conv2d(dim, dim_out, 3, stride=2, padding=1)
        self.norm = norm_layer(dim if norm_first else dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, H, W, dim] to [B, H / 2, W / 2, dim_out], rounding up."""
        if self.norm_first:
            x = self.norm(x)
        x = self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # [B, H / 2, W / 2, dim_out]
        return x if self.norm_first else self.norm(x)


class Stage(nn.Module):
    """Downsampling (from the second stage on), then `depth` blocks at one resolution.

    >>> Stage([nn.Identity()])(torch.zeros(1, 5, 5, 8)).shape
    torch.Size([1, 5, 5, 8])
    """

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.downsample = downsample or nn.Identity()
        self.blocks = nn.Sequential(*blocks)
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, H, W, dim] to [B, H', W', dim_out]."""
        x = self.downsample(x)
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint_seq(self.blocks, x)
        return self.blocks(x)


class Head(nn.Module):
    """Pool over positions, then an MLP: norm, linear to 4 x dim, GELU, norm, linear to the classes.

    `hidden_norm=False` leaves out the second norm, as timm's `*_rw` models do.

    >>> Head(8, num_classes=3)(torch.zeros(2, 5, 5, 8)).shape
    torch.Size([2, 3])
    """

    part = "head"

    def __init__(
        self,
        dim: int,
        num_classes: int,
        hidden_norm: bool = True,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        norm_layer: NormLayer = LayerNorm,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.num_features = 4 * dim
        self.norm = norm_layer(dim)
        self.pre_logits = nn.Sequential()
        self.pre_logits.add_module("fc", nn.Linear(dim, self.num_features))
        self.pre_logits.add_module("act", nn.GELU())
        if hidden_norm:
            self.pre_logits.add_module("norm", norm_layer(self.num_features))
        self.drop = nn.Dropout(drop_rate)
        self.reset(num_classes, global_pool)

    def reset(self, num_classes: int, global_pool: str | None = None, reset_other: bool = False) -> None:
        """Replace the last linear layer (identity for 0 classes); `reset_other` drops the MLP before it too."""
        check_head(num_classes, global_pool)
        if global_pool is not None:
            self.global_pool = global_pool
        if reset_other:
            self.norm, self.pre_logits, self.num_features = nn.Identity(), nn.Sequential(), self.dim
        like = next(self.parameters(), None)
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        if like is not None:
            self.fc.to(like.device, like.dtype)
        self.train(self.training)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map [B, H, W, dim] to class scores, or to what the last layer would get."""
        if self.global_pool == "avg":
            x = x.mean((1, 2))  # [B, dim]
        x = self.drop(self.pre_logits(self.norm(x)))  # [B, 4 dim]
        return x if pre_logits else self.fc(x)  # [B, num_classes]
