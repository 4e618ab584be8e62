"""Figures of the comparison of scan orders: accuracies with intervals, and the spread between best and worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..strings import text
from .style import COLOURS, HATCHES, INK, MARKERS, MUTED, PAPER, POINTS, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["scan_order_accuracies", "scan_order_spreads"]

PART = "scan_order_results"


def scan_order_accuracies(results: Mapping[str, Any], *, tasks: Sequence[str] | None = None) -> Figure:
    """Draw the accuracy of every order, with and without a convolution: each seed, their mean and its 95 % interval.

    Parameters
    ----------
    results
        The `results` of the recorded run "scan_orders", or what `training.scan_order_summary.collect` returns; two
        seeds or more.
    tasks
        Which tasks to draw; all by default.

    Raises
    ------
    ValueError
        If a task was not run.

    Examples
    --------
    >>> results = {"total": {"grain": 4}, "correct": {"grain": {"plain": {"raster": [2, 3], "hilbert": [1, 1]}}}}
    >>> [label.get_text() for label in scan_order_accuracies(results).axes[0].get_yticklabels()]
    ['raster', 'Hilbert']
    """
    chosen = list(results["correct"] if tasks is None else tasks)
    unknown = [task for task in chosen if task not in results["correct"]]
    if unknown or not chosen:
        raise ValueError(f"no run of {unknown or 'any task'}; there are {', '.join(results['correct'])}")
    orders = list(dict.fromkeys(o for task in chosen for by in results["correct"][task].values() for o in by))
    fig, axes = new_figure(6.5 * len(chosen), 2.2 + 0.6 * len(orders), columns=len(chosen))
    for ax, task in zip(axes[0], chosen, strict=True):
        _draw_task(ax, results, task, orders)
    axes[0, 0].set_yticks(range(len(orders)), [text(PART, f"order.{name}") for name in orders])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=POINTS, facecolor=PAPER, edgecolor=MUTED)
    return finish(fig)


def _draw_task(ax: Axes, results: Mapping[str, Any], task: str, orders: Sequence[str]) -> None:
    from ..training.scan_order_summary import accuracies, mean_interval

    for i, key in enumerate(results["correct"][task]):
        values = accuracies(results, task, key == "conv")
        rows = np.array([orders.index(name) for name in values]) + 0.36 * i - 0.18
        means = [mean_interval(of_order) for of_order in values.values()]
        for row, of_order in zip(rows, values.values(), strict=True):
            ax.plot(
                of_order, np.full(len(of_order), row), color=COLOURS[i], alpha=0.45, linestyle="", linewidth=0,
                marker=MARKERS[i], markersize=6,
            )  # fmt: skip
        ax.errorbar(
            [mean.value for mean in means], rows,
            xerr=[[mean.value - mean.low for mean in means], [mean.high - mean.value for mean in means]],
            color=COLOURS[i], linestyle="", linewidth=0, elinewidth=2.5, capsize=4, marker=MARKERS[i], markersize=10,
            markeredgecolor=INK, label=text(PART, key),
        )  # fmt: skip
    chance = 100 / {"digits": 10, "grain": 4}[task]
    ax.axvline(chance, color=INK, linestyle=":", linewidth=1.5)
    ax.annotate(
        text(PART, "chance"), (chance, len(orders) - 0.5), xytext=(4, 2), textcoords="offset points", va="bottom"
    )
    ax.set_ylim(len(orders) - 0.5, -0.5)
    ax.set_yticks(range(len(orders)), [""] * len(orders))
    ax.set_xlim(0, 102)
    ax.set_title(text(PART, f"task.{task}"))
    ax.set_xlabel(text(PART, "accuracy"))
    ax.grid(axis="x", color=MUTED, alpha=0.3)


def scan_order_spreads(
    results: Mapping[str, Any], *, group: str = "orders", others: Mapping[str, tuple[float, float]] | None = None
) -> Figure:
    """Draw how far the best order is above the worst, without and with a convolution, on a logarithmic scale.

    A line across each bar marks the spread that orders without any effect would stay below in 95 % of all cases.

    Parameters
    ----------
    results
        As in `scan_order_accuracies`.
    group
        Which orders count: a name in `training.scan_order_summary.GROUPS`. Those that were not run are left out.
    others
        Spreads in points from elsewhere, by name: (without, with a convolution).

    Raises
    ------
    ValueError
        If the group is unknown.

    Examples
    --------
    >>> orders = {"raster": [2, 3], "hilbert": [1, 1]}
    >>> results = {"total": {"grain": 4}, "correct": {"grain": {"plain": orders, "conv": orders}}}
    >>> fig = scan_order_spreads(results, others={"VMamba": (1.37, 0.34)})
    >>> [label.get_text() for label in fig.axes[0].get_yticklabels()]
    ['grain, 10 x 10', 'VMamba']
    """
    from ..training.scan_order_summary import GROUPS, accuracies, spread

    if group not in GROUPS:
        raise ValueError(f"no group is named {group!r}; expected one of {', '.join(GROUPS)}")
    names = [text(PART, f"task.{task}") for task in results["correct"]] + list(others or {})
    fig, axes = new_figure(11, 2.6 + 1.1 * len(names))
    ax = axes[0, 0]
    for i, key in enumerate(("plain", "conv")):
        found = []
        for task in results["correct"]:
            values = accuracies(results, task, key == "conv")
            found.append(spread({name: values[name] for name in GROUPS[group] if name in values}))
        points = [each.points for each in found] + [of_other[i] for of_other in (others or {}).values()]
        rows = np.arange(len(names)) + 0.36 * i - 0.18
        ax.barh(
            rows, points, 0.34, color=COLOURS[i], hatch=HATCHES[i], edgecolor=INK, label=text(PART, key)
        )  # fmt: skip
        chance = [each.chance for each in found]
        ax.vlines(
            chance, rows[: len(found)] - 0.17, rows[: len(found)] + 0.17, color=INK, linewidth=4, zorder=3,
            label=text(PART, "spread_by_chance") if i == 0 else None,
        )  # fmt: skip
        for row, value, mark in zip(rows, points, [*chance, *points[len(chance) :]], strict=True):
            place = (max(value, mark), row)  # beyond the line that chance draws
            ax.annotate(f"{value:.2f}", place, xytext=(10, 0), textcoords="offset points", va="center")
    ax.set_xscale("log")
    ax.set_xlim(0.1, 200)
    ax.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    ax.minorticks_off()
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlabel(text(PART, "points"))
    fig.legend(loc="outside lower center", ncols=2, fontsize=POINTS, facecolor=PAPER, edgecolor=MUTED)
    return finish(fig)
