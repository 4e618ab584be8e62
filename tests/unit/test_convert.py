"""Converting files of weights: every family and layout there and back, and what is refused leaves nothing behind."""

import argparse
import errno
import os
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from mambaout_edu.models import convert, create_model, export_state_dict, load_official, weight_files
from mambaout_edu.models.convert import convert_file
from mambaout_edu.models.vmamba import VMamba
from mambaout_edu.models.weight_files import read_weights, write_weights

PUBLISHED = {
    "mambaout_femto": {},
    "vim_tiny": {},
    "vmamba_tiny": {},
    "vmamba_tiny_v0": {},
    "res_vmamba_tiny": {"residual": "stage"},
    "res_vmamba_small": {"residual": "published"},
}


def random_model(name, seed=0, **kwargs):
    torch.manual_seed(seed)
    model = create_model(name, num_classes=5, **kwargs).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.02)  # biases that start as zeros too
    return model


def logits(model):
    torch.manual_seed(1)  # for the projections that the published Res-VMamba draws
    with torch.no_grad():
        return model(torch.randn(1, model.in_chans, 32, 32, generator=torch.Generator().manual_seed(2)))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) and a[key].dtype == b[key].dtype for key in a)


@pytest.fixture
def small(tmp_path):
    """A file as a training script writes it, of a small model, and the state in it."""
    state = random_model("mambaout_pico_8").state_dict()
    torch.save({"model": state, "epoch": 3}, tmp_path / "small.pth")
    return tmp_path / "small.pth", state


def left(folder):
    return sorted(path.name for path in folder.iterdir())


# There and back


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_family_goes_from_the_authors_file_to_ours_and_back(tmp_path, name):
    source = random_model(name, **PUBLISHED[name])
    official = export_state_dict(source, "official")
    torch.save({"model": {f"module.{key}": value for key, value in official.items()}}, tmp_path / "authors.pth")
    needed = name if PUBLISHED[name].get("residual") == "published" else None  # which looks like VMamba's
    done = convert_file(tmp_path / "authors.pth", tmp_path / "ours.safetensors", model=needed)
    assert done.names == (name,)
    assert done.layouts == ("official", "mambaout_edu")
    assert done.parameters == sum(p.numel() for p in source.parameters())
    assert done.fit.arguments["num_classes"] == 5
    target = random_model(name, seed=3, **PUBLISHED[name])
    expected = logits(source)
    assert not torch.equal(logits(target), expected)
    load_official(target, tmp_path / "ours.safetensors")
    assert torch.equal(logits(target), expected)
    convert_file(tmp_path / "ours.safetensors", tmp_path / "back.safetensors", model=needed, to="official")
    assert same(load_file(tmp_path / "back.safetensors"), official)
    load_official(random_model(name, seed=4, **PUBLISHED[name]), str(tmp_path / "authors.pth"))


