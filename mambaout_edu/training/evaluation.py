"""Accuracy on held-out images, with the interval that its sample size allows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data import ImageSet

__all__ = ["Evaluation", "evaluate", "wilson_interval"]

_Z_95 = 1.959963984540054  # the normal distribution's 97.5 % point


def wilson_interval(correct: int, total: int, z: float = _Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion, 95 % by default.

    Unlike the plain normal interval it stays within 0 and 1, and has a width even at 100 %.

    Raises ValueError unless 0 <= correct <= total and total is at least 1.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference",
    J. Am. Stat. Assoc. 22, 1927.

    >>> low, high = wilson_interval(443, 450)
    >>> round(low, 3), round(high, 3)
    (0.968, 0.992)
    """
    if total < 1 or not 0 <= correct <= total:
        raise ValueError(f"{correct} correct of {total}; expected 0 <= correct <= total and total of 1 or more")
    share = correct / total
    centre = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How a classifier did on a set of images.

    Attributes
    ----------
    correct, total
        Counts of images.
    predictions
        int64 [N], the class chosen for each image.
    probabilities
        float32 [N, classes], softmax of the model's output.
    labels
        int64 [N], the true classes.
    """

    correct: int
    total: int
    predictions: Tensor
    probabilities: Tensor
    labels: Tensor

    @property
    def accuracy(self) -> float:
        """The share that is right, from 0 to 1."""
        return self.correct / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The Wilson 95 % interval of the accuracy."""
        return wilson_interval(self.correct, self.total)

    @property
    def mistakes(self) -> Tensor:
        """Indices of the wrongly classified images, the most confident mistake first: int64 [number of mistakes]."""
        wrong = torch.nonzero(self.predictions != self.labels).flatten()
        confidence = self.probabilities[wrong, self.predictions[wrong]]
        return wrong[torch.argsort(confidence, descending=True, stable=True)]

    def __repr__(self) -> str:
        low, high = self.interval
        return f"Evaluation({self.correct}/{self.total} = {self.accuracy:.1%}, 95 % interval {low:.1%} to {high:.1%})"


@torch.no_grad()
def evaluate(model: nn.Module, images: ImageSet, *, batch_size: int = 512) -> Evaluation:
    """Classify every image and count what is right.

    The model is put into evaluation mode for this, and back into its own mode afterwards.

    Parameters
    ----------
    model
        Takes [B, C, H, W], returns scores [B, classes].
    images
        The images and their true labels.
    batch_size
        How many images go through the model at a time.

    Raises
    ------
    ValueError
        If there are no images, or the model has fewer or more outputs than there are classes.

    Examples
    --------
    >>> same = nn.Sequential(nn.Flatten(), nn.Identity())
    >>> one_hot = ImageSet(torch.eye(3).reshape(3, 3, 1, 1), torch.tensor([0, 1, 1]), ("a", "b", "c"))
    >>> evaluate(same, one_hot)
    Evaluation(2/3 = 66.7%, 95 % interval 20.8% to 93.9%)
    """
    if len(images) == 0:
        raise ValueError("there are no images to evaluate on; expected 1 or more")
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    was_training = model.training
    model.eval()
    try:
        scores = torch.cat([model(part.to(device)).float().cpu() for part in images.images.split(batch_size)])
    finally:
        model.train(was_training)
    if scores.ndim != 2 or scores.shape[1] != len(images.classes):
        raise ValueError(
            f"the model's output has shape {tuple(scores.shape)}; expected [{len(images)}, {len(images.classes)}], "
            f"one score a class. Build it with num_classes={len(images.classes)}"
        )
    predictions = scores.argmax(dim=1)
    correct = int((predictions == images.labels).sum())
    return Evaluation(correct, len(images), predictions, scores.softmax(dim=1), images.labels)
