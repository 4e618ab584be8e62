"""The state that selects: its weights against the scan, its steps, and its strings."""

import re
from importlib.resources import files

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from traitlets import TraitError

from mambaout_edu import systems
from mambaout_edu.scan import selective_scan
from mambaout_edu.scan.dual import mixing_matrix
from mambaout_edu.widgets.selection import Selection, state_weights

steps = st.lists(st.floats(0, 5), min_size=2, max_size=12)


@given(deltas=steps, A=st.floats(-3, -0.1))
def test_first_order_weights_are_those_of_the_scan(deltas, A):
    """Feed a 1 at token s alone: what the scan's state is after token t is the weight."""
    T = len(deltas)
    u = torch.eye(T, dtype=torch.float64)[:, None, :]  # [B = s, D = 1, L = t]
    delta = torch.tensor(deltas, dtype=torch.float64).expand(T, 1, T)
    one = torch.ones(T, 1, T, dtype=torch.float64)
    y = selective_scan(u, delta, torch.tensor([[A]], dtype=torch.float64), one, one, engine="reference")[:, 0]
    np.testing.assert_allclose(state_weights(deltas, A, first_order=True), y.T.numpy(), atol=1e-12)
    M = mixing_matrix(delta[:1], torch.tensor([[A]], dtype=torch.float64), one[:1], one[:1])[0, 0]
    np.testing.assert_allclose(state_weights(deltas, A, first_order=True), M.numpy(), atol=1e-12)


@given(deltas=steps, A=st.floats(-3, -0.1))
def test_exact_weights_are_those_of_the_zero_order_hold(deltas, A):
    h = np.zeros(len(deltas))
    for t, delta in enumerate(deltas):
        if delta > 0:
            z, b = systems.zero_order_hold(np.array([A]), np.array([[1.0]]), delta)
            h = z[0] * h
            h[t] = b[0, 0]
        np.testing.assert_allclose(state_weights(deltas, A)[t], h, atol=1e-12)


@given(deltas=steps, A=st.floats(-3, -0.1))
def test_what_is_in_and_what_is_empty_fill_the_state(deltas, A):
    weights = state_weights(deltas, A)
    np.testing.assert_allclose(-A * weights.sum(axis=1) + np.exp(A * np.cumsum(deltas)), 1.0)


def test_a_closed_token_changes_nothing_and_a_wide_open_one_everything():
    weights = state_weights([0.7, 0.0, 5.0])
    assert weights[1].tolist() == weights[0].tolist()
    assert weights[2, 0] < 0.01 < 0.99 < weights[2, 2]


def test_the_widget_gives_its_own_weights():
    widget = Selection(tokens=["a", "b"], deltas=[0.3, 0.6], constant=0.4, first_order=True, A=-2.0)
    np.testing.assert_array_equal(widget.weights(), state_weights([0.3, 0.6], -2.0, True))
    np.testing.assert_array_equal(widget.weights(constant=True), state_weights([0.4, 0.4], -2.0, True))
    assert Selection(tokens=["a", "b", "c"]).deltas == [0.5] * 3


def test_the_examples_show_what_they_say():
    examples = Selection().strings["examples"]
    assert Selection().tokens == examples[0]["tokens"] == list("我想吃苹果")
    for example in examples:
        Selection(tokens=example["tokens"], deltas=example["deltas"])
    fillers, stop = examples[1], examples[2]
    end = state_weights(fillers["deltas"])[-1]
    words = {token for token, left in zip(fillers["tokens"], end, strict=True) if left > 0.2}
    assert words == {"I", "want", "eat", "apples"}
    assert state_weights(fillers["deltas"])[-1][1] == 0
    at = stop["tokens"].index(".")
    assert state_weights(stop["deltas"])[at, :at].sum() < 0.01


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tokens": ["a"]}, "2 to 12 tokens here; got 1"),
        ({"tokens": ["a"] * 13}, "got 13"),
        ({"tokens": ["a", "b"], "deltas": [1.0]}, "got 2 tokens and 1 deltas"),
        ({"tokens": ["a", "b"], "deltas": [1.0, -0.1]}, "a step is from 0 to 5; got -0.1"),
        ({"tokens": ["a", "b"], "deltas": [1.0, 5.1]}, "got 5.1"),
        ({"A": 0.0}, "A must be negative"),
        ({"A": float("-inf")}, "A must be negative"),
        ({"constant": 6.0}, "constant"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, message):
    with pytest.raises(TraitError, match=message):
        Selection(**wrong)


def test_one_of_two_that_belong_together_is_refused_and_both_are_taken():
    widget = Selection()
    with pytest.raises(TraitError, match="Set both at once"):
        widget.tokens = ["a", "b"]
    assert len(widget.tokens) == 5
    with widget.hold_trait_notifications():
        widget.tokens = ["a", "b"]
        widget.deltas = [0.1, 0.2]
    assert widget.tokens == ["a", "b"]


def test_deltas_in_a_row_only():
    with pytest.raises(ValueError, match=r"one step a token \[T\]; got shape \(1, 2\)"):
        state_weights([[1.0, 2.0]])


def source() -> str:
    return (files("mambaout_edu.widgets.selection") / "widget.js").read_text(encoding="utf-8")


def test_strings_and_page_agree():
    """No key is missing, and none is left over that would have to be translated."""
    table, text = Selection().strings, source()
    assert set(re.findall(r'say\(model, "(\w+)"', text)) <= set(table)
    assert [key for key in table if f'"{key}"' not in text and key != "examples"] == []


def test_data_never_becomes_markup():
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|https?://", source())
