"""Poles in the complex plane, moved by hand, and what the system they make answers."""

from typing import Any

import numpy as np
import traitlets

from mambaout_edu.systems import DiscreteStateSpace, StateSpace, discretise
from mambaout_edu.widgets._base import Widget

__all__ = ["PLANE", "PolePlane"]

PLANE = (-6.0, 2.0, 4.0)  # smallest and largest real part, largest imaginary part, in 1/s
SMALLEST = 0.05  # imaginary part of a pair that was pushed down to the real axis


class PolePlane(Widget):
    """Drag the poles of a linear system; its responses, and its discrete poles, follow in the page.

    Every pole p is a state of its own, dh/dt = p h + u, and the output is the mean over all states: a
    diagonal state space model. A complex pole brings its conjugate along, so the output is real.
    The impulse response is mean(exp(p t)), the step response its integral. Stepping with length
    delta gives h_t = z h_(t-1) + b u_t, where z and b depend on the method; the page shows every z
    in the unit circle, the kernel mean(z^t b) / delta and the step response of that recurrence.

    Parameters
    ----------
    poles : sequence
        Complex numbers in 1/s, or pairs (real, imaginary) of numbers; real part from -6 to 2,
        imaginary part up to 4. A complex pole and its conjugate count as one entry.
    method : str
        "euler", "bilinear" or "zoh", as in `mambaout_edu.systems.discretise`.
    delta : float
        Length of a step, 0.02 to 2 s.
    duration : float
        How many seconds of the responses are drawn.
    selected : int
        The entry of `poles` that the keys move.

    Raises
    ------
    TypeError
        For an unknown name.
    traitlets.TraitError
        For a pole outside the plane, no pole or more than six, or a delta out of range.

    Examples
    --------
    >>> from mambaout_edu.widgets.pole_plane import PolePlane
    >>> plane = PolePlane(poles=[-1, -0.5 + 2j], delta=0.25, method="euler")
    >>> plane
    PolePlane(poles=[(-1.0, 0.0), (-0.5, 2.0)], method='euler', delta=0.25)
    >>> plane.system().poles
    array([-1. +0.j, -0.5-2.j, -0.5+2.j])
    >>> plane.discrete().is_stable
    False
    """

    strings_part = "pole_plane"
    repr_traits = ("poles", "method", "delta")

    poles = traitlets.List(default_value=[(-0.5, 2.5), (-1.0, 0.0)]).tag(sync=True)
    method = traitlets.Enum(("euler", "bilinear", "zoh"), default_value="zoh").tag(sync=True)
    delta = traitlets.Float(0.3, min=0.02, max=2.0).tag(sync=True)
    duration = traitlets.Float(6.0, min=0.5, max=60.0).tag(sync=True)
    selected = traitlets.Int(0, min=0).tag(sync=True)

    def __init__(self, **kwargs: Any) -> None:
        if "poles" in kwargs:
            kwargs["poles"] = list(kwargs["poles"])  # an array will do
        super().__init__(**kwargs)

    def system(self) -> StateSpace:
        """Return the continuous system as it stands: diagonal, B = 1, C = 1 / N."""
        poles = np.array([complex(*pole) for pole in self.poles])
        poles = np.concatenate([poles, poles[poles.imag > 0].conj()])
        if not np.any(poles.imag):
            poles = poles.real
        return StateSpace(poles, np.ones(len(poles)), np.full(len(poles), 1 / len(poles)))

    def discrete(self) -> DiscreteStateSpace:
        """Return the system stepped by `delta` with `method`."""
        return discretise(self.system(), self.delta, self.method)

    @traitlets.validate("poles")
    def _in_the_plane(self, proposal: dict[str, Any]) -> list[tuple[float, float]]:
        poles: list[tuple[float, float]] = []
        alone: list[complex] = []  # complex poles whose conjugate was not given (yet)
        for given in map(_number, proposal["value"]):
            if given.imag and given.conjugate() in alone:
                alone.remove(given.conjugate())
                continue
            alone.append(given)
            poles.append((given.real, max(abs(given.imag), SMALLEST) if given.imag else 0.0))
        if not 1 <= len(poles) <= 6:
            raise traitlets.TraitError(f"the plane takes 1 to 6 poles (a conjugate pair is one); got {len(poles)}")
        return poles


def _number(given: Any) -> complex:
    """Return a pole inside the plane from a number or a pair of numbers."""
    try:
        pole = complex(*given) if isinstance(given, list | tuple) else complex(given)
    except (TypeError, ValueError):
        raise traitlets.TraitError(
            f"a pole is a number such as -0.5 + 2j, or a pair such as (-0.5, 2); got {given!r}"
        ) from None
    low, high, top = PLANE
    if not (low <= pole.real <= high and abs(pole.imag) <= top):
        raise traitlets.TraitError(
            f"the pole {pole:g} lies outside the plane: real part {low:g} to {high:g}, imaginary part up to {top:g}. "
            "Measure time in another unit to bring it inside."
        )
    return pole
