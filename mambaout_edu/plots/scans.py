"""Figures of the scan: what selection keeps, what algorithms cost, where the limits of a machine lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..strings import text
from .style import COLOURS, HATCHES, INK, LINE_STYLES, MARKERS, MUTED, PAPER, POINTS, finish, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..scan.associative import Work

__all__ = ["hold_error", "kept_tokens", "mixing_matrices", "roofline", "scan_costs", "scan_errors"]

Numbers = Sequence[float] | npt.NDArray[np.floating]


def kept_tokens(tokens: Sequence[str], settings: Mapping[str, tuple[Numbers, Numbers]]) -> Figure:
    """Draw for every token how wide it opens the state, and what is left of it at the end.

    Parameters
    ----------
    tokens
        L short labels.
    settings
        {title: (delta [L], weight [L])}, the step of each token and its weight in the last state.

    Raises
    ------
    ValueError
        If there are no settings, or one has another length than `tokens`.

    Examples
    --------
    >>> kept_tokens("ab", {"fixed": ([1.0, 1.0], [0.4, 0.6])}).axes[0].get_title()
    'fixed'
    """
    if not settings or any(len(part) != len(tokens) for pair in settings.values() for part in pair):
        raise ValueError(f"expected at least one (delta, weight) of {len(tokens)} numbers each, as there are tokens")
    fig, axes = new_figure(12, 2.5 * len(settings) + 0.6, rows=len(settings))
    places = np.arange(len(tokens))
    top = max(float(np.max(part)) for pair in settings.values() for part in pair)
    for ax, (title, pair) in zip(axes[:, 0], settings.items(), strict=True):
        for i, (values, key) in enumerate(zip(pair, ("scan.step", "scan.left"), strict=True)):
            look = {"color": COLOURS[i], "hatch": HATCHES[i], "edgecolor": INK, "label": text("plots", key)}
            ax.bar(places + 0.4 * i - 0.2, values, 0.38, **look)
        ax.set_xticks(places, list(tokens))
        ax.set_title(title)
        ax.set_ylim(0, 1.1 * top + 1e-9)
    _legend_outside(fig, axes[0, 0], "outside upper right", columns=2)
    axes[-1, 0].set_xlabel(text("plots", "scan.tokens"))
    return finish(fig)


def scan_costs(works: Mapping[str, Work], times: Mapping[str, float], length: int) -> Figure:
    """Draw three costs of every algorithm: work, depth, and time here, on logarithmic axes.

    Parameters
    ----------
    works
        {algorithm: its Work} for one sequence.
    times
        {algorithm: seconds}; they are drawn over the time of the first one.
    length
        Steps in the sequence.

    Raises
    ------
    ValueError
        If there are no algorithms, or the two tables name different ones.

    Examples
    --------
    >>> from mambaout_edu.scan.associative import Work
    >>> len(scan_costs({"sequential": Work(8, 8)}, {"sequential": 0.1}, length=8).axes)
    3
    """
    if not works or list(works) != list(times):
        raise ValueError(f"expected a time for every algorithm; got {list(works)} and {list(times)}")
    first = next(iter(times.values()))
    columns: dict[str, list[float]] = {
        "scan.work": [work.multiply_adds / length for work in works.values()],
        "scan.depth": [work.depth for work in works.values()],
        "scan.time": [times[name] / first for name in works],
    }
    fig, axes = new_figure(14, 1.6 + 0.6 * len(works), columns=3)
    for i, (ax, (key, values)) in enumerate(zip(axes[0], columns.items(), strict=True)):
        rows = range(len(works))
        ax.plot(values, rows, linestyle="", linewidth=0, marker=MARKERS[i], color=COLOURS[i], markersize=12)
        for row, value in enumerate(values):
            said = f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
            ax.annotate(said, (value, row), xytext=(12, 0), textcoords="offset points", va="center")
        ax.set_xscale("log")
        ax.tick_params(which="minor", colors=INK)
        ax.set_xlim(0.5 * min(values), 8 * max(values))  # room for the numbers
        ax.set_ylim(len(works) - 0.4, -0.6)
        ax.set_yticks(rows, list(works) if i == 0 else [""] * len(works))
        ax.grid(color=MUTED, alpha=0.3)
        ax.set_title(text("plots", key))
    fig.suptitle(text("plots", "scan.costs", length=f"{length:,}"))
    return finish(fig)


def scan_errors(lengths: Sequence[int], errors: Mapping[str, Numbers]) -> Figure:
    """Draw how the error of each algorithm grows with the length; a cross marks where numbers end.

    Parameters
    ----------
    lengths
        Steps in a sequence, growing.
    errors
        {algorithm: relative error at each length}, infinite or NaN where the result was.

    Raises
    ------
    ValueError
        If there is no finite error, or an algorithm has another number of them than there are `lengths`.

    Examples
    --------
    >>> scan_errors([8, 16], {"sequential": [1e-7, 1e-7]}).axes[0].get_xscale()
    'log'
    """
    if not any(np.isfinite(values).any() for values in errors.values()):
        raise ValueError("there is no error to draw that is a number; expected at least one algorithm with one")
    if any(len(values) != len(lengths) for values in errors.values()):
        raise ValueError(f"expected algorithms with {len(lengths)} errors each, one a length")
    fig, axes = new_figure(11, 5.6)
    ax = axes[0, 0]
    for i, (name, values) in enumerate(errors.items()):
        known = np.isfinite(values)
        drawn = np.where(known, values, np.nan)
        look = {"color": COLOURS[i], "linestyle": LINE_STYLES[i], "marker": MARKERS[i]}
        ax.plot(lengths, drawn, label=name, linewidth=2.5, markersize=8, **look)
        if not known.all() and known.any():
            last = int(np.flatnonzero(known)[-1])
            ax.plot(
                lengths[last],
                drawn[last],
                linestyle="",
                linewidth=0,
                marker="x",
                color=INK,
                markersize=20,
                markeredgewidth=4,
            )
            beside = {"textcoords": "offset points", "ha": "right", "va": "center"}
            ax.annotate(text("plots", "scan.ends"), (lengths[last], drawn[last]), xytext=(-20, 0), **beside)
    ax.set_xscale("log", base=2)
    ax.tick_params(which="minor", colors=INK)
    ax.set_yscale("log")
    ax.set_xlabel(text("plots", "scan.length"))
    ax.set_ylabel(text("plots", "scan.error"))
    ax.grid(color=MUTED, alpha=0.3)
    _legend_outside(fig, ax, "outside right upper")
    return finish(fig)


def roofline(
    machines: Mapping[str, tuple[float, float]],
    points: Mapping[str, tuple[float, float]],
    marks: Mapping[str, float] | None = None,
) -> Figure:
    """Draw the most exponentials a second that memory and arithmetic allow, and what a scan reached.

    Parameters
    ----------
    machines
        {name: (bytes a second from memory, exponentials a second)}.
    points
        {name: (exponentials for each byte, exponentials a second)}, measured.
    marks
        {name: exponentials for each byte}, drawn as upright lines.

    Raises
    ------
    ValueError
        If there is no machine, or a number is not positive.

    Examples
    --------
    >>> roofline({"a laptop": (1e10, 1e9)}, {"N = 16": (1.2, 0.8e9)}).axes[0].get_yscale()
    'log'
    """
    marks = marks or {}
    numbers = [x for pair in (*machines.values(), *points.values()) for x in pair] + list(marks.values())
    if not machines or not all(x > 0 for x in numbers):
        raise ValueError("expected at least one machine, and positive numbers throughout")
    fig, axes = new_figure(12, 6.2)
    ax = axes[0, 0]
    intensity = np.geomspace(0.6 * min([0.02, *marks.values()]), 20, 200)
    for i, (name, (bandwidth, exponentials)) in enumerate(machines.items()):
        reached = np.minimum(bandwidth * intensity, exponentials)
        ax.plot(intensity, reached, color=COLOURS[i], linestyle=LINE_STYLES[i], linewidth=3, marker="", label=name)
    for i, (name, (x, y)) in enumerate(points.items()):
        ax.plot(x, y, linestyle="", linewidth=0, marker=MARKERS[i], color=INK, markersize=11, label=name)
    for i, (name, x) in enumerate(marks.items()):
        ax.axvline(x, color=MUTED, linestyle=LINE_STYLES[i + 2], linewidth=2, marker="", label=name)
    ax.set_xscale("log")
    ax.tick_params(which="minor", colors=INK)
    ax.set_yscale("log")
    ax.set_xlabel(text("plots", "scan.intensity"))
    ax.set_ylabel(text("plots", "scan.rate"))
    ax.grid(color=MUTED, alpha=0.3)
    _legend_outside(fig, ax, "outside lower center", columns=2)
    return finish(fig)


def hold_error(exponents: Numbers, ratios: Numbers, marks: Mapping[str, tuple[float, float]]) -> Figure:
    """Draw the exact hold's B over the first-order one, against how far a state decays in one step.

    Parameters
    ----------
    exponents
        delta |A| of each ratio, growing.
    ratios
        What `systems.hold_ratio` gives at minus that.
    marks
        {name: (delta |A|, ratio)}, points to name.

    Raises
    ------
    ValueError
        If the first two differ in length.

    Examples
    --------
    >>> hold_error([0.1, 1.0], [0.95, 0.63], {"state 16": (1.6, 0.5)}).axes[0].get_xscale()
    'log'
    """
    if len(exponents) != len(ratios):
        raise ValueError(f"there are {len(exponents)} exponents and {len(ratios)} ratios; expected as many of each")
    fig, axes = new_figure(11, 5)
    ax = axes[0, 0]
    line = {"linewidth": 3, "marker": ""}
    ax.axhline(1, color=COLOURS[1], linestyle=LINE_STYLES[1], label=text("plots", "scan.first_order"), **line)
    ax.plot(exponents, ratios, color=COLOURS[0], linestyle="-", label=text("plots", "scan.exact"), **line)
    for i, (name, (x, ratio)) in enumerate(marks.items()):
        ax.plot(x, ratio, linestyle="", linewidth=0, marker=MARKERS[i], color=INK, markersize=11, label=name)
        ax.annotate(f"{ratio:.2f}", (x, ratio), xytext=(10, 8), textcoords="offset points")
    ax.set_xscale("log")
    ax.tick_params(which="minor", colors=INK)
    ax.set_ylim(0, 1.15)
    ax.set_xlabel(text("plots", "scan.exponent"))
    ax.set_ylabel(text("plots", "scan.hold"))
    ax.grid(color=MUTED, alpha=0.3)
    legend(ax, loc="lower left")
    return finish(fig)


def mixing_matrices(matrices: Mapping[str, npt.NDArray[np.floating]], tokens: Sequence[str] | None = None) -> Figure:
    """Draw mixing matrices side by side on one scale: row t holds what each input s gives to output t.

    Parameters
    ----------
    matrices
        {title: [L, L]}; absolute values are drawn.
    tokens
        L short labels for rows and columns; without them they are numbered.

    Raises
    ------
    ValueError
        If there are none.

    Examples
    --------
    >>> mixing_matrices({"fixed": np.eye(3)}).axes[0].get_title()
    'fixed'
    """
    if not matrices:
        raise ValueError("there are no matrices to draw; expected at least one [L, L]")
    fig, axes = new_figure(4.8 * len(matrices) + 1.4, 5.6, columns=len(matrices))
    top = max(float(np.abs(matrix).max()) for matrix in matrices.values())
    for ax, (title, matrix) in zip(axes[0], matrices.items(), strict=True):
        drawn = ax.imshow(np.abs(matrix), cmap="viridis", vmin=0, vmax=top)
        ax.set_title(title)
        _label_positions(ax, tokens)
    axes[0, 0].set_ylabel(text("plots", "scan.output_position"))
    bar = fig.colorbar(drawn, ax=list(axes[0]), label=text("plots", "scan.weight"), shrink=0.85)
    bar.outline.set_edgecolor(INK)
    return finish(fig)


def _legend_outside(fig: Figure, ax: Axes, loc: str, columns: int = 1) -> None:
    """Explain lines or bars beside the axes, where there is nothing to hide."""
    handles, labels = ax.get_legend_handles_labels()
    fig.legend(handles, labels, loc=loc, ncols=columns, fontsize=POINTS, facecolor=PAPER, edgecolor=MUTED)


def _label_positions(ax: Axes, tokens: Sequence[str] | None) -> None:
    if tokens is not None:
        ax.set_xticks(range(len(tokens)), list(tokens), rotation=60)
        ax.set_yticks(range(len(tokens)), list(tokens))
    ax.set_xlabel(text("plots", "scan.input_position"))
