"""Whose outline is it? Generated pictures, as many as a GPU can eat, whose class lies in a closed curve alone.

Every class is one curve, r(phi) = exp(sum_k a_k cos(k phi + p_k)) around a centre, k from 2 to 5. A picture shows it
turned by any angle, larger or smaller, stretched, somewhere, in any colours, before a ground that is unevenly lit,
among small specks, under noise. All curves enclose the same area. So no pixel, no colour and no amount of either tells
the class: a classifier has to follow the edge, wherever it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from .image_set import ImageSet

__all__ = ["CLASSES", "Outlines", "curves", "outlines"]

CLASSES = 20
_HARMONICS = torch.arange(2, 6)
_CURVES_SEED = 20  # the classes are the same whatever the seed of the pictures
_CHUNK = 2000  # pictures made at a time


class Outlines(NamedTuple):
    """The pictures to learn from and the pictures held out."""

    train: ImageSet
    test: ImageSet


def curves(angles: Tensor) -> Tensor:
    """Return each class's distance [CLASSES, A] of the curve from its centre, at angles [A] in radians.

    A curve's area is that of the unit circle.

    >>> radius = curves(torch.linspace(0, 2 * math.pi, 721)[:-1])
    >>> [round(float(value), 3) for value in radius.square().mean(1)[:3]]
    [1.0, 1.0, 1.0]
    """
    return _radius(angles.expand(CLASSES, -1), *_classes())


def outlines(
    seed: int = 0, train: int = 2000, test: int = 1000, image_size: int = 32, *, progress: bool = False
) -> Outlines:
    """Return pictures of `CLASSES` outlines, every class equally often; a blind guess is right in 5 %.

    Parameters
    ----------
    seed
        Where all random choices come from; the held-out pictures have a stream of their own, so that they stay when
        `train` changes.
    train, test
        How many pictures to learn from and to hold out, multiples of 20. 40,000 of 32 pixels take 0.5 GB and a
        few seconds.
    image_size
        Side in pixels, 16 or more.
    progress
        Show a bar.

    Returns
    -------
    Outlines
        `train` and `test`, with images float32 [N, 3, image_size, image_size] from 0 to 1.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> train, test = outlines(train=40, test=20)
    >>> train
    ImageSet(40 images of 3x32x32, 20 classes)
    >>> test.labels.bincount().unique().tolist()
    [1]
    """
    if image_size < 16:
        raise ValueError(f"image_size is {image_size}; expected 16 or more pixels, or the curves cannot be told apart")
    if min(train, test) < 1 or train % CLASSES or test % CLASSES:
        raise ValueError(f"train is {train} and test is {test}; expected multiples of {CLASSES}, as many of each class")
    names = tuple(f"outline {number}" for number in range(CLASSES))
    with tqdm(total=train + test, disable=not progress, leave=False) as bar:
        parts = []
        for part, count in enumerate((train, test)):
            generator = torch.Generator().manual_seed(2 * seed + part)
            labels = torch.arange(count)[torch.randperm(count, generator=generator)] % CLASSES
            images = torch.empty(count, 3, image_size, image_size)
            for first in range(0, count, _CHUNK):
                images[first : first + _CHUNK] = _draw(labels[first : first + _CHUNK], image_size, generator)
                bar.update(min(_CHUNK, count - first))
            parts.append(ImageSet(images, labels, names))
    return Outlines(*parts)


def _classes() -> tuple[Tensor, Tensor]:
    """Return amplitudes and phases of the classes, [CLASSES, K] each."""
    generator = torch.Generator().manual_seed(_CURVES_SEED)
    amplitude = 0.5 * torch.rand(CLASSES, len(_HARMONICS), generator=generator) / _HARMONICS.sqrt()
    return amplitude, 2 * math.pi * torch.rand(CLASSES, len(_HARMONICS), generator=generator)


def _radius(angles: Tensor, amplitude: Tensor, phase: Tensor) -> Tensor:
    """Return the curve's distance [N, A] from its centre at angles [N, A], for amplitudes and phases [N, K]."""

    def raw(at: Tensor) -> Tensor:
        waves = torch.zeros_like(at)  # [N, A]
        for k, order in enumerate(_HARMONICS.tolist()):
            waves += amplitude[:, k, None] * torch.cos(order * at + phase[:, k, None])
        return waves.exp()

    around = torch.linspace(0, 2 * math.pi, 181)[:-1].expand(len(amplitude), -1)
    return raw(angles) / raw(around).square().mean(1, keepdim=True).sqrt()


def _draw(labels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return one picture [3, size, size] for each label [N]."""
    count = len(labels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    amplitude, phase = (each[labels] for each in _classes())
    shape = _inside(size, amplitude, phase, uniform(0.2, 0.26, 1), uniform(0.4, 0.6, 2), uniform)
    for _ in range(2):  # specks, of no class
        any_phase = uniform(0, 2 * math.pi, len(_HARMONICS))
        speck = _inside(
            size, 0.1 * torch.ones_like(any_phase), any_phase, uniform(0.02, 0.06, 1), uniform(0, 1, 2), uniform
        )
        shape = torch.maximum(shape, speck)  # [N, size, size]
    direction = F.normalize(torch.randn(count, 3, generator=generator), dim=1)[..., None, None]
    middle, contrast = uniform(0.4, 0.6, 3, 1, 1), uniform(0.15, 0.4, 1, 1, 1)
    light = F.interpolate(uniform(-0.15, 0.15, 3, 4, 4), (size, size), mode="bilinear")  # [N, 3, size, size]
    noise = 0.05 * torch.randn(count, 3, size, size, generator=generator)
    return (middle + contrast * direction * (2 * shape[:, None] - 1) + light + noise).clamp(0, 1)


def _inside(
    size: int, amplitude: Tensor, phase: Tensor, scale: Tensor, centre: Tensor, uniform: Callable[..., Tensor]
) -> Tensor:
    """Return how much of each pixel lies inside a curve that is turned and stretched at random, [N, size, size]."""
    at = (torch.arange(size) + 0.5) / size
    down, right = (at - centre[:, :1])[:, :, None], (at - centre[:, 1:])[:, None, :]  # [N, size, 1], [N, 1, size]
    turn, stretch = uniform(0, 2 * math.pi, 1, 1), uniform(-0.12, 0.12, 1, 1).exp()
    x = (right * turn.cos() + down * turn.sin()) * stretch  # [N, size, size]
    y = (down * turn.cos() - right * turn.sin()) / stretch
    curve = _radius(torch.atan2(y, x).flatten(1), amplitude, phase).reshape_as(x) * scale[:, :, None]
    return ((curve - torch.hypot(x, y)) * size + 0.5).clamp(0, 1)  # a pixel's width from inside to outside
