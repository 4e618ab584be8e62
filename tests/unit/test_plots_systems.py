"""Figures of linear systems: they draw the numbers of the systems, and refuse what they cannot draw."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex

from mambaout_edu import plots, systems

SPRING = systems.mass_spring()


def test_portraits_draw_poles_tap_and_gain():
    unstable = systems.mass_spring(damping=-0.2)
    plane, tapped, swept = plots.portraits({"calm": SPRING, "wild": unstable}, duration=10.0, fastest=5.0).axes
    points = [line for line in plane.lines if line.get_marker() not in ("None", None, "")]
    assert [sorted(line.get_xdata()) for line in points] == [sorted(s.poles.real) for s in (SPRING, unstable)]
    times = tapped.lines[0].get_xdata()
    np.testing.assert_allclose(tapped.lines[0].get_ydata(), systems.impulse_response(SPRING, times)[:, 0, 0])
    assert (times[0], times[-1]) == (0, 10)
    assert len(swept.lines) == 1, "an unstable system has no gain"
    omega, gain = swept.lines[0].get_data()
    assert omega[np.argmax(gain)] == pytest.approx(np.sqrt(4 - 0.4**2 / 2), rel=0.02)  # the resonance of this spring
    assert (omega[0], omega[-1]) == pytest.approx((0.05, 5))
    looks = {(to_hex(line.get_color()), line.get_linestyle()) for line in tapped.lines}
    assert len({colour for colour, _ in looks}) == len({style for _, style in looks}) == 2, "not by colour alone"
    # The half in which motions grow is shaded, and every pole lies inside the picture.
    left, right = plane.get_xlim()
    assert left < -0.2 < 0.1 < right
    assert plane.patches[0].get_x() == 0
    named = plots.portraits({"calm": SPRING}, duration=1.0, output="position (m)", gain="m/N").axes
    assert [ax.get_ylabel() for ax in named[1:]] == ["position (m)", "m/N"]


def test_the_course_s_own_style_changes_nothing():
    def drawn() -> list[bytes]:
        curve = 0.9 ** np.arange(30.0)
        figures = (
            plots.portraits({"calm": SPRING}, duration=5.0),
            plots.discretisations(SPRING, delta=0.2, duration=5.0),
            plots.responses(np.arange(30.0), {"a": curve}, x="t", y="m", level=0.5),
            plots.memory_curves({"a": curve}),
            plots.recollections(curve, {"a": curve}, x="pixel", y="grey"),
        )
        return [plots.picture(fig, "A figure that is drawn twice.").data for fig in figures]

    plain = drawn()
    with mpl.rc_context(plots.STYLE):  # its cycle of markers would put one on every point
        assert drawn() == plain


def test_portraits_refuse_what_has_several_inputs():
    wide = systems.StateSpace([-1.0], [[1.0, 2.0]], [1.0])
    with pytest.raises(ValueError, match="wide has 2 inputs and 1 outputs; expected one of each"):
        plots.portraits({"wide": wide}, duration=1.0)
    with pytest.raises(ValueError, match="no systems to draw"):
        plots.portraits({}, duration=1.0)


def test_discretisations_draw_each_method_at_the_end_of_its_steps():
    axes = plots.discretisations(SPRING, delta=0.25, duration=3.0).axes
    assert len(axes) == len(systems.METHODS)
    for ax, method in zip(axes, systems.METHODS, strict=True):
        exact, stepped = ax.lines
        np.testing.assert_allclose(exact.get_ydata(), systems.step_response(SPRING, exact.get_xdata())[:, 0, 0])
        np.testing.assert_allclose(stepped.get_xdata(), 0.25 * np.arange(1, 13))
        expected, _ = systems.run_recurrence(systems.discretise(SPRING, 0.25, method), np.ones(12))
        np.testing.assert_allclose(stepped.get_ydata(), expected)
    assert [ax.get_title().split(": ")[-1] for ax in axes] == ["unstable", "stable", "stable", "stable"]
    held = dict(zip(systems.METHODS, axes, strict=True))["zoh"].lines[1]
    np.testing.assert_allclose(held.get_ydata(), systems.step_response(SPRING, held.get_xdata())[:, 0, 0], atol=1e-12)
    with pytest.raises(ValueError, match="expected room for one step"):
        plots.discretisations(SPRING, delta=0.25, duration=0.1)


def test_responses_draw_every_curve_and_mark_the_level():
    ax = plots.responses(np.arange(3.0), {"a": np.ones(3), "b": np.zeros(3)}, x="t", y="K", level=7).axes[0]
    level, *curves = ax.lines
    assert list(level.get_ydata()) == [7, 7]
    assert [list(curve.get_ydata()) for curve in curves] == [[1, 1, 1], [0, 0, 0]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    with pytest.raises(ValueError, match=r"curve 'a' has shape \(2,\); expected that of times, \(3,\)"):
        plots.responses(np.arange(3.0), {"a": np.ones(2)}, x="t", y="K")
    with pytest.raises(ValueError, match="no curves"):
        plots.responses(np.arange(3.0), {}, x="t", y="K")


def test_memory_curves_are_shares_of_the_first_weight():
    line = plots.memory_curves({"a": np.array([4.0, 2.0, 1.0])}).axes[0].lines[0]
    np.testing.assert_allclose(line.get_xydata(), [[1, 100], [2, 50], [3, 25]])
    for bad in ({}, {"a": np.array([0.0, 1.0])}):
        with pytest.raises(ValueError, match="first weight other than 0"):
            plots.memory_curves(bad)


def test_recollections_say_what_share_of_the_variance_came_back():
    signal = np.array([0.0, 2.0, 0.0, 2.0])
    whole, mean = plots.recollections(signal, {"all": signal, "mean": np.ones(4)}, x="x", y="y").axes
    assert whole.get_title().startswith("all: 100 %")
    assert mean.get_title().startswith("mean: 0 %")
    assert [list(line.get_ydata()) for line in mean.lines] == [list(signal), [1, 1, 1, 1]]
    with pytest.raises(ValueError, match="of the signal's length 4"):
        plots.recollections(signal, {"short": np.ones(3)}, x="x", y="y")
