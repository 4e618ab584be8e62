"""Causal or fully visible: who may use whom, how to prove it, and what a causal mixer costs a small classifier.

    causal          y_t = f(x_1, ..., x_t)                   (MambaOut, arXiv 2405.07992, eq. 4)
    fully visible   y_t = f(x_1, ..., x_t, ..., x_L)         (eq. 5)

The classifier is a small ViT. Visible and causal, it has the same parameters; nothing but the mixer's view changes:

    stem      2 x 2 pixels -> a token of D channels, plus a learned position
    blocks    x + mixer(norm(x)), then x + mlp(norm(x))
    head      norm, one token for all: their mean, the last or the first; linear

Read out by the mean, a causal model also averages tokens that have seen little. The last token has seen all in both
views, the first nothing but itself in the causal one. So the read-outs tell what the mask costs from what it costs to
read the answer where little has been seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ..data import digits
from ..data.extras import require
from ..flatten.checks import check_order
from ..mixers import Attention
from ..scan.dual import decay_matrix
from .evaluation import evaluate
from .loop import fit
from .scan_order_summary import Mean
from .scan_orders import scan_mixer

__all__ = [
    "LIVE",
    "MIXERS",
    "READOUTS",
    "SETTINGS",
    "VIEWS",
    "CausalityRun",
    "VisibilityClassifier",
    "accuracies",
    "both_ways",
    "causal_mask",
    "paired_interval",
    "price",
    "train_one",
    "two_way_matrix",
    "visible",
    "visible_pairs",
]

MIXERS = ("attention", "ssm")
"""attention: as in ViT, or with GPT's mask. ssm: two scans with parameters of their own, one each way or both ahead."""

VIEWS, READOUTS = ("visible", "causal"), ("mean", "last", "first")

SETTINGS: Mapping[str, Any] = MappingProxyType({"epochs": 20, "batch_size": 64, "lr": 1e-2})
"""Arguments of `fit`, the same for all.

The learning rate is the best of 1e-3, 3e-3 and 1e-2 for either mixer, by the held-out accuracy of trial runs with mean
and last token, both views together, and the seeds 100 and 101 (the SSM at 1e-2: seed 100 alone), which are no part of
the comparison.
"""

LIVE: Mapping[str, Any] = MappingProxyType({"epochs": 4})
"""Arguments of `train_one` for a run of a few seconds on one core."""


def causal_mask(order: ArrayLike) -> NDArray[np.bool_]:
    """Return which token each output may use when tokens are read along an order: entry (t, s), bool [L, L].

    Parameters
    ----------
    order
        [L], a permutation: entry k is the token that is read at step k. `range(L)` is a sentence.

    Raises
    ------
    ValueError
        If the order is no permutation of 0 to L - 1.

    Examples
    --------
    >>> causal_mask([2, 0, 1]).astype(int)  # token 2 is read first, so it sees itself alone
    array([[1, 0, 1],
           [1, 1, 1],
           [0, 0, 1]])
    """
    order = check_order(order, len(np.asarray(order)))
    steps = np.empty(len(order), dtype=int)
    steps[order] = np.arange(len(order))  # when each token is read
    return np.asarray(steps[None, :] <= steps[:, None])


def visible_pairs(length: int, causal: bool = False, window: int | None = None) -> int:
    """Return how many pairs (output, input) of `length` tokens are visible, an output's own token counted.

    Parameters
    ----------
    length
        Tokens L, at least 1.
    causal
        Whether later tokens are hidden.
    window
        How many tokens away is seen, to each side that is visible at all; None for any distance.

    Raises
    ------
    ValueError
        If the length is below 1, or the window below 0.

    Examples
    --------
    >>> visible_pairs(5), visible_pairs(5, causal=True), visible_pairs(5, window=1)
    (25, 15, 13)
    """
    if length < 1 or (window is not None and window < 0):
        raise ValueError(f"length must be at least 1 and window at least 0, or None; got {length} and {window}")
    reach = length - 1 if window is None else min(window, length - 1)
    one_side = reach * length - reach * (reach + 1) // 2  # length - 1 pairs one apart, length - 2 two apart, ...
    return length + (1 if causal else 2) * one_side


