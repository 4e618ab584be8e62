"""The training loop of the small lessons: AdamW, warm-up, cosine, and nothing hidden."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..data import ImageSet
from ..strings import text
from .evaluation import evaluate

__all__ = ["Augment", "History", "fit", "train_step"]

Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(repr=False)
class History:
    """What happened during `fit`.

    Attributes
    ----------
    steps, losses, lr
        One entry a step: its number from 1, the training loss, the learning rate it used.
    accuracy_steps, accuracies
        One entry an epoch, where a test set was given: the step it was measured after, the accuracy.
    seconds
        Wall-clock time of the whole run.
    interrupted
        True where the run was stopped by hand before its end.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    accuracy_steps: list[int] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    def __repr__(self) -> str:
        parts = [f"{len(self.steps)} steps"]
        if self.losses:
            parts.append(f"loss {self.losses[0]:.2f} to {self.losses[-1]:.2f}")
        if self.accuracies:
            parts.append(f"accuracy {self.accuracies[-1]:.1%}")
        if self.interrupted:
            parts.append("interrupted")
        return f"History({', '.join(parts)})"


def train_step(
    model: nn.Module, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer, *, label_smoothing: float = 0.0
) -> Tensor:
    """Show the model one batch and improve its weights once.

    Parameters
    ----------
    model
        Takes [B, C, H, W], returns scores [B, classes].
    images, labels
        float [B, C, H, W] and int64 [B], on the model's device.
    optimizer
        Holds the model's parameters.
    label_smoothing
        The share of each label that is spread over all classes.

    Returns
    -------
    Tensor
        The cross-entropy before the update, a scalar.

    Raises
    ------
    FloatingPointError
        If the loss is not finite; the weights are then left as they were.

    Examples
    --------
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> images, labels = torch.eye(4).reshape(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])
    >>> first = train_step(model, images, labels, optimizer)
    >>> bool(train_step(model, images, labels, optimizer) < first)
    True
    """
    loss = F.cross_entropy(model(images), labels, label_smoothing=label_smoothing)
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss.item()}; expected a finite number. Try a lower learning rate")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def fit(
    model: nn.Module,
    train: ImageSet,
    test: ImageSet | None = None,
    *,
    epochs: int = 20,
    batch_size: int = 64,
    lr: float = 2e-3,
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    label_smoothing: float = 0.0,
    augment: Augment | None = None,
    seed: int = 0,
    threads: int | None = None,
    on_step: Callable[[int, float, float], object] | None = None,
    on_epoch: Callable[[int, float], object] | None = None,
    progress: bool = True,
) -> History:
    """Train a model on images in memory: AdamW, a linear warm-up, then a cosine down to zero.

    Weight decay acts on matrices and convolutions, not on biases and norms. The order of the images, the
    augmentation and the model's own random choices follow from `seed`; the model's first weights do not.
    On one CPU, the same seed and number of threads give the same weights.

    Parameters
    ----------
    model
        Takes [B, C, H, W], returns scores [B, classes]. It is trained where it is, on its own device.
    train, test
        What to learn from, and what to measure the accuracy on after every epoch.
    epochs, batch_size
        How often every image is seen, and how many at a time. An incomplete last batch is left out.
    lr, weight_decay
        AdamW's highest learning rate and its weight decay.
    warmup
        The share of all steps in which the learning rate climbs to `lr`.
    label_smoothing
        The share of each label that is spread over all classes.
    augment
        Called as `augment(images, generator)` on each batch, on the model's device.
    seed
        Where the random choices of training come from. Torch's own generator is left as it was.
    threads
        How many CPU threads to use meanwhile; None leaves the setting alone. Tiny models are quickest on one.
    on_step, on_epoch
        Called as `on_step(step, loss, lr)` and `on_epoch(step, accuracy)`; a live plot hooks in here.
    progress
        Show a progress bar.

    Returns
    -------
    History
        Losses, learning rates, accuracies. A keyboard interrupt ends the run early, and the history so
        far comes back with `interrupted=True`.

    Raises
    ------
    ValueError
        If an option is out of range, or there are no images.
    FloatingPointError
        If the loss becomes infinite or undefined, with the step; the weights are those before that step.

    Examples
    --------
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> data = ImageSet(torch.eye(4).reshape(4, 1, 2, 2), torch.tensor([0, 1, 0, 1]), ("even", "odd"))
    >>> fit(model, data, data, epochs=30, lr=0.1, progress=False).accuracies[-1]
    1.0
    """
    _check_options(train, epochs, batch_size, lr, warmup, threads)
    batch_size = min(batch_size, len(train))
    total = epochs * (len(train) // batch_size)
    device = next(model.parameters()).device
    optimizer = create_optimizer_v2(model, opt="adamw", lr=lr, weight_decay=weight_decay)
    schedule = _schedule(optimizer, total, warmup, lr)
    generator = torch.Generator().manual_seed(seed)
    history, started = History(), time.perf_counter()
    bar = tqdm(total=total, desc=text("training", "progress"), disable=not progress)
    with bar, _threads(threads), torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)  # drop path and dropout draw from torch's own generator
        try:
            for _ in range(epochs):
                model.train()
                for images, labels in _batches(train, batch_size, generator):
                    images, labels = images.to(device), labels.to(device)
                    if augment is not None:
                        images = augment(images, generator)
                    _one_step(model, images, labels, optimizer, schedule, label_smoothing, history)
                    bar.update()
                    if on_step is not None:
                        on_step(history.steps[-1], history.losses[-1], history.lr[-1])
                if test is not None:
                    accuracy = evaluate(model, test).accuracy
                    history.accuracy_steps.append(history.steps[-1])
                    history.accuracies.append(accuracy)
                    bar.set_postfix_str(text("training", "accuracy", percent=f"{accuracy:.1%}"))
                    if on_epoch is not None:
                        on_epoch(history.steps[-1], accuracy)
        except KeyboardInterrupt:
            history.interrupted = True
        finally:
            history.seconds = time.perf_counter() - started
    return history


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _batches(images: ImageSet, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(images), generator=generator)
    for chosen in order.split(batch_size):
        if len(chosen) == batch_size:
            yield images.images[chosen], images.labels[chosen]


