"""From a picture to what a model learns from, or is measured on: timm's transforms, set by a recipe.

picture (or [C, H, W] from 0 to 1) -> crop, mirror, policy -> [C, H, W] -> affine -> normalise -> erase
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from PIL import Image
from timm.data.transforms import str_to_interp_mode
from timm.data.transforms_factory import transforms_imagenet_eval, transforms_imagenet_train
from torch import Tensor
from torchvision import transforms  # type: ignore[import-untyped]
from torchvision.transforms.functional import pil_to_tensor, to_pil_image  # type: ignore[import-untyped]

from .augment import random_affine
from .recipe import Recipe

__all__ = ["Transform", "eval_transform", "train_transform"]

Transform = Callable[[Any], Tensor]


def train_transform(recipe: Recipe) -> Transform:
    """Return what turns a training picture into float32 [C, image_size, image_size], at random.

    It draws from the global generators; `randomness.seeded` makes it repeatable.

    >>> from mambaout_edu.training.recipe import recipe
    >>> train_transform(recipe("imagenet_short"))(Image.new("RGB", (300, 200))).shape
    torch.Size([3, 160, 160])
    """
    crop, change, finish = transforms_imagenet_train(
        recipe.image_size,
        scale=recipe.scale,
        ratio=recipe.ratio,
        hflip=recipe.hflip,
        color_jitter=recipe.color_jitter,
        auto_augment=recipe.auto_augment,
        interpolation=recipe.interpolation,
        mean=recipe.mean,
        std=recipe.std,
        re_prob=recipe.random_erasing,
        re_mode=recipe.erasing_mode,
        separate=True,
    )
    if recipe.scale is None:
        method = "bilinear" if recipe.interpolation == "random" else recipe.interpolation
        resized = transforms.Resize(recipe.image_size, str_to_interp_mode(method))
        whole = [resized, transforms.CenterCrop(recipe.image_size)]
        crop = transforms.Compose(whole + [transforms.RandomHorizontalFlip(recipe.hflip)] * (recipe.hflip > 0))
    still = recipe.scale is None and not (recipe.hflip or recipe.auto_augment or recipe.color_jitter)
    return _Steps(recipe.image_size, None if still else change, crop, recipe.affine, finish)


def eval_transform(recipe: Recipe) -> Transform:
    """Return what turns a picture to be measured on into float32 [C, S, S], S the recipe's `eval_image_size`.

    >>> from mambaout_edu.training.recipe import recipe
    >>> eval_transform(recipe("imagenet_short"))(Image.new("RGB", (300, 200))).shape
    torch.Size([3, 224, 224])
    """
    size = recipe.eval_image_size or recipe.image_size
    # timm normalises a picture as its last step; ours does so for tensors too.
    steps = transforms_imagenet_eval(size, recipe.crop_pct, interpolation=recipe.eval_interpolation, normalize=False)
    crop = transforms.Compose(steps.transforms[:-1])
    finish = transforms.Normalize(torch.tensor(recipe.mean), torch.tensor(recipe.std))
    return _Steps(size, None, crop, None, finish)


class _Steps:
    """The steps in order; a tensor that has the right size and is not to be changed as a picture stays as it is."""

    def __init__(
        self,
        size: int,
        change: Transform | None,
        crop: Transform,
        affine: tuple[float, float, float, float] | None,
        finish: Transform,
    ) -> None:
        self.size, self.change, self.crop, self.affine, self.finish = size, change, crop, affine, finish

    def __call__(self, picture: Image.Image | Tensor) -> Tensor:
        image: Tensor = picture if self._is_ready(picture) else self._cropped(picture)  # [C, S, S]
        if self.affine is not None:
            image = random_affine(image[None], torch.default_generator, *self.affine)[0]
        return self.finish(image)

    def _is_ready(self, picture: Image.Image | Tensor) -> TypeGuard[Tensor]:
        return isinstance(picture, Tensor) and self.change is None and picture.shape[1:] == (self.size, self.size)

    def _cropped(self, picture: Image.Image | Tensor) -> Tensor:
        picture = self.crop(to_pil_image(picture) if isinstance(picture, Tensor) else picture)
        if self.change is not None:
            picture = self.change(picture)
        return pil_to_tensor(picture).float() / 255
