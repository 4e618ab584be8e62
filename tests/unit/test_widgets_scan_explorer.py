"""The scan explorer from Python: its orders, its memory, its pictures, what it refuses, and its strings."""

import math
import re
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from PIL import Image
from traitlets import TraitError

from mambaout_edu import flatten
from mambaout_edu.widgets.scan_explorer import NAMES, ScanExplorer
from mambaout_edu.widgets.scan_explorer._export import state_picture, view_figure
from mambaout_edu.widgets.scan_explorer._picture import as_pixels, resampled

sizes = st.integers(1, 12)


def test_every_order_and_strategy_can_be_explored():
    assert set(NAMES) == {*flatten.ORDERS, *flatten.PATHS}
    assert len(NAMES) == len(set(NAMES))
    assert set(ScanExplorer().strings["names"]) == set(NAMES)


@given(name=st.sampled_from(NAMES), height=sizes, width=sizes, window=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_paths_are_those_of_flatten_and_unused_options_do_no_harm(name, height, width, window, seed):
    explorer = ScanExplorer(orders=name, height=height, width=width, window=window, skip=3, seed=seed)
    options = {"window": {"window": window}, "window_columns": {"window": window}, "atrous": {"skip": 3}}
    expected = flatten.paths(name, height, width, **{**options, "random": {"seed": seed}}.get(name, {}))
    assert len(explorer.paths()) == len(expected)
    assert all(np.array_equal(a, b) for a, b in zip(explorer.paths(), expected, strict=True))
    explorer.step = 10**6
    assert explorer.step == max(map(len, expected)) - 1


@given(name=st.sampled_from(flatten.ORDERS), height=sizes, width=sizes, at=st.floats(0, 1), decay=st.floats(0.01, 1))
def test_memory_and_locality_of_one_path_are_those_of_flatten(name, height, width, at, decay):
    if name == "atrous":  # explored as its groups
        return
    step = int(at * (height * width - 1))
    explorer = ScanExplorer(orders=["raster", name], height=height, width=width, step=step, decay=decay)
    order = flatten.order(name, height, width)
    np.testing.assert_allclose(explorer.memory(1), flatten.memory_map(order, height, width, step, decay), rtol=1e-12)
    assert explorer.locality(1) == flatten.locality(order, height, width)


def test_of_several_states_the_fullest_is_taken():
    explorer = ScanExplorer(orders="bidirectional", height=1, width=4, step=2, decay=0.5, base="column")
    np.testing.assert_array_equal(explorer.memory(), [[0.25, 1, 1, 0.25]])  # there: 0 1 2, back: 3 2 1
    assert explorer.locality(path=1) == flatten.locality("raster", 1, 4)
    groups = ScanExplorer(orders="atrous", height=4, width=5, skip=2)
    assert groups.locality() == flatten.locality(flatten.order("atrous", 4, 5, skip=2), 4, 5)


def test_bidirectional_takes_the_options_of_its_base():
    explorer = ScanExplorer(orders="bidirectional", base="random", seed=7, window=5, height=3, width=4)
    there, back = explorer.paths()
    np.testing.assert_array_equal(there, flatten.order("random", 3, 4, seed=7))
    np.testing.assert_array_equal(back, there[::-1])


def test_the_half_life_is_that_of_the_decay():
    explorer = ScanExplorer(decay=0.8)
    assert 0.8**explorer.half_life == pytest.approx(0.5)
    explorer.decay = 1.0
    assert math.isinf(explorer.half_life)


def test_a_smaller_grid_takes_step_and_cursor_along():
    explorer = ScanExplorer(height=8, width=8, step=60, cursor=(7, 2))
    explorer.height = 4
    assert (explorer.step, explorer.cursor) == (31, [])


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"orders": "hillbert"}, ValueError, r"unknown order 'hillbert'; did you mean 'hilbert'\? Known are raster, "),
        ({"orders": ("raster", "crossscan")}, ValueError, "did you mean 'cross'"),
        ({"orders": ()}, TraitError, "one order or two side by side; got 0"),
        ({"orders": ("raster", "column", "zorder")}, TraitError, "got 3"),
        ({"base": "bidirectional"}, ValueError, "unknown order 'bidirectional'"),
        ({"height": 0}, TraitError, "height"),
        ({"width": 129}, TraitError, "width"),
        ({"decay": 0.0}, TraitError, "decay is 0; expected exp"),
        ({"decay": 1.5}, TraitError, "decay"),
        ({"decay": math.nan}, TraitError, "decay"),
        ({"step": -1}, TraitError, "step"),
        ({"window": 0}, TraitError, "window"),
        ({"seed": 2**32}, TraitError, "seed"),
        ({"cursor": (0, 16)}, TraitError, r"cursor is \(0, 16\); expected \(row, column\) on the grid of 16 x 16"),
        ({"cursor": (1,)}, TraitError, "cursor"),
        ({"cursor": (0.5, 1)}, TraitError, "cursor"),
        ({"colour": 1}, TypeError, "ScanExplorer got colour, which it does not have. It takes base, "),
    ],
)
def test_what_does_not_fit_is_refused(given, kind, message):
    with pytest.raises(kind, match=message):
        ScanExplorer(**given)


