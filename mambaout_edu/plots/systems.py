"""Figures of linear systems: poles and responses, discretisations side by side, and what a state remembers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.lines import Line2D

from ..strings import text
from ..systems import METHODS, discretise, frequency_response, impulse_response, run_recurrence, step_response
from .style import COLOURS, INK, LINE_STYLES, MARKERS, MUTED, PAPER, POINTS, finish, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..systems import StateSpace

__all__ = ["discretisations", "memory_curves", "portraits", "recollections", "responses"]

_Curve = npt.NDArray[np.float64]
_UNSTABLE = "#f3d9c9"  # the half of the plane in which motions grow; it is hatched as well


def responses(times: _Curve, curves: Mapping[str, _Curve], *, x: str, y: str, level: float | None = None) -> Figure:
    """Draw outputs over time in one panel, each in its colour and line style.

    Parameters
    ----------
    times
        [T], in the unit that `x` names.
    curves
        One output [T] a name.
    x, y
        What the axes show, with units.
    level
        A value that is marked by a thin line, such as what was asked for.

    Raises
    ------
    ValueError
        If there are no curves, or one has another length than `times`.

    Examples
    --------
    >>> responses(np.arange(3.0), {"room": np.arange(3.0)}, x="time (h)", y="K").axes[0].get_xlabel()
    'time (h)'
    """
    if not curves:
        raise ValueError("there are no curves to draw; expected at least one [T]")
    for name, curve in curves.items():
        if np.shape(curve) != np.shape(times):
            raise ValueError(f"curve {name!r} has shape {np.shape(curve)}; expected that of times, {np.shape(times)}")
    fig, axes = new_figure(11, 4.8)
    ax = axes[0, 0]
    if level is not None:
        ax.axhline(level, color=MUTED, linewidth=1.5)
    for look, (name, curve) in enumerate(curves.items()):
        ax.plot(times, curve, label=name, **_look(look))
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    _grid(ax)
    if len(curves) > 1:
        legend(ax)
    return finish(fig)


def portraits(
    systems: Mapping[str, StateSpace],
    *,
    duration: float,
    fastest: float = 10.0,
    output: str | None = None,
    gain: str | None = None,
) -> Figure:
    """Draw three views of each system: its poles, its answer to a tap, its gain for sine waves.

    An unstable system has no gain: what it does never settles to a sine wave.

    Parameters
    ----------
    systems
        Systems with one input and one output, one a name.
    duration
        How many seconds of the impulse response are drawn.
    fastest
        The highest angular frequency, in rad/s; the lowest is a hundredth of it.
    output, gain
        What the axes of the answer and of the gain are called, with units.

    Raises
    ------
    ValueError
        If there are none, or one has several inputs or outputs.

    Examples
    --------
    >>> from mambaout_edu.systems import mass_spring
    >>> [ax.get_xlabel() for ax in portraits({"spring": mass_spring()}, duration=5.0).axes]
    ['real part (1/s)', 'time (s)', 'frequency (rad/s)']
    """
    if not systems:
        raise ValueError("there are no systems to draw; expected at least one")
    for name, system in systems.items():
        _check_single(name, system)
    fig, axes = new_figure(15, 5.4, columns=3)
    plane, tapped, swept = axes[0]
    times, omega = np.linspace(0, duration, 400), np.geomspace(fastest / 100, fastest, 300)
    keys = []
    for number, (name, system) in enumerate(systems.items()):
        look = _look(number)
        point = {"marker": MARKERS[number % len(MARKERS)], "markersize": 12, "color": look["color"]}
        plane.plot(system.poles.real, system.poles.imag, linestyle="", **point)
        tapped.plot(times, impulse_response(system, times)[:, 0, 0].real, **look)
        if system.is_stable:
            swept.loglog(omega, np.abs(frequency_response(system, omega)[:, 0, 0]), **look)
        keys.append(Line2D([], [], label=name, **{**look, **point}))
    poles = np.concatenate([system.poles for system in systems.values()])
    _shade_unstable(plane, poles)
    given = {"impulse": output, "frequency": gain}
    for ax, part in zip(axes[0], ("poles", "impulse", "frequency"), strict=True):
        ax.set_title(text("plots", f"portrait.{part}"))
        ax.set_xlabel(text("plots", f"portrait.{part}_x"))
        ax.set_ylabel(given.get(part) or text("plots", f"portrait.{part}_y"))
        _grid(ax)
    fig.legend(
        handles=keys, loc="outside lower center", ncols=len(keys), fontsize=POINTS, frameon=False, handlelength=4
    )
    return finish(fig)


def discretisations(system: StateSpace, *, delta: float, duration: float) -> Figure:
    """Draw the step response as each discretisation steps it, over the exact one, a panel a method.

    Parameters
    ----------
    system
        A continuous system with one input and one output.
    delta
        Length of a step, in s.
    duration
        How many seconds are drawn.

    Raises
    ------
    ValueError
        If the system has several inputs or outputs, or `duration` is shorter than `delta`.

    Examples
    --------
    >>> from mambaout_edu.systems import mass_spring
    >>> labels = discretisations(mass_spring(), delta=0.2, duration=6.0).axes[0].get_title()
    >>> print(labels)
    Euler
    largest |z| = 1.04: unstable
    """
    _check_single("system", system)
    if duration < delta:
        raise ValueError(f"duration is {duration} and delta {delta}; expected room for one step at least")
    fig, axes = new_figure(14, 8.4, rows=2, columns=2)
    times = np.linspace(0, duration, 400)
    exact = step_response(system, times)[:, 0, 0].real
    count = int(duration / delta + 1e-9)
    room = max(float(np.ptp(exact)), 1e-9)
    for look, (ax, method) in enumerate(zip(axes.flat, METHODS, strict=True)):
        stepped = discretise(system, delta, method)
        outputs, _ = run_recurrence(stepped, np.ones(count))
        ax.plot(times, exact, color=INK, linestyle="-", linewidth=2, marker="", label=text("plots", "exact"))
        ends = delta * np.arange(1, count + 1)  # a state already holds the input of its own step
        ax.plot(
            ends, np.real(outputs), linestyle=":", linewidth=1.2, marker=MARKERS[look], markersize=6,
            color=COLOURS[look], label=text("plots", "stepped"),
        )  # fmt: skip
        verdict = text("plots", "stable" if stepped.is_stable else "unstable")
        size = f"{np.abs(stepped.poles).max():.3g}"
        name = text("plots", f"method.{method}")
        ax.set_title(f"{name}\n{text('plots', 'largest_pole', size=size, verdict=verdict)}")
        ax.set_ylim(exact.min() - 0.6 * room, exact.max() + 0.6 * room)
        ax.set_xlabel(text("plots", "time_s"))
        ax.set_ylabel(text("plots", "output"))
        _grid(ax)
    legend(axes[0, 0], loc="lower right")
    return finish(fig)


def memory_curves(curves: Mapping[str, _Curve]) -> Figure:
    """Draw how much an input still weighs in the state, against how many steps ago it came.

    Parameters
    ----------
    curves
        Weights [L], such as `systems.memory_curve` returns; each is drawn as a share of its first.

    Raises
    ------
    ValueError
        If there are none, or one begins with a weight of zero.

    Examples
    --------
    >>> memory_curves({"half": 0.5 ** np.arange(9)}).axes[0].get_xscale()
    'log'
    """
    if not curves or any(curve[0] == 0 for curve in curves.values()):
        raise ValueError("expected at least one curve of weights, each with a first weight other than 0")
    fig, axes = new_figure(11, 4.8)
    ax = axes[0, 0]
    for look, (name, curve) in enumerate(curves.items()):
        ax.plot(np.arange(1, len(curve) + 1), 100 * np.asarray(curve) / curve[0], label=name, **_look(look))
    ax.axhline(1, color=MUTED, linewidth=1.5)
    ax.set_xscale("log")
    ax.set_xlabel(text("plots", "memory_x"))
    ax.set_ylabel(text("plots", "memory_y"))
    _grid(ax)
    legend(ax)
    return finish(fig)


def recollections(signal: _Curve, recalled: Mapping[str, _Curve], *, x: str, y: str) -> Figure:
    """Draw a signal, and what was read back of it from a state, a panel a state.

    Parameters
    ----------
    signal
        What went in [L].
    recalled
        What came back [L], one a name.
    x, y
        What the axes show, with units.

    Raises
    ------
    ValueError
        If nothing was recalled, or something of another length.

    Examples
    --------
    >>> print(recollections(np.arange(4.0), {"1 number": np.full(4, 1.5)}, x="pixel", y="grey").axes[0].get_title())
    1 number: 0 % of the variance
    """
    if not recalled or any(len(past) != len(signal) for past in recalled.values()):
        raise ValueError(f"expected at least one recalled signal, each of the signal's length {len(signal)}")
    fig, axes = new_figure(15, 4.6, columns=len(recalled))
    plain = {"linestyle": "-", "marker": ""}  # thin and thick tell the two apart
    for number, (ax, (name, past)) in enumerate(zip(axes[0], recalled.items(), strict=True)):
        ax.plot(signal, color=MUTED, linewidth=1.2, label=text("plots", "went_in"), **plain)
        ax.plot(past, color=COLOURS[number % len(COLOURS)], linewidth=3, label=text("plots", "recalled"), **plain)
        share = 100 * (1 - np.mean((past - signal) ** 2) / max(float(np.var(signal)), 1e-12))
        ax.set_title(text("plots", "recalled_share", name=name, share=f"{share:.0f}"))
        ax.set_xlabel(x)
        ax.set_ylabel(y)
    legend(axes[0, 0], loc="lower left")
    return finish(fig)


def _look(number: int) -> dict[str, Any]:
    """Return colour and line style of the curve of this number: never colour alone."""
    style = LINE_STYLES[number % len(LINE_STYLES)]
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": style, "linewidth": 2.5, "marker": ""}


def _grid(ax: Axes) -> None:
    ax.grid(color=MUTED, alpha=0.3)
    ax.tick_params(which="minor", colors=INK)  # of logarithmic axes


def _check_single(name: str, system: StateSpace) -> None:
    if (system.inputs, system.outputs) != (1, 1):
        raise ValueError(
            f"{name} has {system.inputs} inputs and {system.outputs} outputs; expected one of each: "
            "pick a column of B and D, and a row of C and D"
        )


def _shade_unstable(ax: Axes, poles: npt.NDArray[np.complex128]) -> None:
    """Give the pole plane its limits, and mark the half in which motions grow."""
    reach = 1.3 * max(np.abs(poles.imag).max(), 0.5)
    left, right = min(poles.real.min(), 0) - 0.6, max(poles.real.max(), 0) + 0.9
    ax.axvspan(0, right, facecolor=_UNSTABLE, hatch="//", edgecolor=PAPER, linewidth=0, zorder=0)
    ax.axvline(0, color=INK, linewidth=1)
    ax.axhline(0, color=INK, linewidth=1)
    ax.set_xlim(left, right)
    ax.set_ylim(-reach, reach)
    ax.text(right, 0.97 * reach, text("plots", "portrait.grows"), ha="right", va="top")
