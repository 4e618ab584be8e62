"""MambaOut (Yu and Wang, CVPR 2025): gated CNN blocks in four stages, each half the size and wider.

    image [B, 3, H, W] -> stem -> 4 x (downsampling, blocks) -> head -> [B, num_classes]

Argument names are timm's, so that either model can take the other's place; so are the keys of the
state, but for the depthwise convolution, which is the block's `mixer` here. Between stem and head
images are channels-last.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

from timm.layers import get_act_layer, trunc_normal_
from torch import Tensor, nn

from mambaout_edu.blocks import GatedBlock
from mambaout_edu.blocks.gated import LayerNorm
from mambaout_edu.mixers import DepthwiseConv
from mambaout_edu.models.checks import check_choice, check_images, check_plan
from mambaout_edu.models.parts import Downsample, Head, NormLayer, Stem
from mambaout_edu.models.staged import StagedModel

__all__ = ["MambaOut", "stage_shapes"]


def stage_shapes(
    height: int, width: int, dims: Sequence[int] = (96, 192, 384, 576), stem_stride: int = 4
) -> list[tuple[int, int, int]]:
    """Return (H, W, C) after each stage: the stem divides by its stride, each later stage by two, rounding up.

    Rounding up, because every stride-2 convolution has window 3 and padding 1.

    Raises ValueError for sizes below 1 or a stem stride other than 1, 2 or 4.

    >>> stage_shapes(224, 224)
    [(56, 56, 96), (28, 28, 192), (14, 14, 384), (7, 7, 576)]
    """
    if min(height, width, *dims) < 1 or stem_stride not in (1, 2, 4):
        raise ValueError(
            f"height, width and dims must be at least 1 and stem_stride 1, 2 or 4; "
            f"got {height}, {width}, {tuple(dims)} and {stem_stride}"
        )
    strides = [stem_stride * 2**i for i in range(len(dims))]
    return [(math.ceil(height / s), math.ceil(width / s), dim) for s, dim in zip(strides, dims, strict=True)]


class MambaOut(StagedModel):
    """MambaOut for images [B, in_chans, H, W] of any size; source: MambaOut, section 3.4 and the authors' code.

    Parameters
    ----------
    in_chans, num_classes, global_pool, depths, dims, conv_ratio, expansion_ratio, kernel_size
        As in timm.
    drop_path_rate, drop_rate
        As in timm. Drop path rises linearly from 0 to its rate over all blocks.
    stem_stride
        4 (published), 2 (for images of about 64 pixels) or 1 (32 and less); see `Stem`.
    stem_mid_norm, ls_init_value, downsample, head_fn
        timm's switches for its `*_rw` models: "conv" or "conv_nf" (norm first), "default" or "norm_mlp".
    act_layer
        A constructor or timm's name of an activation, for stem and gates.
    mixer
        Called with a number of channels, returns the token mixer of a block; by default a depthwise
        convolution with `kernel_size`.
    pad_hidden
        Compute with hidden widths rounded up to a multiple of this (8, say), which suits GPUs better than the 341,
        682 and 1365 of "mambaout_base"; the parameters and, but for rounding, the outputs stay. None leaves it.

    Raises
    ------
    ValueError
        If depths and dims differ in length or an option is unknown, or images have another shape.
    TypeError
        If images are not of the weights' floating type.

    Examples
    --------
    >>> import torch
    >>> model = MambaOut(depths=(1, 1), dims=(16, 32), num_classes=10, in_chans=1, stem_stride=1)
    >>> model(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    output_fmt = "NHWC"
    stem: Stem
    head: Head

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        depths: Sequence[int] = (3, 3, 9, 3),
        dims: Sequence[int] = (96, 192, 384, 576),
        norm_layer: NormLayer = LayerNorm,
        act_layer: str | Callable[[], nn.Module] = nn.GELU,
        conv_ratio: float | None = 1.0,
        expansion_ratio: float = 8 / 3,
        kernel_size: int = 7,
        stem_stride: int = 4,
        stem_mid_norm: bool = True,
        ls_init_value: float | None = None,
        downsample: str = "conv",
        drop_path_rate: float = 0.0,
        drop_rate: float = 0.0,
        head_fn: str = "default",
        mixer: Callable[[int], nn.Module] | None = None,
        pad_hidden: int | None = None,
    ) -> None:
        super().__init__(in_chans, num_classes, drop_rate)
        check_plan(depths, dims)
        check_choice("downsample", downsample, ("conv", "conv_nf"))
        check_choice("head_fn", head_fn, ("default", "norm_mlp"))
        act: Callable[[], nn.Module] = get_act_layer(act_layer)
        mixer = mixer or partial(DepthwiseConv, kernel_size=kernel_size)

        self.stem = Stem(in_chans, dims[0], stem_stride, stem_mid_norm, act, norm_layer)

        def block(dim: int, drop_path: float) -> nn.Module:
            return GatedBlock(
                dim, mixer, expansion_ratio, conv_ratio, ls_init_value, norm_layer, act, drop_path, pad_hidden
            )

        down = partial(Downsample, norm_first=downsample == "conv_nf", norm_layer=norm_layer)
        self._add_stages(depths, dims, block, down, drop_path_rate, stem_stride)
        self.head = Head(dims[-1], num_classes, head_fn == "default", global_pool, drop_rate, norm_layer)
        self.num_features, self.head_hidden_size = dims[-1], self.head.num_features
        self.apply(_init_weights)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's output [B, H', W', C] of images [B, in_chans, H, W]."""
        check_images(x, self.in_chans, self.stem.conv1.weight)
        return self.stages(self.stem(x))

    def reset_classifier(self, num_classes: int, global_pool: str | None = None, reset_other: bool = False) -> None:
        """Give the model a new, untrained last layer (none for 0 classes)."""
        self.head.reset(num_classes, global_pool, reset_other)
        self.num_classes, self.head_hidden_size = num_classes, self.head.num_features


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
