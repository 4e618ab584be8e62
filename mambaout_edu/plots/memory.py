"""Figures of what is remembered: forgetting curves, recall against length and number, the cost of a token."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..strings import table, text
from .style import COLOURS, INK, LINE_STYLES, MARKERS, MUTED, PAPER, POINTS, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["decoding_costs", "decoding_roofline", "forgetting_curves", "recall_curves"]

PART = "memory_plots"
_LEAST = 1e-6  # of a curve: what is less lies on the lower edge


def forgetting_curves(panels: Mapping[str, Mapping[str, npt.ArrayLike]]) -> Figure:
    """Draw how much each past token weighs in the last output, against how long ago it came, panel by panel.

    Parameters
    ----------
    panels
        {title: {mixer: [L]}}: weights such as `memory.forgetting.token_weights` returns, the first token first. Each
        curve is drawn as shares of its own largest.

    Raises
    ------
    ValueError
        If there are no panels or no curves, or a curve is not [L] of numbers from 0 on with one above 0.

    Examples
    --------
    >>> forgetting_curves({"untrained": {"lstm": 0.5 ** np.arange(8)[::-1]}}).axes[0].get_title()
    'untrained'
    """
    curves = [(name, np.asarray(curve, dtype=np.float64)) for panel in panels.values() for name, curve in panel.items()]
    if not curves:
        raise ValueError("there are no curves; expected {title: {mixer: weights [L]}}")
    for name, curve in curves:
        if curve.ndim != 1 or not (curve >= 0).all() or not curve.any():
            raise ValueError(f"{name!r} has shape {curve.shape}; expected [L], numbers of 0 or more, not all 0")
    looks = {name: look for look, name in enumerate(dict.fromkeys(name for name, _ in curves))}
    fig, axes = new_figure(14, 6.2, columns=len(panels))
    for ax, (title, panel) in zip(axes[0], panels.items(), strict=True):
        for name, given in panel.items():
            shares = np.asarray(given, dtype=np.float64)[::-1]
            shares = np.maximum(shares / shares.max(), _LEAST)
            ax.plot(np.arange(1, len(shares) + 1), shares, label=_said(name), **_look(looks[name], markevery=0.15))
        ax.set(xscale="log", yscale="log", ylim=(_LEAST, 2))
        ax.set_title(title)
        ax.set_xlabel(text(PART, "tokens_ago"))
        _grid(ax)
    axes[0, 0].set_ylabel(text(PART, "weight"))
    return _shared_legend(fig, axes[0], columns=5)


def recall_curves(parts: Mapping[str, Mapping[str, Any]], mixers: Sequence[str] | None = None) -> Figure:
    """Draw recall against a task's dial: the mean of the seeds, and bars from the lowest to the highest.

    Parameters
    ----------
    parts
        {title: part}, each as the recorded run "recall" has it: "runs" {mixer: {"asked": {dial: [accuracy, one a
        seed]}}}, "chance" {dial: share}, "dial", and, if there are, "settings" with the dials trained at.
    mixers
        Which, and in which order their colours go; None for all.

    Raises
    ------
    ValueError
        If there are no parts, or none of the mixers was run.

    Examples
    --------
    >>> runs = {"lstm": {"asked": {"4": [0.9, 1.0], "8": [0.2, 0.4]}}}
    >>> fig = recall_curves({"associative recall": {"runs": runs, "chance": {"4": 0.1, "8": 0.1}, "dial": "pairs"}})
    >>> fig.axes[0].get_xlabel()
    'pairs to remember'
    """
    known = list(dict.fromkeys(name for part in parts.values() for name in part["runs"]))
    names = known if mixers is None else [name for name in mixers if name in known]
    if not names:
        raise ValueError(f"none of the mixers {mixers} was run; there are {', '.join(known) or 'none'}")
    fig, axes = new_figure(5.2 * max(len(parts), 2), 6.2, columns=len(parts))
    for ax, (title, part) in zip(axes[0], parts.items(), strict=True):
        for look, name in enumerate(names):
            if name in part["runs"]:
                _draw_recall(ax, part["runs"][name]["asked"], _said(name), look, len(names))
        dials = [int(dial) for dial in part["chance"]]
        guessing = [100 * share for share in part["chance"].values()]
        ax.plot(dials, guessing, color=INK, linestyle=":", linewidth=1.5, marker="", label=text(PART, "chance"))
        trained = max(part.get("settings", {}).get("train", dials))
        if trained < max(dials):
            ax.axvline(trained, color=MUTED, linestyle="--", linewidth=1.5, label=text(PART, "trained_to"))
        ax.set_xscale("log", base=2)
        ax.set_xticks(dials, [f"{dial:,}" for dial in dials], rotation=45 if max(dials) > 99 else 0)
        ax.minorticks_off()
        ax.set_ylim(-4, 104)
        ax.set_title(title)
        ax.set_xlabel(text(PART, f"dial.{part['dial']}"))
        _grid(ax)
    axes[0, 0].set_ylabel(text(PART, "accuracy"))
    return _shared_legend(fig, axes[0], columns=5 if len(parts) > 1 else 4)


def _draw_recall(ax: Axes, asked: Mapping[str, Sequence[float]], label: str, look: int, looks: int) -> None:
    """Draw one mixer, shifted a little, so that bars at one dial stand side by side."""
    x = np.array([float(dial) for dial in asked]) * 2 ** (0.05 * (look - (looks - 1) / 2))
    y = np.array([[100 * statistics.mean(a), 100 * min(a), 100 * max(a)] for a in asked.values()])  # [dials, 3]
    style = _look(look, markevery=1)
    ax.errorbar(
        x, y[:, 0], yerr=[y[:, 0] - y[:, 1], y[:, 2] - y[:, 0]], capsize=3, elinewidth=1.5, label=label, **style
    )


def decoding_costs(
    positions: Sequence[int],
    costs: Mapping[str, Mapping[str, Sequence[float]]],
    fits: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Draw time and memory of a token against its position.

    Parameters
    ----------
    positions
        Tokens that were read before.
    costs
        {mixer: {"us", "us_low", "us_high", "used_bytes"}}, one number a position: microseconds with their quarter
        points, and bytes remembered; as in the recorded run "decoding".
    fits
        {mixer: (a, b)} of straight lines a + b position, in microseconds; drawn dotted.

    Raises
    ------
    ValueError
        If there are no mixers.

    Examples
    --------
    >>> one = {"us": [9, 9], "us_low": [8, 8], "us_high": [10, 10], "used_bytes": [4e3, 4e3]}
    >>> [ax.get_xscale() for ax in decoding_costs([64, 128], {"mamba1": one}).axes]
    ['log', 'log']
    """
    if not costs:
        raise ValueError("expected at least one mixer; got none")
    fig, axes = new_figure(14, 6.2, columns=2)
    time, memory = axes[0]
    x = np.asarray(positions, dtype=np.float64)
    for look, (name, cost) in enumerate(costs.items()):
        us = np.asarray(cost["us"], dtype=np.float64)
        spread = [us - np.asarray(cost["us_low"]), np.asarray(cost["us_high"]) - us]
        style = _look(look, markevery=1)
        time.errorbar(x, us, yerr=np.maximum(spread, 0), capsize=3, elinewidth=1.5, label=_said(name), **style)
        memory.plot(x, cost["used_bytes"], label=_said(name), **style)
    for name, (a, b) in (fits or {}).items():
        line = np.geomspace(x.min(), x.max(), 60)
        said = text(PART, "fit", name=_said(name))
        time.plot(line, a + b * line, color=INK, linestyle=":", linewidth=2.5, marker="", label=said, zorder=3)
    for ax, words in ((time, "microseconds"), (memory, "remembered")):
        ax.set(xscale="log", yscale="log")
        ax.set_xlabel(text(PART, "position"))
        ax.set_ylabel(text(PART, words))
        _grid(ax)
    return _shared_legend(fig, axes[0], columns=4)


