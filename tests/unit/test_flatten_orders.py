import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mambaout_edu import flatten
from mambaout_edu.flatten import ORDERS, PATHS, check_order, inverse, order, paths

# Index sequences on a grid of 4 x 4; each published one was produced by its authors' own function.
PUBLISHED = {
    "raster": "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
    "column": "0 4 8 12 1 5 9 13 2 6 10 14 3 7 11 15",
    "serpentine": "0 1 2 3 7 6 5 4 8 9 10 11 15 14 13 12",
    "serpentine_columns": "0 4 8 12 13 9 5 1 2 6 10 14 15 11 7 3",
    "window": "0 1 4 5 2 3 6 7 8 9 12 13 10 11 14 15",
    "window_columns": "0 4 1 5 8 12 9 13 2 6 3 7 10 14 11 15",
    "zorder": "0 1 4 5 2 3 6 7 8 9 12 13 10 11 14 15",
    "hilbert": "0 1 5 4 8 12 13 9 10 14 15 11 7 6 2 3",
    "antidiagonal": "0 1 4 2 5 8 3 6 9 12 7 10 13 11 14 15",
    "diagonal": "3 2 7 1 6 11 0 5 10 15 4 9 14 8 13 12",
    "zigzag": "0 1 4 8 5 2 3 6 9 12 13 10 7 11 14 15",
    "spiral": "0 1 2 3 7 11 15 14 13 12 8 4 5 6 10 9",
    "atrous": "0 2 8 10 4 12 6 14 1 3 9 11 5 13 7 15",
}
OPTIONS = {"window": {"window": 3}, "window_columns": {"window": 5}, "atrous": {"skip": 3}, "random": {"seed": 7}}
SIDES = st.integers(1, 40)
every_order = pytest.mark.parametrize("name", ORDERS)


def numbers(text):
    return [int(word) for word in text.split()]


def jumps(index, width):
    rows, columns = np.divmod(index, width)
    return np.abs(np.diff(rows)), np.abs(np.diff(columns))


@pytest.mark.parametrize("name", PUBLISHED)
def test_orders_are_the_published_tables(name):
    assert order(name, 4, 4).tolist() == numbers(PUBLISHED[name])
    assert order(name, 4, 4, reverse=True).tolist() == numbers(PUBLISHED[name])[::-1]


def test_every_order_but_the_random_one_has_a_table():
    assert {*PUBLISHED, "random"} == set(ORDERS)


def test_paths_are_the_published_tables():
    raster, column = numbers(PUBLISHED["raster"]), numbers(PUBLISHED["column"])
    assert [path.tolist() for path in paths("cross", 4, 4)] == [raster, column, raster[::-1], column[::-1]]
    assert [path.tolist() for path in paths("bidirectional", 4, 4)] == [raster, raster[::-1]]
    assert [path.tolist() for path in paths("plainmamba", 4, 4)] == [
        numbers("0 1 2 3 7 6 5 4 8 9 10 11 15 14 13 12"),
        numbers("12 13 14 15 11 10 9 8 4 5 6 7 3 2 1 0"),
        numbers("0 4 8 12 13 9 5 1 2 6 10 14 15 11 7 3"),
        numbers("3 7 11 15 14 10 6 2 1 5 9 13 12 8 4 0"),
    ]
    odd = paths("plainmamba", 3, 3)
    assert [odd[1].tolist(), odd[3].tolist()] == [[8, 7, 6, 3, 4, 5, 2, 1, 0], [8, 5, 2, 1, 4, 7, 6, 3, 0]]
    groups = [path.tolist() for path in paths("atrous", 4, 4)]
    assert groups == [[0, 2, 8, 10], [4, 12, 6, 14], [1, 3, 9, 11], [5, 13, 7, 15]]
    eight = [path.tolist() for path in paths("eight", 4, 4)]
    assert eight[:4] == [numbers(PUBLISHED[name]) for name in ("raster", "column", "antidiagonal", "diagonal")]
    assert eight[4:] == [path[::-1] for path in eight[:4]]


def test_atrous_groups_of_odd_grids_differ_in_length_and_empty_ones_are_left_out():
    assert [path.tolist() for path in paths("atrous", 3, 3)] == [[0, 2, 6, 8], [3, 5], [1, 7], [4]]
    assert [path.tolist() for path in paths("atrous", 1, 3, skip=5)] == [[0], [1], [2]]


@every_order
@given(height=SIDES, width=SIDES)
def test_orders_are_bijections_with_their_inverse(name, height, width):
    for options in ({}, OPTIONS.get(name, {})):
        index = order(name, height, width, **options)
        assert index.dtype == np.int64
        assert np.array_equal(np.sort(index), np.arange(height * width))
        assert np.array_equal(inverse(index)[index], np.arange(height * width))
        assert np.array_equal(index[inverse(index)], np.arange(height * width))
        assert np.array_equal(order(name, height, width, reverse=True, **options), index[::-1])


