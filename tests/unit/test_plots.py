import io
import re
import threading

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.text import Text
from PIL import Image

from mambaout_edu import plots
from mambaout_edu.data import ImageSet, photographs
from mambaout_edu.flatten import memory_map
from mambaout_edu.models import create_model, profile
from mambaout_edu.models.measure import RunCost
from mambaout_edu.plots import causality, memory, scan_order_results
from mambaout_edu.published import imagenet
from mambaout_edu.scan.associative import Work, combine, sequential
from mambaout_edu.systems import mass_spring
from mambaout_edu.training import Evaluation, History
from mambaout_edu.training.scan_orders import SCANS

ALT = "Two squares, one black and one white."


def photos():
    return plots.photo_grid({"black": np.zeros((8, 8, 3), np.uint8), "white": np.full((8, 8, 3), 255, np.uint8)})


def maps():
    rng = np.random.default_rng(0)
    return plots.feature_maps([torch.tensor(rng.normal(size=(1, n, n, c))) for n, c in ((16, 8), (8, 16), (4, 32))])


def evaluation(correct=8, total=10):
    labels = torch.zeros(total, dtype=torch.long)
    predictions = (torch.arange(total) >= correct).long()
    confidence = torch.linspace(0.6, 0.9, total)
    probabilities = torch.full((total, 2), 0.5)
    probabilities[torch.arange(total), predictions] = confidence
    return Evaluation(correct, total, predictions, probabilities, labels)


def image_set(total=10, chans=1):
    return ImageSet(torch.rand(total, chans, 8, 8), torch.zeros(total, dtype=torch.long), ("a", "b"))


def cost():
    return plots.cost(profile(create_model("mambaout_tiny"), 224))


def curves():
    runs = {}
    for name in ("MambaOut", "plain CNN"):
        losses = list(np.exp(-np.arange(60) / 20))
        runs[name] = History(list(range(1, 61)), losses, [1e-3] * 60, [30, 60], [0.8, 0.97])
    return plots.loss_curves(runs)


def accuracy():
    return plots.accuracies({"linear classifier": evaluation(434, 450), "MambaOut": evaluation(450, 450)})


def order_results():
    runs = {name: [210 + 20 * k, 240 + 21 * k, 225 + 19 * k] for k, name in enumerate(SCANS)}
    by_conv = {"plain": runs, "conv": {name: [440, 446, 443 + k] for k, name in enumerate(SCANS)}}
    return {"total": {"digits": 450, "grain": 450}, "correct": {"digits": by_conv, "grain": by_conv}}


