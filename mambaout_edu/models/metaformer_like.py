"""One skeleton, many token mixers: MambaOut with its convolution exchanged, and nothing else.

Published comparisons of mixers change the whole network and its training. Here stem, gate, norms, downsampling and head
stay, so two models differ in the mixer alone; with `match_width`, at the same number of parameters or multiply-adds.
"""

import difflib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed, trunc_normal_
from torch import Tensor, nn

from mambaout_edu import mixers
from mambaout_edu.blocks.gated import LayerNorm
from mambaout_edu.models.mambaout import MambaOut, _init_weights
from mambaout_edu.models.parts import NormLayer
from mambaout_edu.models.tokens import PatchEmbed

__all__ = ["HEADED", "SKELETON_MIXERS", "IsotropicMambaOut", "metaformer_like"]

# The class behind each name, and arguments that `mixer_args` may replace.
SKELETON_MIXERS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
    "conv": (mixers.DepthwiseConv, {}),  # eq. 10: MambaOut itself
    "conv_ssm": (mixers.ConvSSM, {}),  # eq. 11: Mamba
    "ssm": (mixers.ScannedSSM, {"paths": "raster"}),
    "bidirectional": (mixers.ScannedSSM, {"paths": "bidirectional"}),
    "cross": (mixers.ScannedSSM, {"paths": "cross"}),
    "attention": (mixers.Attention, {}),
    "causal_attention": (mixers.Attention, {"causal": True}),
    "window": (mixers.WindowAttention, {"window_size": 7}),
    "lstm": (mixers.Recurrent, {"cell": "lstm"}),
    "rnn": (mixers.Recurrent, {"cell": "rnn"}),
    "gru": (mixers.Recurrent, {"cell": "gru"}),
    "pooling": (mixers.Pooling, {}),
    "identity": (mixers.Identity, {}),
}
HEADED = ("attention", "causal_attention", "window")
HEAD_DIM = 32  # Swin's
ISOTROPIC = ("img_size", "patch_size", "pos_embed")  # arguments of the isotropic skeleton alone


def metaformer_like(
    mixer: str | Callable[[int], nn.Module] = "conv",
    depths: int | Sequence[int] | None = None,
    dims: int | Sequence[int] | None = None,
    hierarchical: bool = True,
    num_classes: int = 1000,
    in_chans: int = 3,
    kernel_size: int = 7,
    mixer_args: Mapping[str, Any] | None = None,
    **skeleton: Any,
) -> MambaOut:
    """Build MambaOut's skeleton around any token mixer: "+ SSM", "+ attention", "+ LSTM" with one argument.

    Source of the skeleton: MambaOut, eq. 8-9 and section 3.4; that other mixers may stand in it: MetaFormer, arXiv
    2111.11418. Attention knows no positions; in the hierarchical skeleton it gets what the zeros around the 3x3
    convolutions of stem and downsampling tell, in the isotropic one position embeddings.

    Parameters
    ----------
    mixer
        A name in `SKELETON_MIXERS`, or a callable that takes the mixed channels and returns a module on [B, H, W, C].
        "conv" is MambaOut, "conv_ssm" its Mamba block (eq. 11); "ssm", "bidirectional" and "cross" are selective SSMs
        without a convolution. "window" is shifted in every second block of a stage, as in Swin.
    depths, dims
        As in timm, one entry a stage: (3, 3, 9, 3) and (96, 192, 384, 576), MambaOut-Tiny's, if None. The isotropic
        skeleton has one stage: 16 blocks of 384 channels, of about ViT-S's size, if None.
    hierarchical
        Four resolutions, as published; or one ("isotropic"), of patches as in ViT: see `IsotropicMambaOut`.
    num_classes, in_chans
        As in timm.
    kernel_size
        Side of the convolution's window in "conv" and "conv_ssm"; the other mixers have none.
    mixer_args
        Further arguments of the mixer's class, such as `d_state`, `order` or `head_dim`. Heads have 32 channels, or
        the greatest of 16, 8 and 4 that divides the channels.
    **skeleton
        Other arguments of `MambaOut` (`stem_stride`, `conv_ratio`, `drop_path_rate`, ...), or of `IsotropicMambaOut`.

    Raises
    ------
    ValueError
        If the mixer is unknown (the nearest names are offered), or the skeleton or mixer refuses a size.
    TypeError
        If an argument is not known to the skeleton or mixer, or `mixer_args` come with a callable.

    Examples
    --------
    >>> model = metaformer_like("lstm", depths=(1, 1), dims=(16, 32), stem_stride=1, num_classes=10)
    >>> model(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 10])
    >>> model.stages[1].blocks[0].mixer
    Recurrent(
      (net): LSTM(32, 32, batch_first=True)
    )
    """
    wrong = ("stem_stride", "stem_mid_norm", "downsample") if not hierarchical else ISOTROPIC
    if misplaced := [name for name in wrong if name in skeleton]:
        raise TypeError(
            f"hierarchical={hierarchical} has no use for {', '.join(misplaced)}; leave it out, or give "
            f"hierarchical={not hierarchical}"
        )
    depths = _per_stage(depths, (3, 3, 9, 3) if hierarchical else (16,))
    dims = _per_stage(dims, (96, 192, 384, 576) if hierarchical else (384,))
    skeleton |= {"depths": depths, "dims": dims, "num_classes": num_classes, "in_chans": in_chans}
    make = _in_turn(_factory(mixer, kernel_size, mixer_args), depths)
    model = (MambaOut if hierarchical else IsotropicMambaOut)(mixer=make, **skeleton)
    lent: Any = {**skeleton, "hierarchical": hierarchical, "kernel_size": kernel_size}
    model.skeleton = lent  # to match_width
    return model


