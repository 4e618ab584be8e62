import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mambaout_edu.flatten import (
    ORDERS,
    Reach,
    autocorrelation,
    inverse,
    locality,
    memory_map,
    neighbour_distances,
    neighbour_map,
    order,
    paths,
    reach,
)

SIDES = st.integers(1, 9)
NAMES = st.sampled_from(ORDERS)


def steps_of(name, height, width):
    """The step of every cell, by looking for it."""
    found = order(name, height, width).tolist()
    return {(r, c): found.index(r * width + c) for r in range(height) for c in range(width)}


def pairs_of(steps):
    return [
        (abs(steps[one] - steps[other]), one, other)
        for one in steps
        for other in ((one[0], one[1] + 1), (one[0] + 1, one[1]))
        if other in steps
    ]


@given(NAMES, SIDES, SIDES)
def test_locality_counts_pairs_of_cells(name, height, width):
    steps = steps_of(name, height, width)
    distances = sorted(d for d, _, _ in pairs_of(steps))
    found = locality(name, height, width)
    assert sorted(neighbour_distances(name, height, width).tolist()) == distances
    if not distances:
        assert (found.mean, found.median, found.p95, found.unit_steps, found.longest_jump) == (0, 0, 0, 1, 0)
        return
    place = 0.95 * (len(distances) - 1)
    low, high = distances[int(place)], distances[min(int(place) + 1, len(distances) - 1)]
    assert found.mean == pytest.approx(sum(distances) / len(distances))
    assert found.p95 == pytest.approx(low + (high - low) * (place - int(place)))
    assert found.median == np.median(distances)
    way = [cell for cell, _ in sorted(steps.items(), key=lambda item: item[1])]
    lengths = [np.hypot(a[0] - b[0], a[1] - b[1]) for a, b in itertools.pairwise(way)]
    assert found.unit_steps == pytest.approx(sum(length == 1 for length in lengths) / len(lengths))
    assert found.longest_jump == pytest.approx(max(lengths))


@given(NAMES, SIDES, SIDES)
def test_the_map_holds_the_farthest_neighbour(name, height, width):
    expected = np.zeros((height, width), int)
    for distance, *cells in pairs_of(steps_of(name, height, width)):
        for cell in cells:
            expected[cell] = max(expected[cell], distance)
    assert np.array_equal(neighbour_map(name, height, width), expected)


def test_known_localities():
    raster = locality("raster", 64, 64)
    assert (raster.mean, raster.p95) == (32.5, 64)
    assert raster.unit_steps == 1 - 63 / 4095
    assert raster.longest_jump == pytest.approx(np.hypot(1, 63))
    assert locality("hilbert", 37, 24).unit_steps == 1
    assert locality("zigzag", 9, 9).longest_jump == pytest.approx(np.sqrt(2))
    same = locality(order("spiral", 5, 6), 5, 6)
    assert same == locality("spiral", 5, 6)


@given(NAMES, SIDES, SIDES, st.floats(0.1, 1), st.data())
def test_the_memory_is_that_of_a_recurrence(name, height, width, decay, data):
    step = data.draw(st.integers(0, height * width - 1))
    state = np.zeros(height * width)
    for index in order(name, height, width)[: step + 1]:
        state *= decay
        state[index] += 1
    np.testing.assert_allclose(memory_map(name, height, width, step, decay).ravel(), state, rtol=1e-9)


