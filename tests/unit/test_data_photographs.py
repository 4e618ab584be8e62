import numpy as np
import pytest

from mambaout_edu import strings
from mambaout_edu.data import model_input, photograph, photographs


@pytest.mark.parametrize("name", list(photographs()))
def test_photograph_is_real_and_in_colour(name):
    item = photograph(name)
    assert item.image.dtype == np.uint8
    assert item.image.ndim == 3
    assert item.image.shape[2] == 3
    assert min(item.image.shape[:2]) >= 224
    assert item.image.std() > 10
    red, green, blue = (item.image[..., c].astype(int) for c in range(3))
    assert np.abs(red - green).mean() + np.abs(green - blue).mean() > 1, "grey pictures are no colour photographs"
    assert item.title == strings.text("data", f"photograph.{name}")
    assert item.credit


def test_collection_is_an_ordered_mapping_that_reads_once():
    pictures = photographs()
    assert list(pictures)[:3] == ["astronaut", "chelsea", "coffee"]
    assert len(pictures) == len(list(pictures)) == 7
    assert pictures["coffee"] is pictures["coffee"]
    assert "coffee" in pictures
    assert "tea" not in pictures
    assert pictures.get("tea") is None


def test_changing_a_picture_does_not_change_the_next_one():
    first = photograph("coffee")
    first.image[:] = 0
    assert photograph("coffee").image.max() > 0


def test_unknown_name_lists_the_known_and_the_nearest():
    with pytest.raises(ValueError, match=r"'cofee'.*astronaut.*did you mean 'coffee'"):
        photograph("cofee")
    with pytest.raises(KeyError, match="did you mean"):
        photographs()["Astronaut"]
    with pytest.raises(ValueError, match="There are astronaut"):
        photograph("zzzzzz")


def test_model_input_crops_the_middle_and_normalises():
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, 46:154] = 255  # the middle square, and as much beside it as the filter reaches
    x = model_input(image, 64, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    assert x.shape == (3, 64, 64)
    assert x.min() == x.max() == pytest.approx(2.0)
    assert model_input(image, None).shape == (3, 100, 200)


@pytest.mark.parametrize("bad", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((8, 8, 4), np.uint8)])
def test_model_input_refuses_other_arrays(bad):
    with pytest.raises(TypeError, match=r"expected uint8 \[H, W, 3\]"):
        model_input(bad)


def test_model_input_refuses_no_size():
    with pytest.raises(ValueError, match="image_size is 0"):
        model_input(np.zeros((8, 8, 3), np.uint8), 0)
