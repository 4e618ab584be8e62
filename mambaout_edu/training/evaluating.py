"""A model on held-out images that are read as they are needed: accuracies with intervals, confusions, throughput."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..recorded import device_name
from ..strings import text
from .evaluation import wilson_interval

if TYPE_CHECKING:
    from .loaders import BadImage
    from .recipe import Recipe
    from .sources import Source

__all__ = ["ModelEvaluation", "evaluate_batches", "evaluate_model"]

_MOST_CLASSES = 2048  # a confusion matrix of more would need more memory than many models
_SHOWN = 5  # confusions in the summary


@dataclass(frozen=True, eq=False, repr=False)
class ModelEvaluation:
    """What a classifier answered, counted; as text, a summary.

    Attributes
    ----------
    correct, correct5, total
        Images whose class has the highest score, is among the five highest, and all of them.
    loss
        The mean cross-entropy, without label smoothing.
    confusion
        int64 [true class, chosen class], counts of images; None for more than 2,048 classes.
    classes
        Their names.
    seconds, model_seconds
        Wall-clock time of everything, and of the model alone.
    device
        What it was measured on.
    skipped
        The images that could not be read (by this process); they count nowhere else.
    """

    correct: int
    correct5: int
    total: int
    loss: float
    confusion: Tensor | None
    classes: tuple[str, ...]
    seconds: float
    model_seconds: float
    device: str
    skipped: tuple[BadImage, ...] = ()

    @property
    def accuracy(self) -> float:
        """The share that is right, from 0 to 1."""
        return self.correct / self.total

    @property
    def accuracy5(self) -> float:
        """The share whose class is among the five with the highest scores."""
        return self.correct5 / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The Wilson 95 % interval of the accuracy."""
        return wilson_interval(self.correct, self.total)

    @property
    def interval5(self) -> tuple[float, float]:
        """The Wilson 95 % interval of the top-5 accuracy."""
        return wilson_interval(self.correct5, self.total)

    @property
    def images_per_second(self) -> float:
        """Images read, prepared and classified in a second."""
        return self.total / self.seconds

    @property
    def model_images_per_second(self) -> float:
        """Images a second of the model alone."""
        return self.total / self.model_seconds

    def confusions(self, limit: int | None = None) -> list[tuple[str, str, int]]:
        """Return (true class, chosen class, images) of all confusions, the most frequent first; none without a matrix.

        >>> counts = torch.tensor([[5, 0], [2, 3]])
        >>> ModelEvaluation(8, 10, 10, 0.4, counts, ("cat", "dog"), 1.0, 1.0, "cpu").confusions()
        [('dog', 'cat', 2)]
        """
        if self.confusion is None:
            return []
        wrong = self.confusion.clone().fill_diagonal_(0)
        order = torch.argsort(wrong.flatten(), descending=True, stable=True)[: limit or wrong.numel()].tolist()
        places = [divmod(place, len(self.classes)) for place in order]
        return [(self.classes[t], self.classes[c], int(wrong[t, c])) for t, c in places if wrong[t, c]]

    def as_json(self) -> dict[str, Any]:
        """Return all figures as JSON's kinds of values."""
        return {
            "top1": {"correct": self.correct, "share": self.accuracy, "interval": list(self.interval)},
            "top5": {"correct": self.correct5, "share": self.accuracy5, "interval": list(self.interval5)},
            "total": self.total,
            "loss": self.loss,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            "model_images_per_second": self.model_images_per_second,
            "device": self.device,
            "skipped": [{"index": bad.index, "reason": bad.reason} for bad in self.skipped],
            "classes": list(self.classes),
            "confusion": None if self.confusion is None else self.confusion.tolist(),
        }

    def __str__(self) -> str:
        lines = [_accuracy_line("evaluate_top1", self.correct, self.total, self.interval)]
        if len(self.classes) > 5:
            lines.append(_accuracy_line("evaluate_top5", self.correct5, self.total, self.interval5))
        lines.append(text("cli", "evaluate_loss", loss=self.loss))
        both = {"speed": self.images_per_second, "model": self.model_images_per_second, "device": self.device}
        lines.append(text("cli", "evaluate_speed", **both))
        if self.skipped:
            first = self.skipped[0]
            lines.append(
                text("cli", "evaluate_skipped", count=len(self.skipped), index=first.index, reason=first.reason)
            )
        worst = [
            text("cli", "evaluate_confusion", true=true, chosen=chosen, images=images)
            for true, chosen, images in self.confusions(_SHOWN)
        ]
        return "\n".join([*lines, *([text("cli", "evaluate_confusions"), *worst] if worst else [])])

    def __repr__(self) -> str:
        low, high = self.interval
        return (
            f"ModelEvaluation({self.correct}/{self.total} = {self.accuracy:.1%}, 95 % interval {low:.1%} to {high:.1%})"
        )


