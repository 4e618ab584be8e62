"""What a model does when it runs: shapes, live tensors, sizes that are left out, and the first module that differs."""

import pytest
import timm
import torch
from torch import nn

from mambaout_edu.mixers import SS2D, Attention, WindowAttention
from mambaout_edu.models import MambaOut, ResVMamba, VMamba, create_model, measure, profile, stage_shapes
from mambaout_edu.models.mixer_counts import attention_multiply_adds, ss2d_multiply_adds, token_grid

SMALL = {"depths": (1, 1), "dims": (8, 16), "num_classes": 3}


class OnImages(nn.Module):
    """A mixer [B, H, W, C] behind the face of a model on images [B, C, H, W], for `profile`."""

    def __init__(self, mixer, channels):
        super().__init__()
        self.mixer, self.in_chans = mixer, channels

    def forward(self, x):
        return self.mixer(x.permute(0, 2, 3, 1))


def test_shapes_are_those_of_the_models():
    assert measure.feature_shapes(MambaOut(**SMALL), 50, 70) == stage_shapes(50, 70, dims=(8, 16))
    vit = timm.create_model("vit_tiny_patch16_224", depth=2)
    assert measure.feature_shapes(vit, 224, 224) == [(14, 14, 192)]
    for model in (MambaOut(**SMALL), VMamba(**SMALL), ResVMamba(**SMALL)):
        images = torch.randn(1, 3, 40, 64)
        ran = [tuple(y.shape[1:]) for y in model.forward_intermediates(images, output_fmt="NHWC")[1]]
        assert measure.feature_shapes(model, 40, 64) == ran


def test_shapes_compute_nothing():
    with torch.device("meta"):
        model = create_model("vmamba_base")
    assert measure.feature_shapes(model, 4096, 4096)[0] == (1024, 1024, 128)


def test_the_peak_counts_what_is_alive_together():
    class Steps(nn.Module):
        def __init__(self, keep):
            super().__init__()
            self.weight, self.keep = nn.Parameter(torch.ones(())), keep

        def forward(self, x):
            kept = []
            for _ in range(5):
                x = x * self.weight
                kept.append(x if self.keep else None)
            return x

    image = 3 * 16 * 16 * 4  # bytes
    assert measure.run_cost(Steps(keep=False), 16).peak_bytes == 2 * image  # one is read while the next is written
    assert measure.run_cost(Steps(keep=True), 16).peak_bytes == 5 * image


def test_views_and_writes_in_place_need_no_memory():
    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return (x + self.weight).permute(0, 2, 3, 1)[:, 1:].mul_(2).flatten(0, 1)

    assert measure.run_cost(Views(), 16).peak_bytes == 3 * 16 * 16 * 4


def test_stored_attention_grows_with_the_square_and_a_scan_does_not():
    timm.layers.set_fused_attn(False)
    stored = timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True, depth=1, embed_dim=48, num_heads=3)
    timm.layers.set_fused_attn(True)
    scan = create_model("vim_tiny", depth=1, embed_dim=48)
    measured = measure.run_costs({"stored": stored, "scan": scan}, [256, 512], repeats=1)
    growth = {name: large.peak_bytes / small.peak_bytes for name, (small, large) in measured.items()}
    assert growth["stored"] > 10
    assert growth["scan"] < 5


def test_the_backward_pass_keeps_more_alive():
    model = MambaOut(**SMALL)
    forward, whole = (measure.run_cost(model, 32, repeats=1, backward=backward) for backward in (False, True))
    assert whole.peak_bytes > 2 * forward.peak_bytes
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_is_left_as_it_was():
    model, threads = MambaOut(**SMALL).train(), torch.get_num_threads()
    model.stages[0].eval()
    measure.run_cost(model, 32, repeats=1)
    measure.outputs_in_order(model, torch.randn(1, 3, 32, 32))
    assert model.training
    assert not model.stages[0].training
    assert torch.get_num_threads() == threads
    assert not any(module._forward_hooks for module in model.modules())


def test_sizes_that_might_not_fit_are_left_out():
    model = nn.Conv2d(3, 8, 1)
    at_32 = measure.run_cost(model, 32).peak_bytes
    measured = measure.run_costs({"conv": model}, [16, 32, 64], repeats=1, most_bytes=at_32 * 4)
    assert [cost.size for cost in measured["conv"]] == [16, 32]


@pytest.mark.parametrize(("size", "repeats"), [(0, 1), (8, 0)])
def test_a_size_or_number_of_runs_below_one_is_refused(size, repeats):
    with pytest.raises(ValueError, match=f"at least 1; got {size} and {repeats}"):
        measure.run_cost(nn.Conv2d(3, 8, 1), size, repeats=repeats)


def test_two_runs_part_at_the_layer_that_is_drawn_anew():
    images = torch.randn(2, 3, 32, 32)
    parts = {}
    for residual in ("published", "stage", "stem"):
        model = ResVMamba(residual=residual, **SMALL)
        parts[residual] = measure.first_difference(*(measure.outputs_in_order(model, images) for _ in range(2)))
    assert parts == {"published": "residual_projection.0", "stage": None, "stem": None}


def test_a_module_that_runs_twice_has_two_outputs():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(self.act(x) - 1)

    outputs = measure.outputs_in_order(Twice(), torch.tensor([3.0, 0.5]))
    assert {name: output.tolist() for name, output in outputs.items()} == {
        "act": [3.0, 0.5],
        "act, call 2": [2.0, 0.0],
        "": [2.0, 0.0],
    }


@pytest.mark.parametrize(("dim", "d_state", "expand", "gate", "scan"), [
    (24, 1, 1.0, False, "cross"), (24, 16, 2.0, True, "cross"), (40, 4, 1.5, False, "bidirectional"),
])  # fmt: skip
def test_the_count_of_ss2d_is_what_profile_finds(dim, d_state, expand, gate, scan):
    found = profile(OnImages(SS2D(dim, d_state, expand, gate=gate, scan=scan), dim), (12, 10))
    paths = 4 if scan == "cross" else 2
    assert ss2d_multiply_adds(12, 10, dim, d_state, expand, gate, paths) == found.as_published


def test_the_count_of_attention_is_what_profile_finds():
    everywhere = profile(OnImages(Attention(32, num_heads=4), 32), (14, 7))
    assert attention_multiply_adds(98, 32) == everywhere.multiply_adds
    windows = profile(OnImages(WindowAttention(32, num_heads=4, window_size=7), 32), (14, 7))
    assert attention_multiply_adds(98, 32, seen=49) == windows.multiply_adds


@pytest.mark.parametrize(
    ("height", "width", "patch", "stride"), [(224, 224, 16, 16), (225, 300, 16, 10), (16, 40, 16, 7)]
)
def test_the_grid_is_that_of_a_convolution(height, width, patch, stride):
    windows = nn.functional.conv2d(torch.zeros(1, 1, height, width), torch.zeros(1, 1, patch, patch), stride=stride)
    assert token_grid(height, width, patch, stride) == tuple(windows.shape[2:])


def test_an_image_smaller_than_a_patch_is_refused():
    with pytest.raises(ValueError, match="at least one patch; got 8 x 300 pixels"):
        token_grid(8, 300)
