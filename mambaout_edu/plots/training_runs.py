"""Figures of training runs: loss, accuracy, learning rate and speed, of one run or of several beside each other."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg

from ..strings import text
from .style import COLOURS, LINE_STYLES, MARKERS, MUTED, finish, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["card_alt", "card_png", "run_curves"]

_PANELS = (("loss", "loss"), ("accuracy", ""), ("learning_rate", "lr"), ("speed", "images_per_second"))
Card = Mapping[str, Any]


def run_curves(cards: Mapping[str, Card]) -> Figure:
    """Draw loss, accuracy with its 95 % intervals, learning rate and speed of runs, over the epochs.

    Parameters
    ----------
    cards
        What `training.card.run_card` returns, or `card.json` holds, by the names that the legend shows; a single run
        has a title instead.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> curves = {"epoch": [0.5, 1.0], "loss": [2.3, 1.1], "lr": [1e-3, 0.0], "images_per_second": [90.0, 100.0]}
    >>> one = {"epoch": 1.0, "accuracy": 0.9, "interval": [0.85, 0.93]}
    >>> fig = run_curves({"a": {"curves": curves, "evaluations": [one]}, "b": {"curves": curves, "evaluations": []}})
    >>> [ax.get_ylabel() for ax in fig.axes]
    ['training loss', 'accuracy on held-out images (%)', 'learning rate', 'images per second']
    """
    if not cards:
        raise ValueError("there is no run to draw; expected at least one card")
    fig, axes = new_figure(13, 8.4, rows=2, columns=2)
    panels = dict(zip([name for name, _ in _PANELS], axes.flat, strict=True))
    for i, (name, card) in enumerate(cards.items()):
        look = {"color": COLOURS[i % len(COLOURS)], "linestyle": LINE_STYLES[i % len(LINE_STYLES)], "linewidth": 2.5}
        for panel, key in _PANELS:
            if key:
                panels[panel].plot(card["curves"]["epoch"], card["curves"][key], marker="", label=name, **look)
        _accuracy(panels["accuracy"], card, name, MARKERS[i % len(MARKERS)], look)
    for panel, ax in panels.items():
        ax.set_ylabel(text("training_runs", panel))
        ax.set_xlabel(text("training_runs", "epoch"))
        ax.grid(color=MUTED, alpha=0.3)
        ax.set_xlim(left=0)
    for panel in ("learning_rate", "speed"):
        panels[panel].set_ylim(bottom=0)
    _finish_accuracy(panels["accuracy"], cards)
    if len(cards) > 1:
        legend(panels["loss"])
    elif "model" in next(iter(cards.values())):
        fig.suptitle("\n".join(_titles(next(iter(cards.values())))))
    return finish(fig)


def card_alt(card: Card) -> str:
    """Say in words what the picture of a run shows."""
    losses = [loss for loss in card["curves"]["loss"] if loss is not None and math.isfinite(loss)]
    first, last = (f"{losses[0]:.2f}", f"{losses[-1]:.2f}") if losses else ("?", "?")
    said = {key: _said(card)[key] for key in ("model", "data", "state", "epochs", "result")}
    return text("training_runs", "alt", first=first, last=last, **said)


def card_png(card: Card, *, dpi: int = 100) -> bytes:
    """Return the picture of a run as the bytes of a PNG, which says in its description what it shows."""
    fig, buffer = run_curves({"": card}), io.BytesIO()
    FigureCanvasAgg(fig)
    fig.savefig(buffer, dpi=dpi, format="png", metadata={"Software": None, "Description": card_alt(card)})
    return buffer.getvalue()


def _accuracy(ax: Axes, card: Card, name: str, marker: str, look: Mapping[str, Any]) -> None:
    evaluations = card["evaluations"]
    if not evaluations:
        return
    values = [100 * line["accuracy"] for line in evaluations]
    below = [max(0.0, v - 100 * line["interval"][0]) for v, line in zip(values, evaluations, strict=True)]
    above = [max(0.0, 100 * line["interval"][1] - v) for v, line in zip(values, evaluations, strict=True)]
    size = 7 if len(values) <= 40 else 0
    epochs = [line["epoch"] for line in evaluations]
    ax.errorbar(epochs, values, [below, above], marker=marker, markersize=size, elinewidth=1.5, label=name, **look)


def _finish_accuracy(ax: Axes, cards: Mapping[str, Card]) -> None:
    if any(card["evaluations"] for card in cards.values()):
        ax.set_title(text("training_runs", "band"))
    else:
        ax.text(0.5, 0.5, text("training_runs", "nothing"), ha="center", va="center", transform=ax.transAxes)


def _titles(card: Card) -> tuple[str, str]:
    said = _said(card)
    return text("training_runs", "title", **said), text("training_runs", "where", **said)


def _said(card: Card) -> dict[str, str]:
    final = card["final"]
    result = text("training_runs", "no_result")
    if final is not None:
        low, high = (f"{100 * end:.1f}" for end in final["interval"])
        result = text("training_runs", "result", percent=f"{100 * final['accuracy']:.1f}", low=low, high=high)
    data = str(card["data"] or "?")
    return {
        "model": card["model"] or text("training_runs", "unnamed"),
        "data": data if len(data) <= 40 else f"...{data[-36:]}",
        "recipe": card["recipe"]["name"],
        "result": result,
        "state": text("training_runs", card["state"]),
        "epochs": f"{card['epochs']:.4g}",
        "time": _time(card["seconds"]),
        "device": str(card["device"]),
    }


def _time(seconds: float) -> str:
    if seconds >= 3600:
        return text("training_runs", "hours", hours=seconds / 3600)
    if seconds >= 60:
        return text("training_runs", "minutes", minutes=seconds / 60)
    return text("training_runs", "seconds", seconds=seconds)
