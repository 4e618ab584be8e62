"""What a recipe asks for, made by timm: the optimiser, the learning-rate schedule, mixup, the loss, the average."""

from __future__ import annotations

import inspect
from typing import Any

from timm.data import Mixup
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2, get_optimizer_class
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from .randomness import seeded
from .recipe import Recipe

__all__ = ["SeededMixup", "create_ema", "create_loss", "create_mixup", "create_optimizer", "create_schedule"]


def create_optimizer(model: nn.Module, recipe: Recipe, fused: bool | None = None) -> Optimizer:
    """Return the recipe's optimiser, with two groups of parameters: with weight decay, and without.

    Biases, norms and what the model's `no_weight_decay()` names are without.

    Parameters
    ----------
    model
        The model on its device, not wrapped.
    recipe
        `opt`, `peak_lr`, `betas`, `eps` and `weight_decay` count; an optimiser that has no betas or eps goes without.
    fused
        Do the whole update in one kernel. None does so where all parameters are on a CUDA device and torch can.

    Raises
    ------
    ValueError
        If fused is asked for and the optimiser cannot.

    Examples
    --------
    >>> from mambaout_edu.training.recipe import recipe
    >>> optimizer = create_optimizer(nn.Linear(3, 2), recipe("digits_cpu"))
    >>> [(group["weight_decay"], len(group["params"])) for group in optimizer.param_groups]
    [(0.0, 1), (0.05, 1)]
    """
    takes = inspect.signature(get_optimizer_class(recipe.opt, bind_defaults=False)).parameters
    settings: dict[str, Any] = {name: getattr(recipe, name) for name in ("betas", "eps") if name in takes}
    if fused and "fused" not in takes:
        raise ValueError(f"{recipe.opt} has no fused form; leave fused at None, or take adamw, adam or sgd")
    if fused is None:
        fused = "fused" in takes and all(p.device.type == "cuda" for p in model.parameters())
    if fused:
        settings["fused"] = True
    return create_optimizer_v2(model, recipe.opt, recipe.peak_lr, recipe.weight_decay, **settings)


def create_schedule(optimizer: Optimizer, recipe: Recipe, updates_per_epoch: int) -> Scheduler:
    """Return the schedule: a linear warm-up into a cosine, which ends at `min_lr`, kept during the cool-down.

    Call `schedule.step_update(n)` before update n (from 0). It depends on n alone, so there is nothing to save.

    Raises ValueError for fewer than one update an epoch.

    >>> from mambaout_edu.training.recipe import recipe
    >>> plan = recipe("digits_cpu")
    >>> optimizer = create_optimizer(nn.Linear(3, 2), plan)
    >>> schedule = create_schedule(optimizer, plan, updates_per_epoch=21)
    >>> for update in (0, 42, 419):
    ...     schedule.step_update(update)
    ...     print(f"{optimizer.param_groups[0]['lr']:.2g}")
    5e-05
    0.002
    2.8e-08
    """
    if updates_per_epoch < 1:
        raise ValueError(f"updates_per_epoch is {updates_per_epoch}; expected 1 or more")
    schedule, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=recipe.epochs,
        warmup_epochs=recipe.warmup_epochs,
        cooldown_epochs=recipe.cooldown_epochs,
        min_lr=recipe.min_lr,
        warmup_lr=recipe.warmup_lr,
        step_on_epochs=False,
        updates_per_epoch=updates_per_epoch,
    )
    return schedule


class SeededMixup(Mixup):
    """timm's mixup and cutmix of whole batches, whose random choices follow from a place in the run.

    Called as `mix(images, labels, step, rank)`: step counts the batches that this process has seen, from 0.
    """

    def __init__(self, seed: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.seed = seed

    def __call__(self, images: Tensor, labels: Tensor, step: int, rank: int = 0) -> tuple[Tensor, Tensor]:
        """Mix [B, C, H, W] in place with its own reverse, B even; return it and the labels as shares [B, classes]."""
        with seeded(self.seed, step, rank):
            return super().__call__(images, labels)


def create_mixup(recipe: Recipe, num_classes: int) -> SeededMixup | None:
    """Return what mixes batches, or None where the recipe does not mix.

    >>> import torch
    >>> mix = create_mixup(Recipe(mixup=0.8), num_classes=3)
    >>> images, shares = mix(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]), step=0)
    >>> shares.shape, bool(torch.allclose(shares.sum(1), torch.ones(4)))
    (torch.Size([4, 3]), True)
    """
    if not recipe.mixes:
        return None
    return SeededMixup(
        recipe.seed,
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        prob=recipe.mixup_prob,
        switch_prob=recipe.mixup_switch_prob,
        label_smoothing=recipe.label_smoothing,
        num_classes=num_classes,
    )


def create_loss(recipe: Recipe) -> nn.Module:
    """Return the cross-entropy of scores [B, classes] and labels [B], or shares [B, classes] where batches are mixed.

    Mixing smooths the labels itself.

    >>> create_loss(Recipe(cutmix=1.0)), create_loss(Recipe(label_smoothing=0.0))
    (SoftTargetCrossEntropy(), CrossEntropyLoss())
    """
    if recipe.mixes:
        return SoftTargetCrossEntropy()
    return LabelSmoothingCrossEntropy(recipe.label_smoothing) if recipe.label_smoothing else nn.CrossEntropyLoss()


def create_ema(model: nn.Module, recipe: Recipe) -> ModelEmaV3 | None:
    """Return the running average of the model's weights, or None where the recipe keeps none.

    Call `ema.update(model, step=n)` after update n - 1, that is, with the number of updates done; `ema.module` is the
    averaged model. Make it from the model on its device, before it is wrapped or compiled.

    >>> create_ema(nn.Linear(2, 2), Recipe(ema_decay=0.99)).decay
    0.99
    """
    if recipe.ema_decay is None:
        return None
    return ModelEmaV3(model, decay=recipe.ema_decay, use_warmup=recipe.ema_warmup)