def decoding_roofline(
    machines: Mapping[str, tuple[float, float]], points: Mapping[str, Sequence[tuple[float, float]]]
) -> Figure:
    """Draw the most multiply-adds a second that memory and arithmetic allow, and where decoding lies.

    Parameters
    ----------
    machines
        {name: (bytes a second from memory, multiply-adds a second)}.
    points
        {mixer: [(multiply-adds for each byte, multiply-adds a second), ...]}, measured.

    Raises
    ------
    ValueError
        If there is no machine or no point, or a number is not positive.

    Examples
    --------
    >>> decoding_roofline({"a laptop": (1e10, 1e11)}, {"mamba1": [(0.2, 1e9)]}).axes[0].get_yscale()
    'log'
    """
    every = [pair for pairs in points.values() for pair in pairs]
    if not machines or not every or not all(x > 0 for pair in (*machines.values(), *every) for x in pair):
        raise ValueError("expected at least one machine and one point, and positive numbers throughout")
    fig, axes = new_figure(12, 6.8)
    ax = axes[0, 0]
    ridge = max(rate / bandwidth for bandwidth, rate in machines.values())
    intensity = np.geomspace(0.5 * min(x for x, _ in every), 4 * max(ridge, *(x for x, _ in every)), 200)
    for look, (name, (bandwidth, rate)) in enumerate(machines.items()):
        reached = np.minimum(bandwidth * intensity, rate)
        ax.plot(intensity, reached, color=MUTED, linestyle=LINE_STYLES[look], linewidth=3, marker="", label=name)
    for look, (name, pairs) in enumerate(points.items()):
        style = _look(look, markevery=1) | {"linestyle": "", "markersize": 11, "markeredgecolor": INK}
        ax.plot([x for x, _ in pairs], [y for _, y in pairs], label=_said(name), **style)
    ax.set(xscale="log", yscale="log")
    ax.set_xlabel(text(PART, "intensity"))
    ax.set_ylabel(text(PART, "rate"))
    _grid(ax)
    return _shared_legend(fig, [ax], columns=3)


def _said(name: str) -> str:
    """Return a mixer's name as readers know it; "mamba2, N = 8" keeps what follows the comma."""
    known, comma, rest = name.partition(",")
    return str(table(PART).get(f"mixer.{known}", known)) + comma + rest


def _look(look: int, markevery: float) -> dict[str, Any]:
    kind = look % len(COLOURS)
    return {
        "color": COLOURS[kind], "linestyle": LINE_STYLES[kind], "marker": MARKERS[(look + look // 7) % len(MARKERS)],
        "markersize": 8, "linewidth": 2.5, "markevery": markevery,
    }  # fmt: skip


def _grid(ax: Axes) -> None:
    ax.grid(color=MUTED, alpha=0.3)
    ax.tick_params(which="minor", colors=INK)


def _shared_legend(fig: Figure, axes: Sequence[Axes], columns: int) -> Figure:
    marks = {label: mark for ax in axes for mark, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(
        list(marks.values()), list(marks), loc="outside lower center", ncols=columns, fontsize=POINTS, facecolor=PAPER,
        edgecolor=MUTED,
    )  # fmt: skip
    return finish(fig)
