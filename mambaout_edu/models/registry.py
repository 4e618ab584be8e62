"""Models by name: the published variants, and ours for small images.

timm has MambaOut of its own, so `timm.create_model("mambaout_tiny")` stays timm's; names that timm
lacks are registered there too, with the first import of `mambaout_edu.models`.
"""

import difflib
import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, register_model
from torch import nn

from mambaout_edu.models.mambaout import MambaOut
from mambaout_edu.models.res_vmamba import RES_VMAMBA, ResVMamba
from mambaout_edu.models.residual_swin import RESIDUAL_SWIN, ResidualSwin
from mambaout_edu.models.vim import VIM, Vim
from mambaout_edu.models.vmamba import VMAMBA, VMamba
from mambaout_edu.models.weights import to_layout

__all__ = ["MODELS", "create_model", "list_models"]

_FEMTO, _TINY, _BASE = (48, 96, 192, 288), (96, 192, 384, 576), (128, 256, 512, 768)
# What timm's author changed for his own training runs (weights `*.sw_*`).
_RW: dict[str, Any] = {"stem_mid_norm": False, "downsample": "conv_nf", "ls_init_value": 1e-6, "head_fn": "norm_mlp"}

# The arguments of `MambaOut` behind each name. Published: the authors' repository (kobe is not in the
# paper) and timm. Ours: `pico_S` is made for images of about S pixels. The published stem divides by
# four, which at 32x32 would leave 8, 4, 2 and 1 positions a side to the four stages; a smaller stem
# stride keeps at least 4 (as 224 pixels keep 7), with narrower and fewer blocks. For 8x8 digits three
# stages with a 3x3 window end at 2 positions a side, tuned on a part of the training digits.
MAMBAOUT: dict[str, dict[str, Any]] = {
    "mambaout_femto": {"depths": (3, 3, 9, 3), "dims": _FEMTO},
    "mambaout_kobe": {"depths": (3, 3, 15, 3), "dims": _FEMTO},
    "mambaout_tiny": {"depths": (3, 3, 9, 3), "dims": _TINY},
    "mambaout_small": {"depths": (3, 4, 27, 3), "dims": _TINY},
    "mambaout_base": {"depths": (3, 4, 27, 3), "dims": _BASE},
    "mambaout_small_rw": {"depths": (3, 4, 27, 3), "dims": _TINY, **_RW},
    "mambaout_base_short_rw": {
        "depths": (3, 3, 25, 3),
        "dims": _BASE,
        "expansion_ratio": 3.0,
        "conv_ratio": 1.25,
        **_RW,
    },
    "mambaout_base_tall_rw": {
        "depths": (3, 4, 30, 3),
        "dims": _BASE,
        "expansion_ratio": 2.5,
        "conv_ratio": 1.25,
        **_RW,
    },
    "mambaout_base_wide_rw": {
        "depths": (3, 4, 27, 3),
        "dims": _BASE,
        "expansion_ratio": 3.0,
        "conv_ratio": 1.5,
        "act_layer": "silu",
        **_RW,
    },
    "mambaout_base_plus_rw": {
        "depths": (3, 4, 30, 3),
        "dims": _BASE,
        "expansion_ratio": 3.0,
        "conv_ratio": 1.5,
        "act_layer": "silu",
        **_RW,
    },
    "test_mambaout": {
        "depths": (1, 1, 3, 1),
        "dims": (16, 32, 48, 64),
        "expansion_ratio": 3.0,
        "act_layer": "silu",
        **_RW,
        "ls_init_value": 1e-4,
    },
    "mambaout_pico_64": {"depths": (2, 2, 6, 2), "dims": (32, 64, 128, 192), "stem_stride": 2},
    "mambaout_pico_32": {"depths": (2, 2, 6, 2), "dims": (32, 64, 128, 192), "stem_stride": 1},
    "mambaout_pico_8": {
        "depths": (1, 1, 1),
        "dims": (24, 48, 96),
        "stem_stride": 1,
        "kernel_size": 3,
        "in_chans": 1,
    },
}
_INPUT_SIZES = {"mambaout_pico_64": (3, 64, 64), "mambaout_pico_32": (3, 32, 32), "mambaout_pico_8": (1, 8, 8)}


@dataclass(frozen=True)
class Family:
    """Variants of one class of models by name, and what timm asks to know of them."""

    model: Callable[..., nn.Module]
    variants: dict[str, dict[str, Any]]  # the class's arguments behind each name
    feature_cfg: Callable[[dict[str, Any]], dict[str, Any]]  # timm's, for the arguments of a variant
    default_cfgs: dict[str, dict[str, Any]]  # timm's, of the names that are registered there


