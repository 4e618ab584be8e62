"""Vim and its bidirectional mixer: directions, class tokens, any size of image, timm's interface, what is refused."""

import copy
import math

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.nn import functional as F

import mambaout_edu.mixers.bimamba as bimamba
from mambaout_edu.mixers import BiMamba, Mamba1, no_weight_decay
from mambaout_edu.models import Vim, create_model, export_state_dict, list_models, load_official, profile
from mambaout_edu.models.tokens import CLASS_TOKENS, insert_class_tokens, separate_class_tokens
from mambaout_edu.models.vim import VIM

PLACES = list(CLASS_TOKENS)


def small(**kwargs):
    mamba = {} if "mixer" in kwargs else {"d_state": 4}
    return Vim(**{"img_size": 32, "patch_size": 8, "embed_dim": 8, "depth": 2, "num_classes": 3, **mamba, **kwargs})


def scattered(module):
    """Weights far from their start values, so that every one of them shows; float64."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in module.named_parameters():
            spread = 0.5 if p.ndim == 1 or name.endswith("log") else p[0].numel() ** -0.5
            p.copy_(torch.randn(p.shape, generator=generator) * spread + ("norm" in name))
    return module.double()


def noise(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --- the mixer -------------------------------------------------------------------------------------------------------


def one_direction(mixer, suffix):
    """A Mamba-1 mixer with the outer projections of a BiMamba and the inside of one of its directions."""
    single = Mamba1(mixer.dim, mixer.d_state, mixer.conv1d.kernel_size[0], dt_rank=mixer.dt_rank, bias=True).double()
    theirs = mixer.state_dict()
    inner = {"A_log": f"A{suffix}_log", "D": f"D{suffix}"}
    for name in ("conv1d.weight", "conv1d.bias", "x_proj.weight", "dt_proj.weight", "dt_proj.bias"):
        inner[name] = name.replace(".", f"{suffix}.")
    outer = ("in_proj.weight", "in_proj.bias", "out_proj.weight", "out_proj.bias")
    single.load_state_dict({**{k: theirs[v] for k, v in inner.items()}, **{k: theirs[k] for k in outer}})
    return single


@settings(max_examples=15, deadline=None)
@given(length=st.integers(1, 20), batch=st.integers(1, 3), divide=st.booleans())
@torch.no_grad()
def test_it_is_mamba_from_both_ends(length, batch, divide):
    mixer = scattered(BiMamba(6, d_state=3, d_conv=3, bias=True, divide_out=divide))
    x = noise(batch, length, 6)
    ahead, back = one_direction(mixer, "")(x), one_direction(mixer, "_b")(x.flip(1)).flip(1)
    bias = mixer.out_proj.bias  # each of the two singles adds it
    expected = (ahead + back - 2 * bias) / (2 if divide else 1) + bias
    torch.testing.assert_close(mixer(x), expected, rtol=1e-9, atol=1e-11)


@torch.no_grad()
def test_reading_backwards_is_exchanging_the_directions():
    mixer = scattered(BiMamba(4, d_state=2, conv_bias=False))
    state = mixer.state_dict()
    exchanged = copy.deepcopy(mixer)
    twins = {key: key.replace(".", "_b.") for key in state if "." in key}
    pairs = {"A_log": "A_b_log", "D": "D_b"} | {key: twin for key, twin in twins.items() if twin in state}
    swap = pairs | {v: k for k, v in pairs.items()}
    exchanged.load_state_dict({k: state[swap.get(k, k)] for k in state})
    x = noise(2, 9, 4)
    torch.testing.assert_close(exchanged(x.flip(1)).flip(1), mixer(x), rtol=1e-9, atol=1e-11)


@torch.no_grad()
def test_every_position_sees_every_other():
    mixer = scattered(BiMamba(4, d_state=2))
    x = noise(1, 11, 4)
    y = mixer(x)
    for t in range(11):
        changed = x.clone()
        changed[0, t] += torch.tensor([1.0, -2.0, 0.5, 3.0])
        assert ((mixer(changed) - y).abs().amax(-1) > 1e-12).all(), f"position {t} is not seen everywhere"


@torch.no_grad()
def test_an_image_is_read_row_by_row():
    mixer = scattered(BiMamba(4))
    image = noise(2, 3, 5, 4)
    assert torch.equal(mixer(image), mixer(image.flatten(1, 2)).view_as(image))


def test_both_directions_run_in_one_scan(monkeypatch):
    calls = []

    def counted(u, delta, A, B, C, *args, **kwargs):
        calls.append((tuple(u.shape), tuple(B.shape)))
        return real(u, delta, A, B, C, *args, **kwargs)

    real = bimamba.selective_scan
    monkeypatch.setattr(bimamba, "selective_scan", counted)
    BiMamba(6, d_state=5)(torch.zeros(2, 7, 6))
    assert calls == [((2, 7, 24), (2, 7, 2, 5))]


def test_gradients_of_the_mixer_are_exact():
    mixer = scattered(BiMamba(2, d_state=2, d_conv=2, dt_rank=1))
    names = [name for name, _ in mixer.named_parameters()]

    def run(x, *weights):
        return torch.func.functional_call(mixer, dict(zip(names, weights, strict=True)), (x,))

    torch.autograd.gradcheck(run, (noise(1, 4, 2).requires_grad_(), *mixer.parameters()))


def test_start_values_and_what_is_not_decayed():
    mixer = BiMamba(32)
    for suffix in ("", "_b"):
        steps = F.softplus(getattr(mixer, f"dt_proj{suffix}").bias)
        assert 0.00099 < steps.min() < 0.01 < steps.max() < 0.1001
        torch.testing.assert_close(getattr(mixer, f"A{suffix}_log")[5].exp(), torch.arange(1.0, 17.0))
        assert (getattr(mixer, f"D{suffix}") == 1).all()
    assert not torch.equal(mixer.dt_proj.bias, mixer.dt_proj_b.bias)
    assert no_weight_decay(nn.Sequential(mixer)) == {"0.A_log", "0.A_b_log", "0.D", "0.D_b"}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: BiMamba(0), "dim must be at least 1; got 0"),
        (lambda: BiMamba(4, d_state=0), "d_state must be at least 1; got 0"),
        (lambda: BiMamba(4, d_conv=0), "d_conv must be at least 1; got 0"),
        (lambda: BiMamba(4, dt_rank=0), "dt_rank must be 'auto' or at least 1; got 0"),
        (lambda: BiMamba(4)(torch.zeros(1, 4, 5)), r"C = 4 last.*got shape \(1, 4, 5\)"),
        (lambda: BiMamba(4)(torch.zeros(1, 0, 4)), r"no side 0; got shape \(1, 0, 4\)"),
    ],
)
def test_the_mixer_refuses_in_words(make, says):
    with pytest.raises(ValueError, match=says):
        make()


# --- tokens ----------------------------------------------------------------------------------------------------------


@given(patches=st.integers(1, 12), where=st.sampled_from(PLACES))
def test_class_tokens_go_in_and_come_out(patches, where):
    x = torch.arange(float(patches)).view(1, -1, 1)
    tokens = -torch.ones(1, CLASS_TOKENS[where], 1)
    sequence = insert_class_tokens(x, tokens, where)
    found = separate_class_tokens(sequence, where)
    assert torch.equal(found[0], x)
    assert torch.equal(found[1], tokens)
    places = {"middle": [patches // 2], "head": [0], "double": [0, patches + 1], None: []}[where]
    assert (sequence.flatten() < 0).nonzero().flatten().tolist() == places


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(8, 45),
    width=st.integers(8, 45),
    stride=st.sampled_from([None, 8, 5, 3]),
    where=st.sampled_from(PLACES),
    pool=st.sampled_from(["avg", "token", ""]),
    chans=st.sampled_from([1, 3]),
)
def test_any_image_size_and_the_number_of_tokens(height, width, stride, where, pool, chans):
    pool = "avg" if where is None and pool == "token" else pool
    model = small(stride=stride, class_token=where, global_pool=pool, in_chans=chans).eval()
    rows, columns = ((side - 8) // (stride or 8) + 1 for side in (height, width))
    length = rows * columns + CLASS_TOKENS[where]
    with torch.no_grad():
        tokens = model.forward_features(torch.randn(2, chans, height, width))
        scores = model.forward_head(tokens)
    assert tokens.shape == (2, length, 8)
    assert scores.shape == ((2, 3) if pool else (2, length, 3))
    assert torch.isfinite(scores).all()


@torch.no_grad()
@pytest.mark.parametrize("where", PLACES)
def test_what_the_head_gets(where):
    model = scattered(small(class_token=where, global_pool="avg")).eval()
    images = noise(2, 3, 32, 32)
    tokens = model.forward_features(images)  # 4 x 4 patches
    classes = {"middle": [8], "head": [0], "double": [0, 17], None: []}[where]
    others = [i for i in range(tokens.shape[1]) if i not in classes]
    torch.testing.assert_close(model(images), model.head(tokens[:, others].mean(1)))
    if where is None:
        with pytest.raises(ValueError, match="needs a class token"):
            model.reset_classifier(3, "token")
    else:
        model.global_pool = "token"
        torch.testing.assert_close(model(images), model.head(tokens[:, classes].mean(1)))


@torch.no_grad()
@pytest.mark.parametrize("where", PLACES)
def test_positions_are_resampled_and_class_tokens_keep_theirs(where):
    model = small(class_token=where, global_pool="avg")
    down, across = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    field = (10 * down + across).flatten().view(1, 16, 1).expand(-1, -1, 8)
    own = 1000 + torch.arange(float(CLASS_TOKENS[where])).view(1, -1, 1).expand(-1, -1, 8)
    model.pos_embed.copy_(insert_class_tokens(field, own, where))
    assert model._positions((4, 4)) is model.pos_embed
    patches, tokens = separate_class_tokens(model._positions((8, 12)), where)
    assert torch.equal(tokens, own)
    grid = patches[0, :, 0].view(8, 12)
    assert (grid.diff(dim=0) > 0).all()  # still rises downwards by tens and to the right by ones
    assert (grid.diff(dim=1) > 0).all()
    assert grid.mean() == pytest.approx(16.5, rel=0.01)
    inner = grid[2:-2, 3:-3]
    torch.testing.assert_close(inner.diff(dim=0), torch.full((3, 6), 5.0), rtol=0, atol=0.7)


@torch.no_grad()
@pytest.mark.parametrize("where", PLACES)
def test_the_input_size_can_be_set_for_good(where):
    model = scattered(small(class_token=where, global_pool="avg")).eval()
    images = noise(1, 3, 48, 40)
    before = model(images)
    model.set_input_size((48, 40))
    assert model.pos_embed.shape[1] == 6 * 5 + CLASS_TOKENS[where]
    assert isinstance(model.pos_embed, nn.Parameter)
    assert model.grid_size == (6, 5)
    torch.testing.assert_close(model(images), before)
    model.set_input_size(32, stride=4)
    assert model.forward_features(noise(1, 3, 32, 32)).shape[1] == model.pos_embed.shape[1] == 49 + CLASS_TOKENS[where]
    assert model.feature_info[-1]["reduction"] == 4


# --- the model by name -----------------------------------------------------------------------------------------------


def test_timm_finds_and_lists_it():
    assert list_models("vim*") == timm.list_models("vim*") == sorted(VIM)
    with torch.device("meta"):
        for name in VIM:
            model = timm.create_model(name, num_classes=7, drop_path_rate=0.1)
            assert isinstance(model, Vim)
            assert model.num_classes == 7
    config = timm.data.resolve_model_data_config(model)
    assert config["input_size"] == (3, 224, 224)
    assert config["interpolation"] == "bicubic"
    assert model.default_cfg["first_conv"] == "patch_embed.proj"
    assert model.get_classifier() is model.head


def test_features_only():
    arguments = {"depth": 4, "embed_dim": 16, "img_size": 64, "d_state": 2}
    model = timm.create_model("vim_tiny", features_only=True, out_indices=(0, 2), **arguments)
    assert (model.feature_info.channels(), model.feature_info.reduction()) == ([16, 16], [16, 16])
    assert [tuple(f.shape) for f in model(torch.zeros(1, 3, 64, 96))] == [(1, 16, 4, 6), (1, 16, 4, 6)]
    assert len(model.model.blocks) == 3  # the last block is of no use


@torch.no_grad()
@pytest.mark.parametrize("where", PLACES)
def test_intermediates(where):
    model = scattered(small(depth=3, class_token=where, global_pool="avg")).eval()
    images = noise(2, 3, 24, 40)
    tokens, found = model.forward_intermediates(images, norm=True, return_prefix_tokens=True)
    torch.testing.assert_close(tokens, model.forward_features(images))
    patches, classes = separate_class_tokens(tokens, where)
    torch.testing.assert_close(found[-1][0], patches.transpose(1, 2).view(2, 8, 3, 5))
    torch.testing.assert_close(found[-1][1], classes)
    (second,) = model.forward_intermediates(
        images, indices=[1], stop_early=True, intermediates_only=True, output_fmt="NLC", norm=True
    )
    torch.testing.assert_close(second.transpose(1, 2).view(2, 8, 3, 5), found[1][0])
    assert (second - found[0][0].flatten(2).transpose(1, 2)).abs().max() > 0.01


@pytest.mark.parametrize(
    ("name", "dense", "scanned"), [("vim_tiny", 1.293, 0.523), ("vim_small", 4.851, 1.046), ("vim_base", 18.766, 2.092)]
)
def test_cost(name, dense, scanned):
    with torch.device("meta"):
        model = create_model(name)
    found = profile(model, 224)
    length, inner = 197, 2 * model.embed_dim
    assert 24 * 2 * 9 * length * inner * 16 / 1e9 == pytest.approx(scanned, abs=1e-3)
    scan = 24 * 2 * (9 * 16 + 1) * length * inner / 2  # the profile counts two operations as one multiply-add
    assert (found.multiply_adds - scan) / 1e9 == pytest.approx(dense, abs=1e-3)
    assert [part.name for part in found] == ["stem", "token mixing", "head", "other"]
    assert found["other"].parameters == (197 + 1 + 1) * model.embed_dim  # positions, class token, last norm


def test_learning_rates_by_layer_and_weight_decay():
    model = small(depth=3, class_token="double")
    free = model.no_weight_decay()
    assert {"pos_embed", "cls_token_head", "cls_token_tail", "blocks.2.mixer.A_b_log", "blocks.0.mixer.D_b"} <= free
    assert free <= {name for name, _ in model.named_parameters()}
    groups = param_groups_layer_decay(model, 0.05, no_weight_decay_list=free, layer_decay=0.5)
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    scale = {id(p): g["lr_scale"] for g in groups for p in g["params"]}
    order = [model.pos_embed, *(block.mixer.in_proj.weight for block in model.blocks), model.head.weight]
    assert [scale[id(p)] for p in order] == [0.5**k for k in (4, 3, 2, 1, 0)]


def test_classifier_can_be_exchanged():
    model = small().bfloat16()
    model.reset_classifier(5, "avg")
    assert (model.head.weight.shape, model.head.weight.dtype) == ((5, 8), torch.bfloat16)
    assert model.global_pool == "avg"
    model.reset_classifier(0)
    assert model(torch.zeros(1, 3, 32, 32, dtype=torch.bfloat16)).shape == (1, 8)


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", PLACES)
def test_state_survives_a_file_and_the_authors_names(tmp_path, where):
    source, target = (small(class_token=where, global_pool="avg").eval() for _ in range(2))
    official = export_state_dict(source, layout="official")
    assert "layers.1.mixer.A_b_log" in official
    assert "norm_f.weight" in official
    save_file({k: v.contiguous() for k, v in official.items()}, tmp_path / "vim.safetensors")
    load_official(target, load_file(tmp_path / "vim.safetensors"))
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(source(images), target(images))
    target.load_state_dict(source.state_dict())
    load_official(target, source.state_dict())  # our own names are known too
    with pytest.raises(ValueError, match="timm has no Vim"):
        export_state_dict(source, layout="timm")


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (
            lambda: create_model("vim_small").state_dict(),
            r"tensors of another shape.*They fit create_model\('vim_small'",
        ),
        (
            lambda: create_model("vim_tiny_stride8").state_dict(),
            r"pos_embed: weights \(1, 730, 192\), model \(1, 197, 192\).*create_model\('vim_tiny_stride8'.*27 x 27",
        ),
        (lambda: create_model("vim_tiny", num_classes=7).state_dict(), r"head.*num_classes=7"),
        (lambda: create_model("vim_tiny", class_token="double").state_dict(), "cls_token_head.*class tokens: 2"),
        (
            lambda: create_model("vim_tiny", depth=3, embed_dim=8).state_dict(),
            r"They fit Vim\(patch_size=16, embed_dim=8",
        ),
        (lambda: timm.create_model("test_vit").state_dict(), r"not the weights of a Vim: expected.*A_b_log"),
        (
            lambda: create_model("mambaout_femto").state_dict(),
            r"not the weights of a Vim: they are a MambaOut's. They fit create_model\('mambaout_femto'",
        ),
        (lambda: {}, "no keys at all"),
    ],
)
def test_wrong_weights_are_refused(state, says):
    with torch.device("meta"):
        model, given_state = create_model("vim_tiny"), state()
    with pytest.raises(ValueError, match=says):
        load_official(model, given_state)


def test_a_mambaout_refuses_a_vims_weights_and_a_plain_module_has_no_family():
    with torch.device("meta"):
        state = export_state_dict(create_model("vim_base"), "official")
        with pytest.raises(ValueError, match=r"not the weights of a MambaOut: they are a Vim's.*'vim_base'"):
            load_official(create_model("mambaout_femto"), state)
        with pytest.raises(TypeError, match=r"families MambaOut, Vim.*got a Linear"):
            load_official(nn.Linear(1, 1), state)


@pytest.mark.parametrize(
    ("error", "make", "says"),
    [
        (ValueError, lambda: create_model("vim_tinny"), "unknown model 'vim_tinny'; did you mean vim_tiny"),
        (ValueError, lambda: create_model("vim_tiny", pretrained=True), "no published weights.*load_official"),
        (ValueError, lambda: small()(torch.zeros(1, 3, 7, 40)), "at least one patch of 8 x 8 pixels; got 7 x 40"),
        (ValueError, lambda: small(img_size=4), "at least one patch of 8 x 8 pixels; got 4 x 4"),
        (ValueError, lambda: small().set_input_size(4), "got 4 x 4"),
        (ValueError, lambda: small().set_input_size(32, stride=0), "stride must be at least 1; got 0"),
        (ValueError, lambda: small(stride=0), "at least 1; got 8 and 0"),
        (ValueError, lambda: small(depth=0), "embed_dim and depth must be at least 1; got 8 and 0"),
        (ValueError, lambda: small(class_token="tail"), "class_token must be.*got 'tail'"),
        (ValueError, lambda: small(class_token=None), "global_pool='avg'"),
        (ValueError, lambda: small(global_pool="max"), "got 'max'"),
        (ValueError, lambda: small(num_classes=-1), "num_classes.*got -1"),
        (ValueError, lambda: small()(torch.zeros(3, 32, 32)), r"got 3 axes.*Add the batch axis"),
        (ValueError, lambda: small()(torch.zeros(1, 4, 32, 32)), "got 4 channels"),
        (TypeError, lambda: small()(torch.zeros(1, 3, 32, 32).double()), "images are torch.float64"),
        (ValueError, lambda: small().forward_intermediates(torch.zeros(1, 3, 32, 32), output_fmt="NHWC"), "got 'NHWC'"),
        (ValueError, lambda: small().forward_intermediates(torch.zeros(3, 32, 32)), "got 3 axes"),
        (TypeError, lambda: Vim(mixer=Mamba1, d_state=3), "d_state have no use; give them to mixer"),
    ],
)
def test_bad_arguments_are_refused_in_words(error, make, says):
    with pytest.raises(error, match=says):
        make()


# --- running it ------------------------------------------------------------------------------------------------------


def test_it_learns_on_the_cpu():
    model = small(drop_path_rate=0.1, num_classes=2)
    images = torch.randn(8, 3, 32, 32)
    labels = torch.arange(8) % 2
    images[labels == 1, 0] += 1.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(dtype):
    model = small(depth=3).eval()
    images = torch.randn(2, 3, 32, 32)
    moved, seen = copy.deepcopy(model).to(dtype), []
    moved.blocks[1].register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    with torch.no_grad():
        expected, got = model(images), moved(images.to(dtype))
    assert got.dtype == dtype
    assert seen == [torch.float64 if dtype == torch.float64 else torch.float32]  # what runs through the blocks
    tolerance = {torch.float16: 0.01, torch.bfloat16: 0.05, torch.float64: 1e-5}[dtype]
    torch.testing.assert_close(got.float(), expected, rtol=0, atol=tolerance * expected.abs().max().item())
    seen.clear()
    moved.residual_in_fp32 = False
    moved(images.to(dtype))
    assert seen == [dtype]


def test_autocast():
    model = small()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(torch.randn(2, 3, 40, 32)).float().square().mean()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().max() > 0 for p in model.parameters())


def test_checkpointing_changes_memory_not_gradients():
    plain = small(drop_path_rate=0.3)
    recomputed = copy.deepcopy(plain)
    recomputed.set_grad_checkpointing()
    images = torch.randn(4, 3, 32, 32)
    for model in (plain, recomputed):
        torch.manual_seed(3)  # drop path draws the same again
        model(images).square().sum().backward()
    for a, b in zip(plain.parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_drop_path_rises_over_all_blocks():
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in small(depth=5, drop_path_rate=0.4).blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_what_the_blocks_add_shrinks_with_their_number():
    bounds = [small(depth=depth).blocks[0].mixer.out_proj.weight.abs().max().item() for depth in (1, 16)]
    assert bounds == pytest.approx([16**-0.5, 16**-0.5 / 4], rel=0.1)  # 16 channels inside, 1 / sqrt(depth)


def test_another_mixer_in_its_place():
    model = small(mixer=lambda dim: Mamba1(dim, d_state=2))
    images = torch.randn(1, 3, 32, 32)
    late = images.clone()
    late[..., -8:, -8:] += torch.randn(8, 8)  # the last patch
    with torch.no_grad():
        assert torch.equal(model(images), model(late))  # a causal mixer's middle token does not see it
        assert not torch.equal(small()(images), small()(late))


@pytest.mark.parametrize("where", ["middle", "double"])
def test_exported(where):
    model = small(class_token=where).eval()
    images = torch.randn(2, 3, 40, 32)
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(model, (images,), dynamic_shapes=({0: batch},))
    other = torch.randn(5, 3, 40, 32)
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(other), model(other))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_whole_with_its_gradients(backend):
    torch._dynamo.reset()
    model = small(depth=1)
    images = torch.randn(2, 3, 32, 32)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    model(images).square().sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    compiled(images).square().sum().backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_a_batch_equals_its_images():
    model = scattered(small()).eval()
    images = noise(3, 3, 40, 33)
    with torch.no_grad():
        torch.testing.assert_close(model(images)[1:2], model(images[1:2]))
    assert math.prod(model.patch_embed.grid_size(40, 33)) == 20
