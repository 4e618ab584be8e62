"""Figures of what a causal mixer hides, and what that costs: rows of mixing matrices on the image, prices in points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LogNorm

from ..strings import text
from .pictures import bare
from .seen import _LEAST, _cells, _grey, _hatched, _scale
from .style import COLOURS, INK, MARKERS, MUTED, PAPER, POINTS, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["causality_prices", "visible_patches"]

PART = "causality"


def visible_patches(
    rows: Mapping[str, npt.ArrayLike], image: npt.NDArray[Any], position: tuple[int, int], *, columns: int = 3
) -> Figure:
    r"""Draw what one output takes from each patch, rows of mixing matrices, over the image.

    Absolute values on one logarithmic scale, each map as shares of its own largest entry. Patches with an entry of
    exactly 0 are hatched; how many have more stands under the title.

    Parameters
    ----------
    rows
        {title: [h, w]}: row t of a mixing matrix, laid out as the patches lie.
    image
        [H, W] or [H, W, 3] of any size, stretched over the patches: bytes, or numbers from 0 to 1.
    position
        (row, column) of the output's own patch, drawn as a cross.
    columns
        How many in a row.

    Raises
    ------
    ValueError
        If there are no rows, one is not [h, w], or it has no entry but 0.

    Examples
    --------
    >>> visible_patches({"causal": np.tri(1, 9, 4).reshape(3, 3)}, np.zeros((9, 9)), (1, 1)).axes[0].get_title()
    'causal\n5 of 9 patches'
    """
    drawn = {title: np.abs(np.asarray(row, dtype=np.float64)) for title, row in rows.items()}
    for title, row in drawn.items():
        if row.ndim != 2 or not np.isfinite(row).all() or not row.any():
            raise ValueError(f"{title!r} has shape {row.shape}; expected [h, w], finite numbers that are not all 0")
    grey = _grey(image)
    fig, cells = _cells(len(drawn), columns, 3.9, 4.9)
    norm = LogNorm(_LEAST, 1)
    for ax, (title, row) in zip(cells, drawn.items(), strict=True):
        height, width = row.shape
        bare(ax)
        _hatched(ax, height, width)
        box = (-0.5, width - 0.5, height - 0.5, -0.5)
        ax.imshow(np.where(row > 0, 1.0, np.nan), cmap="gray", vmin=0, vmax=1)  # no hatching shines through
        ax.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=box, aspect="equal", alpha=0.35)
        shares = np.where(row > 0, np.maximum(row / row.max(), _LEAST), np.nan)
        ax.imshow(shares, cmap="viridis", norm=norm, interpolation="nearest", alpha=0.75)
        ax.plot(position[1], position[0], marker="x", color=COLOURS[3], markersize=11, markeredgewidth=3, linestyle="")
        ax.set(xlim=box[:2], ylim=box[2:])
        ax.set_title(f"{title}\n{text(PART, 'patches', seen=int((row > 0).sum()), all=row.size)}")
    fig.supxlabel(text(PART, "patches_key"), wrap=True)
    _scale(fig, cells, norm, text(PART, "weight"))
    return finish(fig)


def causality_prices(
    results: Mapping[str, Any], *, published: Mapping[str, tuple[float, float]] | None = None
) -> Figure:
    """Draw accuracies of fully visible and causal models, each seed, and what the causal view costs in points.

    Parameters
    ----------
    results
        The `results` of the recorded run "causality", with two seeds or more.
    published
        Accuracies in percent from elsewhere, by name: (fully visible, causal); one training each, so no interval.

    Raises
    ------
    ValueError
        If there are fewer than two seeds.

    Examples
    --------
    >>> counts = {"visible": [98, 96, 97], "causal": [96, 95, 94]}
    >>> fig = causality_prices({"total": {"ssm": 100}, "correct": {"ssm": {"mean": counts}}})
    >>> fig.axes[0].get_xlabel()
    'accuracy on held-out digits (%)'
    """
    arms = [(mixer, readout) for mixer, by_readout in results["correct"].items() for readout in by_readout]
    elsewhere = dict(published or {})
    count = len(arms) + len(elsewhere)
    fig, axes = new_figure(14, 2.6 + 0.95 * count, columns=2)
    _draw_accuracies(axes[0, 0], results, arms)
    _draw_prices(axes[0, 1], results, arms, elsewhere)
    for ax in axes[0]:
        ax.set_ylim(count - 0.5, -0.5)
        ax.grid(axis="x", color=MUTED, alpha=0.3)
    names = [text(PART, f"arm.{mixer}.{readout}") for mixer, readout in arms]
    axes[0, 0].set_yticks(range(len(arms)), names)
    axes[0, 1].set_yticks(range(count), [*names, *elsewhere])
    marks = {label: mark for ax in axes[0] for mark, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(
        list(marks.values()), list(marks), loc="outside lower center", ncols=2, fontsize=POINTS, facecolor=PAPER,
        edgecolor=MUTED,
    )  # fmt: skip
    return finish(fig)


def _draw_accuracies(ax: Axes, results: Mapping[str, Any], arms: list[tuple[str, str]]) -> None:
    """Draw one mark a seed, and the mean as a larger one."""
    from ..training.causality import VIEWS, accuracies

    for i, view in enumerate(VIEWS):
        for place, (mixer, readout) in enumerate(arms):
            row = place + 0.3 * i - 0.15
            values = accuracies(results, mixer, readout, view)
            style: dict[str, Any] = {"color": COLOURS[i], "marker": MARKERS[i], "linestyle": ""}
            ax.plot(values, [row] * len(values), **style, markersize=6, alpha=0.45)
            label = text(PART, f"view.{view}") if place == 0 else None
            ax.plot([np.mean(values)], [row], **style, markersize=12, markeredgecolor=INK, label=label)
    ax.set_xlabel(text(PART, "accuracy"))
    ax.set_title(text(PART, "accuracy_title"))


def _draw_prices(
    ax: Axes, results: Mapping[str, Any], arms: list[tuple[str, str]], elsewhere: Mapping[str, tuple[float, float]]
) -> None:
    """Draw the differences with their intervals, and published ones below them without any."""
    from ..training.causality import price

    prices = [price(results, mixer, readout) for mixer, readout in arms]
    ax.errorbar(
        [each.value for each in prices], range(len(arms)),
        xerr=[[each.value - each.low for each in prices], [each.high - each.value for each in prices]],
        color=COLOURS[2], linestyle="", linewidth=0, elinewidth=2.5, capsize=4, marker=MARKERS[2], markersize=11,
        markeredgecolor=INK, label=text(PART, "here"),
    )  # fmt: skip
    values = [each.value for each in prices]
    if elsewhere:
        lost = [visible - causal for visible, causal in elsewhere.values()]
        rows = range(len(arms), len(arms) + len(lost))
        ax.plot(
            lost, rows, color=COLOURS[3], linestyle="", marker=MARKERS[3], markersize=11, markeredgecolor=INK,
            label=text(PART, "elsewhere"),
        )  # fmt: skip
        values += lost
    for row, value in enumerate(values):
        ax.annotate(f"{value:+.2f}", (value, row), xytext=(0, 11), textcoords="offset points", ha="center")
    ax.axvline(0, color=INK, linestyle=":", linewidth=1.5)
    ax.set_xscale("symlog", linthresh=4)  # a read-out that sees nothing costs far more than all others
    ticks = [-4, -2, 0, 2, 4, 20, 100]
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.set_xlim(-5, 150)
    ax.set_xlabel(text(PART, "lost"))
    ax.set_title(text(PART, "lost_title"))
