"""HiPPO and S4D: the matrices, and that the state is the polynomial it is said to be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import Legendre

from mambaout_edu import systems
from mambaout_edu.systems import StateSpace


def legendre_coefficients(u: np.ndarray, states: int) -> np.ndarray:
    """Project the staircase of u on [0, 1] on sqrt(2n + 1) P_n(2x - 1), by exact integrals."""
    edges = 2 * np.arange(len(u) + 1) / len(u) - 1
    integrals = [np.diff(Legendre.basis(n).integ()(edges)) / 2 for n in range(states)]
    return np.array([np.sqrt(2 * n + 1) * integrals[n] @ u for n in range(states)])


def test_hippo_legs_matrix_entry_by_entry():
    A, B = systems.hippo_legs(6)
    for n in range(6):
        assert B[n, 0] == pytest.approx(np.sqrt(2 * n + 1))
        for k in range(6):
            expected = -np.sqrt((2 * n + 1) * (2 * k + 1)) if n > k else -(n + 1) if n == k else 0
            assert A[n, k] == pytest.approx(expected)
    # Normal up to rank one: adding half of b b^T leaves -I/2 plus a skew-symmetric matrix.
    normal = A + B @ B.T / 2
    np.testing.assert_allclose(normal + normal.T, -np.eye(6), atol=1e-12)


def test_s4d_real_is_the_diagonal_of_hippo_legs():
    np.testing.assert_array_equal(systems.s4d_real(9), np.diag(systems.hippo_legs(9)[0]))


def test_s4d_lin_and_inv_have_the_published_poles():
    np.testing.assert_allclose(systems.s4d_lin(8), -0.5 + 1j * np.pi * np.arange(4))
    n = np.arange(4)
    np.testing.assert_allclose(systems.s4d_inv(8), -0.5 + 1j * 8 / np.pi * (8 / (2 * n + 1) - 1))


def test_s4d_inv_lies_near_the_poles_of_the_normal_part_of_hippo():
    # -1/2 +- i w are the poles of A + b b^T / 2; S4D-Inv approximates the fastest of them.
    A, B = systems.hippo_legs(64)
    fastest = np.linalg.eigvals(A + B @ B.T / 2).imag.max()
    assert systems.s4d_inv(64).imag.max() == pytest.approx(fastest, rel=0.05)


@given(length=st.integers(1, 40), states=st.integers(1, 8), seed=st.integers(0, 2**32 - 1))
def test_legs_state_is_exactly_the_best_polynomial_of_the_past(length, states, seed):
    u = np.random.default_rng(seed).normal(size=length)
    remembered = systems.legs_memory(u, states)
    for t in (0, length // 2, length - 1):
        np.testing.assert_allclose(remembered[t], legendre_coefficients(u[: t + 1], states), atol=1e-9)


def test_more_states_reconstruct_more():
    x = (np.arange(300) + 0.5) / 300
    u = np.sin(7 * x) + 0.5 * np.cos(16 * x)
    errors = [
        np.sqrt(np.mean((systems.legs_reconstruct(systems.legs_memory(u, N)[-1], x) - u) ** 2)) for N in (2, 6, 16)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.02


def test_the_time_invariant_system_remembers_on_an_exponential_clock():
    # The kernel of state n is exp(-s) sqrt(2n + 1) P_n(2 exp(-s) - 1).
    A, B = systems.hippo_legs(5)
    s = np.linspace(0, 4, 30)
    kernels = systems.impulse_response(StateSpace(A, B, np.eye(5)), s)[:, :, 0]
    for n in range(5):
        one = np.exp(-s) * systems.legs_reconstruct(np.eye(5)[n], np.exp(-s))
        np.testing.assert_allclose(kernels[:, n], one, atol=1e-10)


def test_conjugate_pairs_give_twice_the_real_part():
    rng = np.random.default_rng(0)
    poles = systems.s4d_lin(8)
    half = StateSpace(poles, np.ones(4), rng.normal(size=4) + 1j * rng.normal(size=4), 0.5)
    whole = systems.with_conjugates(half)
    u = rng.normal(size=50)
    y_half = systems.run_recurrence(systems.discretise(half, 0.05), u)[0]
    y_whole = systems.run_recurrence(systems.discretise(whole, 0.05), u)[0]
    np.testing.assert_allclose(y_whole.imag, 0, atol=1e-12)
    np.testing.assert_allclose(y_whole.real, 2 * (y_half - 0.5 * u).real + 0.5 * u, atol=1e-12)


@given(pole=st.floats(-5, -0.1), delta=st.floats(0.01, 1))
def test_memory_of_one_real_pole_fades_exponentially(pole, delta):
    system = systems.discretise(StateSpace([pole], [1.0], [1.0]), delta)
    curve = systems.memory_curve(system, 20)
    np.testing.assert_allclose(curve[1:] / curve[:-1], np.exp(pole * delta), rtol=1e-9)


def test_memory_curve_is_the_norm_of_what_an_impulse_leaves():
    A, B = systems.hippo_legs(6)
    system = systems.discretise(StateSpace(A, B, np.eye(6)), 0.05)
    _, states = systems.run_recurrence(system, np.eye(1, 30)[0])
    np.testing.assert_allclose(systems.memory_curve(system, 30), np.linalg.norm(states, axis=1), rtol=1e-10)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: systems.hippo_legs(0), ValueError, "at least 1; got 0"),
        (lambda: systems.hippo_legs(2.5), TypeError, "whole number; got 2.5"),
        (lambda: systems.s4d_lin(3), ValueError, "must be even; got 3"),
        (lambda: systems.s4d_inv(-2), ValueError, "at least 1; got -2"),
        (lambda: systems.with_conjugates(systems.mass_spring()), ValueError, r"diagonal A \[N\]"),
        (lambda: systems.with_conjugates(StateSpace([1j], [1], [1], 1j)), ValueError, "real D"),
        (lambda: systems.legs_reconstruct([1.0], [1.5]), ValueError, "from 0 .* to 1"),
        (lambda: systems.legs_memory([[1.0]], 2), ValueError, "u must have 1 axes"),
        (lambda: systems.memory_curve(systems.discretise(systems.gain(1.0), 1.0), 0), ValueError, "at least 1"),
    ],
)
def test_bad_input_is_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()
