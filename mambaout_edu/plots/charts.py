"""Figures of numbers: what a model costs, how it learned, how well it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

from ..strings import text
from .style import COLOURS, HATCHES, INK, LINE_STYLES, MARKERS, MUTED, finish, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..training import Evaluation, History

__all__ = ["accuracies", "cost", "loss_curves"]


class Costed(Protocol):
    """One part of a model, as `models.profile` lists them."""

    name: str
    parameters: int
    multiply_adds: int


def cost(profile: Iterable[Costed]) -> Figure:
    """Draw where a model's parameters and multiply-adds go, part by part, as shares of the whole.

    Parameters
    ----------
    profile
        What `models.profile` returns.

    Raises
    ------
    ValueError
        If it has no parts.

    Examples
    --------
    >>> from mambaout_edu.models import create_model, profile
    >>> labels = cost(profile(create_model("mambaout_femto"), 224)).axes[0].get_yticklabels()
    >>> [label.get_text() for label in labels]
    ['stem', 'token mixing', 'channel mixing', 'downsampling', 'head']
    """
    parts = list(profile)
    if not parts:
        raise ValueError("the profile has no parts; pass what models.profile(model, image_size) returns")
    fig, axes = new_figure(11, 1.2 + 1.1 * len(parts))
    ax = axes[0, 0]
    rows = np.arange(len(parts))
    for i, key in enumerate(("parameters", "multiply_adds")):
        counts = np.array([getattr(part, key) for part in parts], dtype=float)
        shares = 100 * counts / max(counts.sum(), 1)
        bars = ax.barh(
            rows + 0.4 * i - 0.2, shares, 0.38, color=COLOURS[i], hatch=HATCHES[i], edgecolor=INK,
            label=text("plots", key),
        )  # fmt: skip
        named = zip(shares, counts, strict=True)
        labels = [text("plots", "share_label", percent=f"{s:.1f} %", count=_short(n)) for s, n in named]
        ax.bar_label(bars, labels, padding=6)
    ax.set_yticks(rows, [text("plots", f"part.{part.name}") for part in parts])
    ax.invert_yaxis()
    ax.set_xlim(0, 125)  # room for the label of the longest bar
    ax.set_xticks(range(0, 101, 20))
    ax.set_xlabel(text("plots", "share"))
    legend(ax, loc="lower right")
    return finish(fig)


def loss_curves(histories: Mapping[str, History], *, smooth: int = 20) -> Figure:
    """Draw training losses, and beside them the held-out accuracies where they were measured.

    Parameters
    ----------
    histories
        One `training.History` a name.
    smooth
        The bold line is the average of this many steps; the thin one is every step.

    Raises
    ------
    ValueError
        If there is no history, one is empty, or `smooth` is below 1.

    Examples
    --------
    >>> from mambaout_edu.training import History
    >>> run = History(steps=[1, 2, 3], losses=[2.3, 1.1, 0.6], accuracy_steps=[3], accuracies=[0.9])
    >>> len(loss_curves({"MambaOut": run}).axes)
    2
    """
    if smooth < 1:
        raise ValueError(f"smooth is {smooth}; expected 1 step or more")
    if not histories or not all(history.steps for history in histories.values()):
        raise ValueError(f"expected at least one history with steps in it; got {dict(histories)}")
    measured = any(history.accuracies for history in histories.values())
    fig, axes = new_figure(12 if measured else 7, 4.6, columns=2 if measured else 1)
    for i, (name, history) in enumerate(histories.items()):
        look = {"color": COLOURS[i % len(COLOURS)], "linestyle": LINE_STYLES[i % len(LINE_STYLES)], "linewidth": 2.5}
        average = _trailing_mean(history.losses, smooth)
        axes[0, 0].plot(
            history.steps, history.losses, color=look["color"], linestyle="-", marker="", alpha=0.3, linewidth=1
        )
        axes[0, 0].plot(history.steps, average, marker="", label=name, **look)
        if history.accuracies:
            percent = [100 * accuracy for accuracy in history.accuracies]
            marker = MARKERS[i % len(MARKERS)]
            axes[0, 1].plot(history.accuracy_steps, percent, marker=marker, markersize=7, label=name, **look)
    axes[0, 0].set_ylabel(text("plots", "loss"))
    axes[0, 0].set_title(text("plots", "smoothed", steps=smooth))
    if measured:
        axes[0, 1].set_ylabel(text("plots", "accuracy_percent"))
    for ax in axes[0]:
        ax.set_xlabel(text("plots", "step"))
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.grid(color=MUTED, alpha=0.3)
        legend(ax)
    return finish(fig)


def accuracies(evaluations: Mapping[str, Evaluation]) -> Figure:
    """Draw the accuracy of several classifiers with their 95 % intervals.

    Points, not bars: near 100 % a bar from zero would hide every difference.

    Parameters
    ----------
    evaluations
        One `training.Evaluation` a name.

    Raises
    ------
    ValueError
        If there are none.

    Examples
    --------
    >>> import torch
    >>> from mambaout_edu.training import Evaluation
    >>> result = Evaluation(443, 450, torch.zeros(450), torch.zeros(450, 10), torch.zeros(450))
    >>> accuracies({"MambaOut": result}).axes[0].get_xlabel()
    'accuracy on held-out images (%)'
    """
    if not evaluations:
        raise ValueError("there is no evaluation to draw; expected at least one")
    fig, axes = new_figure(10, 1.6 + 0.9 * len(evaluations))
    ax = axes[0, 0]
    for row, result in enumerate(evaluations.values()):
        value, (low, high) = 100 * result.accuracy, (100 * end for end in result.interval)
        error = [[max(0.0, value - low)], [max(0.0, high - value)]]
        ax.errorbar(
            value, row, xerr=error, fmt=MARKERS[row % len(MARKERS)], color=COLOURS[row % len(COLOURS)],
            markersize=11, linewidth=3, capsize=8, capthick=2,
        )  # fmt: skip
        ax.annotate(f"{value:.1f} %", (value, row), xytext=(0, 14), textcoords="offset points", ha="center")
    ax.set_yticks(range(len(evaluations)), list(evaluations))
    ax.set_ylim(len(evaluations) - 0.4, -0.7)
    ax.set_xlabel(text("plots", "accuracy_percent"))
    ax.set_title(text("plots", "error_bars"))
    ax.grid(axis="x", color=MUTED, alpha=0.3)
    return finish(fig)


def _trailing_mean(values: Sequence[float], window: int) -> npt.NDArray[np.float64]:
    """Average each value with up to `window - 1` before it."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _short(count: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"
