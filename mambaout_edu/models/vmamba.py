"""VMamba (Liu et al., NeurIPS 2024, arXiv 2401.10166): blocks around a scan along four paths of the image, in stages.

    image [B, 3, H, W] -> stem -> 4 x (downsampling, blocks) -> head -> [B, num_classes]

Two versions are published. The first ("v0") has 16 states, a gate and no MLP, cuts the image into patches and merges
them between stages. The later one ("v05_noz") has one state, no gate, an MLP, and convolves where the first one cuts.
Between stem and head images are channels-last; a stage begins with its downsampling, as in timm's models.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from timm.layers import get_act_layer, trunc_normal_
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from mambaout_edu.mixers.ss2d import SS2D
from mambaout_edu.models.checks import check_choice, check_plan
from mambaout_edu.models.parts import Downsample, NormLayer, Stem
from mambaout_edu.models.staged import StagedModel
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


class VMamba(StagedModel):
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

    head: NormHead

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
        super().__init__(in_chans, num_classes, drop_rate)
        _check(depths, dims, mlp_ratio, stem, stem_stride, downsample)
        act: Callable[[], nn.Module] = get_act_layer(act_layer)
        ss2d: dict[str, Any] = {"d_state": d_state, "expand": ssm_ratio, "dt_rank": dt_rank, "engine": engine}
        ss2d |= {"kernel_size": kernel_size, "conv_bias": conv_bias, "gate": gate, "scan": scan}
        make: Callable[[int], nn.Module] = mixer or partial(SS2D, **ss2d)

        self.stem = (
            Stem(in_chans, dims[0], stem_stride, True, act, norm_layer)
            if stem == "conv"
            else PatchStem(in_chans, dims[0], stem_stride, norm_layer)
        )

        def block(dim: int, drop_path: float) -> nn.Module:
            return VSSBlock(dim, make(dim), mlp_ratio, norm_layer, act, drop_path)

        down = partial(Downsample if downsample == "conv" else PatchMerge, norm_layer=norm_layer)
        self._add_stages(depths, dims, block, down, drop_path_rate, stem_stride)
        self.head = NormHead(dims[-1], num_classes, global_pool, drop_rate, norm_layer)
        self.num_features = self.head_hidden_size = dims[-1]
        self.apply(_init_weights)

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

    def _intermediate(self, x: Tensor, stage: int, norm: bool) -> Tensor:
        """Return a stage's output; with `norm` the last one's through the head's norm, which was trained for it."""
        return self.head.norm(x) if norm and stage == len(self.stages) - 1 else x


def _check(
    depths: Sequence[int], dims: Sequence[int], mlp_ratio: float, stem: str, stem_stride: int, downsample: str
) -> None:
    check_plan(depths, dims)
    if mlp_ratio and int(mlp_ratio * min(dims)) < 1:
        raise ValueError(f"mlp_ratio must be 0 (no MLP) or leave at least one hidden channel; got {mlp_ratio}")
    check_choice("stem", stem, ("conv", "patch"))
    check_choice("stem_stride", stem_stride, (1, 2, 4))
    check_choice("downsample", downsample, ("conv", "merge"))


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
