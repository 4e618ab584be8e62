"""The selective SSM along paths: one grouped scan equals a loop over the paths, symmetries, gradients, refusals."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mambaout_edu import flatten
from mambaout_edu.blocks import GatedBlock
from mambaout_edu.mixers import ConvSSM, ScannedSSM, SelectiveSSM, no_weight_decay
from mambaout_edu.models import MambaOut, profile

STRATEGIES = [*flatten.PATHS, "raster", "hilbert", "random"]


def image(height, width, channels=6, batch=2):
    return torch.randn(batch, height, width, channels, dtype=torch.float64)


def along_paths(mixer, x):
    """The definition: one path after the other, each through its own `SelectiveSSM`, added up in place."""
    _, height, width, _ = x.shape
    pixels, y, visits = x.flatten(1, 2), torch.zeros_like(x.flatten(1, 2)), torch.zeros(height * width)
    for k, path in enumerate(flatten.paths(mixer.paths, height, width, **mixer.options)):
        if mixer.paths == "atrous":  # a phase keeps its parameters where others have no pixels
            skip = mixer.options["skip"]
            k = path[0] % width % skip * skip + path[0] // width % skip
        path = torch.tensor(path.tolist())
        y[:, path] += mixer.ssms[0 if mixer.shared else k](pixels[:, path])
        visits[path] += 1
    y = y / visits[:, None] if mixer.merge == "mean" else y
    return y.view_as(x)


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (5, 4), (1, 6), (6, 1), (1, 1)])
@pytest.mark.parametrize("paths", STRATEGIES)
@torch.no_grad()
def test_one_grouped_scan_equals_a_loop_over_the_paths(paths, size):
    for shared, merge in ((False, "sum"), (True, "mean"), (False, "mean")):
        mixer = ScannedSSM(6, paths, d_state=3, dt_rank=2, shared=shared, merge=merge).double()
        x = image(*size)
        torch.testing.assert_close(mixer(x), along_paths(mixer, x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", [{"paths": "atrous", "skip": 3}, {"paths": "bidirectional", "order": "spiral"}])
@torch.no_grad()
def test_options_of_a_strategy(options):
    mixer = ScannedSSM(4, d_state=2, **options).double()
    assert len(mixer.ssms) == (9 if options["paths"] == "atrous" else 2)
    for size in ((7, 8), (2, 7), (3, 3)):
        x = image(*size, channels=4)
        torch.testing.assert_close(mixer(x), along_paths(mixer, x), rtol=1e-9, atol=1e-12)


@torch.no_grad()
def test_a_scan_of_rows_is_the_plain_ssm():
    x = image(3, 5)
    mixer, plain = ScannedSSM(6, d_state=3).double(), SelectiveSSM(6, d_state=3).double()
    mixer.ssms[0].load_state_dict(plain.state_dict())
    torch.testing.assert_close(mixer(x), plain(x))
    torch.testing.assert_close(mixer(x.flatten(1, 2)), plain(x.flatten(1, 2)))
    mixer, plain = ScannedSSM(6, d_state=3, conv=7).double(), ConvSSM(6, d_state=3).double()
    mixer.load_state_dict({k if k.startswith("conv.") else f"ssms.0.{k}": v for k, v in plain.state_dict().items()})
    torch.testing.assert_close(mixer(x), plain(x))


@torch.no_grad()
def test_a_sequence_is_taken_as_it_comes():
    x = image(1, 7)[:, 0]
    for order in ("raster", "spiral", "random"):
        mixer = ScannedSSM(6, "bidirectional", d_state=3, order=order).double()
        forward, backward = mixer.ssms
        torch.testing.assert_close(mixer(x), forward(x) + backward(x.flip(1)).flip(1))
        mixer = ScannedSSM(6, order, d_state=3).double()
        torch.testing.assert_close(mixer(x), mixer.ssms[0](x))


@torch.no_grad()
def test_shared_cross_scan_does_not_know_rows_from_columns():
    """With one set of parameters its four paths are each other's mirror images; with four sets they are not."""
    x = image(3, 5)
    for shared in (True, False):
        mixer = ScannedSSM(6, "cross", d_state=3, shared=shared).double()
        y = mixer(x)
        for turn in (lambda t: t.transpose(1, 2), lambda t: t.flip(1, 2)):
            assert torch.allclose(mixer(turn(x)), turn(y), atol=1e-9) == shared


@torch.no_grad()
def test_the_activation_stands_before_the_scan():
    x = image(4, 3)
    with_conv = ScannedSSM(6, "cross", d_state=3, conv=3).double()
    without = ScannedSSM(6, "cross", d_state=3, act_layer=nn.SiLU).double()
    without.load_state_dict({k: v for k, v in with_conv.state_dict().items() if not k.startswith("conv.")})
    torch.testing.assert_close(with_conv(x), without(with_conv.conv(x)))
    plain = ScannedSSM(6, "cross", d_state=3).double()
    plain.load_state_dict(without.state_dict())
    torch.testing.assert_close(plain(F.silu(x)), without(x))