@every_order
@pytest.mark.parametrize("size", [(1, 1), (1, 517), (301, 2), (127, 200), (256, 256)])
def test_large_and_thin_grids(name, size):
    index = order(name, *size)
    assert np.array_equal(np.sort(index), np.arange(size[0] * size[1]))


@given(name=st.sampled_from(sorted({*PATHS, *ORDERS})), height=SIDES, width=SIDES)
def test_paths_visit_every_pixel_equally_often(name, height, width):
    found = paths(name, height, width)
    visits = np.bincount(np.concatenate(found), minlength=height * width)
    assert set(visits) == {1 if name == "atrous" else len(found)}
    if name in ORDERS and name != "atrous":
        assert np.array_equal(found[0], order(name, height, width))


@pytest.mark.parametrize("skip", [1, 2, 3])
def test_the_atrous_order_is_its_groups_in_turn(skip):
    assert np.array_equal(order("atrous", 7, 8, skip=skip), np.concatenate(paths("atrous", 7, 8, skip=skip)))


def test_bidirectional_reads_any_order_both_ways():
    there, back = paths("bidirectional", 5, 6, order="window", window=3)
    assert np.array_equal(there, order("window", 5, 6, window=3))
    assert np.array_equal(back, there[::-1])


@pytest.mark.parametrize("name", ["serpentine", "serpentine_columns", "spiral", "hilbert"])
def test_unit_steps_on_every_grid(name):
    for height in range(1, 25):
        for width in range(1, 25):
            down, right = jumps(order(name, height, width), width)
            assert (down + right == 1).all(), (height, width)


@given(height=st.integers(1, 200), width=st.integers(1, 200))
def test_hilbert_has_unit_steps_on_large_grids_and_starts_in_the_corner(height, width):
    index = order("hilbert", height, width)
    assert sum(jumps(index, width)).max(initial=1) == 1
    assert index[0] == 0


def test_zigzag_makes_king_s_moves():
    for height in range(1, 25):
        for width in range(1, 25):
            assert np.maximum(*jumps(order("zigzag", height, width), width)).max(initial=1) == 1