class PositionedPatches(PatchEmbed):
    """Cut an image [B, in_chans, H, W] into patches [B, h, w, D], norm them, and add to each where it stands.

    The embeddings of the places are learned, for images of `img_size`; for other sizes they are resampled.

    >>> PositionedPatches(3, 8, patch_size=4, img_size=(16, 16))(torch.zeros(1, 3, 16, 24)).shape
    torch.Size([1, 4, 6, 8])
    """

    def __init__(
        self,
        in_chans: int,
        dim: int,
        patch_size: int,
        img_size: tuple[int, int],
        pos_embed: bool = True,
        norm_layer: NormLayer = LayerNorm,
    ) -> None:
        super().__init__(in_chans, dim, patch_size, patch_size)
        self.norm = norm_layer(dim)
        self.grid = self.grid_size(*img_size)
        self.pos_embed = nn.Parameter(torch.empty(1, math.prod(self.grid), dim)) if pos_embed else None
        if self.pos_embed is not None:
            trunc_normal_(self.pos_embed, std=0.02)

    @property
    def conv1(self) -> nn.Conv2d:
        """The first layer, under the name that it has in MambaOut's stem."""
        return self.proj

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, in_chans, H, W] to [B, h, w, D]."""
        x = self.norm(super().forward(x))
        if self.pos_embed is None:
            return x
        grid = (x.shape[1], x.shape[2])
        places: Tensor = self.pos_embed  # [1, h w, D]
        if grid != self.grid:
            places = resample_abs_pos_embed(places, list(grid), list(self.grid), num_prefix_tokens=0)
        return x + places.unflatten(1, grid)


class IsotropicMambaOut(MambaOut):
    """MambaOut's blocks and head at one resolution: patches and positions as in ViT, no downsampling.

    Ours: the paper speaks of an isotropic MambaOut in its appendix, whose plan is not known here.

    Parameters
    ----------
    img_size
        Side in pixels, or (height, width), that the position embeddings are made for.
    patch_size
        Side of a patch in pixels.
    pos_embed
        Whether learned embeddings tell where a patch stands.
    in_chans, depths, dims, **skeleton
        As in `MambaOut`; depths and dims have one entry.

    Raises
    ------
    ValueError
        If there is more than one stage, or an image is smaller than a patch.

    Examples
    --------
    >>> model = IsotropicMambaOut(img_size=16, patch_size=4, depths=(2,), dims=(16,), num_classes=10)
    >>> model(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        pos_embed: bool = True,
        in_chans: int = 3,
        depths: Sequence[int] = (16,),
        dims: Sequence[int] = (384,),
        **skeleton: Any,
    ) -> None:
        if len(depths) != 1 or len(dims) != 1:
            raise ValueError(
                f"an isotropic model has one stage, so depths and dims have one entry; got depths = {tuple(depths)}, "
                f"dims = {tuple(dims)}. Use hierarchical=True for several."
            )
        super().__init__(in_chans=in_chans, depths=depths, dims=dims, stem_stride=1, **skeleton)
        size = (img_size, img_size) if isinstance(img_size, int) else img_size
        norm = skeleton.get("norm_layer", LayerNorm)
        self.stem = PositionedPatches(in_chans, dims[0], patch_size, size, pos_embed, norm)  # type: ignore[assignment]
        self.stem.apply(_init_weights)
        self.feature_info[0]["reduction"] = patch_size

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay must leave alone: positions, and those of SSM mixers."""
        return super().no_weight_decay() | ({"stem.pos_embed"} if self.stem.pos_embed is not None else set())


def _per_stage(value: int | Sequence[int] | None, default: tuple[int, ...]) -> tuple[int, ...]:
    if value is None:
        return default
    return (value,) if isinstance(value, int) else tuple(value)


def _factory(
    mixer: str | Callable[[int], nn.Module], kernel_size: int, mixer_args: Mapping[str, Any] | None
) -> Callable[[int, int], nn.Module]:
    """Return what makes the mixer of a block from its channels and its number within the stage."""
    if callable(mixer):
        if mixer_args:
            raise TypeError(f"mixer_args = {dict(mixer_args)} are for mixers by name; bind them to the callable itself")
        return lambda channels, block: mixer(channels)
    if mixer not in SKELETON_MIXERS:
        near = difflib.get_close_matches(mixer, SKELETON_MIXERS, n=3) or SKELETON_MIXERS
        raise ValueError(
            f"unknown mixer {mixer!r}; did you mean {', '.join(near)}? Any callable that takes a number of channels "
            "will do too."
        )
    kind, defaults = SKELETON_MIXERS[mixer]
    kernel = {"kernel_size": kernel_size} if mixer in ("conv", "conv_ssm") else {}

    def make(channels: int, block: int) -> nn.Module:
        arguments = {**defaults, **kernel, **(mixer_args or {})}
        if mixer in HEADED and not {"num_heads", "head_dim"} & arguments.keys():
            shared = math.gcd(channels, HEAD_DIM)
            arguments["head_dim"] = shared if shared >= 4 else HEAD_DIM  # which is refused, with the heads that fit
        if mixer == "window":
            arguments.setdefault("shift_size", arguments["window_size"] // 2 if block % 2 else 0)
        return kind(channels, **arguments)

    return make


def _in_turn(make: Callable[[int, int], nn.Module], depths: Sequence[int]) -> Callable[[int], nn.Module]:
    """Number the calls within each stage from 0: MambaOut makes its blocks from first to last."""
    numbers = itertools.chain.from_iterable(range(depth) for depth in depths)
    return lambda channels: make(channels, next(numbers))
