"""Res-VMamba (Chen et al., arXiv 2402.15761): VMamba's first version with one more shortcut, around whole stages.

Its published code and its figure differ, and neither is what was likely meant; so there are three `residual`s.

    "stage"      x = downsample(stage(x)) + conv1x1(maxpool(x)), as in the code, with learned convolutions
    "published"  the same, but every forward pass draws new random convolutions: the code builds them inside `forward`
    "stem"       the figure: what the stem gives runs beside the stages, pooled at each, and is added after each
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import checkpoint_seq
from torch import Tensor, nn

from mambaout_edu.models.checks import check_choice
from mambaout_edu.models.vmamba import V0, VMAMBA, VMamba

__all__ = ["RESIDUALS", "RES_VMAMBA", "ResVMamba"]

RESIDUALS = ("stage", "published", "stem")
# The published model is the small one; its code has VMamba-Small's first version inside.
RES_VMAMBA: dict[str, dict[str, Any]] = {
    "res_vmamba_tiny": {**VMAMBA["vmamba_tiny_v0"]},
    "res_vmamba_small": {**VMAMBA["vmamba_small_v0"]},
}


class FreshProjection(nn.Module):
    """A 1x1 convolution whose weights are drawn anew in every pass, from torch's global generator.

    They are uniform between +-1 / sqrt(dim), as `torch.nn.Conv2d` starts. The module has no parameters: nothing
    is learned, nothing is saved, and the same image gives another result each time.

    >>> project, x = FreshProjection(4, 8), torch.ones(1, 4, 2, 2)
    >>> bool((project(x) == project(x)).all())
    False
    """

    def __init__(self, dim: int, dim_out: int) -> None:
        super().__init__()
        self.dim, self.dim_out = dim, dim_out

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, dim, H, W] to [B, dim_out, H, W]."""
        bound = 1 / math.sqrt(self.dim)
        weight = x.new_empty(self.dim_out, self.dim, 1, 1).uniform_(-bound, bound)
        bias = x.new_empty(self.dim_out).uniform_(-bound, bound)
        return F.conv2d(x, weight, bias)


class ResVMamba(VMamba):
    """VMamba with a residual connection around every stage but the last, for images of any size.

    Parameters
    ----------
    residual
        "stage", learned projections of each stage's input; "published", the same with random projections that every
        forward pass draws anew, in evaluation too; "stem", learned projections of the stem's output, carried along.
    vmamba
        As in `VMamba`; what is not given is as in VMamba's first version (16 states, gate, no MLP, patches).

    Raises
    ------
    ValueError
        If the residual is unknown, and as `VMamba`.

    Examples
    --------
    >>> model = ResVMamba(depths=(1, 1), dims=(8, 16), num_classes=10).eval()
    >>> sum(p.numel() for p in model.residual_projection.parameters())
    144
    """

    part = "downsampling"  # the projections book here; all else books itself

    def __init__(self, residual: str = "stage", **vmamba: Any) -> None:
        check_choice("residual", residual, RESIDUALS)
        super().__init__(**{**V0, **vmamba})
        self.residual = residual
        dims = [info["num_chs"] for info in self.feature_info]
        sources = [dims[0]] * (len(dims) - 1) if residual == "stem" else dims[:-1]
        project = FreshProjection if residual == "published" else _Conv1x1
        self.residual_projection = nn.ModuleList(
            project(dim, dim_out) for dim, dim_out in zip(sources, dims[1:], strict=True)
        )
        self.pool = nn.MaxPool2d(2, ceil_mode=True)  # odd sides round up, as the downsampling beside it does

    def forward_stages(self, x: Tensor, count: int) -> list[Tensor]:
        """Return the outputs [B, H, W, C] of the first `count` stages, of the stem's output."""
        outputs = []
        shortcut = x
        for i, stage in enumerate(self.stages[:count]):
            x = stage.downsample(x)  # type: ignore[operator]
            if i:
                shortcut = self.pool(shortcut.permute(0, 3, 1, 2))  # [B, C, H, W]
                x = x + self.residual_projection[i - 1](shortcut).permute(0, 2, 3, 1)
                shortcut = shortcut.permute(0, 2, 3, 1) if self.residual == "stem" else x
            recompute = stage.grad_checkpointing and torch.is_grad_enabled()
            x = checkpoint_seq(stage.blocks, x) if recompute else stage.blocks(x)  # type: ignore[operator]
            outputs.append(x)
        return outputs

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what the chosen stages' outputs do not need; return their indices, as timm's models do."""
        take = super().prune_intermediate_layers(indices, prune_norm, prune_head)
        self.residual_projection = self.residual_projection[: len(self.stages) - 1]
        return take

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's patterns for layer-wise learning rates; a projection follows the stage that it goes around."""
        if coarse:
            return {"stem": r"^stem", "blocks": r"^(?:stages|residual_projection)\.(\d+)"}
        patterns = super().group_matcher()
        patterns["blocks"].append((r"^residual_projection\.(\d+)", (99999,)))
        return patterns


class _Conv1x1(nn.Conv2d):
    def __init__(self, dim: int, dim_out: int) -> None:
        super().__init__(dim, dim_out, 1)