def test_a_panel_or_a_path_that_is_not_there_is_refused():
    explorer = ScanExplorer(orders="cross")
    with pytest.raises(ValueError, match="which is 1; this explorer has 0 for 'cross'"):
        explorer.locality(1)
    with pytest.raises(ValueError, match="path is 4; 'cross' has paths 0 to 3"):
        explorer.locality(0, 4)


RAMP = np.linspace(0, 1, 12).reshape(3, 4)


@pytest.mark.parametrize(
    "image",
    [
        RAMP,
        RAMP.astype(np.float32),
        np.rint(255 * RAMP).astype(np.uint8),
        np.rint(65535 * RAMP).astype(np.uint16),
        np.rint(255 * RAMP).astype(np.uint8)[:, :, None].repeat(3, axis=2),
        np.dstack([np.rint(255 * RAMP), np.full((3, 4), 255)]).astype(np.uint8),
        np.dstack([RAMP, RAMP, RAMP, np.ones((3, 4))]),
        Image.fromarray(np.rint(255 * RAMP).astype(np.uint8)),
        Image.fromarray(RAMP.astype(np.float32)),
        Image.fromarray(np.rint(65535 * RAMP).astype(np.uint16)),
    ],
    ids=lambda image: str(getattr(image, "mode", getattr(image, "dtype", ""))),
)
def test_a_picture_of_any_kind_is_the_same_picture(image):
    expected = np.rint(255 * RAMP)[:, :, None].repeat(3, axis=2)
    explorer = ScanExplorer(image)
    assert (explorer.height, explorer.width) == (3, 4)
    np.testing.assert_allclose(explorer.pixels(), expected, atol=1)


@pytest.mark.parametrize(("suffix", "options"), [("png", {}), ("webp", {"lossless": True}), ("bmp", {})])
def test_a_picture_file_is_read(tmp_path, suffix, options):
    grey = np.rint(255 * RAMP).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / f"ramp.{suffix}", **options)
    np.testing.assert_array_equal(as_pixels(tmp_path / f"ramp.{suffix}")[:, :, 1], grey)
    np.testing.assert_array_equal(as_pixels(str(tmp_path / f"ramp.{suffix}"))[:, :, 2], grey)


def test_a_deep_file_and_a_clear_one(tmp_path):
    deep = np.rint(65535 * RAMP).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_allclose(as_pixels(tmp_path / "deep.png")[:, :, 0], deep / 257, atol=0.51)
    clear = np.zeros((2, 2, 4), np.uint8)
    clear[:, 1, 3] = 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert as_pixels(tmp_path / "clear.png")[0, :, 0].tolist() == [255, 0]  # clear is white, covered is black


def test_a_large_picture_becomes_small_and_a_thin_one_stays_a_picture():
    assert as_pixels(np.zeros((1000, 3000), np.uint8)).shape == (43, 128, 3)
    assert as_pixels(np.zeros((1, 5000), np.uint8)).shape == (1, 128, 3)
    explorer = ScanExplorer(np.zeros((300, 200, 3), np.uint8), width=10)
    assert (explorer.height, explorer.width, explorer.picture_size) == (128, 10, [128, 85])
    explorer.set_image(None)
    assert (explorer.picture, explorer.picture_size, explorer.pixels()) == (b"", [], None)


