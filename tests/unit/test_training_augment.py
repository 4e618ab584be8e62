import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mambaout_edu.training import random_affine, random_shift


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(3, 9), st.integers(3, 9), st.integers(0, 2), st.integers(0, 99)
)
def test_shift_is_one_of_the_shifts_of_each_image(batch, chans, height, width, pixels, seed):
    images = torch.rand(batch, chans, height, width, generator=seeded(seed)) + 1  # nothing is zero inside
    moved = random_shift(images, seeded(seed), pixels)
    assert moved.shape == images.shape
    for before, after in zip(images, moved, strict=True):
        candidates = []
        for down in range(-pixels, pixels + 1):
            for right in range(-pixels, pixels + 1):
                shifted = torch.zeros_like(before)
                rows, columns = slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0))
                source = before[:, max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
                shifted[:, rows, columns] = source
                candidates.append(shifted)
        assert sum(torch.equal(after, candidate) for candidate in candidates) == 1


def test_every_shift_comes_up_equally_often():
    dots = torch.zeros(9000, 1, 5, 5)
    dots[:, :, 2, 2] = 1
    share = random_shift(dots, seeded()).mean(dim=(0, 1))
    assert torch.all((share[1:4, 1:4] - 1 / 9).abs() < 0.02)
    assert share.sum() == pytest.approx(share[1:4, 1:4].sum())


def test_generator_decides():
    images = torch.rand(8, 1, 8, 8)
    for augment in (random_shift, random_affine):
        assert torch.equal(augment(images, seeded(1)), augment(images, seeded(1)))
        assert not torch.equal(augment(images, seeded(1)), augment(images, seeded(2)))


def test_affine_without_ranges_changes_nothing():
    images = torch.rand(4, 3, 8, 6)
    same = random_affine(images, seeded(), degrees=0, scale=0, shear=0, pixels=0)
    assert torch.allclose(same, images, atol=1e-5)


def test_affine_shift_is_measured_in_pixels():
    bar = torch.zeros(200, 1, 9, 21)
    bar[..., 10] = 1
    moved = random_affine(bar, seeded(), degrees=0, scale=0, shear=0, pixels=2)
    centre = (moved[:, 0, 4] * torch.arange(21)).sum(dim=1) / moved[:, 0, 4].sum(dim=1)
    assert 1.8 < (centre - 10).abs().max() <= 2.0001


def test_affine_turn_is_measured_in_degrees():
    line = torch.zeros(200, 1, 41, 41)
    line[:, :, 20] = 1
    turned = random_affine(line, seeded(), degrees=30, scale=0, shear=0, pixels=0)[:, 0]
    rows = torch.arange(41.0)[:, None] - 20
    left = (turned[:, :, 10] * rows[:, 0]).sum(dim=1) / turned[:, :, 10].sum(dim=1)
    degrees = (left / 10).atan() * 180 / math.pi
    assert 28 < degrees.abs().max() < 31
    assert degrees.min() < -20
    assert degrees.max() > 20


def test_affine_size_is_a_share():
    square = torch.zeros(200, 1, 40, 40)
    square[:, :, 10:30, 10:30] = 1
    area = random_affine(square, seeded(), degrees=0, scale=0.2, shear=0, pixels=0).sum(dim=(1, 2, 3)) / 400
    assert 0.8**2 - 0.02 < area.min() < 0.7
    assert 1.35 < area.max() < 1.2**2 + 0.02


def test_wrong_arguments_are_refused():
    for augment in (random_shift, random_affine):
        with pytest.raises(ValueError, match=r"expected \[B, C, H, W\]"):
            augment(torch.zeros(8, 8), seeded())
    with pytest.raises(ValueError, match="pixels is 8"):
        random_shift(torch.zeros(1, 1, 8, 8), seeded(), pixels=8)
    with pytest.raises(ValueError, match="degrees -1"):
        random_affine(torch.zeros(1, 1, 8, 8), seeded(), degrees=-1)
    with pytest.raises(ValueError, match="scale below 1"):
        random_affine(torch.zeros(1, 1, 8, 8), seeded(), scale=1)
