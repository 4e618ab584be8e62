"""Batches for a run: their order, their augmentation and what replaces a broken image follow from a place in the run.

The order is a permutation that depends on (seed, epoch), the augmentation on (seed, epoch, index of the image). So the
number of reading processes does not matter, and a run that starts in the middle of an epoch gets exactly the rest.

    update k, accumulation step a, process r:   order[((k * accumulate + a) * world + r) * micro : ... + micro]
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from .items import ATTEMPTS, BadImage, Items, Key, collate
from .randomness import stable_seed
from .recipe import Recipe
from .sources import Source
from .transforms import eval_transform, train_transform

__all__ = [
    "BadImage",
    "ImageLoader",
    "TooManyBadImages",
    "WorkerDied",
    "default_workers",
    "eval_loader",
    "explained",
    "train_loader",
]


class TooManyBadImages(RuntimeError):  # noqa: N818 - what happened, not that it is an error
    """More images of an epoch could not be read than the recipe allows."""


class WorkerDied(RuntimeError):  # noqa: N818
    """A process that reads images ended."""


class _Order(Sampler[list[Key]]):
    """The keys of each batch of one process, from batch `start` of `epoch` on."""

    def __init__(self, images: int, recipe: Recipe, rank: int, world: int) -> None:
        self.images, self.seed, self.rank, self.world = images, recipe.seed, rank, world
        self.micro = recipe.micro_batch(world)
        self.batches = recipe.updates_per_epoch(images) * recipe.accumulate
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        return self.batches - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        generator = torch.Generator().manual_seed(stable_seed(self.seed, self.epoch))
        order = torch.randperm(self.images, generator=generator)
        for batch in range(self.start, self.batches):
            first = (batch * self.world + self.rank) * self.micro
            yield [(self.epoch, index) for index in order[first : first + self.micro].tolist()]


class _InTurn(Sampler[list[Key]]):
    """Every image once: process r has the images r, r + world, ..."""

    def __init__(self, images: int, batch_size: int, rank: int, world: int) -> None:
        self.mine, self.batch_size = range(rank, images, world), batch_size

    def __len__(self) -> int:
        return -(-len(self.mine) // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        for first in range(0, len(self.mine), self.batch_size):
            yield [(0, index) for index in self.mine[first : first + self.batch_size]]


class ImageLoader(DataLoader[Any]):
    """A `DataLoader` of (images [B, C, S, S] float32, labels [B] int64, indices [B] int64).

    Attributes
    ----------
    bad
        The images of this epoch that could not be read, so far: `BadImage(index, reason)`.
    """

    def __init__(self, items: Items, order: _Order | _InTurn, workers: int, max_bad_images: int) -> None:
        self.bad: list[BadImage] = []
        self.order, self.max_bad_images = order, max_bad_images
        super().__init__(
            items,
            batch_sampler=order,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0 and isinstance(order, _Order),
            prefetch_factor=4 if workers else None,
            # The loader draws a seed for its workers, which nothing here uses: not from torch's own generator.
            generator=torch.Generator(),
        )

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Turn to another epoch, from batch `start` on; reading processes stay.

        Raises ValueError for an epoch or a start that is not there, TypeError where images have no order to change.
        """
        if not isinstance(self.order, _Order):
            raise TypeError("images to be measured on come in one order; set_epoch is for a train_loader")
        if epoch < 0 or not 0 <= start <= self.order.batches:
            raise ValueError(
                f"epoch is {epoch} and start {start}; expected 0 or more, start up to {self.order.batches}"
            )
        self.order.epoch, self.order.start = epoch, start

    def __iter__(self) -> Any:
        """Give the batches; TooManyBadImages or WorkerDied end them."""
        self.bad = []
        batches = super().__iter__()
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                explanation = explained(error)
                if explanation is error:
                    raise
                raise explanation from error
            self._count(batch.bad)
            if len(self.bad) > self.max_bad_images:
                raise TooManyBadImages(self._too_many(f"more than max_bad_images = {self.max_bad_images}"))
            if batch.missing and isinstance(self.order, _Order):
                raise TooManyBadImages(
                    self._too_many(f"nor can {ATTEMPTS - 1} others in a row that should replace one")
                )
            if len(batch.labels):
                yield batch.images, batch.labels, batch.indices

    def _count(self, bad: tuple[BadImage, ...]) -> None:
        known = {entry.index for entry in self.bad}  # a broken one may also be drawn as a replacement
        for entry in bad:
            if entry.index not in known:
                known.add(entry.index)
                self.bad.append(entry)

    def _too_many(self, why: str) -> str:
        shown = "; ".join(f"image {entry.index}: {entry.reason}" for entry in self.bad[:3])
        return (
            f"{len(self.bad)} images of this epoch cannot be read, {why}. The first: {shown}. "
            "Check the drive and the files, or raise max_bad_images"
        )


