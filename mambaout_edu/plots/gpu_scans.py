"""The figure of the recorded GPU scans: how much faster than mamba-ssm's CUDA kernel, size by size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..strings import text
from .style import COLOURS, HATCHES, INK, finish, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["gpu_speedups"]


def gpu_speedups(record: Mapping[str, Any], *, state: int = 16) -> Figure:
    """Draw the time of mamba-ssm's CUDA kernel over ours, forward and backward, for every size that was measured.

    Parameters
    ----------
    record
        What `recorded.load("gpu_selective_scan")` returns.
    state
        N, the size of the state whose cases are drawn.

    Raises
    ------
    ValueError
        If no case with that N was timed.

    Examples
    --------
    >>> us = {"theirs forward": 400.0, "ours forward": 100.0, "theirs backward": 900.0, "ours backward": 450.0}
    >>> case = {"size": [128, 196, 384], "state": 16, "dtype": "bfloat16", "speed": us}
    >>> ax = gpu_speedups({"results": {"cases": [case]}}).axes[0]
    >>> [label.get_text() for label in ax.texts]
    ['4.0x', '2.0x']
    """
    cases = [case for case in record["results"]["cases"] if case["state"] == state and "speed" in case]
    if not cases:
        known = sorted({case["state"] for case in record["results"]["cases"] if "speed" in case})
        raise ValueError(f"no case with N = {state} was timed; the record has N in {known}")
    fig, axes = new_figure(12, 1.8 + 0.75 * len(cases))
    ax = axes[0, 0]
    rows = np.arange(len(cases))
    for i, way in enumerate(("forward", "backward")):
        ratios = [case["speed"][f"theirs {way}"] / case["speed"][f"ours {way}"] for case in cases]
        look = {"color": COLOURS[i], "hatch": HATCHES[i], "edgecolor": INK, "label": text("gpu_scans", way)}
        bars = ax.barh(rows + 0.4 * i - 0.2, ratios, 0.38, **look)
        ax.bar_label(bars, [text("gpu_scans", "times", ratio=f"{ratio:.1f}") for ratio in ratios], padding=6)
    ax.axvline(1, color=INK, linestyle="--", linewidth=2, marker="", label=text("gpu_scans", "level"))
    ax.set_yticks(rows, [_name(case) for case in cases])
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.set_xlabel(text("gpu_scans", "advantage"))
    legend(ax, loc="lower right")
    return finish(fig)


def _name(case: Mapping[str, Any]) -> str:
    batch, length, channels = case["size"]
    return text("gpu_scans", "case", batch=batch, length=length, channels=channels, dtype=case["dtype"])
