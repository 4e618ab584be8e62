"""Continuous systems: poles, damping, feedback, and responses against scipy.signal and scipy.linalg."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from mambaout_edu import systems
from mambaout_edu.systems import StateSpace

TIMES = np.linspace(0.0, 6.0, 61)
seeds = st.integers(0, 2**32 - 1)


def random_system(seed: int, states: int, inputs: int = 1, outputs: int = 1, stable: bool = True) -> StateSpace:
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(states, states))
    if stable:
        A = A - (np.linalg.eigvals(A).real.max() + 0.3) * np.eye(states)
    return StateSpace(
        A, rng.normal(size=(states, inputs)), rng.normal(size=(outputs, states)), rng.normal(size=(outputs, inputs))
    )


def in_scipy(system: StateSpace) -> scipy.signal.StateSpace:
    return scipy.signal.StateSpace(system.A, system.B, system.C, system.D)


def test_systems_need_neither_torch_nor_scipy():
    code = (
        "import sys, mambaout_edu.systems as s; s.expm([[1.0]]); "
        "print([name for name in ('torch', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- the system itself ---


def test_vectors_become_one_input_and_one_output_and_are_copied():
    A = np.array([[0.0, 1.0], [-2.0, -3.0]])
    system = StateSpace(A, [0, 1], [1, 0], 2)
    A[0, 0] = 9.0
    assert system.A[0, 0] == 0.0
    assert (system.B.shape, system.C.shape, system.D.tolist()) == ((2, 1), (1, 2), [[2.0]])
    with pytest.raises(ValueError, match="read-only"):
        system.A[0, 0] = 1.0


@given(mass=st.floats(0.1, 10), damping=st.floats(0, 10), stiffness=st.floats(0.1, 10))
def test_mass_spring_has_the_textbook_frequency_and_damping(mass, damping, stiffness):
    system = systems.mass_spring(mass, damping, stiffness)
    omega, zeta = np.sqrt(stiffness / mass), damping / (2 * np.sqrt(stiffness * mass))
    # Eigenvalues of a nearly double pole carry the square root of the rounding error.
    np.testing.assert_allclose(np.prod(system.natural_frequencies), omega**2, rtol=1e-6)
    if zeta < 0.999:
        np.testing.assert_allclose(system.natural_frequencies, omega, rtol=1e-6)
        np.testing.assert_allclose(system.damping_ratios, zeta, rtol=1e-6, atol=1e-6)
    assert system.is_stable == (system.poles.real.max() < 0)


def test_damping_decides_stability():
    assert systems.mass_spring(damping=0.4).is_stable
    assert not systems.mass_spring(damping=0.0).is_stable
    assert not systems.mass_spring(damping=-0.1).is_stable
    assert np.all(systems.mass_spring(damping=-0.1).damping_ratios < 0)


def test_damping_of_an_integrator_is_not_a_number_and_warns_of_nothing():
    assert np.isnan(StateSpace([0.0], [1.0], [1.0]).damping_ratios).all()


def test_thermostat_steady_state_and_time_constant():
    room = systems.thermostat(heat_capacity=100.0, heat_loss=4.0)
    assert room.poles == pytest.approx([-0.04])
    assert systems.step_response(room, [25.0])[0, 0, 0] == pytest.approx((1 - np.exp(-1)) / 4.0)


# --- composing ---

S_POINTS = (0.3j, 1.0 + 0.5j, 7j)


@given(seeds)
def test_series_parallel_and_feedback_are_what_they_are_for_transfer_functions(seed):
    first, second = random_system(seed, 2), random_system(seed + 1, 3)
    for s in S_POINTS:
        G, K = second.transfer(s)[0, 0], first.transfer(s)[0, 0]
        assert systems.series(first, second).transfer(s)[0, 0] == pytest.approx(G * K, rel=1e-8, abs=1e-9)
        assert systems.parallel(first, second).transfer(s)[0, 0] == pytest.approx(G + K, rel=1e-8, abs=1e-9)
        if abs(1 + second.D[0, 0] * first.D[0, 0]) > 1e-3 and abs(1 + G * K) > 1e-3:
            closed = systems.feedback(second, first).transfer(s)[0, 0]
            assert closed == pytest.approx(G * K / (1 + G * K), rel=1e-6, abs=1e-7)


def test_feedback_with_a_matrix_gain_of_two_inputs():
    plant = random_system(3, 3, inputs=2, outputs=2)
    K = np.array([[1.0, 0.2], [-0.3, 2.0]])
    for s in S_POINTS:
        L = plant.transfer(s) @ K
        np.testing.assert_allclose(
            systems.feedback(plant, K).transfer(s), np.linalg.solve(np.eye(2) + L, L), atol=1e-10
        )


def test_feedback_moves_the_poles_as_the_characteristic_polynomial_says():
    # m x'' + c x' + k x = K (r - x): stiffness k + K
    closed = systems.feedback(systems.mass_spring(2.0, 0.5, 3.0), 5.0)
    np.testing.assert_allclose(closed.poles, np.sort_complex(np.roots([2.0, 0.5, 8.0])), rtol=1e-10)


def test_feedback_stabilises_and_can_destabilise():
    falling = StateSpace([[0.0, 1.0], [1.0, 0.0]], [0.0, 1.0], [1.0, 0.5])
    assert not falling.is_stable
    assert systems.feedback(falling, 4.0).is_stable
    three_lags = systems.series(
        systems.series(StateSpace([-1.0], [1.0], [1.0]), StateSpace([-1.0], [1.0], [1.0])),
        StateSpace([-1.0], [1.0], [1.0]),
    )
    # (s + 1)^3 + K crosses the axis at K = 8.
    assert systems.feedback(three_lags, 7.9).is_stable
    assert not systems.feedback(three_lags, 8.1).is_stable


def test_proportional_control_falls_short_and_integral_control_does_not():
    room = systems.thermostat()
    late = 50 * 3600.0
    proportional = systems.step_response(systems.feedback(room, 1350.0), [late])[0, 0, 0]
    integral = systems.step_response(systems.feedback(room, systems.pi_controller(1350.0, 0.5)), [late])[0, 0, 0]
    assert proportional == pytest.approx(1350 / (1350 + 150))
    assert integral == pytest.approx(1.0)


# --- responses ---


@pytest.mark.parametrize("states", [1, 2, 5])
def test_impulse_and_step_equal_scipy(states):
    system = random_system(states, states)
    _, impulse = scipy.signal.impulse((system.A, system.B, system.C, system.D), T=TIMES)
    _, step = scipy.signal.step((system.A, system.B, system.C, system.D), T=TIMES)
    np.testing.assert_allclose(systems.impulse_response(system, TIMES)[:, 0, 0], impulse, atol=1e-9)
    np.testing.assert_allclose(systems.step_response(system, TIMES)[:, 0, 0], step, atol=1e-9)


@given(seeds, st.integers(1, 5))
def test_frequency_response_equals_scipy(seed, states):
    system, omega = random_system(seed, states), np.logspace(-2, 2, 15)
    _, expected = scipy.signal.freqresp(in_scipy(system), omega)
    np.testing.assert_allclose(systems.frequency_response(system, omega)[:, 0, 0], expected, rtol=1e-5, atol=1e-7)


@given(seeds, st.integers(1, 4))
def test_impulse_response_is_the_slope_of_the_step_response(seed, states):
    system, step = random_system(seed, states), 1e-5
    slope = (systems.step_response(system, TIMES + step) - systems.step_response(system, TIMES)) / step
    np.testing.assert_allclose(systems.impulse_response(system, TIMES + step / 2), slope, atol=1e-3, rtol=1e-3)


def test_step_response_of_an_integrator_is_a_ramp():
    np.testing.assert_allclose(
        systems.step_response(StateSpace([[0.0]], [1.0], [1.0]), TIMES)[:, 0, 0], TIMES, atol=1e-12
    )


def test_diagonal_and_full_systems_respond_alike():
    poles, B, C = np.array([-1 + 2j, -0.5 - 1j]), [1, 2j], [0.5, 1]
    diagonal, full = StateSpace(poles, B, C), StateSpace(np.diag(poles), B, C)
    for response in (systems.impulse_response, systems.step_response):
        np.testing.assert_allclose(response(diagonal, TIMES), response(full, TIMES), atol=1e-12)
    np.testing.assert_allclose(
        systems.initial_response(diagonal, [1, 1], TIMES), np.exp(TIMES[:, None] * poles), atol=1e-12
    )


# --- the matrix exponential ---


@given(seeds, st.integers(1, 8), st.floats(1e-6, 40))
def test_expm_equals_scipy(seed, size, scale):
    X = np.random.default_rng(seed).normal(size=(size, size)) * scale / size
    expected = scipy.linalg.expm(X)
    assert np.linalg.norm(systems.expm(X) - expected) <= 1e-11 * np.linalg.norm(expected)


def test_expm_of_stacks_nilpotent_complex_and_empty_matrices():
    stack = np.random.default_rng(0).normal(size=(4, 3, 3)) * np.array([1e-8, 1.0, 10.0, 60.0])[:, None, None]
    for one, expected in zip(systems.expm(stack), scipy.linalg.expm(stack), strict=True):
        assert np.linalg.norm(one - expected) <= 1e-11 * np.linalg.norm(expected)
    shift = np.diag([1.0, 1.0, 1.0], 1)
    np.testing.assert_allclose(systems.expm(shift)[0], [1, 1, 1 / 2, 1 / 6], rtol=1e-14)
    np.testing.assert_allclose(systems.expm([[1j * np.pi]]), [[-1.0]], atol=1e-15)
    assert systems.expm(np.zeros((0, 0))).shape == (0, 0)
    assert systems.expm(np.zeros((0, 2, 2))).shape == (0, 2, 2)


# --- bad input ---


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: StateSpace([[1, 2, 3], [1, 2, 3]], [1, 1], [1, 1]), ValueError, r"A must be square .* \(2, 3\)"),
        (lambda: StateSpace([[1.0]], [1, 1], [1]), ValueError, r"B must be .*\[1, M\]; got shape \(2, 1\)"),
        (lambda: StateSpace([[1.0]], [1], [1, 2]), ValueError, r"C must be .*\[P, 1\]; got shape \(1, 2\)"),
        (lambda: StateSpace([[1.0]], [1], [1], [1, 2]), ValueError, r"D must be \[1, 1\]"),
        (lambda: StateSpace([[np.nan]], [1], [1]), ValueError, "A must be finite"),
        (lambda: StateSpace([["a"]], [1], [1]), TypeError, "A must hold numbers"),
        (lambda: StateSpace([[1], [1, 2]], [1], [1]), ValueError, "different lengths"),
        (lambda: StateSpace(np.zeros((1, 1, 1)), [1], [1]), ValueError, "A must have 1 or 2 axes; got 3"),
        (lambda: systems.mass_spring(mass=0), ValueError, "mass must be positive"),
        (lambda: systems.thermostat(heat_loss=-1), ValueError, "heat_loss must be positive and finite; got -1"),
        (lambda: systems.series(systems.gain(np.ones((2, 1))), systems.gain(1.0)), ValueError, "2 outputs and 1"),
        (lambda: systems.parallel(systems.gain(np.ones((2, 1))), systems.gain(1.0)), ValueError, "same inputs"),
        (lambda: systems.feedback(systems.gain(1.0), -1.0), ValueError, "loop without delay"),
        (lambda: systems.feedback(systems.gain(np.ones((2, 1))), 1.0), ValueError, "2 outputs and 1 inputs"),
        (lambda: systems.gain(1.0).transfer(1j) and StateSpace([0.0], [1], [1]).transfer(0), ValueError, "infinite"),
        (lambda: systems.step_response(systems.mass_spring(), [-1.0]), ValueError, "times must be real and at least 0"),
        (lambda: systems.step_response(systems.mass_spring(), 1.0), ValueError, "times must have 1 axes; got 0"),
        (lambda: systems.impulse_response(StateSpace([1.0], [1], [1]), [1e4]), ValueError, "shorter times"),
        (lambda: systems.impulse_response(StateSpace([[1.0]], [1], [1]), [1e4]), ValueError, "shorter times"),
        (lambda: systems.initial_response(systems.mass_spring(), [1.0], [0.0]), ValueError, "2 states; got .* 1"),
        (lambda: systems.expm(np.zeros((2, 3))), ValueError, r"square matrices .* \(2, 3\)"),
        (lambda: systems.expm(1.0), ValueError, "2 axes; got 0"),
    ],
)
def test_bad_input_is_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()
