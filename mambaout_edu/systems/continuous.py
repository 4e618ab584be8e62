"""Continuous linear systems: a state that changes, what drives it, what is seen of it, and feedback around it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mambaout_edu.systems.checks import as_vector_or_matrix, freeze_system, state_matrix

__all__ = ["StateSpace", "feedback", "gain", "mass_spring", "parallel", "pi_controller", "series", "thermostat"]


@dataclass(frozen=True, eq=False)
class StateSpace:
    """A continuous linear system: `dh/dt = A h + B u`, `y = C h + D u`.

    Time is in seconds unless the maker of the system says otherwise. The arrays are read-only copies.

    Parameters
    ----------
    A
        State matrix [N, N], or its diagonal [N] for a diagonal system. Real or complex.
    B
        Input matrix [N, M]; [N] is read as one input.
    C
        Output matrix [P, N]; [N] is read as one output.
    D
        Direct path [P, M], or one number for one input and one output; zero when left out.

    Raises
    ------
    ValueError
        If shapes do not fit each other or a number is not finite.
    TypeError
        If an array does not hold numbers.

    Examples
    --------
    >>> system = StateSpace(A=[[0, 1], [-4, 0]], B=[0, 1], C=[1, 0])
    >>> system.states, system.inputs, system.outputs, system.is_stable
    (2, 1, 1, False)
    """

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray

    def __init__(self, A: ArrayLike, B: ArrayLike, C: ArrayLike, D: ArrayLike | None = None) -> None:
        freeze_system(self, A, B, C, D)

    @property
    def states(self) -> int:
        """N, the number of states."""
        return len(self.A)

    @property
    def inputs(self) -> int:
        """M, the number of inputs."""
        return self.B.shape[1]

    @property
    def outputs(self) -> int:
        """P, the number of outputs."""
        return self.C.shape[0]

    @property
    def poles(self) -> np.ndarray:
        """The eigenvalues of A [N], complex, in 1/s: every motion of the state is a sum of exp(pole * t)."""
        poles = self.A if self.A.ndim == 1 else np.linalg.eigvals(self.A)
        return np.sort_complex(poles)

    @property
    def is_stable(self) -> bool:
        """Whether every motion dies out: all poles have a negative real part."""
        return bool(np.all(self.poles.real < 0))

    @property
    def natural_frequencies(self) -> np.ndarray:
        """|pole| for each pole [N], in rad/s: the speed of its motion, were there no damping."""
        return np.abs(self.poles)

    @property
    def damping_ratios(self) -> np.ndarray:
        """-Re(pole) / |pole| for each pole [N]: 0 swings for ever, 1 does not swing, below 0 grows; NaN at pole 0."""
        poles = self.poles
        size = np.abs(poles)
        return np.divide(-poles.real, size, out=np.full(len(poles), np.nan), where=size > 0)

    def transfer(self, s: complex) -> np.ndarray:
        """Return the transfer matrix C (s I - A)^-1 B + D at one complex frequency s, [P, M].

        Raises ValueError if s is a pole, where the transfer is infinite.

        >>> thermostat(heat_capacity=100.0, heat_loss=4.0).transfer(0).real
        array([[0.25]])
        """
        try:
            return self.C @ np.linalg.solve(s * np.eye(self.states) - state_matrix(self.A), self.B) + self.D
        except np.linalg.LinAlgError:
            raise ValueError(f"the transfer is infinite at s = {s}, a pole of the system; take another s") from None


def gain(K: ArrayLike) -> StateSpace:
    """Return the system without a state that multiplies its input by K: a number or a matrix [P, M].

    Raises TypeError or ValueError if K is not a finite number or matrix.

    >>> gain(3.0).transfer(1j).real
    array([[3.]])
    """
    D = np.atleast_2d(as_vector_or_matrix("K", K, axes=(0, 2)))
    return StateSpace(np.zeros((0, 0)), np.zeros((0, D.shape[1])), np.zeros((D.shape[0], 0)), D)


def series(first: StateSpace, second: StateSpace) -> StateSpace:
    """Return `second` driven by the output of `first`; the states are those of `first`, then those of `second`.

    Raises ValueError if `first` has another number of outputs than `second` has inputs.

    >>> series(gain(2.0), thermostat()).states
    1
    """
    if first.outputs != second.inputs:
        raise ValueError(
            f"in series the first system's outputs are the second one's inputs; got {first.outputs} outputs and "
            f"{second.inputs} inputs. Pick rows of C and D, or columns of B and D, so that they agree."
        )
    A = np.block(
        [
            [state_matrix(first.A), np.zeros((first.states, second.states))],
            [second.B @ first.C, state_matrix(second.A)],
        ]
    )
    B = np.vstack([first.B, second.B @ first.D])
    C = np.hstack([second.D @ first.C, second.C])
    return StateSpace(A, B, C, second.D @ first.D)


def parallel(first: StateSpace, second: StateSpace) -> StateSpace:
    """Return both systems driven by the same input, their outputs added.

    Raises ValueError if their numbers of inputs or outputs differ.

    >>> parallel(gain(2.0), gain(3.0)).D
    array([[5.]])
    """
    if (first.inputs, first.outputs) != (second.inputs, second.outputs):
        raise ValueError(
            f"in parallel both systems have the same inputs and outputs; got {first.inputs} and {second.inputs} "
            f"inputs, {first.outputs} and {second.outputs} outputs"
        )
    above = np.hstack([state_matrix(first.A), np.zeros((first.states, second.states))])
    below = np.hstack([np.zeros((second.states, first.states)), state_matrix(second.A)])
    return StateSpace(
        np.vstack([above, below]),
        np.vstack([first.B, second.B]),
        np.hstack([first.C, second.C]),
        first.D + second.D,
    )


def feedback(plant: StateSpace, controller: StateSpace | ArrayLike) -> StateSpace:
    """Close the loop: the controller is driven by wanted minus measured, and drives the plant.

    The result maps the wanted value r to the measured value y, with `u = controller(r - y)`. Its states are those
    of the controller, then those of the plant. Source: any textbook, for example Astrom and Murray, "Feedback
    Systems", section 2.4.

    Parameters
    ----------
    plant
        What is controlled.
    controller
        A system, or a gain: a number or a matrix [plant inputs, plant outputs].

    Raises
    ------
    ValueError
        If the sizes do not fit, or the direct paths form a loop without delay that has no solution.

    Examples
    --------
    >>> spring = mass_spring(mass=1.0, damping=0.0, stiffness=1.0)
    >>> feedback(spring, 3.0).natural_frequencies
    array([2., 2.])
    """
    loop = series(controller if isinstance(controller, StateSpace) else gain(controller), plant)
    if loop.outputs != loop.inputs:
        raise ValueError(
            f"the measured output is subtracted from the wanted one, so there must be as many of each; got "
            f"{loop.outputs} outputs and {loop.inputs} inputs of controller and plant in series"
        )
    direct = np.eye(loop.outputs) + loop.D  # y = C h + D (r - y)  ->  (I + D) y = C h + D r
    if np.linalg.matrix_rank(direct) < loop.outputs:
        raise ValueError(
            "the direct paths of plant and controller form a loop without delay: I + D is singular, so the loop "
            "has no output. Change the gain, or give the plant D = 0."
        )
    C = np.linalg.solve(direct, loop.C)
    D = np.linalg.solve(direct, loop.D)
    return StateSpace(loop.A - loop.B @ C, loop.B - loop.B @ D, C, D)


def thermostat(heat_capacity: float = 1.8e6, heat_loss: float = 150.0) -> StateSpace:
    """Return a heated room: from the heater's power (W) to how much warmer it is than outside (K).

    `heat_capacity * dT/dt = power - heat_loss * T`, with one pole at -heat_loss / heat_capacity.

    Parameters
    ----------
    heat_capacity
        Energy that warms the room by one degree, in J/K.
    heat_loss
        Power lost through the walls for each degree, in W/K.

    Raises
    ------
    ValueError
        If one of them is not positive.

    Examples
    --------
    >>> room = thermostat()
    >>> held = feedback(room, controller=1350.0)  # watts for each degree that is missing
    >>> held.natural_frequencies / room.natural_frequencies  # ten times as quick
    array([10.])
    >>> held.transfer(0).real  # and 10 % short of what was asked for
    array([[0.9]])
    """
    _positive(heat_capacity=heat_capacity, heat_loss=heat_loss)
    return StateSpace([[-heat_loss / heat_capacity]], [1 / heat_capacity], [1.0])


def mass_spring(mass: float = 1.0, damping: float = 0.4, stiffness: float = 4.0) -> StateSpace:
    """Return a mass on a spring: from the force (N) to the position (m); the states are position and velocity.

    `mass * x'' = force - damping * x' - stiffness * x`.

    Parameters
    ----------
    mass
        In kg.
    damping
        Friction, in N s/m; negative friction feeds energy in and makes the system unstable.
    stiffness
        In N/m.

    Raises
    ------
    ValueError
        If mass or stiffness is not positive.

    Examples
    --------
    >>> system = mass_spring(mass=1.0, damping=2.0, stiffness=4.0)
    >>> system.natural_frequencies, system.damping_ratios
    (array([2., 2.]), array([0.5, 0.5]))
    """
    _positive(mass=mass, stiffness=stiffness)
    return StateSpace([[0.0, 1.0], [-stiffness / mass, -damping / mass]], [0.0, 1 / mass], [1.0, 0.0])


def pi_controller(proportional: float, integral: float) -> StateSpace:
    """Return a controller that adds what is missing now and what has been missing so far.

    `u = proportional * e + integral * (integral of e over time)`: the second part removes the steady error.

    Examples
    --------
    >>> held = feedback(thermostat(), pi_controller(1350.0, 0.5))
    >>> held.is_stable, held.transfer(0).real
    (True, array([[1.]]))
    """
    return StateSpace([[0.0]], [1.0], [integral], proportional)


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0 or not np.isfinite(value):
            raise ValueError(f"{name} must be positive and finite; got {value}")
