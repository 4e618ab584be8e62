"""What the profile counts: published tables, recurrent networks, attention and scans in closed form, timm's parts."""

from functools import partial

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mambaout_edu.mixers import Attention, BiMamba, ConvSSM, Recurrent, ScannedSSM, SelectiveSSM, WindowAttention
from mambaout_edu.models import create_model, profile


class OnImages(nn.Module):
    """A mixer alone, as a model on images [B, C, H, W]."""

    def __init__(self, mixer, channels):
        super().__init__()
        self.mixer, self.in_chans = mixer, channels

    def forward(self, x):
        return self.mixer(x.permute(0, 2, 3, 1))


def cost(mixer, channels, height=6, width=5):
    return profile(OnImages(mixer, channels), (height, width))


def on_meta(make, name, **kwargs):
    with torch.device("meta"):
        return make(name, **kwargs)


# Name, parameters, G multiply-adds on 224 x 224 counted by other means (matrix products and convolutions).
DENSE = [
    ("mambaout_femto", 7_304_536, 1.1480),
    ("mambaout_kobe", 9_141_208, 1.5059),
    ("mambaout_tiny", 26_545_096, 4.4697),
    ("mambaout_small", 48_488_072, 8.9364),
    ("mambaout_base", 84_813_092, 15.7943),
    ("mambaout_base_plus_rw", 101_656_552, 19.1612),
    ("swin_tiny_patch4_window7_224", 28_288_354, 4.4906),
    ("swin_small_patch4_window7_224", 49_606_258, 8.7409),
    ("deit_tiny_patch16_224", 5_717_416, 1.2537),
    ("vit_small_patch16_224", 22_050_664, 4.5989),
    ("vit_base_patch16_224", 86_567_656, 17.5638),
    ("convnext_tiny", 28_589_128, 4.4555),
    ("resnet50", 25_557_032, 4.0892),
]


@pytest.mark.parametrize(("name", "parameters", "dense"), DENSE)
def test_models_without_a_scan_cost_what_the_tables_say(name, parameters, dense):
    found = profile(on_meta(create_model if name.startswith("mambaout") else timm.create_model, name), 224)
    assert found.parameters == parameters
    assert found.multiply_adds / 1e9 == pytest.approx(dense, abs=6e-5)
    assert found.scan_operations == 0
    assert found.as_published == found.multiply_adds


# Name, G multiply-adds of products and convolutions, G operations of the scans (9 L D N + L D), on 224 x 224.
SCANNED = [
    ("vmamba_tiny_v0", 3.677, 1.921),
    ("vmamba_small_v0", 7.690, 3.492),
    ("vmamba_base_v0", 13.297, 4.656),
    ("vmamba_tiny_s2l5", 4.716, 0.108),
    ("vmamba_tiny", 4.813, 0.063),
    ("vmamba_base", 15.031, 0.132),
    ("vim_tiny", 1.293, 0.523 * 145 / 144),  # the table leaves out the skip, one operation in 145
    ("vim_small", 4.851, 1.046 * 145 / 144),
]


@pytest.mark.parametrize(("name", "dense", "scanned"), SCANNED)
def test_models_with_a_scan_cost_what_the_tables_say(name, dense, scanned):
    found = profile(on_meta(create_model, name), 224)
    assert found.scan_operations / 1e9 == pytest.approx(scanned, abs=1e-3)
    assert found.as_published / 1e9 == pytest.approx(dense + scanned, abs=2e-3)
    assert found.multiply_adds / 1e9 == pytest.approx(dense + scanned / 2, abs=2e-3)
    assert found["token mixing"].scan_operations == found.scan_operations
    assert f"{found.as_published:,}" in repr(found).splitlines()[-1]


