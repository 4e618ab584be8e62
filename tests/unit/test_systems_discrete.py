"""Discretisation, recurrence and convolution: against scipy.signal, and the laws that hold between them."""

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from mambaout_edu import systems
from mambaout_edu.systems import DiscreteStateSpace, StateSpace

seeds = st.integers(0, 2**32 - 1)
deltas = st.floats(1e-3, 2.0)
SCIPY_NAMES = {"euler": "euler", "bilinear": "bilinear", "zoh": "zoh"}


def random_system(seed: int, states: int, inputs: int = 1, outputs: int = 1) -> StateSpace:
    """A stable system whose slowest pole has the real part -0.2."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(states, states))
    A = A - (np.linalg.eigvals(A).real.max() + 0.2) * np.eye(states)
    return StateSpace(
        A, rng.normal(size=(states, inputs)), rng.normal(size=(outputs, states)), rng.normal(size=(outputs, inputs))
    )


def in_textbook_timing(system: DiscreteStateSpace) -> tuple:
    """The same system written as h_(t+1) = A h_t + B u_t."""
    return system.A, system.B, system.C @ system.A, system.C @ system.B + system.D, system.delta


# --- against scipy ---


@pytest.mark.parametrize("method", SCIPY_NAMES)
@given(seed=seeds, states=st.integers(1, 5), inputs=st.integers(1, 2), delta=deltas)
def test_discretisations_equal_scipy(method, seed, states, inputs, delta):
    system = random_system(seed, states, inputs)
    ours = systems.discretise(system, delta, method)
    A, B, *_ = scipy.signal.cont2discrete((system.A, system.B, system.C, system.D), delta, SCIPY_NAMES[method])
    np.testing.assert_allclose(ours.A, A, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(ours.B, B, rtol=1e-9, atol=1e-10)


@given(seed=seeds, states=st.integers(1, 4), inputs=st.integers(1, 2), outputs=st.integers(1, 2))
def test_recurrence_equals_scipy(seed, states, inputs, outputs):
    system = systems.discretise(random_system(seed, states, inputs, outputs), 0.3)
    u = np.random.default_rng(seed).normal(size=(20, inputs))
    y, h = systems.run_recurrence(system, u)
    _, expected, states_before = scipy.signal.dlsim(in_textbook_timing(system), u)
    np.testing.assert_allclose(y, expected, atol=1e-10)
    np.testing.assert_allclose(h[:-1], states_before[1:], atol=1e-10)


# --- diagonal and full ---


@pytest.mark.parametrize("method", systems.METHODS)
@given(seed=seeds, delta=deltas)
def test_a_diagonal_stays_a_diagonal_and_equals_the_full_matrix(method, seed, delta):
    rng = np.random.default_rng(seed)
    poles = -rng.uniform(0.01, 3, 3) + 1j * rng.normal(size=3)
    B, C = rng.normal(size=3), rng.normal(size=3)
    diagonal = systems.discretise(StateSpace(poles, B, C), delta, method)
    full = systems.discretise(StateSpace(np.diag(poles), B, C), delta, method)
    assert diagonal.A.shape == (3,)
    np.testing.assert_allclose(np.diag(diagonal.A), full.A, atol=1e-12)
    np.testing.assert_allclose(diagonal.B, full.B, atol=1e-12)
    u = rng.normal(size=12)
    np.testing.assert_allclose(systems.run_recurrence(diagonal, u)[0], systems.run_recurrence(full, u)[0], atol=1e-10)
    np.testing.assert_allclose(systems.convolution_kernel(diagonal, 9), systems.convolution_kernel(full, 9), atol=1e-10)


# --- laws ---


@given(seed=seeds, first=deltas, second=deltas)
def test_two_held_steps_make_one_long_step(seed, first, second):
    system = random_system(seed, 3)
    one, two = systems.discretise(system, first), systems.discretise(system, second)
    both = systems.discretise(system, first + second)
    np.testing.assert_allclose(two.A @ one.A, both.A, atol=1e-10)
    np.testing.assert_allclose(two.A @ one.B + two.B, both.B, atol=1e-10)


def test_no_other_method_composes():
    system = random_system(1, 3)
    for method in ("euler", "bilinear", "first_order"):
        one, both = systems.discretise(system, 0.5, method), systems.discretise(system, 1.0, method)
        assert np.abs(one.A @ one.B + one.B - both.B).max() > 1e-3


@given(seed=seeds, states=st.integers(1, 4), delta=st.floats(1e-3, 50.0))
def test_bilinear_and_hold_preserve_stability(seed, states, delta):
    system = random_system(seed, states)
    grows = StateSpace(-system.A, system.B, system.C)
    for method in ("bilinear", "zoh"):
        assert systems.discretise(system, delta, method).is_stable
        if method == "bilinear" or delta < 5:  # a growing hold soon leaves the range of a double
            assert not systems.discretise(grows, delta, method).is_stable


@given(seed=seeds, states=st.integers(1, 4))
def test_euler_is_stable_below_its_bound_and_unstable_above(seed, states):
    system = random_system(seed, states)
    bound = systems.largest_stable_euler_step(system)
    assert systems.discretise(system, 0.999 * bound, "euler").is_stable
    assert not systems.discretise(system, 1.001 * bound, "euler").is_stable


def test_euler_past_its_bound_blows_up_where_the_true_answer_is_calm():
    stiff = StateSpace([-1.0, -50.0], [1.0, 50.0], [1.0, 1.0])
    assert systems.largest_stable_euler_step(stiff) == pytest.approx(0.04)
    ones = np.ones(400)
    exact = systems.run_recurrence(systems.discretise(stiff, 0.05), ones)[0]
    tangent = systems.run_recurrence(systems.discretise(stiff, 0.05, "euler"), ones)[0]
    assert exact[-1] == pytest.approx(2.0)
    assert np.abs(tangent).max() > 1e50


@given(seed=seeds, states=st.integers(1, 4), delta=st.floats(0.01, 1.0))
def test_the_hold_is_exact_on_a_step(seed, states, delta):
    system = random_system(seed, states)
    y, _ = systems.run_recurrence(systems.discretise(system, delta), np.ones(15))
    expected = systems.step_response(system, delta * np.arange(1, 16))[:, 0, 0]
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("first_order", 1), ("zoh", 1), ("bilinear", 1)])
def test_all_are_first_order_on_a_moving_input(method, order):
    # Even the exact hold and S4's bilinear form see a moving input as a staircase.
    system = StateSpace([-1.0], [1.0], [1.0])
    errors = []
    for steps in (200, 400):
        delta = 2.0 / steps
        times = delta * np.arange(1, steps + 1)
        y, _ = systems.run_recurrence(systems.discretise(system, delta, method), np.sin(times))
        exact = (np.sin(2.0) - np.cos(2.0) + np.exp(-2.0)) / 2
        errors.append(abs(y[-1] - exact))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_bilinear_becomes_second_order_when_the_input_is_averaged_too():
    system = StateSpace([-1.0], [1.0], [1.0])
    errors = []
    for steps in (200, 400):
        delta = 2.0 / steps
        ends = np.sin(delta * np.arange(steps + 1))
        y, _ = systems.run_recurrence(systems.discretise(system, delta, "bilinear"), (ends[1:] + ends[:-1]) / 2)
        errors.append(abs(y[-1] - (np.sin(2.0) - np.cos(2.0) + np.exp(-2.0)) / 2))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


@given(x=st.floats(-20, -1e-9))
def test_hold_ratio_is_the_exact_b_over_the_first_order_b(x):
    system = StateSpace([x], [3.0], [1.0])
    exact, first = systems.discretise(system, 1.0), systems.discretise(system, 1.0, "first_order")
    assert exact.B[0, 0] / first.B[0, 0] == pytest.approx(float(systems.hold_ratio(x)), rel=1e-12)
    assert 0 < systems.hold_ratio(x) <= 1


def test_hold_ratio_at_known_points():
    # (1 - exp(-x)) / x at x = delta |A|, to three digits
    x = np.array([0.001, 0.01, 0.1, 0.5, 1.6])
    np.testing.assert_allclose(systems.hold_ratio(-x), [0.9995, 0.995, 0.952, 0.787, 0.499], atol=5e-4)
    assert systems.hold_ratio(0j) == 1


# --- recurrence and convolution ---


@given(seed=seeds, states=st.integers(1, 5), length=st.integers(1, 70), method=st.sampled_from(list(systems.METHODS)))
def test_recurrence_equals_convolution(seed, states, length, method):
    continuous = random_system(seed, states)
    delta = min(0.5, 0.5 * systems.largest_stable_euler_step(continuous))
    system = systems.discretise(continuous, delta, method)
    u = np.random.default_rng(seed).normal(size=length)
    recurred, convolved = systems.both_ways(system, u, "fft")
    _, summed = systems.both_ways(system, u, "direct")
    scale = max(np.abs(recurred).max(), np.abs(systems.convolution_kernel(system, length)).sum())
    np.testing.assert_allclose(convolved, recurred, atol=1e-12 * scale, rtol=0)
    np.testing.assert_allclose(summed, recurred, atol=1e-12 * scale, rtol=0)


def test_kernel_of_many_inputs_reproduces_the_recurrence():
    system = systems.discretise(random_system(5, 3, inputs=2, outputs=2), 0.2)
    u = np.random.default_rng(0).normal(size=(15, 2))
    K = systems.convolution_kernel(system, 15)  # [L, P, M]
    assert K.shape == (15, 2, 2)
    expected = sum(
        np.stack([systems.causal_convolution(u[:, m], K[:, p, m], "direct") for p in range(2)], axis=1)
        for m in range(2)
    )
    y, _ = systems.run_recurrence(system, u)
    np.testing.assert_allclose(y, expected + u @ system.D.T, atol=1e-11)


@given(seed=seeds, length=st.integers(1, 40), width=st.integers(1, 60), imaginary=st.booleans())
def test_both_convolutions_agree_and_are_causal(seed, length, width, imaginary):
    rng = np.random.default_rng(seed)
    u, K = rng.normal(size=length), rng.normal(size=width) + (1j * rng.normal(size=width) if imaginary else 0)
    fft = systems.causal_convolution(u, K)
    np.testing.assert_allclose(fft, systems.causal_convolution(u, K, "direct"), atol=1e-11)
    u[-1] += 1.0  # the last input changes the last output only
    np.testing.assert_allclose(systems.causal_convolution(u, K)[:-1], fft[:-1], atol=1e-11)


@given(seed=seeds, cut=st.integers(1, 19))
def test_a_run_can_be_taken_up_where_it_was_left(seed, cut):
    system = systems.discretise(random_system(seed, 3), 0.2)
    u = np.random.default_rng(seed).normal(size=20)
    whole, states = systems.run_recurrence(system, u)
    _, before = systems.run_recurrence(system, u[:cut])
    rest, after = systems.run_recurrence(system, u[cut:], initial_state=before[-1])
    np.testing.assert_allclose(rest, whole[cut:], atol=1e-12)
    np.testing.assert_allclose(after[-1], states[-1], atol=1e-12)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda s: systems.discretise(s, 0.1, "tustin"), ValueError, "one of euler, bilinear, zoh, first_order"),
        (lambda s: systems.discretise(s, 0.0), ValueError, "must be positive and finite; got 0"),
        (lambda s: systems.discretise(s, 1j), TypeError, "one real number"),
        (lambda s: systems.discretise(StateSpace([1.0], [1], [1]), 2.0, "bilinear"), ValueError, "meets a pole"),
        (lambda s: systems.discretise(StateSpace([[1.0]], [1], [1]), 2.0, "bilinear"), ValueError, "meets a pole"),
        (lambda s: systems.euler(np.ones((2, 3)), np.ones((2, 1)), 0.1), ValueError, r"A \[N, N\] or \[N\]"),
        (lambda s: systems.largest_stable_euler_step(StateSpace([1.0], [1], [1])), ValueError, "not stable"),
        (lambda s: systems.run_recurrence(systems.discretise(s, 0.1), np.ones((3, 2))), ValueError, "M = 1 inputs"),
        (lambda s: systems.run_recurrence(systems.discretise(s, 0.1), [1.0], [1.0]), ValueError, r"\[2\]; got"),
        (lambda s: systems.convolution_kernel(systems.discretise(s, 0.1), 0), ValueError, "at least 1; got 0"),
        (lambda s: systems.causal_convolution([1.0], [1.0], "slow"), ValueError, '"fft" or "direct"'),
        (lambda s: systems.causal_convolution([], [1.0]), ValueError, "must not be empty"),
        (
            lambda s: systems.both_ways(systems.discretise(systems.gain(np.eye(2)), 1.0), [1.0]),
            ValueError,
            "got 2 and 2",
        ),
    ],
)
def test_bad_input_is_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make(systems.mass_spring())