def evaluate_model(
    model: nn.Module,
    source: Source,
    recipe: Recipe,
    *,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
    accelerator: Any = None,
    progress: bool = True,
) -> ModelEvaluation:
    """Classify every image of a source and count the answers; nothing but the counts is kept.

    Images are prepared as the recipe says, in its precision and memory format. The model is moved to the device, put
    into evaluation mode, and back into its own mode afterwards.

    Parameters
    ----------
    model
        Takes [B, C, H, W], returns scores [B, classes].
    source
        What `open_source(data, "validation", recipe)` returns.
    recipe
        Size, normalisation and batch of the images.
    device
        Where to compute; None is where the model is.
    batch_size
        Images at a time; None is as many as in training.
    accelerator
        Hugging Face accelerate's; each of its processes then counts its share, and all return the sums.
    progress
        Show a progress bar.

    Raises
    ------
    ValueError
        If there are no images, the model has another number of classes or channels, or its scores are not finite.
    TooManyBadImages
        If more images cannot be read than the recipe allows.

    Examples
    --------
    >>> from mambaout_edu.models import create_model
    >>> from mambaout_edu.training.recipe import recipe
    >>> from mambaout_edu.training.sources import open_source
    >>> plan = recipe("digits_cpu")
    >>> untrained = create_model("mambaout_pico_8", num_classes=10)
    >>> evaluate_model(untrained, open_source("digits", "validation", plan), plan, progress=False).total
    450
    """
    from .loaders import eval_loader

    _check_fit(model, source, recipe)
    rank, world = (accelerator.process_index, accelerator.num_processes) if accelerator is not None else (0, 1)
    loader = eval_loader(source, recipe, rank=rank, world=world, batch_size=batch_size)
    found = evaluate_batches(
        model,
        tqdm(loader, desc=text("cli", "evaluating"), leave=False, disable=not progress or rank != 0),
        tuple(source.classes),
        device=device,
        precision=recipe.precision,
        channels_last=recipe.channels_last,
        accelerator=accelerator,
    )
    return dataclasses.replace(found, skipped=tuple(loader.bad))


@torch.no_grad()
def evaluate_batches(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, ...]],
    classes: tuple[str, ...],
    *,
    device: str | torch.device | None = None,
    precision: str = "fp32",
    channels_last: bool = False,
    accelerator: Any = None,
) -> ModelEvaluation:
    """Classify batches (images [B, C, H, W], labels [B], ...) and count the answers, as `evaluate_model` does.

    Raises ValueError as `evaluate_model` does.

    >>> batches = [(torch.eye(3).reshape(3, 3, 1, 1), torch.tensor([0, 1, 1]))]
    >>> evaluate_batches(nn.Flatten(), batches, ("a", "b", "c"))
    ModelEvaluation(2/3 = 66.7%, 95 % interval 20.8% to 93.9%)
    """
    place = torch.device(device) if device is not None else _device_of(model)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    dtype = next((p.dtype for p in model.parameters()), None)
    if device is not None:
        model.to(place)
    counts, clock, started = _Counts(classes, place), _Clock(place), time.perf_counter()
    with _evaluating(model):
        for images, labels, *_ in batches:
            images = images.to(place, dtype, non_blocking=True, memory_format=layout)
            with clock, torch.autocast(place.type, torch.bfloat16, enabled=precision == "bf16"):
                scores = model(images)
            counts.add(scores, labels.to(place, non_blocking=True))
    if accelerator is not None:
        counts.reduce(accelerator)
    return counts.finish(clock, started)