def usual_hilbert(side):
    """The usual way from distance to x and y, cell by cell."""
    found = []
    for distance in range(side * side):
        x, y, s, t = 0, 0, 1, distance
        while s < side:
            right = 1 & (t // 2)
            down = 1 & (t ^ right)
            if down == 0:
                if right == 1:
                    x, y = s - 1 - x, s - 1 - y
                x, y = y, x
            x, y, s, t = x + s * right, y + s * down, 2 * s, t // 4
        found.append(y * side + x)
    return found


@pytest.mark.parametrize("power", range(7))
def test_hilbert_on_squares_of_powers_of_two_is_the_usual_curve(power):
    assert order("hilbert", 2**power, 2**power).tolist() == usual_hilbert(2**power)


def test_zorder_differs_from_small_windows_from_eight_on():
    assert np.array_equal(order("zorder", 4, 4), order("window", 4, 4))
    assert not np.array_equal(order("zorder", 8, 8), order("window", 8, 8))
    nested = [8 * r + c for r in (0, 4) for c in (0, 4)]  # the corners of the quadrants come a quarter apart
    assert order("zorder", 8, 8)[::16].tolist() == nested


@given(height=SIDES, width=SIDES, window=st.integers(1, 45))
def test_windows_are_read_one_after_the_other(height, width, window):
    rows, columns = np.divmod(order("window", height, width, window=window), width)
    number = rows // window * -(-width // window) + columns // window
    assert (np.diff(number) >= 0).all()
    inside = np.diff(number) == 0
    assert (np.diff(rows * width + columns)[inside] > 0).all()


def test_column_orders_are_the_row_orders_of_the_transposed_grid():
    for rows, columns in (("raster", "column"), ("serpentine", "serpentine_columns"), ("window", "window_columns")):
        turned = np.arange(5 * 7).reshape(5, 7).T.ravel()
        assert np.array_equal(order(columns, 5, 7), turned[order(rows, 7, 5)])


def hashed(index, seed):
    x = (index * 0x9E3779B1 + seed * 0x85EBCA77 + 0x165667B1) % 2**32
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    return x ^ x >> 16


@given(st.integers(0, 2**32 - 1))
def test_random_orders_follow_the_hash(seed):
    assert order("random", 6, 9, seed=seed).tolist() == sorted(range(54), key=lambda i: (hashed(i, seed), i))


def test_seeds_give_different_orders_and_the_order_is_no_order_at_all():
    one, other = order("random", 32, 32, seed=1), order("random", 32, 32, seed=2)
    assert (one == other).mean() < 0.02
    assert abs(np.corrcoef(one, np.arange(1024))[0, 1]) < 0.1


def test_orders_are_made_once_and_cannot_be_written():
    assert order("hilbert", 9, 9) is order("hilbert", 9, 9)
    for index in (order("spiral", 3, 3), order("raster", 3, 3, reverse=True), *paths("atrous", 3, 3)):
        with pytest.raises(ValueError, match="read-only"):
            index[0] = 5
    paths("cross", 3, 3).clear()
    assert len(paths("cross", 3, 3)) == 4


def test_unknown_names_list_the_known_ones_and_the_nearest():
    with pytest.raises(ValueError, match=r"unknown order 'hibert'; did you mean 'hilbert'\? Known are raster, column"):
        order("hibert", 4, 4)
    with pytest.raises(ValueError, match=r"unknown order 'qqq'; known are raster"):
        order("qqq", 4, 4)
    with pytest.raises(ValueError, match="unknown order 3"):
        order(3, 4, 4)
    with pytest.raises(ValueError, match=r"unknown strategy 'corss'; did you mean 'cross'\?.*hilbert"):
        paths("corss", 4, 4)
    with pytest.raises(ValueError, match="unknown order 'cross'"):
        paths("bidirectional", 4, 4, order="cross")


@pytest.mark.parametrize("make", [order, paths])
def test_bad_sizes_and_options_are_refused(make):
    for size, error, said in (
        ((0, 4), ValueError, "height is 0; expected 1 or more"),
        ((4, -1), ValueError, "width is -1"),
        ((4, 2.0), TypeError, "width must be a whole number; got 2.0"),
        ((True, 4), TypeError, "height must be a whole number; got True"),
    ):
        with pytest.raises(error, match=said):
            make("raster", *size)
    for name, options, error, said in (
        ("raster", {"window": 3}, ValueError, "'raster' has no use for window=3; it has no options. Leave window out"),
        ("window", {"seed": 3}, ValueError, "'window' has no use for seed=3; it uses window"),
        ("window", {"window": 0}, ValueError, "window is 0; expected 1 or more"),
        ("atrous", {"skip": 0}, ValueError, "skip is 0"),
        ("random", {"seed": 2**32}, ValueError, "seed is 4294967296; expected 0 to 4294967295"),
        ("random", {"seed": 0.5}, TypeError, "seed must be a whole number"),
    ):
        with pytest.raises(error, match=said):
            make(name, 4, 4, **options)
    with pytest.raises(ValueError, match=r"'cross' has no use for order='hilbert'; only 'bidirectional' has"):
        paths("cross", 4, 4, order="hilbert")
    with pytest.raises(ValueError, match="'cross' has no use for skip=3"):
        paths("cross", 4, 4, skip=3)


def test_default_options_and_numpy_sizes_are_welcome():
    assert np.array_equal(order("raster", np.int64(2), np.int32(3), window=2, skip=2, seed=0), np.arange(6))


def test_check_order_says_what_is_wrong():
    assert check_order([2, 0, 1], 3).tolist() == [2, 0, 1]
    for index, size, error, said in (
        ([0, 1, 2], 4, ValueError, "3 indices, but there are 4 pixels"),
        ([0, 1, 1, 1], 4, ValueError, "visits index 1 3 times and index 2 never"),
        ([0, 1, 4, 2], 4, ValueError, "index 4; expected 0 to 3"),
        ([0, -1, 1, 2], 4, ValueError, "index -1"),
        ([[0, 1], [2, 3]], 4, ValueError, r"one row of indices \[L\], L at least 1; got shape \(2, 2\)"),
        ([], 0, ValueError, r"got shape \(0,\)"),
        ([0.0, 1.0], 2, TypeError, "whole numbers; got dtype float64"),
    ):
        with pytest.raises(error, match=said):
            check_order(index, size)
    with pytest.raises(ValueError, match="visits index 0 2 times and index 1 never"):
        inverse([0, 0])


def test_orders_and_measures_do_not_import_torch():
    code = (
        "import sys, mambaout_edu.flatten as f; f.order('hilbert', 4, 4); f.locality('raster', 4, 4); "
        "print('torch' in sys.modules); f.merge; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_the_package_has_what_it_lists():
    assert all(hasattr(flatten, name) for name in flatten.__all__)
    assert dir(flatten) == sorted(flatten.__all__)
    with pytest.raises(AttributeError, match=r"no attribute 'flaten'; it has .*flatten_paths"):
        _ = flatten.flaten