def test_autocorrelation_is_numpy_s():
    image = np.random.default_rng(0).random((9, 11)).cumsum(axis=1)
    found = autocorrelation(image, "hilbert", 20)
    line = image.ravel()[order("hilbert", 9, 11)]
    line = line - line.mean()
    expected = [np.mean(line[: 99 - lag] * line[lag:]) / line.var() for lag in range(21)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[0] == 1
    waves = np.sin(2 * np.pi * np.arange(16) / 16)[None].repeat(16, axis=0)
    np.testing.assert_allclose(autocorrelation(waves, "raster", 32)[[8, 16, 32]], [-1, 1, 1], atol=1e-12)


def reach_by_hand(ways, height, width, decay, threshold):
    """The definition, pair by pair."""
    places = []
    for way in ways:
        found = np.asarray(way).tolist()
        places.append({(i // width, i % width): found.index(i) for i in found})
    far = {}
    for name, (dr, dc) in {"right": (0, 1), "left": (0, -1), "up": (-1, 0), "down": (1, 0)}.items():
        far[name] = 0
        for k in range(1, max(height, width)):
            weights = []
            for r, c in itertools.product(range(height), range(width)):
                p, q = (r, c), (r + k * dr, c + k * dc)
                if 0 <= q[0] < height and 0 <= q[1] < width:
                    here = [(steps[p], steps[q]) for steps in places if p in steps and q in steps]
                    weights.append(max((decay ** (b - a) for a, b in here if a < b), default=0.0))
            if weights and np.mean(weights) >= threshold * (1 - 1e-12):
                far[name] = k
    return Reach(**far)


@pytest.mark.parametrize("name", ["raster", "column", "serpentine", "hilbert", "random", "cross", "eight"])
@pytest.mark.parametrize(("decay", "threshold"), [(0.8, np.exp(-1)), (0.97, 0.2), (1.0, 0.5)])
def test_reach_is_its_definition(name, decay, threshold):
    ways = paths(name, 5, 7)
    assert reach(name, 5, 7, decay, threshold) == reach_by_hand(ways, 5, 7, decay, threshold)
    assert reach(ways, 5, 7, decay, threshold) == reach(name, 5, 7, decay, threshold)


def test_reach_of_paths_that_leave_pixels_out():
    groups = paths("atrous", 6, 6)
    assert reach(groups, 6, 6, 0.9, 0.2) == reach_by_hand(groups, 6, 6, 0.9, 0.2)


def test_one_scan_sees_half_the_picture_and_cross_scan_all_of_it():
    assert reach("raster", 32, 32, decay=0.95) == Reach(right=19, left=0, up=0, down=0)
    assert reach("raster", 32, 32, decay=0.999) == Reach(right=31, left=0, up=0, down=31)
    assert reach("bidirectional", 32, 32, decay=0.95) == Reach(right=19, left=19, up=0, down=0)
    assert reach("cross", 32, 32, decay=0.95) == Reach(right=19, left=19, up=19, down=19)
    assert reach(order("column", 32, 32, reverse=True), 32, 32, decay=0.95) == Reach(right=0, left=0, up=19, down=0)


def test_bad_arguments_are_refused():
    grey = np.eye(4)
    for call, said in (
        (lambda: locality("rastr", 4, 4), "did you mean 'raster'"),
        (lambda: locality([0, 0, 1, 2], 2, 2), "visits index 0 2 times and index 3 never"),
        (lambda: neighbour_map("raster", 0, 4), "height is 0"),
        (lambda: memory_map("raster", 2, 2, 4, 0.5), "step is 4; expected 0 to 3"),
        (lambda: memory_map("raster", 2, 2, 0, 0.0), "decay is 0.0; expected a number above 0 and up to 1"),
        (lambda: memory_map("raster", 2, 2, 0, float("nan")), "decay is nan"),
        (lambda: reach("raster", 2, 2, 1.5), "decay is 1.5"),
        (lambda: reach("raster", 2, 2, 0.5, 0), "threshold is 0"),
        (lambda: reach("corss", 2, 2, 0.5), "unknown strategy 'corss'; did you mean 'cross'"),
        (lambda: reach([[0, 1], [7]], 2, 2, 0.5), "leaves the grid; expected indices 0 to 3"),
        (lambda: reach([], 2, 2, 0.5), r"got shape \(0,\)"),
        (lambda: autocorrelation(np.ones((4, 4)), "raster", 2), "one grey value throughout"),
        (lambda: autocorrelation(grey * np.nan, "raster", 2), "NaN or infinity"),
        (lambda: autocorrelation(np.ones((4, 4, 3)), "raster", 2), r"grey picture \[H, W\]; got shape \(4, 4, 3\)"),
        (lambda: autocorrelation(grey, "raster", 16), "max_lag is 16; expected 0 to 15"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_measures_undo_the_inverse():
    index = order("random", 6, 6)
    assert memory_map(index, 6, 6, 35, 1.0).min() == 1
    assert np.array_equal(inverse(inverse(index)), index)
