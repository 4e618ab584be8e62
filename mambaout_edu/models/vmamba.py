"""VMamba (Liu et al., NeurIPS 2024, arXiv 2401.10166): blocks around a scan along four paths of the image, in stages.

    image [B, 3, H, W] -> stem -> 4 x (downsampling, blocks) -> head -> [B, num_classes]

Two versions are published. The first ("v0") has 16 states, a gate and no MLP, cuts the image into patches and merges
them between stages. The later one ("v05_noz") has one state, no gate, an MLP, and convolves where the first one cuts.
Between stem and head images are channels-last; a stage begins with its downsampling, as in timm's models.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from timm.layers import get_act_layer, trunc_normal_
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from mambaout_edu.mixers.selective import no_weight_decay
from mambaout_edu.mixers.ss2d import SS2D
from mambaout_edu.models.checks import check_images
from mambaout_edu.models.parts import Downsample, NormLayer, Stage, Stem
from mambaout_edu.models.vmamba_parts import NormHead, PatchMerge, PatchStem, VSSBlock

__all__ = ["V0", "VMAMBA", "VMamba"]

_TINY, _BASE = (96, 192, 384, 768), (128, 256, 512, 1024)
V0: dict[str, Any] = {
    "d_state": 16,
    "ssm_ratio": 2.0,
    "gate": True,
    "conv_bias": True,
    "mlp_ratio": 0.0,
    "stem": "patch",
    "downsample": "merge",
}
# The arguments of `VMamba` behind each name. The authors call a configuration s<ssm_ratio>l<blocks of the third stage>.
VMAMBA: dict[str, dict[str, Any]] = {
    "vmamba_tiny": {"depths": (2, 2, 8, 2), "dims": _TINY},
    "vmamba_small": {"depths": (2, 2, 20, 2), "dims": _TINY},
    "vmamba_base": {"depths": (2, 2, 20, 2), "dims": _BASE},
    "vmamba_tiny_s2l5": {"depths": (2, 2, 5, 2), "dims": _TINY, "ssm_ratio": 2.0},
    "vmamba_small_s2l15": {"depths": (2, 2, 15, 2), "dims": _TINY, "ssm_ratio": 2.0},
    "vmamba_base_s2l15": {"depths": (2, 2, 15, 2), "dims": _BASE, "ssm_ratio": 2.0},
    "vmamba_tiny_v0": {"depths": (2, 2, 9, 2), "dims": _TINY, **V0},
    "vmamba_small_v0": {"depths": (2, 2, 27, 2), "dims": _TINY, **V0},
    "vmamba_base_v0": {"depths": (2, 2, 27, 2), "dims": _BASE, **V0},
}


class VMamba(nn.Module):
    """VMamba for images [B, in_chans, H, W] of any size; by default the later version, as in `vmamba_tiny`.

    Parameters
    ----------
    in_chans, num_classes, global_pool, depths, dims, mlp_ratio, norm_layer, act_layer
        As in timm. `mlp_ratio` 0 leaves the MLPs out; `act_layer` is theirs and the stem's.
    drop_path_rate, drop_rate
        As in timm. Drop path rises linearly from 0 to its rate over all blocks.
    d_state, ssm_ratio, dt_rank, kernel_size, conv_bias, gate, scan, engine
        Of the token mixer `SS2D`, which calls `ssm_ratio` expand.
    stem
        "conv", two 3x3 convolutions, or "patch", patches without overlap.
    stem_stride
        4 (published), 2 or 1, by which the stem divides the size of the image; smaller for small images.
    downsample
        "conv", a 3x3 convolution of stride 2, or "merge", 2 x 2 neighbours and a linear map.
    mixer
        Called with a number of channels, returns the token mixer of a block in the place of `SS2D`.

    Raises
    ------
    ValueError
        If depths and dims differ in length or an option is unknown, or images have another shape.
    TypeError
        If images are not of the weights' floating type.

    Examples
    --------
    >>> import torch
    >>> model = VMamba(depths=(1, 1), dims=(16, 32), num_classes=10, in_chans=1, stem_stride=1)
    >>> model(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        depths: Sequence[int] = (2, 2, 8, 2),
        dims: Sequence[int] = _TINY,
        d_state: int = 1,
        ssm_ratio: float = 1.0,
        dt_rank: int | str = "auto",
        kernel_size: int = 3,
        conv_bias: bool = False,
        gate: bool = False,
        scan: str = "cross",
        mlp_ratio: float = 4.0,
        stem: str = "conv",
        stem_stride: int = 4,
        downsample: str = "conv",
        norm_layer: NormLayer = nn.LayerNorm,
        act_layer: str | Callable[[], nn.Module] = nn.GELU,
        drop_path_rate: float = 0.0,
        drop_rate: float = 0.0,
        mixer: Callable[[int], nn.Module] | None = None,
        engine: str = "auto",
    ) -> None:
        super().__init__()
        _check(depths, dims, mlp_ratio, stem, stem_stride, downsample)
        self.in_chans, self.num_classes, self.drop_rate = in_chans, num_classes, drop_rate
        act: Callable[[], nn.Module] = get_act_layer(act_layer)
        ss2d: dict[str, Any] = {"d_state": d_state, "expand": ssm_ratio, "dt_rank": dt_rank, "engine": engine}
        ss2d |= {"kernel_size": kernel_size, "conv_bias": conv_bias, "gate": gate, "scan": scan}
        make: Callable[[int], nn.Module] = mixer or partial(SS2D, **ss2d)

        self.stem: nn.Module = (
            Stem(in_chans, dims[0], stem_stride, True, act, norm_layer)
            if stem == "conv"
            else PatchStem(in_chans, dims[0], stem_stride, norm_layer)
        )
        down = partial(Downsample if downsample == "conv" else PatchMerge, norm_layer=norm_layer)
        rates = np.linspace(0, drop_path_rate, sum(depths)).tolist()
        self.stages = nn.Sequential()
        self.feature_info: list[dict[str, Any]] = []
        for i, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
            blocks = [VSSBlock(dim, make(dim), mlp_ratio, norm_layer, act, rates.pop(0)) for _ in range(depth)]
            self.stages.append(Stage(blocks, down(dims[i - 1], dim) if i else None))
            self.feature_info.append({"num_chs": dim, "reduction": stem_stride * 2**i, "module": f"stages.{i}"})
        self.head = NormHead(dims[-1], num_classes, global_pool, drop_rate, norm_layer)
        self.num_features = self.head_hidden_size = dims[-1]
        self.apply(_init_weights)

    def forward_stages(self, x: Tensor, count: int) -> list[Tensor]:
        """Return the outputs [B, H, W, C] of the first `count` stages, of the stem's output."""
        outputs = []
        for stage in self.stages[:count]:
            x = stage(x)
            outputs.append(x)
        return outputs

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's output [B, H', W', C] of images [B, in_chans, H, W]."""
        return self._stages_of(x, len(self.stages))[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the class scores (or the features before the last layer) of [B, H', W', C]."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores [B, num_classes] of images [B, in_chans, H, W]."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the outputs of the chosen stages (all for None, the last n for an int), as timm's models do.

        With `norm` the last stage's output goes through the head's norm, which was trained for it alone.
        """
        if output_fmt not in ("NCHW", "NHWC"):
            raise ValueError(f"output_fmt must be 'NCHW' or 'NHWC'; got {output_fmt!r}")
        take, last = feature_take_indices(len(self.stages), indices)
        outputs = self._stages_of(x, last + 1 if stop_early else len(self.stages))
        chosen = [
            self.head.norm(y) if norm and i == len(self.stages) - 1 else y for i, y in enumerate(outputs) if i in take
        ]
        if output_fmt == "NCHW":
            chosen = [y.permute(0, 3, 1, 2).contiguous() for y in chosen]
        return chosen if intermediates_only else (outputs[-1], chosen)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what the chosen stages' outputs do not need; return their indices, as timm's models do."""
        take, last = feature_take_indices(len(self.stages), indices)
        self.stages = self.stages[: last + 1]
        if prune_norm:
            self.head.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0)
        return take

    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the model a new, untrained last layer (none for 0 classes)."""
        self.head.reset(num_classes, global_pool)
        self.num_classes = num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each stage's blocks in the backward pass instead of storing their activations."""
        for stage in self.stages:
            stage.grad_checkpointing = enable  # type: ignore[assignment]

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay must leave alone: decays, skips and step biases of the scans."""
        return no_weight_decay(self)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's patterns for layer-wise learning rates."""
        deep = [(r"^stages\.(\d+)\.downsample", (0,)), (r"^stages\.(\d+)\.blocks\.(\d+)", None)]
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else deep}

    def _stages_of(self, x: Tensor, count: int) -> list[Tensor]:
        check_images(x, self.in_chans, next(self.stem.parameters()))
        return self.forward_stages(self.stem(x), count)


def _check(
    depths: Sequence[int], dims: Sequence[int], mlp_ratio: float, stem: str, stem_stride: int, downsample: str
) -> None:
    if len(depths) != len(dims) or not depths or min(*depths, *dims) < 1:
        raise ValueError(
            f"depths and dims need one positive entry a stage; got depths = {tuple(depths)}, dims = {tuple(dims)}"
        )
    if mlp_ratio and int(mlp_ratio * min(dims)) < 1:
        raise ValueError(f"mlp_ratio must be 0 (no MLP) or leave at least one hidden channel; got {mlp_ratio}")
    for option, value, known in (
        ("stem", stem, ("conv", "patch")),
        ("stem_stride", stem_stride, (1, 2, 4)),
        ("downsample", downsample, ("conv", "merge")),
    ):
        if value not in known:
            raise ValueError(f"{option} must be one of {known}; got {value!r}")


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
