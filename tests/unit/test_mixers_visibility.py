"""Which outputs change when one input pixel changes: for every mixer and every order, the whole table of pairs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambaout_edu import flatten
from mambaout_edu.mixers import Attention, DepthwiseConv, Identity, Pooling, Recurrent, ScannedSSM, WindowAttention

CHANNELS = 4
SIZES = [(3, 4), (1, 5), (5, 1)]
SINGLE = [name for name in flatten.ORDERS if name != "atrous"]  # as `paths`, atrous is several


@torch.no_grad()
def visibility(mixer, height, width):
    """Return [pixels, pixels] of bool: entry (p, q) says whether output q changes when input p does."""
    mixer = mixer.double()
    pixels = height * width
    image = torch.randn(1, height, width, CHANNELS, dtype=torch.float64)
    changed = image.repeat(pixels, 1, 1, 1).view(pixels, pixels, CHANNELS)
    changed[range(pixels), range(pixels)] += torch.randn(pixels, CHANNELS, dtype=torch.float64)
    moved = mixer(changed.view(pixels, height, width, CHANNELS)) - mixer(image)
    return (moved.abs().amax(-1) > 1e-12).flatten(1).numpy()


def from_then_on(paths, height, width):
    """What paths let see: a pixel reaches itself and those that one of its paths visits later."""
    table = np.zeros((height * width,) * 2, dtype=bool)
    for path in paths:
        for step, pixel in enumerate(path):
            table[pixel, path[step:]] = True
    return table


def near(height, width, reach):
    row, column = np.divmod(np.arange(height * width), width)
    return (abs(row[:, None] - row) <= reach) & (abs(column[:, None] - column) <= reach)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", flatten.ORDERS)
def test_one_order_is_causal(order, size):
    expected = from_then_on([flatten.order(order, *size)], *size)
    mixers = [Attention(CHANNELS, 2, causal=True, order=order), Recurrent(CHANNELS, order=order)]
    if order in SINGLE:
        mixers.append(ScannedSSM(CHANNELS, order, d_state=3))
    for mixer in mixers:
        np.testing.assert_array_equal(visibility(mixer, *size), expected, err_msg=str(mixer))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_recurrent_cells_are_causal_one_way_and_see_all_both_ways(cell):
    size = (3, 4)
    for order in ("hilbert", "raster"):
        expected = from_then_on([flatten.order(order, *size, reverse=True)], *size)
        mixer = Recurrent(CHANNELS, cell, order=order, reverse=True, num_layers=2)
        np.testing.assert_array_equal(visibility(mixer, *size), expected)
    assert visibility(Recurrent(CHANNELS, cell, order="hilbert", bidirectional=True), *size).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("paths", flatten.PATHS)
def test_several_paths_see_what_one_of_them_sees(paths, shared, size):
    seen = visibility(ScannedSSM(CHANNELS, paths, d_state=3, shared=shared), *size)
    np.testing.assert_array_equal(seen, from_then_on(flatten.paths(paths, *size), *size))
    if paths != "atrous":
        assert seen.all()  # what the reverse paths are for


@given(
    order=st.sampled_from(flatten.ORDERS),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    both=st.booleans(),
)
@settings(max_examples=15)
def test_any_size_and_order(order, height, width, both):
    if both:
        assert visibility(ScannedSSM(CHANNELS, "bidirectional", d_state=2, order=order), height, width).all()
    expected = from_then_on(flatten.paths(order, height, width), height, width)
    np.testing.assert_array_equal(visibility(ScannedSSM(CHANNELS, order, d_state=2), height, width), expected)


@pytest.mark.parametrize(("name", "option"), [("window", "window"), ("random", "seed"), ("atrous", "skip")])
def test_options_reach_the_order(name, option):
    size, options = (5, 4), {option: 3}
    expected = from_then_on(flatten.paths(name, *size, **options), *size)
    assert (expected != from_then_on(flatten.paths(name, *size), *size)).any()
    np.testing.assert_array_equal(visibility(ScannedSSM(CHANNELS, name, d_state=2, **options), *size), expected)


@pytest.mark.parametrize("paths", ["raster", "cross", "atrous"])
def test_a_convolution_widens_the_view_of_a_scan(paths):
    size = (4, 5)
    scan = from_then_on(flatten.paths(paths, *size), *size)
    expected = (near(*size, 1).astype(int) @ scan) > 0  # a pixel reaches its neighbours, and they what follows them
    np.testing.assert_array_equal(visibility(ScannedSSM(CHANNELS, paths, d_state=2, conv=3), *size), expected)


@pytest.mark.parametrize("size", SIZES)
def test_attention_sees_everything(size):
    assert visibility(Attention(CHANNELS, 2), *size).all()


@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize("size", [*SIZES, (1, 1), (6, 6), (7, 5), (3, 8), (4, 10)])
def test_a_window_sees_itself(size, shift):
    """Also the leftovers at the edges, which the shift rolls beside pixels from the other end."""
    row, column = np.divmod(np.arange(size[0] * size[1]), size[1])
    down, right = (shift if side > 3 else 0 for side in size)
    window = (row - down) // 3 * 100 + (column - right) // 3
    seen = visibility(WindowAttention(CHANNELS, 2, window_size=3, shift_size=shift), *size)
    np.testing.assert_array_equal(seen, window[:, None] == window)


@pytest.mark.parametrize("size", [*SIZES, (1, 1)])
def test_local_mixers_see_their_neighbours(size):
    np.testing.assert_array_equal(visibility(Identity(CHANNELS), *size), near(*size, 0))
    np.testing.assert_array_equal(visibility(DepthwiseConv(CHANNELS, 3), *size), near(*size, 1))
    for kernel_size, reach in ((3, 1), (5, 2)):
        expected = near(*size, reach) if size != (1, 1) else [[False]]  # alone, a pixel is its own average
        np.testing.assert_array_equal(visibility(Pooling(CHANNELS, kernel_size), *size), expected)