def _one_step(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    schedule: CosineLRScheduler,
    label_smoothing: float,
    history: History,
) -> None:
    done = len(history.steps)
    schedule.step_update(done)
    rate = float(optimizer.param_groups[0]["lr"])
    try:
        loss = train_step(model, images, labels, optimizer, label_smoothing=label_smoothing)
    except FloatingPointError as error:
        raise FloatingPointError(
            f"training stopped at step {done + 1} (learning rate {rate:.2g}): {error}, "
            f"or look at the images of this batch; the weights are those after step {done}"
        ) from error
    history.steps.append(done + 1)
    history.losses.append(loss.item())
    history.lr.append(rate)


def _schedule(optimizer: torch.optim.Optimizer, total: int, warmup: float, lr: float) -> CosineLRScheduler:
    climbing = round(warmup * total)
    # With warmup_prefix the cosine starts after the climb, so both lengths add up to the whole run.
    return CosineLRScheduler(
        optimizer,
        t_initial=max(1, total - climbing),
        warmup_t=climbing,
        warmup_lr_init=lr / (climbing + 1),  # a climb from 0 would waste the first step
        warmup_prefix=True,
        t_in_epochs=False,
    )


def _check_options(
    train: ImageSet, epochs: int, batch_size: int, lr: float, warmup: float, threads: int | None
) -> None:
    if len(train) == 0:
        raise ValueError("there are no images to train on; expected 1 or more")
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs is {epochs} and batch_size is {batch_size}; expected 1 or more of each")
    if not lr > 0:
        raise ValueError(f"lr is {lr}; expected a learning rate above 0, such as 2e-3")
    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}; expected 1 or more, or None to leave the setting alone")
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is {warmup}; expected a share of all steps, from 0 to below 1")