@given(rows=sizes, columns=sizes, height=sizes, width=sizes, seed=st.integers(0, 99))
def test_resampling_is_the_mean_of_the_covered_pixels(rows, columns, height, width, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    found = resampled(pixels, height, width)
    for r in range(height):
        for c in range(width):
            top, left = r * rows // height, c * columns // width
            bottom = max(top + 1, math.ceil((r + 1) * rows / height))
            right = max(left + 1, math.ceil((c + 1) * columns / width))
            mean = pixels[top:bottom, left:right].reshape(-1, 3).mean(axis=0)
            np.testing.assert_allclose(found[r, c], mean, atol=0.5 + 1e-9)


@pytest.mark.parametrize(
    ("image", "kind", "message"),
    [
        (np.zeros((0, 4)), ValueError, r"empty: its shape is \(0, 4\)"),
        (np.zeros(4), ValueError, r"shape \(4,\); expected \[H, W\]"),
        (np.zeros((3, 8, 8)), ValueError, r"numpy\.moveaxis\(image, 0, -1\)"),
        (np.full((2, 2), 200.0), ValueError, "floats go from 200 to 200; expected 0 to 1"),
        (np.full((2, 2), np.nan), ValueError, "expected 0 to 1"),
        (np.zeros((2, 2), np.int64), TypeError, "dtype int64; expected an array of uint8"),
        (np.zeros((2, 2), complex), TypeError, "complex128"),
        ({"a": 1}, TypeError, "the picture is dict"),
        (Image.new("RGB", (0, 3)), ValueError, "empty: 3 x 0"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(image, kind, message):
    with pytest.raises(kind, match=message):
        ScanExplorer(image)


def test_broken_files_are_refused_in_words(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no picture file"):
        ScanExplorer(tmp_path / "missing.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(ValueError, match=r"empty\.png is empty"):
        ScanExplorer(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"text\.png cannot be read as a picture"):
        ScanExplorer(str(tmp_path / "text.png"))
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"cut\.png cannot be read as a picture .* save it anew"):
        ScanExplorer(tmp_path / "cut.png")


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_view_is_saved_whole_and_the_same_each_time(tmp_path, suffix):
    explorer = ScanExplorer(RAMP, orders=("raster", "cross"), step=7, decay=0.8, cursor=(1, 2))
    first = explorer.save(tmp_path / f"a.{suffix}").read_bytes()
    if suffix == "png":
        assert first == explorer.save(str(tmp_path / "b.png")).read_bytes()
        with Image.open(tmp_path / "a.png") as picture:
            assert picture.width > 2 * picture.height * 0.6
    else:
        assert first.startswith(b"<?xml")
    assert not list(tmp_path.glob("*.part*"))
    with pytest.raises(ValueError, match=r"ends in '.jpg'; expected .png or .svg"):
        explorer.save(tmp_path / "c.jpg")


def test_the_figure_says_what_it_shows():
    fig = view_figure(ScanExplorer(orders=("hilbert", "eight"), height=4, width=4, step=5, decay=0.5))
    words = " ".join(part.get_text() for part in fig.findobj(Text))
    measured = flatten.locality("hilbert", 4, 4)
    for part in (
        "Hilbert curve",
        "Eight directions",
        "half-life 1 steps",
        f"mean {measured.mean:.3g}",
        "1 2 3 4 5 6 7 8",
    ):
        assert part in words
    assert "nothing is forgotten" in view_figure(ScanExplorer(decay=1.0)).get_suptitle()


def test_a_scan_is_saved_as_a_moving_picture(tmp_path):
    explorer = ScanExplorer(RAMP, orders=("raster", "plainmamba"))
    with Image.open(explorer.save_animation(tmp_path / "a.gif", which=1, route=2, frames=5)) as movie:
        assert movie.n_frames == 5
    with pytest.raises(ValueError, match="path is 4; 'plainmamba' has paths 0 to 3"):
        explorer.save_animation(tmp_path / "b.gif", which=1, route=4)


def test_what_the_state_holds_is_shown_in_three_ways():
    explorer = ScanExplorer(np.full((1, 4), 250, np.uint8), step=2, decay=0.01)
    forgotten, _, held, ahead = state_picture(explorer)[0].astype(int)
    assert held.tolist() == [250] * 3
    assert max(forgotten) < 75
    assert len(set(ahead)) == 1
    assert state_picture(ScanExplorer(height=1, width=4))[0, 3].tolist() == [196] * 3


def test_the_short_name_says_the_state():
    explorer = ScanExplorer(np.zeros((4, 6), np.uint8), orders=("raster", "eight"), decay=0.5)
    assert repr(explorer) == "ScanExplorer(orders=['raster', 'eight'], height=4, width=6, step=0, decay=0.5)"


def test_a_run_takes_about_as_long_on_every_grid():
    assert ScanExplorer(height=64, width=64).speed == pytest.approx(4096 / 12, abs=1)
    assert ScanExplorer(height=1, width=1).speed == 4
    assert ScanExplorer(speed=30).speed == 30


def sources() -> str:
    folder = files("mambaout_edu.widgets.scan_explorer")
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in (*ScanExplorer.modules, "widget.js"))


def test_the_parts_of_the_page_stand_in_front_of_the_widget():
    text = str(ScanExplorer()._esm)
    starts = [
        text.index(part) for part in ("function open_root", "const ORDERS", "function paint", "function make_panel")
    ]
    assert starts == sorted(starts)
    assert text.index("function render") > starts[-1]


def test_strings_and_page_agree():
    """No key is missing, and none is left over that would have to be translated."""
    table, text = ScanExplorer().strings, sources()
    assert set(re.findall(r'say\(model, "(\w+)"', text)) <= set(table)
    assert [key for key in table if f'"{key}"' not in text and key != "names"] == []


def test_data_never_becomes_markup():
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|https?://", sources())