@pytest.mark.parametrize(
    ("paths", "count"), [("raster", 1), ("bidirectional", 2), ("cross", 4)], ids=["one", "two", "four"]
)
def test_a_scan_is_9_operations_a_state_and_one_for_the_skip(paths, count):
    channels, states, length, rank = 32, 4, 30, 2
    found = cost(ScannedSSM(channels, paths=paths, d_state=states), channels)
    assert found.scan_operations == count * length * channels * (9 * states + 1)
    dense = count * length * (channels * (rank + 2 * states) + rank * channels)
    assert found.multiply_adds == dense + found.scan_operations // 2


def test_a_convolution_before_the_scan_and_both_directions_count():
    alone, convolved = cost(SelectiveSSM(8), 8), cost(ConvSSM(8, kernel_size=5), 8)
    assert convolved.multiply_adds - alone.multiply_adds == 25 * 8 * 30
    assert cost(BiMamba(8, expand=2), 8).scan_operations == 2 * 30 * 16 * (9 * 16 + 1)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_counts_all_pairs(causal):
    found = cost(Attention(16, head_dim=4, causal=causal), 16)
    assert found.multiply_adds == 4 * 16**2 * 30 + 2 * 16 * 30**2


def test_window_attention_counts_its_padding():
    found = cost(WindowAttention(16, head_dim=4, window_size=4), 16)  # 6 x 5 pixels are padded to 8 x 8
    assert found.multiply_adds == 4 * 16**2 * 64 + 4 * 2 * 16 * 16**2


def test_a_vit_costs_the_formula():
    dim, length = 384, 197
    found = profile(on_meta(timm.create_model, "vit_small_patch16_224"), 224)
    assert found["token mixing"].multiply_adds == 12 * (4 * dim**2 * length + 2 * dim * length**2)
    assert found["channel mixing"].multiply_adds == 12 * 8 * dim**2 * length
    assert found["stem"].multiply_adds == 196 * 3 * 256 * dim
    assert found["head"].multiply_adds == 1000 * dim


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"num_layers": 2}, {"order": "spiral"}])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_recurrent_network_counts_as_step_by_step(cell, options):
    mixer = Recurrent(8, cell=cell, **options)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        mixer.to("meta")(torch.empty(1, 6, 5, 8, device="meta"))
    found = cost(Recurrent(8, cell=cell, **options), 8)
    assert found.multiply_adds == counter.get_total_flops() // 2 > 0


def test_networks_that_lead_with_time_and_packed_ones_count_too():
    class Columns(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.GRU(5, 3)

        def forward(self, x):
            y, last = self.net(x.flatten(1, 2).permute(1, 0, 2))  # [L, B, 5], time first
            assert y.shape == (18, 1, 3)
            assert last.shape == (1, 1, 3)
            return y

    assert profile(Columns(), (6, 5)).multiply_adds == 18 * 3 * (5 * 3 + 3 * 3)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("swin_tiny_patch4_window7_224", ["stem", "token mixing", "channel mixing", "downsampling", "head", "other"]),
        ("vit_tiny_patch16_224", ["stem", "token mixing", "channel mixing", "head", "other"]),
        ("convnext_atto", ["stem", "token mixing", "channel mixing", "downsampling", "head"]),
        ("resnet18", ["other"]),
    ],
)
def test_parts_of_timms_models(name, parts):
    model = on_meta(timm.create_model, name)
    found = profile(model, 224)
    assert [part.name for part in found] == parts
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert "other" not in parts[:-1] or found["other"].multiply_adds == 0


def test_timms_mambaout_and_ours_agree_part_by_part():
    theirs = profile(on_meta(timm.create_model, "mambaout_femto"), 96)
    assert theirs.parts == profile(on_meta(create_model, "mambaout_femto"), 96).parts


def test_the_model_is_left_as_it_was():
    model = OnImages(nn.Sequential(Recurrent(4), nn.Dropout(), partial(Recurrent, bidirectional=True)(4)), 4)
    model.mixer[1].eval()
    before = {name: module.training for name, module in model.named_modules()}
    profile(model, 4)
    assert {name: module.training for name, module in model.named_modules()} == before
    assert all(p.device.type == "cpu" for p in model.parameters())
