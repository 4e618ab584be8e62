import pytest
import torch

from mambaout_edu.models import create_model
from mambaout_edu.models.plain_cnn import PlainCNN, plain_cnn_of_size


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (7, 13), (32, 32)])
@pytest.mark.parametrize("chans", [1, 3])
def test_any_size_of_image(size, chans):
    model = PlainCNN(in_chans=chans, num_classes=5, width=8).eval()
    assert model(torch.zeros(1, chans, *size)).shape == (1, 5)


def test_stages_halve_and_widen():
    model = PlainCNN(in_chans=1, width=8, depth=2, stages=3)
    shapes, x = [], torch.zeros(2, 1, 8, 8)
    for unit in model.features:
        x = unit(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(8, 8, 8), (8, 8, 8), (16, 4, 4), (16, 4, 4), (32, 2, 2), (32, 2, 2)]


@pytest.mark.parametrize("target", [50_000, 89_340, 196_986, 1_000_000])
@pytest.mark.parametrize(("chans", "classes", "depth", "stages"), [(1, 10, 2, 3), (3, 100, 1, 4), (3, 2, 3, 2)])
def test_size_is_met_within_3_percent(target, chans, classes, depth, stages):
    model = plain_cnn_of_size(target, in_chans=chans, num_classes=classes, depth=depth, stages=stages)
    assert abs(parameters(model) - target) <= 0.03 * target


def test_equal_in_size_to_the_mambaout_for_digits():
    mambaout = create_model("mambaout_pico_8", num_classes=10)
    model = plain_cnn_of_size(parameters(mambaout), in_chans=1)
    assert abs(parameters(model) / parameters(mambaout) - 1) <= 0.03


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match=r"no width gives 30 parameters.*Change depth"):
        plain_cnn_of_size(30)


@pytest.mark.parametrize("option", ["in_chans", "num_classes", "width", "depth", "stages"])
def test_arguments_below_1_are_refused(option):
    with pytest.raises(ValueError, match=f"{option} is 0"):
        PlainCNN(**{option: 0})


def test_wrong_images_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3, 8, 8\); expected \[B, 1, H, W\]"):
        PlainCNN(in_chans=1)(torch.zeros(2, 3, 8, 8))
