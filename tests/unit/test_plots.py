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
from mambaout_edu.models import create_model, profile
from mambaout_edu.published import imagenet
from mambaout_edu.training import Evaluation, History

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
    "no mistakes": lambda: plots.mistakes(image_set(), evaluation(10)),
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
