"""The skeleton of the far-corner comparison: patches of 4 x 4 pixels, eight blocks, and a class for every pixel.

It is isotropic and shallow, so that reach is a real limit: seven-pixel windows over eight blocks see 24 patches to each
side. A hierarchical model halves the resolution between its stages, and so sees further with each.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mambaout_edu.blocks.gated import LayerNorm
from mambaout_edu.models.mambaout import MambaOut, _init_weights
from mambaout_edu.models.metaformer_like import HEADED, metaformer_like

__all__ = ["COMPARED", "PixelClassifier", "compared_model"]

COMPARED: dict[str, tuple[str, Mapping[str, Any]]] = {
    "conv": ("conv", {}),
    "conv + bidirectional": ("bidirectional", {"conv": 7}),
    "conv + cross": ("cross", {"conv": 7}),
    "attention": ("attention", {}),
}
"""The mixers that are compared: a name in `SKELETON_MIXERS`, and arguments. Two of them are the first and an SSM."""


class PixelClassifier(nn.Module):
    """Give every pixel class scores: the features of a MambaOut skeleton, and a linear map of each to its own pixels.

    The head mixes no positions, so what a pixel's scores depend on is what the features see.

    Parameters
    ----------
    backbone
        Maps images [B, C, H, W] to features [B, H / p, W / p, D] with `forward_features`.
    num_classes
        Classes of a pixel.

    Raises
    ------
    ValueError
        If there is no class, or height or width of an image is no multiple of the features' stride p.

    Examples
    --------
    >>> backbone = metaformer_like("conv", depths=1, dims=8, hierarchical=False, patch_size=4, num_classes=0)
    >>> PixelClassifier(backbone, num_classes=3)(torch.zeros(2, 3, 16, 24)).shape
    torch.Size([2, 3, 16, 24])
    """

    def __init__(self, backbone: MambaOut, num_classes: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1; got {num_classes}")
        self.stride = int(backbone.feature_info[-1]["reduction"])
        self.num_classes = num_classes
        backbone.head = nn.Identity()  # type: ignore[assignment]
        self.backbone = backbone
        self.norm = LayerNorm(backbone.num_features)
        self.fc = nn.Linear(backbone.num_features, self.stride**2 * num_classes)
        self.fc.apply(_init_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, C, H, W] to scores [B, num_classes, H, W]."""
        if x.shape[-2] % self.stride or x.shape[-1] % self.stride:
            raise ValueError(
                f"height and width must be multiples of the stride {self.stride}; got shape {tuple(x.shape)}. "
                "Crop the images"
            )
        y = self.fc(self.norm(self.backbone.forward_features(x)))  # [B, h, w, K p p]
        return nn.functional.pixel_shuffle(y.permute(0, 3, 1, 2), self.stride)

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay must leave alone, those of the backbone."""
        return {f"backbone.{name}" for name in self.backbone.no_weight_decay()}


def compared_model(
    mixer: str,
    num_classes: int,
    img_size: int,
    dense: bool = False,
    *,
    dim: int = 64,
    depth: int = 8,
    patch_size: int = 4,
    kernel_size: int = 7,
    parameters: int | None = None,
    seed: int,
) -> MambaOut | PixelClassifier:
    """Return a model of the comparison: the same skeleton for all, only the mixer changes.

    Parameters
    ----------
    mixer
        A name in `COMPARED`.
    num_classes, img_size
        Classes, and the side of the images in pixels.
    dense
        Whether every pixel gets a class, or the image one.
    dim, depth, patch_size, kernel_size
        Channels, blocks, side of a patch in pixels, side of the convolution's window in patches.
    parameters
        Take the width whose number of parameters is nearest to this, in place of `dim`. It is even, and for attention
        a multiple of 8, that is of a head.
    seed
        Of the first weights; torch's own generator is left as it was.

    Raises
    ------
    ValueError
        If the mixer is unknown or a size impossible, or no width comes within 5 % of `parameters`.

    Examples
    --------
    >>> conv = compared_model("conv", 4, 32, dense=True, depth=2, dim=32, seed=0)
    >>> conv(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 4, 32, 32])
    """
    if mixer not in COMPARED:
        raise ValueError(f"no compared mixer is named {mixer!r}; expected one of {', '.join(map(repr, COMPARED))}")
    kind, given = COMPARED[mixer]
    arguments = {**given, "conv": kernel_size} if "conv" in given else dict(given)

    def build(width: int) -> MambaOut | PixelClassifier:
        model = metaformer_like(
            kind,
            depths=depth,
            dims=width,
            hierarchical=False,
            img_size=img_size,
            patch_size=patch_size,
            kernel_size=kernel_size,
            num_classes=num_classes,
            mixer_args=arguments,
        )
        return PixelClassifier(model, num_classes) if dense else model

    def cost(width: int) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in build(width).parameters())

    if parameters is not None:
        dim = _matched(cost, parameters, dim, mixer, 8 if kind in HEADED else 2)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(dim)


def _matched(cost: Callable[[int], int], wanted: int, start: int, mixer: str, step: int) -> int:
    """Return the width, a multiple of the step, whose cost is nearest to the wanted one."""
    guess = start * math.sqrt(wanted / cost(start)) if wanted > 0 else 0  # costs grow about as the square of the width
    near = max(1, round(guess / step))
    widths = [step * count for count in range(max(1, near - 4), near + 5)]
    best = min(widths, key=lambda width: abs(cost(width) - wanted))
    if abs(cost(best) / max(wanted, 1) - 1) > 0.05:
        raise ValueError(
            f"no width in steps of {step} gives {mixer!r} {wanted:,} parameters within 5 %; {best} channels have "
            f"{cost(best):,}. Ask for more parameters, or give dim"
        )
    return best