@pytest.mark.parametrize("paths", ["hilbert", "cross", "atrous"])
def test_gradients_are_exact(paths):
    mixer = ScannedSSM(2, paths, d_state=2, dt_rank=1, conv=3).double()
    names = [name for name, _ in mixer.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in mixer.parameters()]

    def run(x, *values):
        return torch.func.functional_call(mixer, dict(zip(names, values, strict=True)), x)

    assert torch.autograd.gradcheck(run, (image(2, 3, 2, batch=1).requires_grad_(), *values), fast_mode=True)


@pytest.mark.parametrize("paths", ["bidirectional", "atrous"])
def test_engines_agree_and_follow_the_choice(paths):
    x = image(3, 4)
    results = []
    for engine in ("reference", "torch", "cpu"):
        torch.manual_seed(0)
        results.append(ScannedSSM(6, paths, d_state=3, engine=engine).double()(x))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("paths", "sets"), [("raster", 1), ("bidirectional", 2), ("cross", 4), ("eight", 8)])
def test_parameters_in_closed_form(paths, sets):
    """A path: x_proj C (R + 2N), dt_proj R C + C, A C N, D C; the convolution once, (k k + 1) C."""
    C, R, N = 33, 3, 16
    path = C * (R + 2 * N) + R * C + C + C * N + C
    for shared in (False, True):
        for conv in (0, 7):
            mixer = ScannedSSM(C, paths, shared=shared, conv=conv)
            assert sum(p.numel() for p in mixer.parameters()) == path * (1 if shared else sets) + (conv and 50 * C)


def test_inside_a_model():
    """Start values and marks survive the model's initialisation, and its costs are token mixing."""
    sizes = {"depths": (1,), "dims": (32,), "num_classes": 4, "in_chans": 1, "stem_stride": 1}
    model = MambaOut(**sizes, mixer=partial(ScannedSSM, paths="cross", d_state=4))
    for ssm in model.stages[0].blocks[0].mixer.ssms:
        torch.testing.assert_close(ssm.A, -torch.arange(1.0, 5.0).expand(32, 4))
        dt = F.softplus(ssm.dt_proj.bias.detach())
        assert 0.00099 < dt.min() < dt.max() < 0.1001
    assert no_weight_decay(model) == {
        f"stages.0.blocks.0.mixer.ssms.{k}.{name}" for k in range(4) for name in ("A_log", "D")
    }
    cost = profile(model, 16)
    assert cost["channel mixing"] == profile(MambaOut(**sizes), 16)["channel mixing"]
    assert cost["token mixing"].multiply_adds >= 4 * 256 * 32 * (2 + 8 + 2 + 9 * 4 // 2)


def test_a_block_learns_with_it():
    torch.manual_seed(0)
    block = GatedBlock(8, mixer=partial(ScannedSSM, paths="plainmamba", d_state=4, conv=3))
    x = torch.randn(4, 5, 6, 8)
    block(x).square().mean().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("paths", ["cross", "atrous"])
def test_it_exports_and_compiles(paths):
    mixer = ScannedSSM(4, paths, d_state=2, conv=3).eval()
    x = torch.randn(1, 3, 5, 4)
    with torch.no_grad():
        expected = mixer(x)
        exported = torch.export.export(mixer, (x,)).module()
        torch.testing.assert_close(exported(x), expected)
        torch._dynamo.reset()
        torch.testing.assert_close(torch.compile(mixer, backend="aot_eager", fullgraph=True)(x), expected)


@torch.no_grad()
def test_half_precision():
    mixer = ScannedSSM(8, "cross", d_state=4)
    x = torch.randn(2, 5, 6, 8)
    expected = mixer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = mixer(x)
    y = mixer.bfloat16()(x.bfloat16())
    assert y.dtype == torch.bfloat16
    for result in (y, mixed):
        torch.testing.assert_close(result.float(), expected, rtol=0.1, atol=0.05 * expected.abs().max().item())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScannedSSM(0), "channels must be at least 1; got 0"),
        (lambda: ScannedSSM(8, d_state=0), "d_state must be at least 1"),
        (lambda: ScannedSSM(8, "hilbart"), "hilbert"),
        (lambda: ScannedSSM(8, "raster", window=3), "window"),
        (lambda: ScannedSSM(8, "cross", order="spiral"), "order"),
        (lambda: ScannedSSM(8, merge="product"), "merge must be one of sum, mean; got 'product'"),
        (lambda: ScannedSSM(8, conv=4), "kernel_size must be odd"),
        (lambda: ScannedSSM(8)(torch.zeros(2, 0, 4, 8)), r"no side 0; got shape \(2, 0, 4, 8\)"),
        (lambda: ScannedSSM(8)(torch.zeros(2, 8, 4, 4)), r"C = 8 last .* got shape \(2, 8, 4, 4\)"),
        (lambda: ScannedSSM(8, "cross")(torch.zeros(2, 9, 8)), r"paths = 'cross' need rows and columns.*\(2, 9, 8\)"),
        (lambda: ScannedSSM(8, conv=3)(torch.zeros(2, 9, 8)), "depthwise convolution needs rows and columns"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_skip_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match="skip"):
        ScannedSSM(8, "atrous", skip="two")
