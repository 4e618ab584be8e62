import numpy as np
import pytest
from PIL import Image

from mambaout_edu import flatten, plots
from mambaout_edu.plots import order_animation

NAMES = ["raster", "hilbert"]


def test_the_way_that_is_drawn_is_the_order():
    ax = plots.order_pictures(["spiral"], 3, 5).axes[0]
    rows, columns = np.divmod(flatten.order("spiral", 3, 5), 5)
    segments = np.array(ax.collections[0].get_segments())
    assert np.array_equal(segments[:, 0], np.stack([columns, rows], axis=1)[:-1])
    assert np.array_equal(segments[:, 1], np.stack([columns, rows], axis=1)[1:])
    start, end = ax.lines
    assert (start.get_xdata()[0], start.get_ydata()[0]) == (columns[0], rows[0])
    assert (end.get_xdata()[0], end.get_ydata()[0]) == (columns[-1], rows[-1])
    assert start.get_marker() != end.get_marker(), "not by colour alone"


def test_maps_and_points_are_the_measures():
    first, second = plots.neighbour_map_pictures(NAMES, 6, 8).axes[:2]
    assert np.array_equal(first.images[0].get_array(), flatten.neighbour_map("raster", 6, 8))
    assert first.images[0].get_clim() == second.images[0].get_clim(), "one scale for all"
    ax = plots.locality_bars(NAMES, 6, 8).axes[0]
    drawn = {line.get_label(): list(line.get_xdata()) for line in ax.lines}
    found = [flatten.locality(name, 6, 8) for name in NAMES]
    assert drawn["mean"] == [one.mean for one in found]
    assert drawn["95th percentile"] == [one.p95 for one in found]
    assert ax.texts[1].get_text() == "100 % unit steps, longest jump 1.0 px"


def test_curves_and_crosses_are_the_measures():
    image = np.random.default_rng(0).random((8, 8))
    ax = plots.autocorrelation_curves(image, {"mine": np.arange(64)}, max_lag=9).axes[0]
    assert np.allclose(ax.lines[0].get_ydata(), flatten.autocorrelation(image, "raster", 9))
    ax = plots.reach_crosses({"both": flatten.paths("bidirectional", 9, 9)}, 9, 9, decay=0.8).axes[0]
    assert ax.get_title() == "both\nright 4, left 4,\nup 0, down 0"
    assert sorted(arrow.xy for arrow in ax.texts) == [(-4, 0), (4, 0)]


def test_orders_that_cannot_be_drawn_are_refused():
    for bad in ([], "raster"):
        with pytest.raises(ValueError, match="expected names such as"):
            plots.order_pictures(bad, 4, 4)
    with pytest.raises(ValueError, match=r"'far' does not fit a grid of 4 x 4: expected a row of indices 0 to 15"):
        plots.order_pictures({"far": [0, 16]}, 4, 4)
    with pytest.raises(ValueError, match="got 0 orders"):
        plots.reach_crosses([], 4, 4, 0.9)
    with pytest.raises(ValueError, match=r"grey picture \[H, W\]"):
        plots.autocorrelation_curves(np.ones((4, 4, 3)), NAMES)


def test_the_animation_walks_and_forgets(tmp_path):
    image = np.full((4, 6, 3), 200, np.uint8)
    saved = plots.save_order_animation(tmp_path / "scan.gif", "serpentine", 4, 6, image, decay=0.5, dpi=40)
    assert [file.name for file in tmp_path.iterdir()] == ["scan.gif"], "nothing is left beside it"
    with Image.open(saved) as gif:
        assert gif.n_frames == 24
        assert gif.info["duration"] == pytest.approx(1000 / 15, abs=10)
    with Image.open(plots.save_order_animation(saved, "serpentine", 4, 6, frames=5, dpi=40)) as gif:
        assert gif.n_frames == 5


def test_a_frame_shows_the_state(monkeypatch):
    index = flatten.order("raster", 2, 3)
    fig, update = order_animation._stage(index, np.ones((2, 3, 3)), 0.5, "raster")
    update(3)
    grid, strip = fig.axes
    brightness = 0.15 + 0.85 * np.array([[0.125, 0.25, 0.5], [1, 0, 0]])
    assert np.allclose(grid.images[0].get_array()[..., 0], brightness)
    assert (grid.lines[0].get_xdata()[0], grid.lines[0].get_ydata()[0]) == (0, 1)
    assert grid.get_title() == "raster step 4 of 6"
    assert strip.images[0].get_array().shape == (1, 6, 3)


def test_animations_that_cannot_be_made_are_refused_and_leave_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(order_animation.FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    for name, options, error, said in (
        ("a.png", {}, ValueError, r"ends in '.png'; expected .gif or .mp4"),
        ("a.mp4", {}, RuntimeError, "ffmpeg, which is not found; install it, or save a .gif"),
        ("a.gif", {"fps": 0}, ValueError, "fps is 0; expected 1 to 50"),
        ("a.gif", {"frames": 0}, ValueError, "frames is 0"),
        ("a.gif", {"decay": 2.0}, ValueError, "decay is 2.0"),
        ("a.gif", {"image": np.ones((3, 3))}, ValueError, r"shape \(3, 3\); expected \[2, 2\]"),
    ):
        with pytest.raises(error, match=said):
            plots.save_order_animation(tmp_path / name, "raster", 2, 2, **options)
    monkeypatch.setattr(order_animation.PillowWriter, "grab_frame", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        plots.save_order_animation(tmp_path / "a.gif", "raster", 2, 2)
    assert not list(tmp_path.iterdir())