FIGURES = {
    "photo_grid": photos,
    "feature_maps": maps,
    "cost": cost,
    "loss_curves": curves,
    "accuracies": accuracy,
    "mistakes": lambda: plots.mistakes(image_set(), evaluation()),
    "patches": lambda: plots.patches(np.zeros((64, 96, 3), np.uint8)),
    "published_accuracy": lambda: plots.published_accuracy(imagenet("tiny")),
    "reaches": lambda: plots.reaches({"no mixer": np.eye(7, dtype=bool), "7 x 7": np.ones((7, 7), bool)}),
    "kept_tokens": lambda: plots.kept_tokens(
        ["I", "um", "eat"], {"fixed": ([0.4] * 3, [0.2, 0.3, 0.4]), "selected": ([0.5, 0.0, 0.5], [0.3, 0.0, 0.5])}
    ),
    "scan_costs": lambda: plots.scan_costs(
        {"sequential": Work(1024, 1024), "blelloch": Work(4096, 21)}, {"sequential": 0.1, "blelloch": 0.01}, 1024
    ),
    "scan_errors": lambda: plots.scan_errors(
        [16, 64, 256], {"sequential": [1e-7] * 3, "log_space": [1e-7, 1e-5, np.nan]}
    ),
    "roofline": lambda: plots.roofline({"a": (1e10, 1e9), "b": (1e12, 1e12)}, {"N = 1": (0.2, 5e8)}, {"fused": 1.2}),
    "hold_error": lambda: plots.hold_error([0.01, 0.1, 1.0], [1.0, 0.95, 0.63], {"state 1": (0.1, 0.95)}),
    "mixing_matrices": lambda: plots.mixing_matrices({"one": np.eye(3), "two": np.tri(3)}, ["I", "want", "apples"]),
    "scan_diagrams": lambda: plots.scan_diagrams(16),
    "gpu_speedups": lambda: plots.gpu_speedups(
        {
            "results": {
                "cases": [
                    {
                        "size": [128, 196, 384],
                        "state": 16,
                        "dtype": dtype,
                        "speed": {
                            "theirs forward": 400.0,
                            "ours forward": 100.0,
                            "theirs backward": 900.0,
                            "ours backward": 450.0,
                        },
                    }
                    for dtype in ("float32", "bfloat16")
                ]
            }
        }
    ),
    "scan_ratios": lambda: plots.scan_ratios(
        {
            "forward": {"(8, 196, 384, 16)": {"ours": 2.0, "mambapy": 170.0, "mamba-ssm ref": 120.0, "copy": 0.3}},
            "forward + backward": {"(8, 196, 384, 16)": {"ours": 8.0, "mambapy": 600.0}},
        },
        "ours",
    ),
    "order_pictures": lambda: plots.order_pictures(["raster", "hilbert", "random"], 8, 8),
    "order over a photograph": lambda: plots.order_pictures(
        {"a path": [0, 5, 17], "all": np.arange(24)}, 4, 6, image=np.zeros((40, 60, 3), np.uint8)
    ),
    "neighbour_map_pictures": lambda: plots.neighbour_map_pictures(["raster", "hilbert"], 12, 20),
    "locality_bars": lambda: plots.locality_bars(["raster", "serpentine_columns", "random"], 16, 16),
    "autocorrelation_curves": lambda: plots.autocorrelation_curves(
        np.add.outer(np.arange(16), np.arange(16)), ["raster", "hilbert"], max_lag=40
    ),
    "reach_crosses": lambda: plots.reach_crosses(["raster", "hilbert", "cross"], 16, 16, decay=0.9),
    "state_maps": lambda: plots.state_maps(
        {name: memory_map(name, 12, 16, step=100, decay=0.9) for name in ("raster", "hilbert", "random")}, (6, 4)
    ),
    "causality_prices": lambda: causality.causality_prices(
        {"total": {"ssm": 450}, "correct": {"ssm": {"mean": {"visible": [440, 436, 438], "causal": [431, 430, 436]}}}},
        published={"ViT-Ti": (72.2, 70.6)},
    ),
    "visible_patches": lambda: causality.visible_patches(
        {"causal": np.tri(1, 36, 20).reshape(6, 6), "visible": np.ones((6, 6))}, np.zeros((60, 60, 3), np.uint8), (3, 3)
    ),
    "seen_matrices": lambda: plots.seen_matrices(
        {"attention": np.full((5, 5), 0.2), "scan": np.tri(5), "convolution": np.tri(5, k=1) - np.tri(5, k=-2)},
        ["I", "want", "to", "eat", "apples"],
    ),
    "seen_matrices of pixels": lambda: plots.seen_matrices({"one": np.tri(12), "two": np.eye(12)}, size=(3, 4)),
    "receptive_fields": lambda: plots.receptive_fields(
        {name: np.outer(np.hanning(24), np.hanning(32)) ** power for name, power in (("a", 1), ("b", 9), ("c", 99))},
        np.full((48, 64, 3), 128, np.uint8),
        (12, 16),
    ),
    "a receptive field": lambda: plots.receptive_fields({"alone": np.eye(16)}, np.zeros((16, 16))),
    "no mistakes": lambda: plots.mistakes(image_set(), evaluation(10)),
    "stage_plan": lambda: plots.stage_plan(
        {
            "MambaOut": ("convolution", [(56, 56, 96), (28, 28, 192), (14, 14, 384), (7, 7, 576)]),
            "ViT": ("attention", [(14, 14, 384)]),
            "Vim": ("scan2", [(14, 14, 384)]),
        }
    ),
    "run_cost_curves": lambda: plots.run_cost_curves(
        {
            name: [RunCost(side, 1e-6 * side**2 * k, side**2 * 60 * k) for side in (64, 128)]
            for k, name in enumerate("abc", 1)
        }
    ),
    "accuracy_chart": lambda: plots.accuracy_chart(imagenet("tiny"), cost="params_m"),
    "portraits": lambda: plots.portraits({"calm": mass_spring(), "wild": mass_spring(damping=-0.2)}, duration=15.0),
    "responses": lambda: plots.responses(np.arange(9.0), {"a": np.arange(9.0), "b": np.ones(9)}, x="time (s)", y="m"),
    "discretisations": lambda: plots.discretisations(mass_spring(), delta=0.2, duration=15.0),
    "memory_curves": lambda: plots.memory_curves({"Δ = 0.1": 0.9 ** np.arange(99), "Δ = 0.01": 0.99 ** np.arange(99)}),
    "recollections": lambda: plots.recollections(
        np.sin(np.arange(99.0)), {"4 numbers": np.zeros(99), "16 numbers": np.sin(np.arange(99.0))}, x="pixel", y="grey"
    ),
    "forgetting_curves": lambda: memory.forgetting_curves(
        {
            title: {"lstm": 0.5 ** np.arange(60)[::-1], "mamba1": 0.95 ** np.arange(60)[::-1]}
            for title in ("untrained", "trained")
        }
    ),
    "recall_curves": lambda: memory.recall_curves(
        {
            title: {
                "runs": {
                    name: {"asked": {"64": [1.0, 0.9], "1024": [0.1, 0.7]}}
                    for name in ("attention", "lstm", "s4d", "mamba1", "mamba2", "mamba2, N = 8", "mamba2, N = 2")
                },
                "chance": {"64": 0.1, "1024": 0.1},
                "dial": dial,
                "settings": {"train": [64]},
            }
            for title, dial in (("induction heads", "size"), ("far needle", "distance"), ("pairs", "pairs"))
        }
    ),
    "decoding_costs": lambda: memory.decoding_costs(
        [64, 65536],
        {
            name: {"us": [9, 9 * k], "us_low": [8, 8 * k], "us_high": [10, 10 * k], "used_bytes": [4e3, 4e3 * k]}
            for name, k in (("attention", 1000), ("mamba1", 1), ("lstm", 1))
        },
        {"attention": (8.0, 0.13)},
    ),
    "decoding_roofline": lambda: memory.decoding_roofline(
        {"one core": (1e10, 1e11)}, {"attention, 64 tokens": [(0.25, 1e9), (4, 9e9)], "mamba1": [(0.25, 2e9)]}
    ),
    "scan_order_accuracies": lambda: scan_order_results.scan_order_accuracies(order_results()),
    "scan_order_spreads": lambda: scan_order_results.scan_order_spreads(
        order_results(), others={"VMamba, table 10": (1.37, 0.34)}
    ),
}
every_figure = pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES.keys())