def visible(mixer: Callable[[Tensor], Tensor], x: Tensor, nudge: float = 1.0) -> Tensor:
    """Return which outputs change when one token is changed: entry (t, s) for output t and token s, bool [L, L].

    A true entry is a proof. A false one says that nothing moved for this input, as far as the numbers' precision goes.
    Both inputs go through in batches of the same shape, so that what is not reached stays equal to the last bit.

    Parameters
    ----------
    mixer
        Maps [B, L, C], or [B, H, W, C], to the same shape, and treats the samples of a batch apart.
    x
        One input, [1, L, C] or [1, H, W, C]; pixels are numbered row by row.
    nudge
        What is added to all channels of the token that is changed.

    Raises
    ------
    ValueError
        If x has another shape.

    Examples
    --------
    >>> visible(lambda x: x.cumsum(1), torch.zeros(1, 3, 2)).int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    if x.ndim not in (3, 4) or len(x) != 1 or 0 in x.shape:
        raise ValueError(f"x must be one input, [1, L, C] or [1, H, W, C], with no side 0; got shape {tuple(x.shape)}")
    tokens = torch.arange(x[0, ..., 0].numel())  # [L]
    calm = x.flatten(1, -2).repeat(len(tokens), 1, 1)  # [L, L, C]: a copy of x for each token that is changed
    nudged = calm.clone()
    nudged[tokens, tokens] += nudge
    with torch.no_grad():
        moved = mixer(nudged.unflatten(1, x.shape[1:-1])) != mixer(calm.unflatten(1, x.shape[1:-1]))
    return moved.flatten(1, -2).any(-1).T


def two_way_matrix(ahead: Tensor, back: Tensor) -> Tensor:
    """Return the mixing matrix [..., L, L] of two scans, one from each end, whose outputs are added.

    Entry (t, s) is exp(a_(s+1) + ... + a_t) for s <= t, plus exp(b_t + ... + b_(s-1)) for s >= t: a token's own place
    is counted by both. B, C and steps are left out, as in `scan.dual.decay_matrix`.

    Parameters
    ----------
    ahead, back
        [..., L], logarithms of the decay at every token: a of the scan from the first token, b of that from the last.

    Raises
    ------
    ValueError
        If they differ in shape.

    Examples
    --------
    >>> two_way_matrix(torch.tensor([0.5, 0.5, 0.5]).log(), torch.tensor([0.1, 0.1, 0.1]).log())
    tensor([[2.0000, 0.1000, 0.0100],
            [0.5000, 2.0000, 0.1000],
            [0.2500, 0.5000, 2.0000]])
    """
    if ahead.shape != back.shape:
        raise ValueError(f"both ways need the same tokens; got shapes {tuple(ahead.shape)} and {tuple(back.shape)}")
    turned = decay_matrix(back.flip(-1))  # tokens numbered from the end
    return decay_matrix(ahead) + turned.flip(-2, -1)


def both_ways(ahead: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Make two causal mixers one that sees everything: x [B, L, C] read from both ends, and added, [B, L, C].

    Source: Vim, arXiv 2401.09417, algorithm 1, without its gate.

    >>> both_ways(lambda x: x.cumsum(1), lambda x: x.cumsum(1), torch.ones(1, 3, 1)).flatten()
    tensor([4., 4., 4.])
    """
    return ahead(x) + back(x.flip(1)).flip(1)


def paired_interval(first: ArrayLike, second: ArrayLike, quantile: float) -> tuple[float, float, float]:
    """Return the mean of first - second over seeds, and both ends of its interval.

    Parameters
    ----------
    first, second
        [n] results of two models, the same seeds in the same sequence; n is 2 or more.
    quantile
        Student's t for n - 1 degrees of freedom; 2.262 for 95 % and n = 10.

    Raises
    ------
    ValueError
        If they differ in length, or have fewer than two entries.

    Examples
    --------
    >>> paired_interval([97.0, 94.0, 96.0], [95.0, 93.0, 93.0], quantile=4.303)
    (2.0, -0.48..., 4.48...)
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise ValueError(f"expected two results a seed, for 2 seeds or more; got shapes {first.shape}, {second.shape}")
    differences = first - second
    mean = float(differences.mean())
    half = quantile * float(differences.std(ddof=1)) / len(differences) ** 0.5
    return mean, mean - half, mean + half


class VisibilityClassifier(nn.Module):
    """A small ViT whose mixer sees everything, or the tokens before alone.

    Parameters
    ----------
    mixer, view, readout
        One of `MIXERS`, `VIEWS` and `READOUTS` each.
    num_classes
        Outputs.
    dim, depth
        Channels, and blocks.

    Raises
    ------
    ValueError
        If a name is unknown.

    Examples
    --------
    >>> VisibilityClassifier("ssm", "causal", "last", num_classes=10)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, mixer: str, view: str, readout: str, num_classes: int = 10, *, dim: int = 32, depth: int = 3
    ) -> None:
        super().__init__()
        for what, given, known in (("mixer", mixer, MIXERS), ("view", view, VIEWS), ("readout", readout, READOUTS)):
            if given not in known:
                raise ValueError(f"no {what} is named {given!r}; expected one of {', '.join(known)}")
        self.readout = readout
        self.stem = nn.Conv2d(1, dim, 2, stride=2)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 4, 4, dim))
        self.blocks = nn.Sequential(*(_Block(dim, _mixer(mixer, view, dim)) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, 1, 8, 8] to scores [B, num_classes]."""
        x = self.stem((x - 0.5) / 0.25).permute(0, 2, 3, 1) + self.pos_embed  # [B, 4, 4, D]
        x = self.norm(self.blocks(x)).flatten(1, 2)  # [B, 16, D]
        scores: Tensor = self.head({"mean": x.mean(1), "last": x[:, -1], "first": x[:, 0]}[self.readout])
        return scores


class _Block(nn.Module):
    """ViT's block around any mixer of [B, H, W, D]."""

    def __init__(self, dim: int, mixer: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.mixer = mixer
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def _mixer(mixer: str, view: str, dim: int) -> nn.Module:
    if mixer == "attention":
        return Attention(dim, num_heads=4, causal=view == "causal")
    scans = scan_mixer("oneway" if view == "causal" else "raster", dim)
    return nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), scans, nn.Linear(dim, dim))


