"""Receptive fields: exact for stacks of convolutions, equal to finite differences, for any layer and scan direction."""

from functools import partial

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mambaout_edu import flatten, seen
from mambaout_edu.blocks import GatedCNNBlock
from mambaout_edu.mixers import SS2D, Attention, BiMamba, DepthwiseConv, ScannedSSM
from mambaout_edu.models import MambaOut, Vim, VMamba
from mambaout_edu.models.registry import create_model

C = 4


def image(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def square(height, width, row, column, reach):
    rows, columns = np.ogrid[:height, :width]
    return (abs(rows - row) <= reach) & (abs(columns - column) <= reach)


def small_mambaout(**options):
    return MambaOut(depths=(1, 1), dims=(8, 12), num_classes=5, stem_stride=1, **options).double()


def small_vim(**options):
    return Vim(img_size=16, patch_size=4, embed_dim=8, depth=2, num_classes=5, d_state=2, **options).double()


def test_a_3x3_convolution_sees_3x3_pixels_and_two_of_them_5x5():
    one = nn.Conv2d(2, 3, 3, padding=1).double()
    two = nn.Sequential(one, nn.Conv2d(3, 4, 3, padding=1).double())
    for model, reach in ((one, 1), (two, 2)):
        field = seen.receptive_field(model, image(1, 2, 9, 11))
        np.testing.assert_array_equal(field.numpy() > 0, square(9, 11, 4, 5, reach))
        corner = seen.receptive_field(model, image(1, 2, 9, 11), position=(0, 10))
        np.testing.assert_array_equal(corner.numpy() > 0, square(9, 11, 0, 10, reach))
    weights = one.weight.detach().abs().mean((0, 1))
    torch.testing.assert_close(seen.receptive_field(one, image(1, 2, 9, 11))[3:6, 4:7], weights)


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_a_block_sees_the_window_of_its_convolution(kernel_size):
    block = GatedCNNBlock(C, kernel_size).double()
    field = seen.receptive_field(block, image(1, 9, 10, C), position=(4, 4), channels_last=True, layout="NHWC")
    np.testing.assert_array_equal(field.numpy() > 0, square(9, 10, 4, 4, kernel_size // 2))


def test_the_field_is_that_of_finite_differences():
    model, images, step = small_mambaout(), image(2, 3, 4, 6), 1e-5
    total = torch.zeros(4, 6, dtype=torch.float64)
    for x in images:
        pixels = x.numel()
        moved = x.reshape(-1) + step * torch.cat((torch.eye(pixels), -torch.eye(pixels))).double()
        with torch.no_grad():
            out = model.eval().stages[0](model.stem(moved.view(-1, *x.shape)))[:, 1, 2]  # [2 pixels, K]
        slopes = (out[:pixels] - out[pixels:]) / (2 * step)
        total += slopes.abs().mean(1).view(x.shape).mean(0) / 2
    got = seen.receptive_field(model, images, "stages.0", (1, 2), layout="NHWC")
    torch.testing.assert_close(got, total, rtol=1e-6, atol=1e-9)
    few = seen.receptive_field(model, images, model.stages[0], (1, 2), channels=[1, 5], layout="NHWC")
    each = [seen.receptive_field(model, images, "stages.0", (1, 2), channels=[c], layout="NHWC") for c in (1, 5)]
    torch.testing.assert_close(few, sum(each) / 2)


GLOBAL = {
    "vim": (lambda: small_vim(), "blocks.0"),
    "vmamba": (lambda: VMamba(depths=(1, 1), dims=(8, 16), num_classes=5, d_state=2).double(), "stages.0"),
    "mambaout with attention": (lambda: small_mambaout(mixer=partial(Attention, num_heads=1)), "stages.0"),
    "timm's vit": (
        lambda: timm.models.VisionTransformer(
            img_size=16, patch_size=4, embed_dim=8, depth=1, num_heads=2, num_classes=5
        ).double(),
        "blocks.0",
    ),
}


@pytest.mark.parametrize(("make", "layer"), GLOBAL.values(), ids=GLOBAL)
def test_a_model_with_a_global_mixer_reaches_everything(make, layer):
    model = make()
    for asked in (layer, None):
        field = seen.receptive_field(model, image(1, 3, 16, 16), asked, (0, 0), channels=range(3))
        assert (field > 0).all()
    local = seen.receptive_field(small_mambaout(), image(1, 3, 16, 16), "stages.0", (0, 0), channels=range(3))
    assert 0 < (local > 0).sum() < 64


def test_the_mean_over_images_and_no_trace_on_the_model():
    model = small_mambaout(drop_path_rate=0.5, drop_rate=0.5)
    model.stem.eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = image(3, 3, 8, 8)
    together = seen.receptive_field(model, images, "stages.1", channels=[0])
    apart = [seen.receptive_field(model, one[None], "stages.1", channels=[0]) for one in images]
    torch.testing.assert_close(together, torch.stack(apart).mean(0))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with torch.inference_mode():
        torch.testing.assert_close(seen.receptive_field(model, images.clone(), "stages.1", channels=[0]), together)


SPLIT = {
    "cross": (lambda: ScannedSSM(C, "cross", 2), lambda: flatten.paths("cross", 4, 5)),
    "atrous": (lambda: ScannedSSM(C, "atrous", 2), lambda: flatten.paths("atrous", 4, 5)),
    "hilbert both ways": (
        lambda: ScannedSSM(C, "bidirectional", 2, order="hilbert"),
        lambda: flatten.paths("bidirectional", 4, 5, order="hilbert"),
    ),
    "ss2d": (lambda: SS2D(C, 2, kernel_size=1), lambda: flatten.paths("cross", 4, 5)),
    "vim": (lambda: BiMamba(C, 2, d_conv=1), lambda: flatten.paths("bidirectional", 4, 5)),
}


@pytest.mark.parametrize(("make", "ways"), SPLIT.values(), ids=SPLIT)
def test_one_path_sees_what_it_visited_before(make, ways):
    mixer, x, place = make().double(), image(1, 4, 5, C), (1, 3)
    ask = partial(seen.receptive_field, mixer, x, position=place, channels_last=True, layout="NHWC")
    before = {name: value.clone() for name, value in mixer.state_dict().items()}
    union = np.zeros((4, 5), dtype=bool)
    for number, way in enumerate(ways()):
        expected = np.zeros(20, dtype=bool)
        if 8 in way:  # pixel (1, 3)
            expected[way[: list(way).index(8) + 1]] = True
        expected[8] |= isinstance(mixer, (SS2D, BiMamba))  # the gate lets a pixel act on itself
        field = ask(path=number).numpy() > 0
        np.testing.assert_array_equal(field, expected.reshape(4, 5) if field.any() else np.zeros((4, 5)))
        union |= field
    np.testing.assert_array_equal(union, ask().numpy() > 0)
    assert all(torch.equal(before[name], value) for name, value in mixer.state_dict().items())


def test_the_paths_of_a_linear_sum_are_its_parts():
    """A ScannedSSM adds its paths: at the first pixel all that comes from others is the backward path's."""
    mixer, x = ScannedSSM(1, "bidirectional", 2, dt_rank=1).double(), image(1, 3, 4, 1)
    ask = partial(seen.receptive_field, mixer, x, position=(0, 0), channels_last=True, layout="NHWC")
    ahead, back, both = ask(path=0), ask(path=1), ask()
    torch.testing.assert_close(both.flatten()[1:], back.flatten()[1:])  # the first pixel has nothing before it
    assert not ahead.flatten()[1:].any()
    assert ahead[0, 0] > 0


def test_a_direction_inside_a_model_is_silenced_in_the_layer_alone():
    model, x = small_vim(d_conv=1, class_token=None, global_pool="avg"), image(1, 3, 16, 16)
    ask = partial(seen.receptive_field, model, x, position=(1, 2), channels=range(3))
    patches = np.arange(16).reshape(4, 4).repeat(4, 0).repeat(4, 1)  # [16, 16], the patch of each pixel
    np.testing.assert_array_equal(ask(path=0).numpy() > 0, patches <= 6)
    np.testing.assert_array_equal(ask("blocks.1", path=1).numpy() > 0, np.ones((16, 16)))
    np.testing.assert_array_equal(ask("blocks.0", path=1).numpy() > 0, patches >= 6)


def test_tokens_are_found_where_the_model_puts_them():
    x, patches = image(1, 3, 16, 16), np.arange(16).reshape(4, 4).repeat(4, 0).repeat(4, 1)
    for where in ("middle", "head", "double"):
        model = small_vim(d_conv=1, class_token=where)
        field = seen.receptive_field(model, x, "blocks.0", (2, 1), channels=range(3), path=0)
        np.testing.assert_array_equal(field.numpy() > 0, patches <= 9)  # patch 9 and those before it
    vit = timm.models.VisionTransformer(img_size=16, patch_size=4, embed_dim=8, depth=1, num_heads=2).double()
    field = seen.receptive_field(vit, x, "patch_embed", (2, 1), channels=range(3))
    np.testing.assert_array_equal(field.numpy() > 0, patches == 9)
    token = small_vim(d_conv=1)  # the class token stands behind 8 patches
    field = seen.receptive_field(token, x, "blocks.0", 8, channels=range(3), path=0)
    np.testing.assert_array_equal(field.numpy() > 0, patches < 8)
    overlapping = Vim(img_size=(24, 40), patch_size=8, stride=4, embed_dim=8, depth=1, class_token=None, global_pool="")
    field = seen.receptive_field(overlapping.double(), image(1, 3, 24, 40), "patch_embed", (4, 8), channels=[0])
    rows, columns = np.nonzero(field.numpy())
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 23, 32, 39)


def test_layouts_of_timm_s_models_are_recognised():
    x = torch.randn(1, 3, 64, 64)
    convnext = timm.create_model("convnext_atto", pretrained=False, num_classes=2)  # [B, C, h, w]
    field = seen.receptive_field(convnext, x, "stages.0.blocks.0.conv_dw", (0, 15), channels=[0])
    rows, columns = np.nonzero(field.numpy())
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 15, 48, 63)  # 4 patches of 4 pixels each way
    mambaout = create_model("mambaout_femto", num_classes=2)  # [B, h, w, C]
    field = seen.receptive_field(mambaout, x, "stages.0.blocks.0.mixer", (15, 0), channels=[0])
    rows, columns = np.nonzero(field.numpy())
    assert (rows.max(), columns.min()) == (63, 0)
    assert rows.min() > 40
    assert columns.max() < 24


def test_class_scores_have_no_position():
    model, x = small_mambaout(), image(1, 3, 8, 8)
    assert (seen.receptive_field(model, x, "head", None, channels=[3]) > 0).all()
    with pytest.raises(ValueError, match=r"shape \(1, 5\), and position is 'centre'.*position=None"):
        seen.receptive_field(model, x, "head")


def test_the_input_of_a_layer():
    model, x = small_mambaout(), image(2, 3, 8, 8)
    model.train()
    with torch.no_grad():
        expected = model.stages[0](model.stem(x))
    torch.testing.assert_close(seen.input_of(model, x, "stages.1"), expected)
    torch.testing.assert_close(seen.input_of(model, x, model.stages[1].downsample), expected)
    assert model.training
    mixer = model.stages[1].blocks[0].mixer
    found = seen.input_of(model, x, mixer)
    assert seen.mixing_matrix(mixer, found).shape == (2, 16, 16)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


class Idle(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused, self.pair = nn.Identity(), nn.Identity(), Pair()

    def forward(self, x):
        return self.pair(self.used(x))[0]


REFUSED = [
    (lambda x: seen.receptive_field(small_mambaout(), x, "stages.7"), "MambaOut has no layer 'stages.7'; near it are"),
    (lambda x: seen.receptive_field(small_mambaout(), x, nn.ReLU()), "no part of this MambaOut"),
    (lambda x: seen.receptive_field(Idle(), x, "unused"), "a Identity, did not run"),
    (lambda x: seen.input_of(Idle(), x, "unused"), "the layer unused did not run"),
    (lambda x: seen.receptive_field(Idle(), x, position=(8, 0)), r"'centre' or \(row, column\) in .* 8 x 8 .*\(8, 0\)"),
    (lambda x: seen.receptive_field(Idle(), x, position="middle"), "got 'middle'"),
    (lambda x: seen.receptive_field(Idle(), x, position=3), r"position = 3 names a token .*shape \(1, 3, 8, 8\)"),
    (lambda x: seen.receptive_field(Idle(), x, position=None), "position=None for outputs"),
    (lambda x: seen.receptive_field(Idle(), x, channels=[0, 3]), r"from 0 to 2; got \[0, 3\]"),
    (lambda x: seen.receptive_field(Idle(), x, channels=[]), "one or more numbers"),
    (
        lambda x: seen.receptive_field(Idle(), x, layout="CHW"),
        "layout must be one of 'NCHW', 'NHWC' or None; got 'CHW'",
    ),
    (lambda x: seen.receptive_field(Idle(), x[0]), r"four axes.*\(3, 8, 8\)"),
    (lambda x: seen.receptive_field(nn.Conv2d(3, 8, 1), x), r"\(1, 8, 8, 8\).*say layout='NCHW'"),
    (
        lambda x: seen.receptive_field(nn.Flatten(2), x, position="centre"),
        "the 3 tokens form no grid with the proportions of 8 x 8",
    ),
    (lambda x: seen.receptive_field(Idle(), x, path=0), "Idle holds none of them"),
    (
        lambda x: seen.receptive_field(ScannedSSM(8, "cross", 2), x, channels_last=True, path=4),
        "path must be from 0 to 3 for this ScannedSSM; got 4",
    ),
    (
        lambda x: seen.receptive_field(ScannedSSM(8, "cross", 2, shared=True), x, channels_last=True, path=0),
        "shared=True have one set of parameters",
    ),
]


@pytest.mark.parametrize(("call", "said"), REFUSED)
def test_bad_requests_are_refused_in_words(call, said):
    with pytest.raises(ValueError, match=said):
        call(torch.randn(1, 3, 8, 8))


def test_what_is_no_tensor_is_refused():
    x = torch.randn(1, 3, 8, 8)
    with pytest.raises(TypeError, match=r"images must be a floating tensor.*torch\.uint8.*images / 255"):
        seen.receptive_field(Idle(), x.byte())
    with pytest.raises(TypeError, match="the output is a tuple; expected one tensor"):
        seen.receptive_field(Idle(), x, "pair")
    with pytest.raises(TypeError, match="the first argument of Sum is a list; expected a tensor"):
        seen.input_of(ListFirst(), x, "part")


class ListFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Sum()

    def forward(self, x):
        return self.part([x, x])


class Sum(nn.Module):
    def forward(self, tensors):
        return sum(tensors)


def test_an_output_that_sees_nothing_has_an_empty_field():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.zeros(len(x), 2, *x.shape[2:])

    assert not seen.receptive_field(Constant(), torch.randn(1, 3, 4, 6)).any()


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(any), st.floats(0.01, 1))
def test_half_area_is_the_fewest_pixels_that_suffice(values, share):
    count = seen.half_area(np.array(values), share)
    ranked = sorted(values, reverse=True)
    assert sum(ranked[:count]) >= share * sum(values) * (1 - 1e-9)
    assert sum(ranked[: count - 1]) < share * sum(values)


def test_half_area_of_known_fields():
    assert seen.half_area(np.ones((4, 6))) == 12
    assert seen.half_area(torch.eye(5)) == 3
    assert seen.half_area(np.eye(1)) == 1
    assert seen.half_area(np.eye(4), share=1) == 4
    for field, share, said in (
        (np.zeros((2, 2)), 0.5, "somewhere above 0; got 4 values from 0 to 0"),
        (-np.eye(2), 0.5, "nowhere negative"),
        (np.full((2, 2), np.nan), 0.5, "must be finite"),
        ([], 0.5, "got 0 values"),
        (np.eye(2), 0, "share must be above 0 and at most 1; got 0"),
    ):
        with pytest.raises(ValueError, match=said):
            seen.half_area(field, share)


def test_a_convolution_s_field_is_a_row_of_its_mixing_matrix():
    """Both measures of one mixer, on one channel: the same numbers."""
    mixer, x = DepthwiseConv(1, 3).double(), image(1, 5, 6, 1)
    field = seen.receptive_field(mixer, x, position=(2, 3), channels_last=True, layout="NHWC")
    torch.testing.assert_close(field.flatten(), seen.mixing_matrix(mixer, x, how="gradient")[0, 2 * 6 + 3])