def test_mambaout_goes_through_timms_layout_too(tmp_path):
    source = random_model("mambaout_femto")
    save_file(source.state_dict(), tmp_path / "ours.safetensors")
    for start, to, layout in (
        ("ours", "timm", "timm"),
        ("timm", "official", "official"),
        ("official", "ours", "mambaout_edu"),
    ):
        done = convert_file(tmp_path / f"{start}.safetensors", tmp_path / f"{to}.safetensors", to=to, force=True)
        assert done.layouts[1] == layout
        with safe_open(tmp_path / f"{to}.safetensors", "pt") as file:
            assert file.metadata()["layout"] == layout
            assert file.metadata()["model"] == "mambaout_femto"
    assert same(load_file(tmp_path / "timm.safetensors"), export_state_dict(source, "timm"))
    assert same(load_file(tmp_path / "ours.safetensors"), source.state_dict())


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("vim_tiny_stride8", {"depth": 24}),
        ("vim_tiny", {"class_token": "double"}),
        ("vim_tiny", {"class_token": None, "global_pool": "avg"}),
        ("vim_tiny", {"img_size": 384, "in_chans": 1}),
        ("test_mambaout", {}),  # its depths and widths are others', but not its keys
        ("mambaout_small_rw", {}),
        ("res_vmamba_tiny", {"residual": "stem"}),
    ],
)
def test_a_published_model_is_told_by_its_options_too(tmp_path, name, kwargs):
    with torch.device("meta"):
        state = create_model(name, num_classes=2, **kwargs).state_dict()
    write_weights({key: torch.zeros(value.shape) for key, value in state.items()}, tmp_path / "a.safetensors")
    done = convert_file(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert done.names == (name,)


def test_models_that_differ_in_no_shape_are_both_named(tmp_path):
    save_file(create_model("mambaout_pico_32").state_dict(), tmp_path / "a.safetensors")
    done = convert_file(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert set(done.names) == {"mambaout_pico_32", "mambaout_pico_64"}
    assert convert_file(tmp_path / "a.safetensors", tmp_path / "c.safetensors", "mambaout_pico_64").names == (
        "mambaout_pico_64",
    )


def test_a_model_of_no_published_size_is_converted_and_said_to_be_unchecked(tmp_path):
    state = VMamba(depths=(1, 2), dims=(8, 12), num_classes=3).state_dict()
    save_file(state, tmp_path / "a.safetensors")
    done = convert_file(tmp_path / "a.safetensors", tmp_path / "b.safetensors", to="official")
    assert done.names == ()
    assert "VMamba(depths=(1, 2), dims=(8, 12), d_state=1, ssm_ratio=1, num_classes=3, in_chans=3)" in str(done)
    assert "not checked" in str(done)
    convert_file(tmp_path / "b.safetensors", tmp_path / "c.safetensors")
    assert same(load_file(tmp_path / "c.safetensors"), state)


# What a file may hold


def test_types_stay_and_shared_memory_is_taken_apart(tmp_path):
    state = random_model("mambaout_pico_8").state_dict()
    whole = torch.cat([value.flatten() for value in state.values()]).bfloat16()
    parts = whole.split([value.numel() for value in state.values()])  # all in one storage
    state = {key: part.view(state[key].shape) for key, part in zip(state, parts, strict=True)}
    torch.save(state, tmp_path / "one.bin")
    done = convert_file(tmp_path / "one.bin", tmp_path / "a.safetensors")
    assert done.dtypes == ("bfloat16",)
    assert same(load_file(tmp_path / "a.safetensors"), state)


@pytest.mark.parametrize("new_format", [True, False])
def test_settings_beside_the_weights_are_passed_over(tmp_path, monkeypatch, new_format):
    yacs = types.ModuleType("yacs.config")
    yacs.CfgNode = type("CfgNode", (dict,), {"__module__": "yacs.config", "__qualname__": "CfgNode"})
    config = yacs.CfgNode(DEPTHS=[2, 2])
    config.frozen = True
    state = random_model("mambaout_pico_8").state_dict()
    held = {"model": state, "args": argparse.Namespace(lr=0.1), "config": config, "output": Path("out") / "run"}
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "yacs.config", yacs)
        patch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
        torch.save(held, tmp_path / "a.pth", _use_new_zipfile_serialization=new_format)
    allowed = set(torch.serialization.get_safe_globals())
    assert same(read_weights(tmp_path / "a.pth").state, state)
    assert set(torch.serialization.get_safe_globals()) == allowed


def test_the_average_is_taken_first_and_the_key_chooses(tmp_path):
    trained, average = (random_model("mambaout_pico_8", seed).state_dict() for seed in (0, 1))
    optimiser = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    held = {"model": trained, "model_ema": average, "optimizer": optimiser, "epoch": 7}
    torch.save(held, tmp_path / "a.pth")
    found = read_weights(tmp_path / "a.pth")
    assert (found.key, found.others) == ("model_ema", ("model",))
    assert same(found.state, average)
    chosen = read_weights(tmp_path / "a.pth", "model")
    assert (chosen.key, chosen.others) == ("model", ("model_ema",))
    assert same(chosen.state, trained)
    torch.save({"run": {"net": trained}}, tmp_path / "b.pth")
    assert same(read_weights(tmp_path / "b.pth", "run.net").state, trained)
    torch.save({"run": {"state_dict": trained}, "note": 1}, tmp_path / "c.pth")
    assert read_weights(tmp_path / "c.pth", "run").key == "run.state_dict"


def test_counts_of_tools_are_dropped_and_said(tmp_path):
    state = dict(random_model("mambaout_pico_8").state_dict())
    extra = {"stages.0.total_ops": torch.zeros(1), "total_params": torch.zeros(1)}
    torch.save(
        {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in (state | extra).items()}}, tmp_path / "a.pt"
    )
    done = convert_file(tmp_path / "a.pt", tmp_path / "b.safetensors")
    assert set(done.found.dropped) == {"n_averaged", "module.stages.0.total_ops", "module.total_params"}
    assert "dropped n_averaged: the number of averaged steps" in str(done)
    assert same(load_file(tmp_path / "b.safetensors"), state)


