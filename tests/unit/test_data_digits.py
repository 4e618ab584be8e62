import importlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mambaout_edu.data import ImageSet, digits
from mambaout_edu.data.extras import require


def rows(images):
    return {image.numpy().tobytes() for image in images.images}


def test_every_scan_is_in_exactly_one_part():
    train, test = digits(seed=0)
    assert len(train) + len(test) == 1797
    assert len(rows(train)) == len(train), "scans are all different, so equal bytes would mean a repeat"
    assert len(rows(test)) == len(test)
    assert not rows(train) & rows(test)


def test_split_is_stratified():
    train, test = digits(seed=3)
    share = torch.bincount(test.labels, minlength=10) / (
        torch.bincount(train.labels, minlength=10) + torch.bincount(test.labels, minlength=10)
    )
    assert torch.all((share - 0.25).abs() < 0.01)


def test_seed_decides_the_split():
    assert torch.equal(digits(seed=1).test.images, digits(seed=1).test.images)
    assert not torch.equal(digits(seed=1).test.images, digits(seed=2).test.images)


def test_images_are_ink_from_0_to_1():
    train, _ = digits()
    assert train.images.dtype == torch.float32
    assert train.images.shape[1:] == (1, 8, 8)
    assert train.images.min() == 0
    assert train.images.max() == 1
    # A nought is hollow: its middle holds less ink than its ring.
    noughts = train.images[train.labels == 0, 0].mean(dim=0)
    assert noughts[3:5, 3:5].mean() < 0.2 < noughts[3:5, 2].mean()


def test_resizing_keeps_order_and_mean():
    small, large = digits(seed=0), digits(seed=0, image_size=32)
    assert large.train.images.shape[1:] == (1, 32, 32)
    assert torch.equal(small.train.labels, large.train.labels)
    assert torch.allclose(small.train.images.mean(dim=(1, 2, 3)), large.train.images.mean(dim=(1, 2, 3)), atol=0.03)
    assert digits(image_size=8).train.images.shape[1:] == (1, 8, 8)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2])
def test_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(ValueError, match="between 0 and 1"):
        digits(test_fraction=fraction)


def test_size_out_of_range_is_refused():
    with pytest.raises(ValueError, match="image_size is 0"):
        digits(image_size=0)


@given(st.integers(2, 6), st.integers(4, 20), st.integers(0, 100))
def test_split_loses_nothing(classes, each, seed):
    labels = torch.arange(classes).repeat(each)
    images = torch.arange(len(labels), dtype=torch.float32).reshape(-1, 1, 1, 1)
    train, test = ImageSet(images, labels, tuple("abcdef"[:classes])).split(0.5, seed)
    together = torch.cat([train.images, test.images]).flatten()
    assert torch.equal(together.sort().values, images.flatten())
    assert set(test.labels.tolist()) == set(range(classes))


@pytest.mark.parametrize(
    ("images", "labels", "error", "says"),
    [
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.long), TypeError, "torch.uint8"),
        (torch.zeros(2, 8, 8), torch.zeros(2, dtype=torch.long), TypeError, r"\(2, 8, 8\)"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2), TypeError, r"labels\.long"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(3, dtype=torch.long), ValueError, "2 images but 3 labels"),
        (torch.zeros(2, 1, 8, 8), torch.tensor([0, 2]), ValueError, "from 0 to 1"),
        (torch.zeros(2, 1, 8, 8), torch.tensor([-1, 0]), ValueError, "from -1"),
    ],
)
def test_image_set_refuses_what_does_not_belong_together(images, labels, error, says):
    with pytest.raises(error, match=says):
        ImageSet(images, labels, ("a", "b"))


def test_subset_takes_any_kind_of_index():
    whole = ImageSet(torch.arange(3.0).reshape(3, 1, 1, 1), torch.tensor([0, 1, 0]), ("a", "b"))
    for chosen in ([2, 0], np.array([2, 0]), torch.tensor([2, 0]), range(2, -1, -2)):
        assert whole.subset(chosen).images.flatten().tolist() == [2, 0]


def test_missing_package_names_the_command(monkeypatch):
    real = importlib.import_module

    def without_skimage(name, *args):
        if name.startswith("skimage"):
            raise ModuleNotFoundError("No module named 'skimage'", name="skimage")
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", without_skimage)
    with pytest.raises(ImportError, match=r'scikit-image.*pip install "mambaout-edu\[lab\]"'):
        require("skimage.data")


def test_other_import_errors_are_not_hidden(monkeypatch):

    def broken(name, *args):
        raise ModuleNotFoundError("No module named 'joblib'", name="joblib")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="joblib"):
        require("sklearn.datasets")
