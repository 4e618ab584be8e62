"""Generated outlines: the class lies in the curve, and in nothing that is simpler."""

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mambaout_edu.data.outlines import CLASSES, curves, outlines
from mambaout_edu.training.recipe import recipe
from mambaout_edu.training.sources import open_source


def test_the_same_seed_gives_the_same_pictures_and_another_gives_others():
    first, second = outlines(seed=3, train=40, test=20), outlines(seed=3, train=40, test=20)
    assert torch.equal(first.train.images, second.train.images)
    assert not torch.equal(first.train.images, outlines(seed=4, train=40, test=20).train.images)
    assert not torch.equal(first.train.images[:20], first.test.images)


def test_held_out_pictures_do_not_depend_on_how_many_there_are_to_learn_from():
    assert torch.equal(outlines(train=20, test=20).test.images, outlines(train=60, test=20).test.images)


@pytest.mark.parametrize("size", [16, 32, 45])
def test_pictures_are_what_an_image_set_wants(size):
    train, test = outlines(train=60, test=20, image_size=size)
    assert train.images.shape == (60, 3, size, size)
    assert 0 <= train.images.min() <= train.images.max() <= 1
    assert train.labels.bincount().tolist() == [3] * CLASSES == [3 * n for n in test.labels.bincount().tolist()]


def test_curves_enclose_equal_areas_and_differ_however_they_are_turned():
    angles = torch.linspace(0, 2 * math.pi, 361)[:-1]
    radius = curves(angles)  # [CLASSES, 360]
    torch.testing.assert_close(radius.square().mean(1), torch.ones(CLASSES), rtol=1e-4, atol=1e-4)
    turned = torch.stack([radius.roll(shift, 1) for shift in range(0, 360, 2)])  # [180, CLASSES, 360]
    for one in range(CLASSES):
        apart = (turned - radius[one]).square().mean(-1).sqrt().amin(0)  # [CLASSES], at the best turn
        assert apart[one] == 0
        assert (apart[torch.arange(CLASSES) != one] > 0.04).all()


def test_neither_colours_nor_single_pixels_tell_the_class():
    train, test = outlines(train=1000, test=1000, image_size=16)

    def amounts(images):
        flat = images.flatten(2)
        return torch.cat([flat.mean(2), flat.std(2), flat.sort(2).values[:, :, ::32].flatten(1)], 1)

    for seen in (amounts, lambda images: images.flatten(1)):
        found = LogisticRegression(max_iter=2000, C=0.1).fit(seen(train.images).numpy(), train.labels.numpy())
        assert found.score(seen(test.images).numpy(), test.labels.numpy()) < 0.1  # chance 0.05, 4 deviations 0.03


@pytest.mark.parametrize("wrong", [{"image_size": 15}, {"train": 30}, {"test": 0}])
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        outlines(**{"train": 20, "test": 20, **wrong})


def test_as_a_source_for_training():
    plan = recipe("small_images_gpu")
    source = open_source("outlines:200", "train", plan)
    assert (len(source), len(source.classes), source.in_memory) == (200, CLASSES, False)
    assert len(open_source("outlines:200", "validation", plan)) == 40
    with pytest.raises(ValueError, match="multiple of 100"):
        open_source("outlines:150", "train", plan)
    with pytest.raises(ValueError, match="in_chans"):
        open_source("outlines:200", "train", recipe("digits_cpu"))
    with pytest.raises(ValueError, match="expected one of"):
        open_source("outlines:many", "train", plan)