FAMILIES = (
    Family(
        MambaOut,
        MAMBAOUT,
        lambda arguments: {"out_indices": tuple(range(len(arguments["dims"]))), "flatten_sequential": True},
        {
            name: {
                "input_size": size,
                "num_classes": 1000,
                "mean": (0.5,) * size[0],
                "std": (0.5,) * size[0],
                "first_conv": "stem.conv1",
                "classifier": "head.fc",
                "license": "apache-2.0",
            }
            for name, size in _INPUT_SIZES.items()
        },
    ),
    Family(
        Vim,
        VIM,
        lambda arguments: {"out_indices": 3, "feature_cls": "getter"},
        {
            name: {
                "input_size": (3, 224, 224),
                "num_classes": 1000,
                "interpolation": "bicubic",
                "crop_pct": 0.875,
                "mean": IMAGENET_DEFAULT_MEAN,
                "std": IMAGENET_DEFAULT_STD,
                "first_conv": "patch_embed.proj",
                "classifier": "head",
            }
            for name in VIM
        },
    ),
    *(
        Family(
            model,
            variants,
            lambda arguments: {"out_indices": tuple(range(len(arguments["dims"]))), "feature_cls": "getter"},
            {
                name: {
                    "input_size": (3, 224, 224),
                    "num_classes": 1000,
                    "interpolation": "bicubic",
                    "crop_pct": 0.875,
                    "mean": IMAGENET_DEFAULT_MEAN,
                    "std": IMAGENET_DEFAULT_STD,
                    "first_conv": "stem.conv" if arguments.get("stem") == "patch" else "stem.conv1",
                    "classifier": "head.fc",
                }
                for name, arguments in variants.items()
            },
        )
        for model, variants in ((VMamba, VMAMBA), (ResVMamba, RES_VMAMBA))
    ),
    Family(
        ResidualSwin,
        RESIDUAL_SWIN,
        lambda arguments: {"out_indices": tuple(range(len(arguments["depths"]))), "feature_cls": "getter"},
        {
            name: {
                "input_size": (3, 224, 224),
                "num_classes": 1000,
                "interpolation": "bicubic",
                "crop_pct": 0.9,
                "mean": IMAGENET_DEFAULT_MEAN,
                "std": IMAGENET_DEFAULT_STD,
                "first_conv": "patch_embed.proj",
                "classifier": "head.fc",
            }
            for name in RESIDUAL_SWIN
        },
    ),
)
MODELS = {name: arguments for family in FAMILIES for name, arguments in family.variants.items()}


def list_models(pattern: str = "*") -> list[str]:
    """Return the names that `create_model` knows, those that match a shell pattern.

    >>> list_models("*pico*")
    ['mambaout_pico_32', 'mambaout_pico_64', 'mambaout_pico_8']
    """
    return sorted(fnmatch.filter(MODELS, pattern))


def create_model(name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build a model by name, with timm's arguments (`num_classes`, `in_chans`, `features_only`, ...).

    Parameters
    ----------
    name
        One of `list_models()`; with `pretrained`, a tag of timm's may follow, as in "mambaout_tiny.in1k".
    pretrained
        Download timm's weights for this name. Nothing is downloaded otherwise.
    kwargs
        Arguments of the model that replace the variant's own.

    Raises
    ------
    ValueError
        If the name is unknown (the nearest are offered) or has no published weights.
    OSError
        If the weights cannot be downloaded; the message says how to load them from a file.

    Examples
    --------
    >>> create_model("mambaout_pico_32", num_classes=10).num_classes
    10
    """
    variant, _, tag = name.partition(".")
    if variant not in MODELS:
        near = difflib.get_close_matches(variant, MODELS, n=3) or list_models()
        raise ValueError(f"unknown model {name!r}; did you mean {', '.join(near)}? list_models() names them all.")
    if pretrained and not timm.is_model_pretrained(name):
        raise ValueError(
            f"timm has no published weights for {name!r}; create it with pretrained=False. Weights that the authors "
            "publish elsewhere are loaded from a file, with load_official."
        )
    try:
        return _build(variant, pretrained, tag, **kwargs)
    except Exception as error:
        if not pretrained or isinstance(error, (TypeError, ValueError)):
            raise
        raise OSError(
            f"could not fetch the weights of {name!r} ({type(error).__name__}). Without a network: fetch "
            f"timm/{timm.get_pretrained_cfg(name).architecture} elsewhere, copy its model.safetensors here and load it "
            "with load_official(create_model(...), safetensors.torch.load_file(path))."
        ) from error


def _build(variant: str, pretrained: bool = False, tag: str = "", **kwargs: Any) -> nn.Module:
    family = next(family for family in FAMILIES if variant in family.variants)
    cfg = kwargs.pop("pretrained_cfg", None) or tag or None
    return build_model_with_cfg(
        family.model,
        variant,
        pretrained,
        pretrained_cfg=cfg,
        pretrained_filter_fn=lambda state, model: to_layout(state, "mambaout_edu"),
        feature_cfg=family.feature_cfg(family.variants[variant]),
        **{**family.variants[variant], **kwargs},
    )


def _register_in_timm(name: str) -> None:
    def entrypoint(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return create_model(name, pretrained, **kwargs)

    entrypoint.__name__ = entrypoint.__qualname__ = name
    register_model(entrypoint)


default_cfgs = {name: cfg for family in FAMILIES for name, cfg in family.default_cfgs.items()}  # where timm looks
for _name in MODELS:
    if not timm.is_model(_name):
        _register_in_timm(_name)