@every_figure
def test_type_is_large_and_nothing_is_cut_off(make):
    fig = make()
    plots.picture(fig, ALT)
    shown = [label for label in fig.findobj(Text) if label.get_text() and label.get_visible()]
    assert shown
    assert min(label.get_fontsize() for label in shown) >= 14
    drawn, (width, height) = fig.get_tightbbox(), fig.get_size_inches()
    assert drawn.x0 >= -0.02
    assert drawn.y0 >= -0.02
    assert drawn.x1 <= width + 0.02
    assert drawn.y1 <= height + 0.02


@every_figure
def test_titles_do_not_overlap(make):
    fig = make()
    plots.picture(fig, ALT)
    boxes = [ax.title.get_window_extent() for ax in fig.axes if ax.title.get_text()]
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])


@every_figure
def test_equal_figures_are_equal_bytes_whatever_the_reader_s_settings(make):
    def data():
        torch.manual_seed(0)
        return plots.picture(make(), ALT).data

    plain = data()
    assert data() == plain
    with mpl.rc_context({"font.size": 5, "axes.titlesize": 30, "lines.linewidth": 9}):
        assert data() == plain
    with pyplot.style.context("dark_background"):
        assert data() == plain
    with mpl.rc_context(plots.STYLE):
        assert data() == plain


