"""VMamba and Res-VMamba against their authors' implementations, from recorded cases, and the published counts."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from mambaout_edu.models import ResVMamba, VMamba, create_model, export_state_dict, load_official
from mambaout_edu.scan import engines

FIXTURES = Path(__file__).parent.parent / "fixtures"
CASES = ["vmamba_v0_small_case", "vmamba_v2_s2_small_case", "vmamba_v2_s1_small_case", "res_vmamba_small_case"]

# Counted from the authors' models, with 1000 classes.
PARAMETERS = {
    "vmamba_tiny": 30_249_064,
    "vmamba_small": 49_012_840,
    "vmamba_base": 86_614_504,
    "vmamba_tiny_s2l5": 30_705_832,
    "vmamba_small_s2l15": 50_147_752,
    "vmamba_base_s2l15": 88_557_800,
    "vmamba_tiny_v0": 22_893_448,
    "vmamba_small_v0": 44_417_416,
    "vmamba_base_v0": 76_254_056,
}


def case(name):
    """Return a model as the recorded one, the recorded weights, the images and the class scores."""
    with safe_open(FIXTURES / f"{name}.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    images, logits = tensors.pop("input"), tensors.pop("logits")
    dims = [config["dims"] * 2**i for i in range(4)]
    sizes = {"depths": config["depths"], "dims": dims, "num_classes": config["num_classes"]}
    if name.startswith("res"):
        model = ResVMamba(**sizes)
    elif config["forward_type"] == "v0":
        model = VMamba(
            **sizes, d_state=16, ssm_ratio=2, gate=True, conv_bias=True, mlp_ratio=0, stem="patch", downsample="merge"
        )
    else:
        model = VMamba(**sizes, d_state=config["ssm_d_state"], ssm_ratio=config["ssm_ratio"])
    return model.eval(), {k.removeprefix("state_dict."): v for k, v in tensors.items()}, images, logits


@pytest.mark.parametrize("engine", [name for name, status in engines("cpu").items() if status.available])
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_the_authors_weights_give_the_authors_output(name, engine):
    model, state, images, logits = case(name)
    load_official(model, state)  # refuses a key that is left over or missing
    for module in model.modules():
        if hasattr(module, "engine"):
            module.engine = engine
    largest = logits.abs().max().item()
    assert largest > 0.01
    torch.testing.assert_close(model(images), logits, rtol=0, atol=1e-4 * largest)


@pytest.mark.parametrize("name", CASES)
def test_the_authors_keys_come_back_unchanged(name):
    model, state, _, _ = case(name)
    load_official(model, state)
    exported = export_state_dict(model, layout="official")
    assert exported.keys() == state.keys()
    assert all(torch.equal(exported[key], state[key]) for key in state)


def test_older_names_and_shapes_of_the_authors_are_understood():
    model, state, images, logits = case("vmamba_v2_s1_small_case")
    older = {}
    for key, value in state.items():
        key = key.replace("x_proj.weight", "x_proj_weight").replace("dt_projs.weight", "dt_projs_weight")
        if key.endswith(("x_proj_weight", "dt_projs_weight")):
            value = value.unflatten(0, (4, -1))
        elif key.endswith(("in_proj.weight", "out_proj.weight", "fc1.weight", "fc2.weight")):
            value = value[:, :, None, None]  # 1x1 convolutions
        older[key.replace(".norm.", ".ln_1.", 1) if ".blocks." in key else key] = value
    assert older.keys() != state.keys()
    load_official(model, {"model": {key.replace(".op.", ".self_attention."): value for key, value in older.items()}})
    with torch.no_grad():
        torch.testing.assert_close(model(images), logits, rtol=0, atol=1e-4 * logits.abs().max().item())


def test_older_names_of_the_first_version_are_understood():
    model, state, images, logits = case("vmamba_v0_small_case")
    renames = (("patch_embed.0", "patch_embed.proj"), ("patch_embed.2", "patch_embed.norm"), ("classifier.", ""))
    renames += (("downsample.1", "downsample.norm"), ("downsample.2", "downsample.reduction"))
    for new, old in renames:
        state = {key.replace(new, old): value for key, value in state.items()}
    load_official(model, state)
    with torch.no_grad():
        torch.testing.assert_close(model(images), logits, rtol=0, atol=1e-4 * logits.abs().max().item())


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_the_published_models(name):
    with torch.device("meta"):
        assert sum(p.numel() for p in create_model(name).parameters()) == PARAMETERS[name]


def test_parameters_of_res_vmamba():
    """The small one with the 241 classes of its paper's data, without and with its three projections."""
    with torch.device("meta"):
        published = create_model("res_vmamba_small", num_classes=241, residual="published")
        learned = create_model("res_vmamba_small", num_classes=241)
    counts = [sum(p.numel() for p in model.parameters()) for model in (published, learned)]
    assert counts == [43_833_745, 43_833_745 + 388_416]


def test_published_projections_are_those_that_torch_draws_for_new_convolutions():
    """The published pass builds its 1x1 convolutions in the order of the stages; so does ours, from one seed."""
    learned, state, images, _ = case("res_vmamba_small_case")
    published = ResVMamba(depths=(1, 1, 1, 1), dims=(8, 16, 32, 64), num_classes=10, residual="published").eval()
    state = {key: value for key, value in state.items() if not key.startswith("residual_projection")}
    load_official(published, state)
    torch.manual_seed(3)
    for i, dim in enumerate((8, 16, 32)):
        drawn = torch.nn.Conv2d(dim, 2 * dim, 1).state_dict()
        state |= {f"residual_projection.{i}.{key}": value for key, value in drawn.items()}
    load_official(learned, state)
    torch.manual_seed(3)
    with torch.no_grad():
        first, again = published(images), published(images)
        torch.testing.assert_close(first, learned(images), rtol=0, atol=1e-5)
    assert (first - again).abs().max() > 1e-3