@dataclass(frozen=True)
class CausalityRun:
    """One training run: what was trained, `correct` of `total` held-out digits, last loss, size and seconds."""

    mixer: str
    view: str
    readout: str
    seed: int
    epochs: int
    correct: int
    total: int
    loss: float
    parameters: int
    seconds: float

    @property
    def accuracy(self) -> float:
        """The share that is right, from 0 to 1."""
        return self.correct / self.total


def train_one(
    mixer: str, view: str, readout: str = "mean", *, seed: int = 0, epochs: int | None = None, progress: bool = False
) -> CausalityRun:
    """Train `VisibilityClassifier` on the digits once, and measure it on the held-out ones.

    The seed draws the split, the first weights and the order of training. It runs on one CPU thread, where the same
    seed gives the same run; torch's own generator is left as it was.

    Raises ValueError for unknown names or epochs below 1, and KeyboardInterrupt if it is interrupted.

    >>> train_one("attention", "causal", epochs=1).total
    450
    """
    train, test = digits(seed=seed)
    settings = {**SETTINGS, **({} if epochs is None else {"epochs": epochs})}
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = VisibilityClassifier(mixer, view, readout, len(train.classes))
    started = time.perf_counter()
    history = fit(model, train, **settings, seed=seed, threads=1, progress=progress)
    if history.interrupted:
        raise KeyboardInterrupt(f"stopped after {len(history.steps)} steps")
    seconds, result = time.perf_counter() - started, evaluate(model, test)
    last = history.losses[-(len(history.losses) // settings["epochs"]) :]
    return CausalityRun(
        mixer, view, readout, seed, settings["epochs"], result.correct, result.total,
        loss=round(sum(last) / len(last), 5), parameters=sum(p.numel() for p in model.parameters()),
        seconds=round(seconds, 2),
    )  # fmt: skip


def accuracies(results: Mapping[str, Any], mixer: str, readout: str, view: str) -> list[float]:
    """Return accuracies in percent, one a seed, of a recorded run of `experiments/causality.py`.

    Raises ValueError for what was not run.

    >>> accuracies({"total": {"ssm": 4}, "correct": {"ssm": {"mean": {"causal": [3, 4]}}}}, "ssm", "mean", "causal")
    [75.0, 100.0]
    """
    counts = results["correct"].get(mixer, {}).get(readout, {}).get(view)
    if counts is None:
        raise ValueError(f"no run of {mixer!r}, {readout!r}, {view!r}; there are {results['correct']}")
    return [100 * count / results["total"][mixer] for count in counts]


def price(results: Mapping[str, Any], mixer: str, readout: str) -> Mean:
    """Return what the causal view costs, in points: visible - causal, paired by seed, with Student's 95 % interval.

    Raises ValueError for what was not run, or fewer than two seeds.

    >>> counts = {"visible": [98, 96, 97], "causal": [96, 95, 94]}
    >>> price({"total": {"ssm": 100}, "correct": {"ssm": {"mean": counts}}}, "ssm", "mean")
    Mean(value=2.0, low=-0.48, high=4.48)
    """
    open_, masked = (accuracies(results, mixer, readout, view) for view in VIEWS)
    quantile = float(require("scipy.stats").t.ppf(0.975, max(len(open_) - 1, 1)))
    return Mean(*(round(each, 2) for each in paired_interval(open_, masked, quantile)))
