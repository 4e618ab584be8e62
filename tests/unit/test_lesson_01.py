"""What lesson 01 asks and explains agrees with what the package computes."""

import re

import numpy as np
import pytest

pytest.importorskip("anywidget", reason="the widgets are not installed (extra `lab`)")

from mambaout_edu import data, systems
from mambaout_edu.learn.predictions import predictions_of
from mambaout_edu.learn.quiz_items import _file

ASKED = predictions_of("01")
ITEMS = {item["id"]: item for item in _file("01")["items"]}
RIGHT = {id: next(c for c in item["choices"] if c.get("right")) for id, item in ITEMS.items()}
SPRING = systems.mass_spring(mass=1.0, damping=0.4, stiffness=4.0)


def test_the_room_loses_what_the_heater_gives_at_ten_degrees():
    room = systems.thermostat(heat_capacity=1.8e6, heat_loss=150.0)
    assert 1500 * room.transfer(0).real.item() == pytest.approx(10)
    assert "10 K" in ASKED["01.room"]["why"]
    assert ASKED["01.room"]["y"]["max"] > 10


def test_gain_makes_the_spring_swing_faster_and_settle_no_sooner():
    low, high = (systems.feedback(SPRING, K).poles for K in (4.0, 60.0))
    assert low.real == pytest.approx(high.real)
    assert np.abs(high.imag).max() > 2 * np.abs(low.imag).max()
    assert ASKED["01.gain"]["outcome"] == "swings"
    # The quiz says what does help: a force against the velocity moves the poles to the left.
    assert systems.mass_spring(damping=0.4 + 1.0).poles.real.max() < SPRING.poles.real.max()
    assert "velocity and against it" in RIGHT["01.gain"]["text"]


def test_euler_alone_is_unstable_from_a_tenth_of_a_second_on():
    unstable = [m for m in systems.METHODS if not systems.discretise(SPRING, 0.2, m).is_stable]
    assert unstable == [ASKED["01.method"]["outcome"]]
    assert systems.largest_stable_euler_step(SPRING) == pytest.approx(0.4 / 4)
    assert "0.4 / 4" in ASKED["01.limit"]["why"]
    assert ASKED["01.limit"]["min"] < 0.1 < ASKED["01.limit"]["max"]


def test_the_quiz_s_euler_poles_and_hold_ratios_are_right():
    system = systems.StateSpace([-1.0, -50.0], [1.0, 1.0], [1.0, 1.0])
    assert systems.discretise(system, 0.1, "euler").poles.real.tolist() == pytest.approx([-4, 0.9])
    assert "z = 0.9 and −4" in ITEMS["01.blowup"]["source"]
    slow, fast = 100 * systems.hold_ratio([-0.1, -1.6])
    assert re.findall(r"(\d+) %", RIGHT["01.bbar"]["explanation"]) == [f"{slow:.0f}", f"{fast:.0f}"]


def test_one_number_replaces_the_endless_kernel():
    system = systems.DiscreteStateSpace([0.9], [1.0], [0.5], None, delta=1.0)
    np.testing.assert_allclose(systems.convolution_kernel(system, 20), 0.5 * 0.9 ** np.arange(20))
    assert np.log(2.0**-53) / np.log(0.9) == pytest.approx(350, abs=5)
    assert RIGHT["01.one_number"]["text"].startswith("One number")


def test_what_is_left_after_a_hundred_steps():
    system = systems.DiscreteStateSpace([0.99], [1.0], [1.0], None, delta=1.0)
    assert f"{systems.memory_curve(system, 101)[-1]:.2f}" == RIGHT["01.linear"]["text"]


def test_the_reach_is_inside_the_slider_and_scales_with_delta():
    bank = systems.StateSpace(systems.s4d_real(16), np.ones(16), np.ones(16))

    def reach(delta):
        curve = systems.memory_curve(systems.discretise(bank, delta), 5000)
        return np.argmax(curve < 0.01 * curve[0])

    assert 1000 < reach(0.001) < ASKED["01.reach"]["max"]
    assert reach(0.001) / reach(0.1) == pytest.approx(100, rel=0.15)


def test_sixteen_numbers_hold_what_the_quiz_says_of_the_row():
    pytest.importorskip("skimage", reason="the photographs are not installed (extra `lab`)")
    row = data.photograph("chelsea").image[150].mean(-1)
    last = systems.legs_memory(row, states=16)[-1]
    past = systems.legs_reconstruct(last, (np.arange(len(row)) + 0.5) / len(row))
    share = 100 * (1 - np.mean((past - row) ** 2) / row.var())
    assert f"{share:.0f} %" in RIGHT["01.summary"]["explanation"]
    assert f"{len(row)} pixels" in ASKED["01.row"]["question"]
    assert last[0] == pytest.approx(row.mean())  # "the average is the first of the numbers"