# What is refused


class Runs:
    """Makes a folder when it is unpickled by a loader that trusts the file."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("new_format", [True, False])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, new_format):
    state = random_model("mambaout_pico_8").state_dict()
    held = {"model": state, "extra": Runs(tmp_path / "ran")}
    torch.save(held, tmp_path / "a.pth", _use_new_zipfile_serialization=new_format)
    with pytest.raises(ValueError, match=r"holds \w+\.mkdir, which is neither.*could run code.*so it is refused. Ask"):
        convert_file(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert left(tmp_path) == ["a.pth"]
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert (tmp_path / "ran").is_dir()  # so it would have run


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["zip.pth", "legacy.pth", "a.safetensors"])
def test_a_torn_file_is_refused(tmp_path, kind, share):
    state = random_model("mambaout_pico_8").state_dict()
    if kind.endswith("safetensors"):
        save_file(state, tmp_path / kind)
    else:
        torch.save(state, tmp_path / kind, _use_new_zipfile_serialization=kind == "zip.pth")
    whole = (tmp_path / kind).read_bytes()
    (tmp_path / kind).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(
        ValueError, match=r"torn or of another kind.*Fetch it again, and compare its size, [\d,]+ bytes"
    ):
        convert_file(tmp_path / kind, tmp_path / "b.safetensors")
    assert left(tmp_path) == [kind]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\n<!DOCTYPE html><html>Sign in</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    ],
)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_what_a_download_gives_instead_of_weights_is_named(tmp_path, content, says, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says):
        read_weights(path)


@pytest.mark.parametrize(
    ("held", "key", "says"),
    [
        ([torch.zeros(1)], None, "holds a list; expected tensors by their keys"),
        ({}, None, "there is nothing. It holds no weights"),
        (
            {"net": {"a": torch.zeros(1)}, "epoch": 3},
            None,
            r"'net' is a dict. There are tensors under 'net': name the key",
        ),
        (
            {"model": {"a": torch.zeros(1)}},
            "model_ema",
            "no weights under the key 'model_ema'; it has some under 'model'",
        ),
        ({"a": torch.zeros(1)}, "model", "no weights under the key 'model'; .*leave the key out"),
        ({"model": {"a": torch.zeros(1), "b": 3}}, None, "'b' is a int"),
    ],
)
def test_files_without_weights_where_they_are_sought_are_refused(tmp_path, held, key, says):
    torch.save(held, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=says):
        read_weights(tmp_path / "a.pth", key)


@pytest.mark.parametrize(
    ("change", "model", "says"),
    [
        (lambda s: s.pop("stages.1.blocks.0.fc1.weight"), None, r"fit mambaout_pico_8: 1 keys that the weights lack"),
        (lambda s: s.pop("stages.1.blocks.0.fc2.weight"), None, r"a MambaOut, but of which size cannot be told.*fc2"),
        (lambda s: s.update(extra=torch.zeros(1)), None, r"keys that the model lacks \(such as extra"),
        (
            lambda s: s.update({"head.norm.weight": torch.zeros(5)}),
            None,
            r"another shape.*head.norm.weight: weights \(5,",
        ),
        (dict.clear, None, "there is nothing"),
        (lambda s: None, "mambaout_kobe", r"do not fit mambaout_kobe.*'mambaout_pico_8', num_classes=5"),
        (lambda s: None, "vim_tiny", r"not the weights of a Vim: they are a MambaOut's.*'mambaout_pico_8'"),
        (lambda s: None, "mambaout_pico_9", "unknown model 'mambaout_pico_9'; did you mean mambaout_pico_8"),
        (lambda s: None, "residual_swin_tiny", "family without published weights; known are MambaOut"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, change, model, says):
    state = dict(random_model("mambaout_pico_8").state_dict())
    change(state)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=says):
        convert_file(tmp_path / "a.pth", tmp_path / "b.safetensors", model)
    assert left(tmp_path) == ["a.pth"]


def test_another_family_and_a_layout_that_cannot_hold_the_weights_are_refused(tmp_path):
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"no known family \(MambaOut, Vim.*begin with features.0.weight; known are"):
        convert_file(tmp_path / "a.pth", tmp_path / "b.safetensors")
    torch.save(create_model("vim_tiny", num_classes=0).state_dict(), tmp_path / "v.pth")
    with pytest.raises(ValueError, match="timm has no Vim"):
        convert_file(tmp_path / "v.pth", tmp_path / "b.safetensors", to="timm")
    with pytest.raises(ValueError, match="to must be one of 'ours', 'timm', 'official'; got 'theirs'"):
        convert_file(tmp_path / "v.pth", tmp_path / "b.safetensors", to="theirs")
    assert left(tmp_path) == ["a.pth", "v.pth"]


def test_files_that_are_there_or_not_there(small, tmp_path):
    source, state = small
    target = tmp_path / "b.safetensors"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        convert_file(tmp_path / "other.pth", target)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        convert_file(source, tmp_path / "none" / "b.safetensors")
    with pytest.raises(ValueError, match=r"target is a .safetensors file; got 'b.pth'"):
        convert_file(source, tmp_path / "b.pth")
    (tmp_path / "c.txt").write_text("text")
    with pytest.raises(ValueError, match=r"'c.txt' is no file of weights by its ending; expected one of .pth"):
        convert_file(tmp_path / "c.txt", target)
    target.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"there already.*--force"):
        convert_file(source, target)
    assert target.read_bytes() == b"mine"
    convert_file(source, target, force=True)
    assert same(load_file(target), state)
    with pytest.raises(ValueError, match="the same file"):
        convert_file(target, target, to="timm", force=True)
    assert left(tmp_path) == ["b.safetensors", "c.txt", "small.pth"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device"),
        KeyboardInterrupt(),
    ],
)
def test_a_full_disk_or_an_interruption_leaves_no_half_of_a_file(small, tmp_path, monkeypatch, error):
    source, _ = small
    target = tmp_path / "b.safetensors"
    target.write_bytes(b"mine")

    def half(state, path, metadata):
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr(weight_files, "save_file", half)
    refused = pytest.raises(KeyboardInterrupt) if isinstance(error, KeyboardInterrupt) else None
    with refused or pytest.raises(OSError, match=r"could not write 'b.safetensors' .*No space left.*\d MB left"):
        convert_file(source, target, force=True)
    assert target.read_bytes() == b"mine"
    assert left(tmp_path) == ["b.safetensors", "small.pth"]


def test_a_limit_on_the_size_of_files_is_such_a_full_disk(small, tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"could not write 'b.safetensors'"):
            convert_file(small[0], tmp_path / "b.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left(tmp_path) == ["small.pth"]


def test_load_official_refuses_a_file_as_it_refuses_a_state(small, tmp_path):
    source, _ = small
    model = create_model("mambaout_pico_8", num_classes=4)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"head.fc.*num_classes=5"):
        load_official(model, source)
    with pytest.raises(FileNotFoundError):
        load_official(model, tmp_path / "other.pth")
    assert same(model.state_dict(), before)


def test_a_progress_bar_shows_for_large_files_alone(small, tmp_path, monkeypatch, capsys):
    convert_file(small[0], tmp_path / "a.safetensors")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(convert, "SHOWN_FROM", 1000)
    convert_file(small[0], tmp_path / "b.safetensors")
    assert "writing" in capsys.readouterr().err