class _Counts:
    """Answers by kind, on the model's device, so that no batch waits for the one before it to be read."""

    def __init__(self, classes: tuple[str, ...], device: torch.device) -> None:
        self.classes, self.device, n = classes, device, len(classes)
        self.sums = torch.zeros(4, dtype=torch.int64, device=device)  # right, right among five, all, not finite
        self.loss = torch.zeros((), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        size = n * n if n <= _MOST_CLASSES else 0
        self.confusion = torch.zeros(size, dtype=torch.int64, device=device)

    def add(self, scores: Tensor, labels: Tensor) -> None:
        n = len(self.classes)
        if scores.ndim != 2 or scores.shape[1] != n:
            raise ValueError(
                f"the model's output has shape {tuple(scores.shape)}; expected [{len(labels)}, {n}], one score a "
                f"class. Build it with num_classes={n}"
            )
        scores = scores.float()
        chosen = scores.argmax(dim=1)  # [B]
        right = chosen == labels
        among = (scores.topk(min(5, n), dim=1).indices == labels[:, None]).any(dim=1) | right
        broken = ~torch.isfinite(scores).all(dim=1)
        self.sums += torch.stack([right.sum(), among.sum(), torch.ones_like(labels).sum(), broken.sum()])
        self.loss += F.cross_entropy(scores, labels, reduction="sum")
        if len(self.confusion):
            self.confusion.index_add_(0, labels * n + chosen, torch.ones_like(labels))

    def reduce(self, accelerator: Any) -> None:
        for name in ("sums", "loss", "confusion"):
            setattr(self, name, accelerator.reduce(getattr(self, name), reduction="sum"))

    def finish(self, clock: _Clock, started: float) -> ModelEvaluation:
        right, among, total, broken = self.sums.tolist()  # waits for the device
        seconds = time.perf_counter() - started
        if total == 0:
            raise ValueError("there are no images to evaluate on; expected 1 or more")
        if broken:
            raise ValueError(
                f"the model's scores are infinite or undefined for {broken} of {total} images, so its answers mean "
                "nothing. Its weights or its precision are at fault: take an earlier checkpoint, or precision='fp32'"
            )
        n = len(self.classes)
        confusion = self.confusion.reshape(n, n).cpu() if len(self.confusion) else None
        name = device_name("cuda" if self.device.type == "cuda" else "cpu")
        args = (float(self.loss) / total, confusion, self.classes, seconds, clock.seconds(), name)
        return ModelEvaluation(right, among, total, *args)


class _Clock:
    """The time inside its blocks; on a GPU by events, which nothing waits for until the sum is asked."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.marks: list[tuple[Any, Any]] = []

    def _mark(self) -> Any:
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def __enter__(self) -> None:
        self.start = self._mark()

    def __exit__(self, *_: object) -> None:
        self.marks.append((self.start, self._mark()))

    def seconds(self) -> float:
        if self.on_gpu:
            torch.cuda.synchronize()
            return sum(start.elapsed_time(end) for start, end in self.marks) / 1e3
        return sum(end - start for start, end in self.marks)


def _check_fit(model: nn.Module, source: Source, recipe: Recipe) -> None:
    made, classes = getattr(model, "num_classes", None), len(source.classes)
    if made is not None and made != classes:
        names = ", ".join(source.classes[:3]) + (", ..." if classes > 3 else "")
        raise ValueError(
            f"the model tells {made} classes apart, but {source.name} has {classes} ({names}). Evaluate on data with "
            f"the classes it was trained on, or train it with num_classes={classes}"
        )
    channels = getattr(model, "in_chans", None)
    if channels is not None and channels != recipe.in_chans:
        raise ValueError(
            f"the model takes images of {channels} channels, but the recipe prepares {recipe.in_chans}; "
            f"set in_chans={channels} (with a mean and std of {channels} numbers), or choose another recipe"
        )


def _device_of(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _accuracy_line(key: str, correct: int, total: int, interval: tuple[float, float]) -> str:
    low, high = (f"{100 * end:.2f}" for end in interval)
    percent = f"{100 * correct / total:.2f}"
    return text("cli", key, percent=percent, low=low, high=high, correct=correct, total=total)
