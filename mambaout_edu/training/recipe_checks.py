"""What the settings of a recipe may be, one by one and together."""

from __future__ import annotations

import difflib
import math
from typing import Any, Protocol

__all__ = ["check_recipe"]

# Largest value; smallest comes from the group. None is allowed where the name stands in _OPTIONAL.
_FROM_1 = (
    "image_size", "eval_image_size", "in_chans", "epochs", "batch_size", "accumulate", "lr_base_size",
    "keep_checkpoints", "checkpoint_every_steps", "log_every",
)  # fmt: skip
_FROM_0 = ("cooldown_epochs", "workers", "seed", "max_bad_images")
_NOT_NEGATIVE = ("warmup_epochs", "min_lr", "warmup_lr", "weight_decay", "color_jitter", "mixup", "cutmix")
_POSITIVE = ("lr", "lr_base", "eps", "clip")
_SHARES = ("label_smoothing", "mixup_prob", "mixup_switch_prob", "hflip", "random_erasing")
_SWITCHES = ("ema_warmup", "channels_last", "compile")
_CHOICES = {
    "interpolation": ("random", "bilinear", "bicubic", "nearest"),
    "eval_interpolation": ("bilinear", "bicubic", "nearest"),
    "erasing_mode": ("const", "rand", "pixel"),
    "precision": ("fp32", "bf16"),
}
_LENGTHS = {"scale": 2, "ratio": 2, "betas": 2, "affine": 4}
_OPTIONAL = (
    "eval_image_size", "checkpoint_every_steps", "workers", "color_jitter", "lr", "clip", "drop_path", "ema_decay",
    "scale", "affine",
)  # fmt: skip
_POLICIES = ("rand", "augmix", "original", "originalr", "v0", "v0r", "3a")


class Settings(Protocol):
    """What is checked: the settings are read by name."""

    def __getattribute__(self, name: str) -> Any: ...


def check_recipe(recipe: Settings) -> None:
    """Refuse a setting of the wrong kind (TypeError), out of range or against another one (ValueError)."""
    for name in _FROM_1 + _FROM_0:
        _whole(recipe, name, 1 if name in _FROM_1 else 0)
    for name in _NOT_NEGATIVE:
        _number(recipe, name, lambda v: v >= 0, "0 or more")
    for name in _POSITIVE:
        _number(recipe, name, lambda v: v > 0, "above 0")
    for name in _SHARES:
        _number(recipe, name, lambda v: 0 <= v <= 1, "from 0 to 1")
    _number(recipe, "drop_path", lambda v: 0 <= v < 1, "from 0 to below 1")
    _number(recipe, "ema_decay", lambda v: 0 < v < 1, "between 0 and 1, such as 0.9999")
    _number(recipe, "crop_pct", lambda v: 0 < v <= 1, "above 0, at most 1")
    for name in _SWITCHES:
        if not isinstance(getattr(recipe, name), bool):
            raise TypeError(f"{name} is {getattr(recipe, name)!r}; expected True or False")
    for name, choices in _CHOICES.items():
        if getattr(recipe, name) not in choices:
            raise ValueError(f"{name} is {getattr(recipe, name)!r}; expected one of {', '.join(choices)}")
    _check_tuples(recipe)
    _check_names(recipe)
    _check_together(recipe)


def _whole(recipe: Settings, name: str, least: int) -> None:
    value = getattr(recipe, name)
    if value is None and name in _OPTIONAL:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected a whole number{_or_none(name)}")
    if value < least:
        raise ValueError(f"{name} is {value}; expected {least} or more{_or_none(name)}")


def _number(recipe: Settings, name: str, holds: Any, expected: str) -> None:
    value = getattr(recipe, name)
    if value is None and name in _OPTIONAL:
        return
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected a number {expected}{_or_none(name)}")
    if not math.isfinite(value) or not holds(value):
        raise ValueError(f"{name} is {value}; expected a number {expected}{_or_none(name)}")


def _or_none(name: str) -> str:
    return ", or None" if name in _OPTIONAL else ""


def _check_tuples(recipe: Settings) -> None:
    lengths = {**_LENGTHS, "mean": recipe.in_chans, "std": recipe.in_chans}
    for name, length in lengths.items():
        value = getattr(recipe, name)
        if value is None and name in _OPTIONAL:
            continue
        if not isinstance(value, tuple) or not all(isinstance(v, (int, float)) for v in value):
            raise TypeError(f"{name} is {value!r}; expected {length} numbers{_or_none(name)}")
        if len(value) != length:
            why = ", one a channel (in_chans)" if name in ("mean", "std") else ""
            raise ValueError(f"{name} has {len(value)} numbers, {value}; expected {length}{why}")
    if recipe.scale is not None and not 0 < recipe.scale[0] <= recipe.scale[1] <= 1:
        raise ValueError(f"scale is {recipe.scale}; expected shares of the area, smallest first, above 0 and at most 1")
    if not 0 < recipe.ratio[0] <= recipe.ratio[1]:
        raise ValueError(f"ratio is {recipe.ratio}; expected width over height, smallest first, above 0")
    if not all(0 <= beta < 1 for beta in recipe.betas):
        raise ValueError(f"betas are {recipe.betas}; expected two numbers from 0 to below 1")
    if recipe.affine is not None and (min(recipe.affine) < 0 or recipe.affine[1] >= 1):
        raise ValueError(
            f"affine is {recipe.affine}; expected largest turn, change of size (below 1), slant and shift, 0 or more"
        )
    if min(recipe.std) <= 0:
        raise ValueError(f"std is {recipe.std}; expected numbers above 0, for images are divided by it")


def _check_names(recipe: Settings) -> None:
    if not isinstance(recipe.name, str) or not isinstance(recipe.opt, str):
        raise TypeError(f"name is {recipe.name!r} and opt is {recipe.opt!r}; expected words")
    from timm.optim import list_optimizers  # late: the table of optimisers is large

    known = list_optimizers()
    if recipe.opt not in known:
        near = difflib.get_close_matches(recipe.opt, known, n=3) or ["adamw", "sgd", "lamb"]
        raise ValueError(f"opt is {recipe.opt!r}; expected an optimiser of timm's, perhaps {', '.join(near)}")
    policy = recipe.auto_augment
    if policy is not None and (not isinstance(policy, str) or policy.split("-")[0] not in _POLICIES):
        raise ValueError(
            f"auto_augment is {policy!r}; expected None or a policy of timm's such as 'rand-m9-mstd0.5-inc1', which "
            f"begins with one of {', '.join(_POLICIES)}"
        )


def _check_together(recipe: Any) -> None:
    if recipe.warmup_epochs > recipe.epochs:
        raise ValueError(
            f"warmup_epochs is {recipe.warmup_epochs}, but there are {recipe.epochs} epochs; expected less"
        )
    for name in ("min_lr", "warmup_lr"):
        if getattr(recipe, name) > recipe.peak_lr:
            raise ValueError(
                f"{name} is {getattr(recipe, name):g}, above the highest learning rate {recipe.peak_lr:g}; "
                "expected at most that (lr, or lr_base * batch_size / lr_base_size)"
            )
    recipe.micro_batch()
