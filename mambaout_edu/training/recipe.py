"""A training run in one readable object: every setting, checked, saved with the run and printed as a table.

Names are timm's where timm has one. Nothing else decides how a run goes: a recipe, a model, the data and the number of
processes.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..strings import table
from .recipe_checks import check_recipe

__all__ = ["RECIPES", "Recipe", "recipe"]

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

DROP_PATH: Mapping[str, float] = MappingProxyType(
    {
        "mambaout_femto": 0.025,
        "mambaout_kobe": 0.025,
        "mambaout_tiny": 0.2,
        "mambaout_small": 0.4,
        "mambaout_base": 0.6,
    }
)
"""The rates of the published runs (the authors' scripts)."""

# What a finished model does not depend on: a run may be resumed with another choice of these.
_HOUSEKEEPING = ("name", "workers", "keep_checkpoints", "checkpoint_every_steps", "log_every", "max_bad_images")


@dataclass(frozen=True)
class Recipe:
    """All settings of a training run; `str(recipe)` says what each one does.

    Parameters
    ----------
    batch_size
        Images for one update, over all processes and accumulation steps.
    lr
        The highest learning rate; None takes it from the rule lr_base * batch_size / lr_base_size.
    drop_path
        The rate of the last block; None is the published rate of the model's variant (see `for_model`).
    epochs, cooldown_epochs
        Length of the cosine, its warm-up included, and how long the rate stays at `min_lr` after it.
    scale, ratio
        Area and aspect of random crops; `scale=None` resizes and crops the centre instead.
    affine
        Largest turn (degrees), change of size, slant and shift (pixels), as in `random_affine`; None is off.
    workers
        Processes that read images; None chooses by the number of cores.

    All other fields are explained line by line by `print(recipe)`.

    Raises
    ------
    TypeError, ValueError
        For a value of another kind or out of range, and for values that do not go together.

    Examples
    --------
    >>> short = Recipe(epochs=30, batch_size=512)
    >>> short.peak_lr, short.with_(lr=1e-3).peak_lr
    (0.0005, 0.001)
    >>> short.differences(short.with_(seed=1))
    {'seed': (0, 1)}
    """

    name: str = "custom"
    # images
    image_size: int = 224
    eval_image_size: int | None = None
    in_chans: int = 3
    mean: tuple[float, ...] = _IMAGENET_MEAN
    std: tuple[float, ...] = _IMAGENET_STD
    crop_pct: float = 1.0
    eval_interpolation: str = "bicubic"
    # augmentation
    scale: tuple[float, float] | None = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "random"
    hflip: float = 0.5
    affine: tuple[float, float, float, float] | None = None
    auto_augment: str | None = None
    color_jitter: float | None = None
    random_erasing: float = 0.0
    erasing_mode: str = "pixel"
    mixup: float = 0.0
    cutmix: float = 0.0
    mixup_prob: float = 1.0
    mixup_switch_prob: float = 0.5
    # schedule
    epochs: int = 300
    warmup_epochs: float = 5
    cooldown_epochs: int = 0
    batch_size: int = 1024
    accumulate: int = 1
    lr: float | None = None
    lr_base: float = 1e-3
    lr_base_size: int = 1024
    min_lr: float = 1e-5
    warmup_lr: float = 1e-6
    # optimiser
    opt: str = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.05
    clip: float | None = None
    # regularisation
    label_smoothing: float = 0.1
    drop_path: float | None = 0.0
    ema_decay: float | None = None
    ema_warmup: bool = False
    # computing
    precision: str = "fp32"
    channels_last: bool = False
    compile: bool = False
    workers: int | None = None
    seed: int = 0
    # housekeeping
    keep_checkpoints: int = 3
    checkpoint_every_steps: int | None = None
    log_every: int = 50
    max_bad_images: int = 50

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(getattr(self, field.name), list):  # as JSON gives it
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
        check_recipe(self)

    @property
    def peak_lr(self) -> float:
        """The highest learning rate of the run."""
        return self.lr if self.lr is not None else self.lr_base * self.batch_size / self.lr_base_size

    @property
    def total_epochs(self) -> int:
        """Epochs from the first update to the last: the cosine's and the cool-down's."""
        return self.epochs + self.cooldown_epochs

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed, so that a label is a share of each class."""
        return self.mixup > 0 or self.cutmix > 0

    def micro_batch(self, world: int = 1) -> int:
        """Return how many images one of `world` processes sees at a time; ValueError where that is no whole number.

        >>> Recipe(batch_size=4096, accumulate=4).micro_batch(world=8)
        128
        """
        parts = self.accumulate * world
        if world < 1 or self.batch_size % parts or (self.mixes and self.batch_size // parts % 2):
            what = "an even number of" if self.mixes else "as many"
            raise ValueError(
                f"batch_size {self.batch_size} cannot be shared by {world} processes and accumulate = "
                f"{self.accumulate} with {what} images each; expected a multiple of {parts * (2 if self.mixes else 1)}"
            )
        return self.batch_size // parts

    def updates_per_epoch(self, images: int) -> int:
        """Return the updates of an epoch; an incomplete last batch is left out. ValueError where no batch is complete.

        >>> Recipe(batch_size=64).updates_per_epoch(1347)
        21
        """
        if images < self.batch_size:
            raise ValueError(
                f"there are {images} training images, fewer than one batch of {self.batch_size}; "
                f"choose a smaller batch_size, at most {max(images, 1)}"
            )
        return images // self.batch_size

    def for_model(self, name: str) -> Recipe:
        """Return the recipe with `drop_path` settled: the published rate of a variant where it is None, 0 for others.

        >>> recipe("imagenet_paper").for_model("mambaout_small").drop_path
        0.4
        """
        if self.drop_path is not None:
            return self
        return self.with_(drop_path=DROP_PATH.get(name.split(".")[0], 0.0))

    def with_(self, **changes: Any) -> Recipe:
        """Return a copy with other settings; TypeError for an unknown name, with the nearest."""
        _refuse_unknown(changes)
        return dataclasses.replace(self, **changes)

    def differences(self, other: Recipe, *, housekeeping: bool = True) -> dict[str, tuple[Any, Any]]:
        """Return the settings that differ, each as (mine, the other's).

        Without `housekeeping`, only those that change what a run ends with: names, workers, how often something is
        logged or kept, and when to give up do not.
        """
        names = [f.name for f in dataclasses.fields(self) if housekeeping or f.name not in _HOUSEKEEPING]
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def to_json(self) -> str:
        """Return the settings as JSON, one a line."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Return the recipe that `to_json` wrote, missing settings at their defaults.

        Raises ValueError for what is no JSON, TypeError for what is no object of settings or names an unknown one.

        >>> Recipe.from_json(Recipe(epochs=7).to_json()).epochs
        7
        """
        try:
            settings = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f'a recipe is a JSON object, such as {{"epochs": 30}}; this is none: {error}') from error
        if not isinstance(settings, dict):
            raise TypeError(f'a recipe is a JSON object, such as {{"epochs": 30}}; got {text[:40]!r}')
        _refuse_unknown(settings)
        return cls(**settings)

    def __str__(self) -> str:
        words = table("recipe")
        values = {f.name: self._shown(f.name, words) for f in dataclasses.fields(self) if f.name != "name"}
        names, width = max(map(len, values)), max(map(len, values.values()))
        lines = [words["title"].format(name=self.name)]
        for title, fields in words["sections"].items():
            lines += ["", title]
            lines += [f"  {name:<{names}}  {values[name]:<{width}}  {does}" for name, does in fields.items()]
        return "\n".join(lines)

    def _shown(self, name: str, words: dict[str, Any]) -> str:
        value = getattr(self, name)
        if name == "lr":
            rule = f"{self.lr_base:g} * {self.batch_size} / {self.lr_base_size}"
            return f"{self.peak_lr:g}" if value is not None else f"{self.peak_lr:g} = {rule}"
        if value is None:
            return str(words["none"].get(name, words["off"]))
        if isinstance(value, bool):
            return str(words["yes"] if value else words["no"])
        if isinstance(value, tuple):
            return ", ".join(f"{number:.4g}" for number in value)
        return f"{value:g}" if isinstance(value, float) else str(value)


def _refuse_unknown(settings: Mapping[str, Any]) -> None:
    known = [field.name for field in dataclasses.fields(Recipe)]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else f"the settings are {', '.join(known)}"
            raise TypeError(f"a recipe has no setting {name!r}; {hint}")


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "digits_cpu": Recipe(
            "digits_cpu", image_size=8, in_chans=1, mean=(0.5,), std=(0.5,), eval_interpolation="bilinear",
            scale=None, interpolation="bilinear", hflip=0.0, affine=(10.0, 0.1, 0.1, 0.7),
            epochs=20, warmup_epochs=2, batch_size=64, lr=2e-3, min_lr=0.0, warmup_lr=5e-5, workers=0,
            keep_checkpoints=2, log_every=10,
        ),
        "small_images_gpu": Recipe(
            "small_images_gpu", image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3, eval_interpolation="bilinear",
            scale=(0.35, 1.0), interpolation="bilinear", auto_augment="rand-m5-mstd0.5-inc1", cutmix=1.0,
            mixup_prob=0.5, epochs=100, warmup_epochs=5, batch_size=512, lr=2e-3, clip=1.0, drop_path=0.1,
            ema_decay=0.999, ema_warmup=True, precision="bf16", channels_last=True, compile=True,
        ),
        "imagenet_paper": Recipe(
            "imagenet_paper", auto_augment="rand-m9-mstd0.5-inc1", color_jitter=0.4, random_erasing=0.25,
            mixup=0.8, cutmix=1.0, epochs=300, warmup_epochs=20, cooldown_epochs=10, batch_size=4096, accumulate=4,
            drop_path=None,
        ),
        "imagenet_short": Recipe(
            "imagenet_short", image_size=160, eval_image_size=224, auto_augment="rand-m6-mstd0.5-inc1",
            mixup=0.1, cutmix=1.0, epochs=50, warmup_epochs=5, batch_size=1024, drop_path=None,
            precision="bf16", channels_last=True, compile=True,
        ),
    }
)  # fmt: skip
"""Recipes by name.

digits_cpu: scikit-learn's digits, in a minute on two cores; the settings of `DIGITS`. small_images_gpu: 32 to 64
pixels, in minutes on one GPU. imagenet_paper: MambaOut's own (arXiv 2405.07992, table of the appendix, and the authors'
scripts), here with a learning rate that changes with every update, not every epoch. imagenet_short: one GPU overnight,
small images to learn from and full size to be measured on.
"""


def recipe(name: str, **changes: Any) -> Recipe:
    """Return one of `RECIPES`, with other settings where they are given.

    Raises ValueError for an unknown name (the nearest are offered), TypeError for an unknown setting.

    >>> recipe("digits_cpu", epochs=2).epochs
    2
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1) or list(RECIPES)
        raise ValueError(f"no recipe is named {name!r}; did you mean {' or '.join(near)}? All: {', '.join(RECIPES)}")
    return RECIPES[name].with_(**changes)