@every_figure
def test_pyplot_is_not_touched(make):
    before = pyplot.get_fignums()
    settings = dict(mpl.rcParams)
    plots.picture(make(), ALT)
    assert pyplot.get_fignums() == before
    assert dict(mpl.rcParams) == settings


def test_figures_are_drawn_from_many_threads():
    expected, got = plots.picture(curves(), ALT).data, []
    threads = [threading.Thread(target=lambda: got.append(plots.picture(curves(), ALT).data)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [expected] * 4


def test_show_displays_an_image_with_its_alternative_text(capsys):
    plots.show(photos(), ALT)
    assert capsys.readouterr().out == f"Picture: {ALT}\n"
    drawn = plots.picture(photos(), 'A "quoted" text & <tags> to be escaped.')
    tag = drawn._repr_html_()
    assert 'alt="A &quot;quoted&quot; text &amp; &lt;tags&gt; to be escaped."' in tag
    assert re.fullmatch(r'<img [^<>]*src="data:image/png;base64,[A-Za-z0-9+/=]+">', tag)
    assert Image.open(io.BytesIO(drawn.data)).width == drawn.width


def test_photographs_are_light():
    drawn = plots.picture(plots.photo_grid(photographs()), "Seven colour photographs with their sizes.")
    assert drawn.media_type == "image/jpeg"
    assert len(drawn.data) < 300_000
    assert Image.open(io.BytesIO(drawn.data)).format == "JPEG"


def test_show_closes_a_pyplot_figure(capsys):
    fig, ax = pyplot.subplots()
    ax.plot([1, 2])
    plots.show(fig, "A line that rises from one to two.")
    assert fig.number not in pyplot.get_fignums()
    capsys.readouterr()


def test_state_maps_show_what_is_held_and_hatch_what_is_not():
    weights = memory_map("raster", 5, 6, step=14, decay=0.9)  # at row 2, column 2
    ax = plots.state_maps({"raster": weights}, (2, 2)).axes[0]
    assert ax.get_title() == "raster\nleft 90, right 0,\nup 53, down 0 %"
    drawn = ax.images[0].get_array()
    assert np.array_equal(np.ma.getmaskarray(drawn) | np.isnan(np.ma.getdata(drawn)), weights == 0)
    assert np.allclose(drawn[weights > 0.01], weights[weights > 0.01])
    assert ax.collections[0].get_hatch() == "//"
    for maps, pixel, said in (
        ({}, (1, 1), "no maps"),
        ({"a": np.ones((3, 3)), "b": np.ones((3, 4))}, (1, 1), "one size"),
        ({"a": np.ones((3, 3))}, (0, 1), "inside the edge of 3 x 3"),
        ({"a": np.full((3, 3), 2.0)}, (1, 1), "weights from 2 to 2"),
    ):
        with pytest.raises(ValueError, match=said):
            plots.state_maps(maps, pixel)


@pytest.mark.parametrize("alt", ["", "figure.png", " " * 30])
def test_short_alternative_text_is_refused(alt):
    with pytest.raises(ValueError, match="expected 20 or more"):
        plots.show(photos(), alt)


def test_other_things_are_no_figures():
    with pytest.raises(TypeError, match="fig is a ndarray"):
        plots.show(np.zeros(3), ALT)


def test_use_style_is_what_style_says():
    with mpl.rc_context():
        plots.use_style()
        assert all(mpl.rcParams[key] == value for key, value in plots.STYLE.items())
        cycle = list(mpl.rcParams["axes.prop_cycle"])
    assert [entry["color"] for entry in cycle] == list(plots.COLOURS)
    assert len({str(entry["linestyle"]) for entry in cycle}) == len(cycle) == len({e["marker"] for e in cycle})


def test_feature_maps_are_the_channels_of_largest_variance():
    values = np.random.default_rng(0).normal(size=(8, 8, 10)) * np.arange(10)
    fig = plots.feature_maps([values], channels=3)
    assert [ax.get_title() for ax in fig.axes] == ["channel 9", "channel 8", "channel 7"]
    assert np.array_equal(fig.axes[0].images[0].get_array(), values[:, :, 9])
    assert fig.axes[0].get_ylabel() == "stage 1\n8 x 8 x 10"
    few = plots.feature_maps([values[:, :, :2]], channels=3)
    assert [bool(ax.images) for ax in few.axes] == [True, True, False]
    with pytest.raises(ValueError, match=r"\(3, 3\); expected \[H, W, C\]"):
        plots.feature_maps([np.zeros((3, 3))])
    with pytest.raises(ValueError, match="no feature maps"):
        plots.feature_maps([])


def test_cost_bars_are_shares_of_the_whole():
    counted = profile(create_model("mambaout_tiny"), 224)
    ax = plots.cost(counted).axes[0]
    for bars, key in zip(ax.containers, ("parameters", "multiply_adds"), strict=True):
        widths = [bar.get_width() for bar in bars]
        assert sum(widths) == pytest.approx(100)
        assert widths == pytest.approx([100 * getattr(p, key) / getattr(counted, key) for p in counted])
        assert len({bar.get_hatch() for bar in bars}) == 1
    assert ax.containers[0][0].get_hatch() != ax.containers[1][0].get_hatch(), "not by colour alone"
    with pytest.raises(ValueError, match="no parts"):
        plots.cost([])


def test_loss_curves_are_the_history():
    fig = curves()
    thin, bold = fig.axes[0].lines[:2]
    losses = np.exp(-np.arange(60) / 20)
    assert np.allclose(thin.get_ydata(), losses)
    assert np.allclose(bold.get_ydata(), [losses[max(0, i - 19) : i + 1].mean() for i in range(60)])
    assert np.allclose(fig.axes[1].lines[0].get_ydata(), [80, 97])
    styles = {fig.axes[0].lines[i].get_linestyle() for i in (1, 3)}
    assert len(styles) == 2, "not by colour alone"
    alone = plots.loss_curves({"run": History([1, 2], [2.0, 1.0], [0.1, 0.1])})
    assert len(alone.axes) == 1
    for bad in ({}, {"run": History()}):
        with pytest.raises(ValueError, match="at least one history"):
            plots.loss_curves(bad)
    with pytest.raises(ValueError, match="smooth is 0"):
        plots.loss_curves({"run": History([1], [1.0])}, smooth=0)


def test_accuracies_show_value_and_interval():
    ax = accuracy().axes[0]
    texts = [t.get_text() for t in ax.texts]
    assert texts == ["96.4 %", "100.0 %"]
    low, high = (100 * end for end in evaluation(434, 450).interval)
    ends = ax.collections[0].get_segments()[0][:, 0]
    assert ends.tolist() == pytest.approx([low, high])
    with pytest.raises(ValueError, match="no evaluation"):
        plots.accuracies({})


def test_mistakes_show_image_truth_and_confidence():
    images, result = image_set(chans=1), evaluation()
    fig = plots.mistakes(images, result)
    assert [ax.get_title() for ax in fig.axes] == ["true a, said b\n90 % sure", "true a, said b\n87 % sure"]
    assert np.array_equal(fig.axes[0].images[0].get_array(), images.images[9, 0])
    assert len(plots.mistakes(images, result, limit=1).axes) == 1
    assert [t.get_text() for t in plots.mistakes(images, evaluation(10)).axes[0].texts] == ["no mistakes"]
    colour = plots.mistakes(image_set(chans=3), result)
    assert colour.axes[0].images[0].get_array().shape == (8, 8, 3)
    with pytest.raises(ValueError, match="of 10 images, but 4"):
        plots.mistakes(image_set(4), result)


def test_empty_grids_are_refused():
    with pytest.raises(ValueError, match="got 0 pictures"):
        plots.photo_grid({})


def test_patches_are_the_grid_and_uneven_pictures_are_refused():
    axes = plots.patches(np.zeros((32, 48, 3), np.uint8), patch_size=16).axes[0]
    assert sorted(line.get_xdata()[0] for line in axes.lines if line.get_xdata()[0] == line.get_xdata()[1]) == [
        15.5,
        31.5,
    ]
    with pytest.raises(ValueError, match="32 x 40 pixels does not divide into patches of 16"):
        plots.patches(np.zeros((32, 40, 3), np.uint8), patch_size=16)


def test_published_rows_are_ranked_and_named():
    rows = [row for row in imagenet("base") if row.mixer == "convolution + SSM" or row.model == "MambaOut-Base"]
    axes = plots.published_accuracy(rows).axes[0]
    ranked = sorted((row for row in rows if row.macs_g is not None), key=lambda row: -row.top1)
    assert [label.get_text() for label in axes.get_yticklabels()] == [row.model for row in ranked]
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {"convolution", "convolution + SSM"}
    with pytest.raises(ValueError, match="no row"):
        plots.published_accuracy([row for row in rows if row.macs_g is None])


def test_reaches_counts_what_changed():
    reached = np.zeros((5, 5), bool)
    reached[1:4, 1:4] = True
    assert plots.reaches({"3 x 3": reached}).axes[0].get_title() == "3 x 3\n9 of 25 positions"
    with pytest.raises(ValueError, match="no maps"):
        plots.reaches({})


def test_kept_tokens_are_the_numbers_given():
    axes = plots.kept_tokens("ab", {"fixed": ([0.5, 0.5], [0.1, 0.4])}).axes[0]
    assert [[bar.get_height() for bar in bars] for bars in axes.containers] == [[0.5, 0.5], [0.1, 0.4]]
    assert axes.containers[0][0].get_hatch() != axes.containers[1][0].get_hatch(), "not by colour alone"
    for bad in ({}, {"short": ([0.5], [0.1, 0.4])}):
        with pytest.raises(ValueError, match="of 2 numbers each"):
            plots.kept_tokens("ab", bad)


def test_scan_costs_are_relative_to_the_length_and_to_the_first():
    works = {"sequential": Work(1000, 1000), "blelloch": Work(4000, 21)}
    fig = plots.scan_costs(works, {"sequential": 0.2, "blelloch": 0.05}, length=1000)
    assert [list(ax.lines[0].get_xdata()) for ax in fig.axes] == [[1, 4], [1000, 21], [1, 0.25]]
    with pytest.raises(ValueError, match="a time for every algorithm"):
        plots.scan_costs(works, {"sequential": 0.2}, length=1000)


def test_scan_errors_mark_where_numbers_end():
    ax = plots.scan_errors([8, 16, 32], {"log_space": [1e-7, 1e-6, np.inf]}).axes[0]
    assert ax.lines[1].get_marker() == "x"
    assert (ax.lines[1].get_xdata()[0], ax.lines[1].get_ydata()[0]) == (16, 1e-6)
    with pytest.raises(ValueError, match="no error to draw"):
        plots.scan_errors([8], {"all lost": [np.nan]})
    with pytest.raises(ValueError, match="with 3 errors"):
        plots.scan_errors([8, 16, 32], {"sequential": [1e-7]})


def test_a_roof_is_the_lesser_of_both_limits():
    roof, point, _ = plots.roofline({"a": (1e10, 1e9)}, {"N = 1": (0.2, 5e8)}, {"fused": 1.2}).axes[0].lines
    x, y = roof.get_data()
    assert np.allclose(y, np.minimum(1e10 * np.asarray(x), 1e9))
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (0.2, 5e8)
    for machines, points in (({}, {}), ({"a": (1e10, 0)}, {}), ({"a": (1e10, 1e9)}, {"N = 1": (-1.0, 1.0)})):
        with pytest.raises(ValueError, match="at least one machine, and positive"):
            plots.roofline(machines, points)


def test_seen_matrices_are_shares_and_nothing_is_hatched():
    matrix = np.array([[2.0, 0.0, 0.0], [-1.0, 0.5, 0.0], [0.0, 1e-9, 0.02]])
    ax = plots.seen_matrices({"one": matrix}, ["a", "b", "c"]).axes[0]
    assert ax.get_title() == "one\n5 of 9 pairs"
    drawn = ax.images[0].get_array()
    assert np.array_equal(np.ma.getmaskarray(drawn) | np.isnan(np.ma.getdata(drawn)), matrix == 0)
    assert np.allclose(drawn[0, 0], 1)
    assert np.allclose(drawn[1, :2], [0.5, 0.25])
    assert np.allclose(drawn[2, 1:], [0.001, 0.01]), "the smallest share is drawn, not lost"
    assert ax.collections[0].get_hatch() == "//"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"]
    rows = plots.seen_matrices({"one": np.eye(12)}, size=(3, 4)).axes[0]
    level = {line.get_ydata()[0] for line in rows.lines if line.get_ydata()[0] == line.get_ydata()[1]}
    assert level == {3.5, 7.5}
    for matrices, options, said in (
        ({}, {}, "got 0 pictures"),
        ({"a": np.ones((2, 3))}, {}, r"\(2, 3\); expected \[L, L\]"),
        ({"a": np.ones((1, 3, 3))}, {}, "the matrix of one sample"),
        ({"a": np.eye(3)}, {"tokens": "ab"}, "is 3 x 3, but tokens speaks of 2"),
        ({"a": np.eye(3)}, {"size": (2, 2)}, "is 3 x 3, but size speaks of 4"),
        ({"a": np.zeros((3, 3))}, {}, "none but 0"),
        ({"a": np.full((3, 3), np.nan)}, {}, "no numbers"),
    ):
        with pytest.raises(ValueError, match=said):
            plots.seen_matrices(matrices, **options)


def test_receptive_fields_lie_over_the_image():
    field = np.zeros((6, 8))
    field[2:4, 3:6] = [[4, 8, 4], [1, 2, 0.001]]  # 8 + 4 of 19 are more than half
    photo = np.zeros((12, 16, 3), np.uint8)
    photo[:, 8:] = 255
    ax = plots.receptive_fields({"one": field}, photo, (2, 4)).axes[0]
    assert ax.get_title() == "one\nhalf within 2 pixels\n(4.2 % of the image)"
    below, above = ax.images
    assert np.allclose(below.get_array(), photo[..., 0] / 255)
    assert below.get_extent() == [-0.5, 7.5, 5.5, -0.5], "stretched over the field"
    drawn = above.get_array()
    assert np.array_equal(np.ma.getmaskarray(drawn) | np.isnan(np.ma.getdata(drawn)), field == 0)
    assert np.allclose(drawn[2, 3:6], [0.5, 1, 0.5])
    assert drawn[3, 5] == 0.001, "below the scale, but seen"
    assert (ax.lines[0].get_xdata()[0], ax.lines[0].get_ydata()[0]) == (4, 2)
    for fields, image, said in (
        ({}, photo, "got 0 pictures"),
        ({"a": np.ones(3)}, photo, r"\(3,\); expected \[H, W\]"),
        ({"a": np.zeros((2, 2))}, photo, "somewhere above 0"),
        ({"a": field}, np.zeros((2, 2, 4)), r"the image has shape \(2, 2, 4\)"),
    ):
        with pytest.raises(ValueError, match=said):
            plots.receptive_fields(fields, image)


def test_hold_error_and_mixing_matrices_refuse_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="2 exponents and 1 ratios"):
        plots.hold_error([0.1, 1.0], [0.9], {})
    with pytest.raises(ValueError, match="no matrices"):
        plots.mixing_matrices({})
    drawn = plots.mixing_matrices({"one": -np.eye(3), "two": 2 * np.eye(3)}).axes
    assert all(ax.images[0].get_clim() == (0, 2) for ax in drawn[:2]), "one scale for all"
    assert np.array_equal(drawn[0].images[0].get_array(), np.eye(3))


@pytest.mark.parametrize("algorithm", ["sequential", "hillis_steele", "blelloch", "chunked_two_pass"])
@pytest.mark.parametrize("length", [2, 3, 7, 8, 12, 17])
def test_the_joins_that_are_drawn_compute_the_scan(algorithm, length):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(length, generator=generator), torch.randn(length, generator=generator)
    places = list(zip(a, b, strict=True))
    for pairs in plots.scan_joins(algorithm, length):
        assert pairs
        before = list(places)
        for start, end in pairs:
            places[end] = combine(before[start], before[end])
    assert torch.allclose(torch.stack([b for _, b in places]), sequential(a, b)[0], atol=1e-6)


def test_joins_that_cannot_be_drawn_are_refused():
    with pytest.raises(ValueError, match="no drawing of 'log_space'"):
        plots.scan_joins("log_space", 8)
    with pytest.raises(ValueError, match="length is 1"):
        plots.scan_joins("blelloch", 1)
    with pytest.raises(ValueError, match="no algorithm is named"):
        plots.scan_diagrams(8, [])


def test_forgetting_curves_begin_with_the_newest_token_and_refuse_what_is_no_weight():
    ax = memory.forgetting_curves({"one": {"lstm": [0.0, 1.0, 4.0]}}).axes[0]
    assert ax.lines[0].get_ydata().tolist() == [1.0, 0.25, 1e-6]
    assert ax.lines[0].get_label() == "LSTM"
    for panels, said in (
        ({}, "no curves"),
        ({"one": {"lstm": [[1.0]]}}, r"shape \(1, 1\); expected \[L\]"),
        ({"one": {"lstm": [-1.0, 2.0]}}, "0 or more"),
        ({"one": {"lstm": [0.0, 0.0]}}, "not all 0"),
    ):
        with pytest.raises(ValueError, match=said):
            memory.forgetting_curves(panels)


def test_recall_curves_show_means_with_bars_from_lowest_to_highest():
    part = {"runs": {"mamba2, N = 2": {"asked": {"4": [0.2, 0.6]}}}, "chance": {"4": 0.25}, "dial": "pairs"}
    ax = memory.recall_curves({"a task": part}).axes[0]
    bars = ax.containers[0]
    assert bars.get_label() == "Mamba-2, N = 2"
    assert bars.lines[0].get_ydata().tolist() == pytest.approx([40])
    assert bars.lines[2][0].get_segments()[0][:, 1].tolist() == pytest.approx([20, 60])
    assert "trained up to here" not in [line.get_label() for line in ax.lines], "it was asked where it was trained"
    with pytest.raises(ValueError, match="there are mamba2, N = 2"):
        memory.recall_curves({"a task": part}, ["lstm"])


def test_costs_and_rooflines_refuse_nothing_to_draw():
    with pytest.raises(ValueError, match="at least one mixer"):
        memory.decoding_costs([64], {})
    with pytest.raises(ValueError, match="positive numbers"):
        memory.decoding_roofline({"one core": (1e10, 0.0)}, {"mamba1": [(0.25, 1e9)]})
    with pytest.raises(ValueError, match="at least one machine"):
        memory.decoding_roofline({}, {"mamba1": [(0.25, 1e9)]})
