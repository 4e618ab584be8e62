"""A trainer of sequence models, on tasks that draw new sequences for every step: nothing is seen twice.

It fits on a screen: draw, score what is asked, step down, now and then measure on sequences of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..data.recall import IGNORED, Drawn
from ..strings import text
from .loop import _threads

__all__ = ["RecallHistory", "Task", "recall_accuracy", "train_recall"]

TEST_SEED = 2**31  # of the sequences that accuracy is measured on: far from the seeds of training


class Task(Protocol):
    """What can be learned: `data.recall`'s tasks, `data.text.TextWindows`, and whatever else draws."""

    def draw(self, batch: int, generator: torch.Generator) -> Drawn:
        """Return tokens [B, L] and targets [B, L]."""


@dataclass(repr=False)
class RecallHistory:
    """What happened during `train_recall`: losses one a step, accuracies where they were measured."""

    losses: list[float] = field(default_factory=list)
    accuracy_steps: list[int] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    def __repr__(self) -> str:
        said = [f"{len(self.losses)} steps", f"{self.seconds:.0f} s"]
        said += [f"accuracy {self.accuracies[-1]:.1%}"] if self.accuracies else []
        return f"RecallHistory({', '.join(said + ['interrupted'] * self.interrupted)})"


def train_recall(
    model: nn.Module,
    task: Task,
    steps: int = 1000,
    *,
    batch_size: int = 32,
    lr: float = 3e-3,
    weight_decay: float = 0.01,
    warmup: float = 0.1,
    clip: float = 1.0,
    seed: int = 0,
    measure_every: int = 100,
    measure_on: Task | None = None,
    target: float | None = None,
    threads: int | None = None,
    on_step: Callable[[int, float], object] | None = None,
    progress: bool = True,
) -> RecallHistory:
    """Train a model on newly drawn sequences: AdamW, a linear warm-up, a cosine down to a tenth, clipped gradients.

    Parameters
    ----------
    model
        Maps tokens [B, L] to scores [B, L, V]; trained where it is, on its own device.
    task
        Draws tokens and targets; see `Task`.
    steps, batch_size
        Steps, and sequences a step.
    lr, weight_decay, warmup, clip
        Highest learning rate; AdamW's decay; share of the steps in which the rate climbs; largest gradient norm.
    seed
        Of the sequences.
    measure_every
        Steps between two measurements of accuracy, the last of them at the end.
    measure_on
        What accuracy is measured on; None: on `task`.
    target
        An accuracy at which training may stop early; None trains all steps.
    threads
        How many CPU threads to use meanwhile; None leaves the setting alone. Small models are quickest on one.
    on_step
        Called as `on_step(step, loss)`.
    progress
        Show a progress bar.

    Returns
    -------
    RecallHistory
        An interruption by keyboard ends the run early; what was done comes back, with `interrupted=True`.

    Raises
    ------
    ValueError
        If steps, batch_size or measure_every is below 1, or the warm-up is no share.
    FloatingPointError
        If the loss is no longer finite.

    Examples
    --------
    >>> from mambaout_edu.data.recall import Needle
    >>> from mambaout_edu.models.sequence_model import sequence_model
    >>> task = Needle(symbols=4, distance=1)
    >>> model = sequence_model("gru", task.vocab_size, dim=16, depth=1, seed=0)
    >>> train_recall(model, task, steps=150, lr=1e-2, progress=False).accuracies[-1] > 0.9
    True
    """
    if min(steps, batch_size, measure_every) < 1 or not 0 <= warmup < 1:
        raise ValueError(
            f"steps, batch_size and measure_every are at least 1, warmup is from 0 to below 1; got {steps}, "
            f"{batch_size}, {measure_every} and {warmup}"
        )
    device = next(model.parameters()).device
    optimizer = create_optimizer_v2(model, opt="adamw", lr=lr, weight_decay=weight_decay)
    climbing = round(warmup * steps)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: (done + 1) / (climbing + 1)),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - climbing, eta_min=lr / 10),
        ],
        [climbing],
    )
    generator = torch.Generator().manual_seed(seed)
    history, started = RecallHistory(), time.perf_counter()
    bar = tqdm(total=steps, desc=text("training", "progress"), disable=not progress)
    with bar, _threads(threads):
        try:
            for step in range(1, steps + 1):
                model.train()
                loss = _loss(model, task.draw(batch_size, generator), device)
                if not torch.isfinite(loss):
                    raise FloatingPointError(f"the loss is {loss.item()} at step {step}; try a lower learning rate")
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), clip)
                optimizer.step()
                schedule.step()
                history.losses.append(loss.item())
                bar.update()
                if on_step is not None:
                    on_step(step, history.losses[-1])
                if step % measure_every == 0 or step == steps:
                    accuracy = recall_accuracy(model, measure_on or task, 256, seed=seed)
                    history.accuracy_steps.append(step)
                    history.accuracies.append(accuracy)
                    bar.set_postfix_str(text("training", "accuracy", percent=f"{accuracy:.1%}"))
                    if target is not None and accuracy >= target:
                        break
        except KeyboardInterrupt:
            history.interrupted = True
    history.seconds = time.perf_counter() - started
    return history


def _loss(model: nn.Module, drawn: Drawn, device: torch.device) -> Tensor:
    scores = model(drawn.tokens.to(device))
    return F.cross_entropy(scores.flatten(0, 1), drawn.targets.to(device).flatten(), ignore_index=IGNORED)


@torch.no_grad()
def recall_accuracy(model: nn.Module, task: Task, sequences: int = 512, batch_size: int = 64, seed: int = 0) -> float:
    """Return the share of answers that are right, on sequences that training with this seed does not draw.

    Raises ValueError if there are no sequences, or nothing is asked in them.

    >>> from mambaout_edu.data.recall import Needle
    >>> class Blind(nn.Module):
    ...     def forward(self, tokens):
    ...         return F.one_hot(torch.zeros_like(tokens), 6).float()
    >>> abs(recall_accuracy(Blind(), Needle(symbols=4, distance=5), 2000) - 0.25) < 0.04
    True
    """
    if sequences < 1 or batch_size < 1:
        raise ValueError(f"sequences and batch_size must be at least 1; got {sequences} and {batch_size}")
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(TEST_SEED + seed)
    was_training, right, asked = model.training, 0, 0
    model.eval()
    try:
        for first in range(0, sequences, batch_size):
            tokens, targets = task.draw(min(batch_size, sequences - first), generator)
            said = model(tokens.to(device)).argmax(-1).cpu()
            right += int(((said == targets) & (targets != IGNORED)).sum())
            asked += int((targets != IGNORED).sum())
    finally:
        model.train(was_training)
    if asked == 0:
        raise ValueError("nothing is asked in these sequences: every target is ignored")
    return right / asked
