"""What is exported is what was trained: read back by timm, by this package and by torch alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from mambaout_edu.models import create_model, export_state_dict
from mambaout_edu.models.weight_files import write_weights
from mambaout_edu.training import exporting
from mambaout_edu.training.exporting import FORMATS, export
from mambaout_edu.training.recipe import recipe
from mambaout_edu.training.trained import Trained, load_trained

TINY = {"num_classes": 3, "depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
WAYS = [(to, suffix) for to, suffixes in FORMATS.items() for suffix in suffixes]


@pytest.fixture
def digits_model() -> Trained:
    torch.manual_seed(0)
    options = {"num_classes": 10}
    model = create_model("mambaout_pico_8", **options).eval()
    names = tuple(str(digit) for digit in range(10))
    return Trained(model, "mambaout_pico_8", options, names, recipe("digits_cpu"), "digits", 42, True)


@pytest.fixture
def published_kind() -> Trained:
    torch.manual_seed(1)
    plan = recipe("imagenet_short", image_size=32, eval_image_size=None)
    return Trained(create_model("mambaout_femto", **TINY).eval(), "mambaout_femto", TINY, ("a", "b", "c"), plan)


def images(trained: Trained, batch: int) -> Tensor:
    side = trained.recipe.image_size
    return torch.rand(batch, trained.recipe.in_chans, side, side, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(("to", "suffix"), WAYS)
def test_the_digits_model_comes_back(digits_model: Trained, tmp_path: Path, to: str, suffix: str) -> None:
    target = tmp_path / f"digits{suffix}"
    done = export(digits_model, target, to)
    assert done.difference == 0
    assert [file.name for file in tmp_path.iterdir()] == [target.name]
    x = images(digits_model, 5)
    expected = digits_model.model(x)
    if to == "torch-export":
        assert torch.allclose(torch.export.load(target).module()(x), expected, atol=1e-6)
        return
    again = load_trained(target)
    assert torch.equal(again.model(x), expected)
    assert again.about() == digits_model.about()
    assert not again.model.training


@pytest.mark.parametrize("suffix", FORMATS["timm"])
def test_timm_loads_it_into_its_own_model(published_kind: Trained, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"femto{suffix}"
    done = export(published_kind, target)
    theirs = timm.create_model("mambaout_femto", checkpoint_path=str(target), **TINY).eval()
    assert type(theirs).__module__ == "timm.models.mambaout"
    x = images(published_kind, 2)
    with torch.no_grad():
        assert torch.allclose(theirs(x), published_kind.model(x), rtol=1e-4, atol=1e-5)
    assert done.difference < 1e-4
    assert f"timm.create_model('mambaout_femto', checkpoint_path={str(target)!r}, num_classes=3" in str(done)
    assert "import mambaout_edu.models" not in str(done)


def test_what_it_prints_loads_it(digits_model: Trained, tmp_path: Path) -> None:
    said = str(export(digits_model, tmp_path / "digits.safetensors"))
    call = next(line for line in said.splitlines() if line.startswith("load")).removeprefix("load").strip()
    assert "import mambaout_edu.models, which adds mambaout_pico_8 to timm" in said
    model = eval(call, {"timm": timm})
    assert torch.equal(model.state_dict()["head.fc.weight"], digits_model.model.state_dict()["head.fc.weight"])


def test_the_program_runs_without_this_package(digits_model: Trained, tmp_path: Path) -> None:
    target = tmp_path / "digits.pt2"
    export(digits_model, target, "torch-export")
    code = (
        "import sys, json, torch\n"
        "more = {'mambaout_edu.json': ''}\n"
        "run = torch.export.load(sys.argv[1], extra_files=more).module()\n"
        "assert not [name for name in sys.modules if name.startswith(('mambaout_edu', 'timm'))]\n"
        "print(json.dumps([json.loads(more['mambaout_edu.json'])['classes'],"
        " [list(run(torch.zeros(b, 1, 8, 8)).shape) for b in (1, 7)]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, target], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[str(digit) for digit in range(10)], [[1, 10], [7, 10]]]


@pytest.mark.parametrize(
    ("name", "to", "error", "says"),
    [
        ("there.safetensors", "timm", FileExistsError, "is there already; give another name, or --force"),
        ("new.onnx", "timm", ValueError, "a file for timm ends in .safetensors or .pth; got 'new.onnx'"),
        ("new.pth", "safetensors", ValueError, "ends in .safetensors"),
        ("new.pt2", "onnx", ValueError, "to is 'onnx'; expected one of timm, safetensors, torch-export"),
        ("nowhere/new.pth", "timm", FileNotFoundError, "no folder .*nowhere.* make it first"),
        ("folder.pth", "timm", IsADirectoryError, "is a folder; give the name of a file"),
    ],
)
def test_a_wrong_target_is_refused(
    digits_model: Trained, tmp_path: Path, name: str, to: str, error: type[Exception], says: str
) -> None:
    (tmp_path / "there.safetensors").write_bytes(b"mine")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(error, match=says):
        export(digits_model, tmp_path / name, to)
    assert (tmp_path / "there.safetensors").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 2
    export(digits_model, tmp_path / "there.safetensors", force=True)
    assert load_trained(tmp_path / "there.safetensors").step == 42


def test_weights_that_mean_nothing_are_not_written(digits_model: Trained, tmp_path: Path) -> None:
    with torch.no_grad():
        next(digits_model.model.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="read back, the model answers differently"):
        export(digits_model, tmp_path / "digits.pth")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("to", "suffix"), WAYS)
def test_what_reads_back_differently_is_not_written(
    digits_model: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, suffix: str
) -> None:
    target = tmp_path / f"digits{suffix}"
    target.write_bytes(b"the old one")
    write, _ = exporting._WAYS[to]
    other = create_model("mambaout_pico_8", num_classes=10).eval()
    monkeypatch.setitem(exporting._WAYS, to, (write, lambda trained, path: other))
    with pytest.raises(ValueError, match="answers differently"):
        export(digits_model, target, to, force=True)
    assert target.read_bytes() == b"the old one"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")])
def test_a_full_disk_leaves_nothing_and_is_said(
    digits_model: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def full(state: object, path: Path, *args: object) -> None:
        Path(path).write_bytes(b"half")
        raise fault

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="has the disk room left"):
        export(digits_model, tmp_path / "digits.pth")
    assert not list(tmp_path.iterdir())


# --- loading ----------------------------------------------------------------------------------------------------------


def test_weights_that_say_nothing_are_recognised(tmp_path: Path) -> None:
    model = create_model("mambaout_femto", num_classes=5)
    path = tmp_path / "published.pth"
    torch.save({"state_dict": export_state_dict(model, "official"), "epoch": 3}, path)
    again = load_trained(path)
    assert (again.name, again.model.num_classes, again.classes, again.step) == ("mambaout_femto", 5, (), None)
    assert (again.recipe.image_size, again.recipe.in_chans) == (224, 3)
    assert torch.equal(again.model.head.fc.bias, model.head.fc.bias)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("vim_tiny", "not the weights of a Vim: they are a MambaOut's"),
        ("mambaout_tiny", "do not fit the model.*They fit create_model\\('mambaout_pico_8'"),
        ("mambaout_pico_9", "did you mean mambaout_pico_8"),
    ],
)
def test_another_model_s_weights_are_refused(tmp_path: Path, name: str, says: str) -> None:
    path = tmp_path / "digits.safetensors"
    write_weights(create_model("mambaout_pico_8", num_classes=10).state_dict(), path)
    with pytest.raises(ValueError, match=says):
        load_trained(path, name)


def test_an_exported_file_knows_its_model(digits_model: Trained, tmp_path: Path) -> None:
    export(digits_model, tmp_path / "digits.pth", "timm")
    with pytest.raises(ValueError, match="are those of mambaout_pico_8, not of mambaout_tiny; leave --model out"):
        load_trained(tmp_path / "digits.pth", "mambaout_tiny")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run and no file"):
        load_trained(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"not the folder of a run: it has no run[.]json, it holds nothing"):
        load_trained(tmp_path)
    with pytest.raises(ValueError, match="which must be 'best' or 'latest'; got 'first'"):
        load_trained(tmp_path, which="first")
    torch.save({"fc.weight": torch.ones(2, 3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"weights of no known model; their keys begin with fc[.]weight"):
        load_trained(tmp_path / "other.pth")
