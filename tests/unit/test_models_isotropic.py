"""The far-corner comparison: one skeleton, equal parameters, and what each model can see, proven from both sides."""

import pytest
import torch

from mambaout_edu.models import MambaOut
from mambaout_edu.models.isotropic import COMPARED, PixelClassifier, compared_model
from mambaout_edu.seen.reachable import hidden_change, reach


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def patches(reached):
    """Which patches of 4 x 4 pixels are seen; all pixels of a patch are, or none."""
    cells = reached.unflatten(1, (-1, 4)).unflatten(0, (-1, 4))  # [h, 4, w, 4]
    assert torch.equal(cells.all(3).all(1), cells.any(3).any(1))
    return cells.all(3).all(1)


@pytest.mark.parametrize("mixer", COMPARED)
@pytest.mark.parametrize("dense", [False, True])
def test_models_of_equal_parameters_give_scores(mixer, dense):
    conv = compared_model("conv", 4, 32, dense, seed=0)
    model = compared_model(mixer, 4, 32, dense, parameters=parameters(conv), seed=0)
    assert abs(parameters(model) / parameters(conv) - 1) < 0.05
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert model(images).shape == ((2, 4, 32, 32) if dense else (2, 4))
    again = compared_model(mixer, 4, 32, dense, parameters=parameters(conv), seed=0)
    assert torch.equal(model(images), again(images))


def test_the_generator_of_torch_is_left_alone():
    before = torch.get_rng_state()
    compared_model("conv", 2, 16, depth=1, dim=16, seed=5)
    assert torch.equal(before, torch.get_rng_state())


def test_pixel_scores_lie_where_their_patch_is():
    model = compared_model("conv", 3, 32, dense=True, depth=1, dim=16, kernel_size=1, seed=0)
    for row, column in ((0, 0), (5, 17), (31, 31)):
        expected = torch.zeros(32, 32, dtype=torch.bool)
        expected[row // 4 * 4 : row // 4 * 4 + 4, column // 4 * 4 : column // 4 * 4 + 4] = True
        assert torch.equal(reach(model, 32, (row, column)), expected)


@pytest.mark.parametrize(("depth", "kernel"), [(1, 7), (2, 3), (3, 5)])
def test_a_convolution_sees_a_square_and_nothing_beyond(depth, kernel):
    model = compared_model("conv", 3, 96, dense=True, depth=depth, dim=8, kernel_size=kernel, seed=0)
    side = depth * (kernel // 2)
    for row, column in ((40, 50), (0, 95)):
        seen = reach(model, 96, (row, column))
        cells = torch.arange(24)
        square = ((cells - row // 4).abs() <= side)[:, None] & ((cells - column // 4).abs() <= side)
        assert torch.equal(patches(seen), square)
        assert hidden_change(model, ~seen, (row, column)) == 0.0
        assert hidden_change(model, seen, (row, column)) > 0


def test_eight_blocks_of_seven_see_196_pixels_of_which_96_to_99_lie_on_one_side():
    model = compared_model("conv", 2, 256, dense=True, dim=8, seed=0)
    seen = reach(model, 256, (128, 131))
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    assert (rows.min(), rows.max()) == (128 - 96, 128 + 99)
    assert (columns.min(), columns.max()) == (131 - 99, 131 + 96)
    assert seen.sum() == 196**2
    assert hidden_change(model, ~seen, (128, 131)) == 0.0


@pytest.mark.parametrize("mixer", ["conv + bidirectional", "conv + cross", "attention"])
def test_scans_from_all_sides_and_attention_see_everything_in_one_block(mixer):
    model = compared_model(mixer, 2, 64, dense=True, depth=1, dim=16, seed=0)
    for at in ((0, 0), (63, 63), (20, 41)):
        assert reach(model, 64, at).all()


def test_a_class_of_the_whole_picture_sees_everything_by_its_pooling():
    model = compared_model("conv", 2, 64, depth=1, dim=16, kernel_size=1, seed=0)
    whole = torch.nn.Sequential(model)  # hides forward_features, so that the scores are asked
    assert reach(whole, 64, None).all()
    assert not reach(model, 64, (0, 0)).all()


def test_a_hierarchical_model_sees_further_than_an_isotropic_one_of_equal_depth():
    flat = compared_model("conv", 2, 256, depth=4, dim=8, kernel_size=3, seed=0)
    stages = MambaOut(depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), kernel_size=3, num_classes=2)
    near, far = reach(flat, 256), reach(stages, 256)
    # 1 + 2 * 4 patches of 4 pixels; strides 4 to 32 grow 2 (stem: 1 and 2) + 4 + (4 + 8) + (8 + 16) + (16 + 32) pixels.
    assert near.any(1).sum() == 36
    assert far.any(1).sum() > 5 * near.any(1).sum()
    assert hidden_change(stages, ~far) == 0.0


def test_reach_leaves_the_model_as_it_was():
    model = compared_model("conv", 2, 32, dense=True, depth=1, dim=8, seed=0).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    reach(model, 32)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_what_cannot_be_is_refused():
    model = compared_model("conv", 2, 32, dense=True, depth=1, dim=8, seed=0)
    with pytest.raises(ValueError, match="no compared mixer is named 'mlp'"):
        compared_model("mlp", 2, 32, seed=0)
    with pytest.raises(ValueError, match="within 5 %"):
        compared_model("attention", 2, 32, parameters=10, seed=0)
    with pytest.raises(ValueError, match="multiples of the stride 4"):
        model(torch.zeros(1, 3, 30, 32))
    with pytest.raises(ValueError, match="num_classes must be at least 1"):
        PixelClassifier(MambaOut(depths=(1,), dims=(8,), num_classes=0), 0)
    with pytest.raises(ValueError, match="at least 1"):
        reach(model, 0)
    with pytest.raises(ValueError, match="position must be"):
        reach(model, 32, (32, 0))
    with pytest.raises(TypeError, match="hidden must be boolean"):
        hidden_change(model, torch.zeros(32, 32))
    with pytest.raises(ValueError, match=r"hidden must be \[H, W\]"):
        hidden_change(model, torch.zeros(32, dtype=torch.bool))
