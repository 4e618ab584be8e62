"""Residual Swin: Swin whose stages are SwinIR's residual groups (RSTB), for classification.

    image -> patches -> 4 x (patch merging, residual group) -> norm -> head

    residual group   y = conv(blocks(x)) + x

Blocks, patch merging, and head are timm's Swin (Liu et al., arXiv 2103.14030), with its argument names and keys.
From SwinIR (Liang et al., arXiv 2108.10257, as its published code has it) comes the group: Swin blocks, then a
convolution, with a shortcut around both. Ours is the rest: SwinIR restores images at one resolution, with windows of 8,
an MLP ratio of 2 and one more shortcut around all groups. Here the group stands inside Swin-Tiny's plan of four
stages, after the patch merging, and the outer shortcut is left out, for it cannot span resolutions. No one has
published weights or an accuracy of this model.
"""

from functools import partial
from typing import Any

import torch
from timm.layers import PatchEmbed
from timm.models import checkpoint_seq
from timm.models.swin_transformer import SwinTransformer, SwinTransformerStage
from torch import Tensor, nn

from mambaout_edu.models.checks import check_images

__all__ = ["RESIDUAL_SWIN", "ResidualGroup", "ResidualSwin"]

RESIDUAL_SWIN: dict[str, dict[str, Any]] = {
    "residual_swin_tiny": {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)},
}
CONVOLUTIONS = ("1conv", "3conv")


class ResidualGroup(nn.Module):
    """A stage of timm's Swin, its blocks followed by a convolution, with a shortcut around both.

    The stage's own modules are taken over, so its keys stay `downsample` and `blocks`; `conv` is new.

    Parameters
    ----------
    stage
        The stage.
    resi_connection
        "1conv", a 3x3 convolution, or "3conv": 3x3 to a quarter of the channels, 1x1, 3x3 back, with leaky ReLU.

    Examples
    --------
    >>> stage = SwinTransformerStage(8, 16, (6, 6), depth=2, num_heads=2, window_size=3, dynamic_mask=True)
    >>> ResidualGroup(stage)(torch.zeros(1, 6, 6, 8)).shape
    torch.Size([1, 3, 3, 16])
    """

    part = "channel mixing"  # the convolution's, as that of the blocks around their attention

    def __init__(self, stage: SwinTransformerStage, resi_connection: str = "1conv") -> None:
        super().__init__()
        self.downsample, self.blocks = stage.downsample, stage.blocks
        self.downsample.part = "downsampling"  # for models.profile
        self.grad_checkpointing = False
        dim, like = stage.blocks[0].dim, stage.blocks[0].norm1.weight
        conv = nn.Conv2d(dim, dim, 3, padding=1) if resi_connection == "1conv" else _three_convolutions(dim)
        self.conv = conv.to(like.device, like.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, H, W, C] to [B, H', W', C']."""
        x = self.downsample(x)
        y = checkpoint_seq(self.blocks, x) if self.grad_checkpointing and torch.is_grad_enabled() else self.blocks(x)
        return x + self.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def set_input_size(self, feat_size: tuple[int, int], **windows: Any) -> None:
        """Fit windows and shifts to an input of this size, as timm's stage does."""
        halved = not isinstance(self.downsample, nn.Identity)
        size = ((feat_size[0] + 1) // 2, (feat_size[1] + 1) // 2) if halved else feat_size
        for block in self.blocks:
            block.set_input_size(feat_size=size, **windows)


class ResidualSwin(SwinTransformer):
    """Swin with SwinIR's residual groups as stages, for images [B, in_chans, H, W] of any size.

    Windows and shifts are planned for `img_size`, as in timm; an image of another size is cut into the same windows,
    and padded on the right and below where it does not fill patches or windows. `set_input_size` plans them anew.

    Without the convolution's weights and bias a group is its shortcut alone; with a convolution that passes its input
    on, it is Swin's stage plus the shortcut. Source: see the head of this module for what is whose.

    Parameters
    ----------
    resi_connection
        What stands after the blocks: "1conv" or "3conv", SwinIR's names; see `ResidualGroup`.
    drop_path_rate
        As in timm, but 0.2 as Swin-Tiny was trained with, where timm's class has 0.1.
    **swin
        All other arguments of timm's `SwinTransformer`, such as `embed_dim`, `depths`, `num_heads`, `window_size`.

    Raises
    ------
    ValueError
        If `resi_connection` is unknown, or images have another shape or no pixels.
    TypeError
        If images are not of the weights' floating type.

    Examples
    --------
    >>> model = ResidualSwin(embed_dim=16, depths=(2, 2), num_heads=(2, 4), num_classes=10)
    >>> model(torch.zeros(2, 3, 50, 33)).shape
    torch.Size([2, 10])
    """

    layers: nn.Sequential

    def __init__(self, resi_connection: str = "1conv", drop_path_rate: float = 0.2, **swin: Any) -> None:
        if resi_connection not in CONVOLUTIONS:
            raise ValueError(f"resi_connection must be one of {', '.join(CONVOLUTIONS)}; got {resi_connection!r}")
        any_size = {"strict_img_size": False, "embed_layer": partial(PatchEmbed, dynamic_img_pad=True)}
        super().__init__(drop_path_rate=drop_path_rate, **{**any_size, **swin})
        self.layers = nn.Sequential(*(ResidualGroup(stage, resi_connection) for stage in self.layers))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last group's normed output [B, H', W', C] of images [B, in_chans, H, W]."""
        check_images(x, self.in_chans, self.patch_embed.proj.weight)
        features: Tensor = super().forward_features(x)
        return features

    def forward_intermediates(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs of the chosen groups, as timm's Swin does."""
        check_images(x, self.in_chans, self.patch_embed.proj.weight)
        return super().forward_intermediates(x, *args, **kwargs)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's patterns for layer-wise learning rates; a group's convolution comes after its blocks."""
        found: dict[str, Any] = super().group_matcher(coarse)
        if not coarse:
            found["blocks"].insert(0, (r"^layers\.(\d+)\.conv", (9999,)))
        return found


def _three_convolutions(dim: int) -> nn.Sequential:
    slope = 0.2
    return nn.Sequential(
        nn.Conv2d(dim, dim // 4, 3, padding=1),
        nn.LeakyReLU(slope),
        nn.Conv2d(dim // 4, dim // 4, 1),
        nn.LeakyReLU(slope),
        nn.Conv2d(dim // 4, dim, 3, padding=1),
    )
