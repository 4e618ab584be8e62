"""The Mamba block on images: eq. 11 is the gated CNN block with one argument changed."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mambaout_edu.blocks import GatedBlock, GatedCNNBlock
from mambaout_edu.mixers import ConvSSM, DepthwiseConv, Mamba1, no_weight_decay
from mambaout_edu.models import MambaOut, profile

MAMBA = partial(ConvSSM, kernel_size=7)


@torch.no_grad()
def test_equation_eleven_written_out():
    mixer = ConvSSM(6, kernel_size=3, d_state=2).double()
    image = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    z = F.conv2d(image.permute(0, 3, 1, 2), mixer.conv.weight, mixer.conv.bias, padding=1, groups=6)
    x = F.silu(z).permute(0, 2, 3, 1).reshape(2, 20, 6)  # row by row
    low, B, C = (x @ mixer.x_proj.weight.T).split([1, 2, 2], -1)
    delta = F.softplus(low @ mixer.dt_proj.weight.T + mixer.dt_proj.bias)
    A, h, outputs = -mixer.A_log.exp(), torch.zeros(2, 6, 2, dtype=torch.float64), []
    for t in range(20):
        h = (delta[:, t, :, None] * A).exp() * h + (delta[:, t] * x[:, t])[..., None] * B[:, t, None]
        outputs.append((h * C[:, t, None]).sum(-1) + mixer.D * x[:, t])
    torch.testing.assert_close(mixer(image), torch.stack(outputs, 1).view(2, 4, 5, 6))


def test_one_argument_adds_the_ssm():
    with_ssm, without = GatedBlock(24, mixer=MAMBA), GatedCNNBlock(24)
    more = set(with_ssm.state_dict()) - set(without.state_dict())
    assert more >= {f"mixer.{name}" for name in ("A_log", "D", "x_proj.weight", "dt_proj.weight", "dt_proj.bias")}
    renamed = {name.replace("mixer.conv.", "mixer."): p.shape for name, p in with_ssm.state_dict().items()}
    assert all(renamed[name] == p.shape for name, p in without.state_dict().items())


@torch.no_grad()
def test_without_its_state_it_is_the_gated_cnn():
    """C = 0 reads nothing from the state, D = 1 lets the convolution pass, and no activation bends it."""
    block, cnn = GatedBlock(16, mixer=partial(ConvSSM, act_layer=nn.Identity)), GatedCNNBlock(16)
    cnn.load_state_dict({k.replace("mixer.conv.", "mixer."): v for k, v in block.state_dict().items()}, strict=False)
    x = torch.randn(2, 9, 7, 16)
    assert (block(x) - cnn(x)).abs().max() > 1e-4
    block.mixer.x_proj.weight[-16:] = 0
    torch.testing.assert_close(block(x), cnn(x), rtol=0, atol=1e-6)


def test_the_models_initialisation_keeps_the_ssm():
    model = MambaOut(depths=(1, 1), dims=(16, 32), num_classes=4, in_chans=1, stem_stride=1, mixer=MAMBA)
    for stage, channels in ((0, 16), (1, 32)):
        mixer = model.stages[stage].blocks[0].mixer
        dt = F.softplus(mixer.dt_proj.bias.detach())
        assert dt.min() > 0.00099
        assert dt.max() < 0.1001
        assert len(dt.unique()) > channels // 2
        torch.testing.assert_close(mixer.A, -torch.arange(1.0, 17.0).expand(channels, 16))
        assert mixer.x_proj.weight.std() > 0.4 / channels**0.5  # 1 / sqrt(3 fan_in), not the model's 0.02
    names = no_weight_decay(model)
    assert names == {f"stages.{i}.blocks.0.mixer.{name}" for i in (0, 1) for name in ("A_log", "D")}


def test_a_small_model_learns():
    """Which quadrant is bright: gradients flow through stem, gate, convolution and scan."""
    torch.manual_seed(0)
    model = MambaOut(depths=(1,), dims=(8,), num_classes=4, in_chans=1, stem_stride=1, mixer=MAMBA)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    labels = torch.arange(4).repeat(8)
    images = 0.1 * torch.randn(32, 1, 8, 8)
    for image, label in zip(images, labels, strict=True):
        top, left = 4 * (label // 2), 4 * (label % 2)
        image[0, top : top + 4, left : left + 4] += 1
    losses = []
    for _ in range(50):
        loss = F.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 1.2
    assert losses[-1] < 0.1


@pytest.mark.parametrize("dim", [16, 33, 96])
def test_parameters_in_closed_form(dim):
    """Beside the convolution: x_proj, dt_proj with its bias, A, D, as the block diagram counts them."""
    rank, N = -(-dim // 16), 16
    extra = dim * (rank + 2 * N) + rank * dim + dim + dim * N + dim
    count = [sum(p.numel() for p in m.parameters()) for m in (ConvSSM(dim), DepthwiseConv(dim))]
    assert count[0] - count[1] == extra


def test_the_profile_books_it_as_token_mixing():
    sizes = {"depths": (1,), "dims": (32,), "num_classes": 4, "in_chans": 1, "stem_stride": 1}
    with_ssm, without = (profile(MambaOut(**sizes, mixer=m), 16) for m in (MAMBA, None))
    rank, N, L = 2, 16, 256
    assert with_ssm["channel mixing"] == without["channel mixing"]
    more = with_ssm["token mixing"].multiply_adds - without["token mixing"].multiply_adds
    projections = L * 32 * (rank + 2 * N) + L * rank * 32
    assert more >= projections + 9 * L * 32 * N // 2


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (5, 3)])
def test_any_size_works(size):
    for mixer in (MAMBA, partial(Mamba1, d_state=4)):
        x = torch.randn(2, *size, 16)
        assert GatedBlock(16, mixer=mixer)(x).shape == x.shape


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="kernel_size must be odd"):
        ConvSSM(8, kernel_size=4)
    with pytest.raises(ValueError, match=r"C = 8 last.*got shape \(2, 8, 5, 5\)"):
        ConvSSM(8)(torch.zeros(2, 8, 5, 5))
    with pytest.raises(ValueError, match=r"got shape \(2, 25, 8\)"):
        ConvSSM(8)(torch.zeros(2, 25, 8))