def explained(error: RuntimeError) -> RuntimeError:
    """Return `WorkerDied` for torch's error about a reading process that ended, any other error as it is.

    Torch may raise its error wherever the main process is just then, also in the middle of a training step.

    >>> explained(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")).__class__.__name__
    'WorkerDied'
    """
    if not str(error).startswith("DataLoader worker (pid"):
        return error
    return WorkerDied(
        f"a process that reads images ended: {str(error).splitlines()[0]} Often memory ran out; lower `workers` in the "
        "recipe (0 reads in the main process), then resume the run"
    )


def default_workers(source: Source, world: int = 1) -> int:
    """Return how many processes read images for each of `world` training processes: none where they are in memory.

    >>> from mambaout_edu.training.sources import open_source
    >>> default_workers(open_source("digits", "train", Recipe(image_size=8, in_chans=1, mean=(0.5,), std=(0.5,))))
    0
    """
    if source.in_memory:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world))  # processes on this host, as torchrun says
    return max(1, min(16, cores // here))


def train_loader(
    source: Source, recipe: Recipe, *, epoch: int = 0, start: int = 0, rank: int = 0, world: int = 1
) -> ImageLoader:
    """Return the training batches of one process and epoch, from batch `start` on; `set_epoch` turns to the next.

    Parameters
    ----------
    source
        Where the images come from.
    recipe
        Batch size, accumulation, augmentation, seed, workers and `max_bad_images` count.
    epoch, start
        Which epoch, and how many of its batches of this process are done; nothing of those is read.
    rank, world
        Which training process of how many. Together they see each batch once; an incomplete last one is left out.

    Raises
    ------
    ValueError
        If the batch cannot be shared so, there are fewer images than a batch, or the place is not in the run.

    Notes
    -----
    A broken image is replaced by another, chosen by (seed, epoch, index), and listed in `bad`.

    Examples
    --------
    >>> from mambaout_edu.training.recipe import recipe
    >>> from mambaout_edu.training.sources import open_source
    >>> plan = recipe("digits_cpu")
    >>> loader = train_loader(open_source("digits", "train", plan), plan, epoch=3, start=20)
    >>> [images.shape for images, labels, indices in loader]
    [torch.Size([64, 1, 8, 8])]
    """
    _check_process(rank, world)
    order = _Order(len(source), recipe, rank, world)
    items = Items(source, train_transform(recipe), recipe.seed, training=True)
    loader = ImageLoader(items, order, _workers(source, recipe, world), recipe.max_bad_images)
    loader.set_epoch(epoch, start)
    return loader


def eval_loader(
    source: Source, recipe: Recipe, rank: int = 0, world: int = 1, *, batch_size: int | None = None
) -> ImageLoader:
    """Return every image once, in order, without augmentation; several processes share them and none is seen twice.

    A broken image is left out and listed in `bad`. Batches have `batch_size` images, as many as in training by default.

    Raises ValueError for a process that is not there.

    >>> from mambaout_edu.training.recipe import recipe
    >>> from mambaout_edu.training.sources import open_source
    >>> plan = recipe("digits_cpu")
    >>> sum(len(labels) for _, labels, _ in eval_loader(open_source("digits", "validation", plan), plan))
    450
    """
    _check_process(rank, world)
    size = batch_size or max(1, recipe.batch_size // (recipe.accumulate * world))
    items = Items(source, eval_transform(recipe), recipe.seed, training=False)
    order = _InTurn(len(source), size, rank, world)
    return ImageLoader(items, order, _workers(source, recipe, world), recipe.max_bad_images)


def _workers(source: Source, recipe: Recipe, world: int) -> int:
    return default_workers(source, world) if recipe.workers is None else recipe.workers


def _check_process(rank: int, world: int) -> None:
    if not 0 <= rank < world:
        raise ValueError(f"rank is {rank} of {world} processes; expected 0 to {world - 1}")
