"""The plane of poles: what it takes, what it refuses, the systems it stands for, and its strings."""

import re
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traitlets import TraitError

from mambaout_edu import systems
from mambaout_edu.widgets.pole_plane import PLANE, PolePlane

LEFT, RIGHT, TOP = PLANE
inside = st.complex_numbers(max_magnitude=8, allow_nan=False).filter(
    lambda p: LEFT <= p.real <= RIGHT and abs(p.imag) <= TOP and (p.imag == 0 or abs(p.imag) > 0.05)
)


def test_poles_in_every_spelling():
    assert PolePlane(poles=[-1, (-0.5, 2.0), -0.5 - 1j]).poles == [(-1.0, 0.0), (-0.5, 2.0), (-0.5, 1.0)]
    assert PolePlane(poles=np.array([-1.0, -2.0])).poles == [(-1.0, 0.0), (-2.0, 0.0)]


def test_a_conjugate_that_is_given_too_counts_once():
    assert PolePlane(poles=[-1 + 2j, -1 - 2j]).poles == [(-1.0, 2.0)]
    assert PolePlane(poles=[-1 - 2j, -3, -1 + 2j]).poles == [(-1.0, 2.0), (-3.0, 0.0)]
    assert PolePlane(poles=[-1 + 2j, -1 + 2j]).poles == [(-1.0, 2.0)] * 2  # two equal pairs
    assert PolePlane(poles=systems.mass_spring().poles).poles == [(pytest.approx(-0.2), pytest.approx(3.96**0.5))]


@given(st.lists(inside, min_size=1, max_size=6, unique=True))
def test_the_system_has_the_poles_and_their_conjugates(poles):
    poles = [complex(p.real, abs(p.imag)) for p in poles]
    system = PolePlane(poles=poles).system()
    everything = np.sort_complex(np.array([q for p in poles for q in ([p, p.conjugate()] if p.imag else [p])]))
    np.testing.assert_allclose(system.poles, everything)
    response = systems.impulse_response(system, [0.0, 0.5])
    np.testing.assert_allclose(response.imag, 0, atol=1e-12)
    np.testing.assert_allclose(response[0], 1.0)  # a mean over states that all start at 1


def test_the_discrete_system_is_the_one_of_systems():
    plane = PolePlane(poles=[-1, -0.5 + 2j], delta=0.25, method="bilinear")
    expected = systems.discretise(plane.system(), 0.25, "bilinear")
    np.testing.assert_array_equal(plane.discrete().A, expected.A)
    np.testing.assert_array_equal(plane.discrete().B, expected.B)
    assert plane.discrete().delta == 0.25


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"poles": [3.0]}, "the pole 3.* lies outside the plane: real part -6 to 2"),
        ({"poles": [-1 + 5j]}, "lies outside the plane"),
        ({"poles": [float("nan")]}, "lies outside the plane"),
        ({"poles": []}, "1 to 6 poles .* got 0"),
        ({"poles": [-1] * 7}, "1 to 6 poles .* got 7"),
        ({"poles": ["left"]}, r"a pole is a number such as .* got 'left'"),
        ({"poles": [(1, 2, 3)]}, "a pole is a number"),
        ({"method": "heun"}, "method"),
        ({"delta": 0.0}, "delta"),
        ({"delta": 2.5}, "delta"),
        ({"duration": 0.0}, "duration"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, message):
    with pytest.raises(TraitError, match=message):
        PolePlane(**wrong)


def test_unknown_names_are_refused():
    with pytest.raises(TypeError, match=r"PolePlane got step, which it does not have\. It takes delta"):
        PolePlane(step=1)


def source() -> str:
    return (files("mambaout_edu.widgets.pole_plane") / "widget.js").read_text(encoding="utf-8")


def test_strings_and_page_agree():
    """No key is missing, and none is left over that would have to be translated."""
    table, text = PolePlane().strings, source()
    assert set(re.findall(r'say\(model, "(\w+)"', text)) <= set(table)
    assert [key for key in table if f'"{key}"' not in text] == []


def test_the_page_has_the_same_plane():
    assert f"LEFT = {LEFT:g}, RIGHT = {RIGHT:g}, TOP = {TOP:g}, SMALLEST = 0.05" in source()
    assert PolePlane(poles=[-1 + 1e-9j]).poles == [(-1.0, 0.05)]


def test_data_never_becomes_markup():
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|https?://", source())
