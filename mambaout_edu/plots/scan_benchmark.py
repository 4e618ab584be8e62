"""Figures of the recorded benchmark of the selective scan: how many times longer others take for the same work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..strings import text
from .style import COLOURS, INK, MARKERS, MUTED, POINTS, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["scan_ratios"]


def scan_ratios(passes: Mapping[str, Mapping[str, Mapping[str, float]]], ours: str) -> Figure:
    """Draw every other's time over ours, one panel a pass, one row a size, on logarithmic axes.

    Parameters
    ----------
    passes
        {title: {size: {name: time}}}, times in any one unit; all sizes of all passes name `ours`.
    ours
        The name whose time is one.

    Raises
    ------
    ValueError
        If there is no pass, one has no size, `ours` is missing somewhere, or a time is not positive.

    Examples
    --------
    >>> fig = scan_ratios({"forward": {"(1, 8, 4, 1)": {"ours": 1.0, "loop": 40.0}}}, "ours")
    >>> fig.axes[0].get_xscale()
    'log'
    """
    if not passes or not all(passes.values()):
        raise ValueError("there is nothing to draw; expected at least one pass with at least one size")
    for title, sizes in passes.items():
        for size, times in sizes.items():
            if ours not in times or not all(time > 0 for time in times.values()):
                raise ValueError(f"{title}, {size}: expected positive times with one of {ours!r}; got {dict(times)}")
    names = [*dict.fromkeys(name for sizes in passes.values() for times in sizes.values() for name in times)]
    rows = max(len(sizes) for sizes in passes.values())
    fig, axes = new_figure(14, 2.2 + 0.75 * rows, columns=len(passes))
    for ax, (title, sizes) in zip(axes[0], passes.items(), strict=True):
        ratios = {size: {name: time / times[ours] for name, time in times.items()} for size, times in sizes.items()}
        for i, name in enumerate(name for name in names if name != ours):
            found = [(ratio[name], row) for row, ratio in enumerate(ratios.values()) if name in ratio]
            if found:
                look = {"marker": MARKERS[i % len(MARKERS)], "color": COLOURS[i % len(COLOURS)], "markersize": 11}
                ax.plot(*zip(*found, strict=True), linestyle="", linewidth=0, label=name, **look)
        ax.axvline(1.0, color=INK, linewidth=1.5)
        ax.set_xscale("log")
        every = [value for ratio in ratios.values() for value in ratio.values()]
        ax.set_xlim(0.6 * min(every), 1.6 * max(every))
        ticks = [10.0**k for k in range(math.ceil(math.log10(0.6 * min(every))), 1 + int(math.log10(1.6 * max(every))))]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.tick_params(which="minor", length=0, colors=INK)
        ax.set_yticks(range(len(sizes)), list(sizes))
        ax.set_ylim(len(sizes) - 0.5, -0.5)
        ax.grid(color=MUTED, alpha=0.3)
        ax.set_title(title)
        ax.set_xlabel(text("plots", "scan.over_ours", ours=ours))
    axes[0, 0].set_ylabel("(B, L, D, N)")
    handles = {label: handle for ax in axes[0] for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=POINTS)
    return finish(fig)
