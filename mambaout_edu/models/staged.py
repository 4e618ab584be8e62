"""What models in stages have in common: timm's interface to a stem, stages and a head.

    image [B, C, H, W] -> stem -> stages, each a downsampling and blocks -> head -> [B, num_classes]

Between stem and head images are channels-last.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from mambaout_edu.mixers import no_weight_decay
from mambaout_edu.models.checks import check_choice, check_images
from mambaout_edu.models.parts import Stage

__all__ = ["StagedModel"]


class StagedModel(nn.Module):
    """A base for models in stages: they make `stem`, `stages` and `head`, and have timm's methods from here.

    A subclass sets `stem`, then calls `_add_stages`, then sets `head`, which has a last layer `fc` and a `reset`.

    Parameters
    ----------
    in_chans, num_classes, drop_rate
        As in timm.

    Examples
    --------
    >>> from mambaout_edu.models import MambaOut, VMamba
    >>> issubclass(MambaOut, StagedModel), issubclass(VMamba, StagedModel)
    (True, True)
    """

    stem: nn.Module
    head: nn.Module

    def __init__(self, in_chans: int, num_classes: int, drop_rate: float) -> None:
        super().__init__()
        self.in_chans, self.num_classes, self.drop_rate = in_chans, num_classes, drop_rate

    def _add_stages(
        self,
        depths: Sequence[int],
        dims: Sequence[int],
        block: Callable[[int, float], nn.Module],
        downsample: Callable[[int, int], nn.Module],
        drop_path_rate: float,
        stem_stride: int,
    ) -> None:
        """Make `stages`, of `block(dim, drop_path)` and `downsample(dim, dim_out)`, and timm's `feature_info`.

        Drop path rises linearly from 0 to its rate over all blocks.
        """
        rates = np.linspace(0, drop_path_rate, sum(depths)).tolist()
        self.stages = nn.Sequential()
        self.feature_info: list[dict[str, Any]] = []
        for i, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
            blocks = [block(dim, rates.pop(0)) for _ in range(depth)]
            self.stages.append(Stage(blocks, downsample(dims[i - 1], dim) if i else None))
            self.feature_info.append({"num_chs": dim, "reduction": stem_stride * 2**i, "module": f"stages.{i}"})

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

        With `norm` the last stage's output goes through the head's norm where that stands before the pooling.
        """
        check_choice("output_fmt", output_fmt, ("NCHW", "NHWC"))
        take, last = feature_take_indices(len(self.stages), indices)
        outputs = self._stages_of(x, last + 1 if stop_early else len(self.stages))
        chosen = [self._intermediate(y, i, norm) for i, y in enumerate(outputs) if i in take]
        if output_fmt == "NCHW":
            chosen = [y.permute(0, 3, 1, 2).contiguous() for y in chosen]
        return chosen if intermediates_only else (outputs[-1], chosen)

    def get_classifier(self) -> nn.Module:
        """Return the last linear layer."""
        return self.head.fc  # type: ignore[return-value]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the model a new, untrained last layer (none for 0 classes)."""
        self.head.reset(num_classes, global_pool)  # type: ignore[operator]
        self.num_classes = num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each stage's blocks in the backward pass instead of storing their activations."""
        for stage in self.stages:
            stage.grad_checkpointing = enable  # type: ignore[assignment]

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay must leave alone: decays, skips and step biases of SSM mixers."""
        return no_weight_decay(self)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's patterns for layer-wise learning rates."""
        deep = [(r"^stages\.(\d+)\.downsample", (0,)), (r"^stages\.(\d+)\.blocks\.(\d+)", None)]
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else deep}

    def _intermediate(self, x: Tensor, stage: int, norm: bool) -> Tensor:
        """Return a stage's output as `forward_intermediates` gives it: as it is, where no norm is made for it."""
        return x

    def _stages_of(self, x: Tensor, count: int) -> list[Tensor]:
        check_images(x, self.in_chans, next(self.stem.parameters()))
        return self.forward_stages(self.stem(x), count)
