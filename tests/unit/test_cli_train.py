"""The commands of training: from a recipe to a file that timm loads, exit codes, and refusals in words."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image

from mambaout_edu import cli, cli_train
from mambaout_edu.models import create_model
from mambaout_edu.models.weight_files import write_weights
from mambaout_edu.training.recipe import recipe

COMMANDS = ("train", "resume", "evaluate", "export", "bench")
SHORT = ["--set", "epochs=1", "warmup_epochs=0", "batch_size=64"]
Captured = pytest.CaptureFixture[str]


def train(folder: Path, *more: str) -> int:
    """Train the digits for an epoch, which ends far above chance."""
    start = ["train", "--model", "mambaout_pico_8", "--data", "digits", "--recipe", "digits_cpu", "--quiet"]
    return cli.main([*start, "--out", str(folder), *SHORT, *more])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert train(folder) == 0
    return folder


# --- the whole way ----------------------------------------------------------------------------------------------------


def test_a_run_leaves_all_that_it_promises(finished: Path) -> None:
    there = {entry.name for entry in finished.iterdir()}
    assert there >= {"recipe.json", "run.json", "log.jsonl", "checkpoints", "card.json", "card.png"}
    card = json.loads((finished / "card.json").read_text())
    assert (card["state"], card["steps"], card["recipe"]["epochs"]) == ("finished", 21, 1)
    assert card["curves"]["loss"][0] > card["curves"]["loss"][-1]


def test_evaluate_agrees_with_the_run(finished: Path, tmp_path: Path, capsys: Captured) -> None:
    figures = tmp_path / "figures.json"
    assert cli.main(["evaluate", str(finished), "--json", str(figures), "--quiet", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "mambaout_pico_8 after 21 updates, on 450 images of digits, validation" in said
    assert "95 % interval" in said
    found = json.loads(figures.read_text())
    assert found["top1"]["correct"] == json.loads((finished / "card.json").read_text())["final"]["correct"] > 90
    assert (found["total"], len(found["confusion"])) == (450, 10)


@pytest.mark.parametrize(
    ("to", "suffix"), [("timm", ".pth"), ("safetensors", ".safetensors"), ("torch-export", ".pt2")]
)
def test_export_writes_what_evaluates_the_same(
    finished: Path, tmp_path: Path, capsys: Captured, to: str, suffix: str
) -> None:
    target = tmp_path / f"digits{suffix}"
    assert cli.main(["export", str(finished), str(target), "--to", to]) == 0
    assert f"wrote    {target}" in capsys.readouterr().out
    if to == "torch-export":
        assert torch.export.load(target).module()(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
        return
    figures = [tmp_path / "run.json", tmp_path / "file.json"]
    for source, file in zip((finished, target), figures, strict=True):
        assert cli.main(["evaluate", str(source), "--json", str(file), "--quiet", "--device", "cpu"]) == 0
    run, exported = (json.loads(file.read_text()) for file in figures)
    assert exported["confusion"] == run["confusion"]
    assert (exported["step"], exported["classes"]) == (21, run["classes"])
    if to == "timm":
        assert timm.create_model("mambaout_pico_8", num_classes=10, checkpoint_path=str(target)).num_classes == 10


def test_stopped_and_resumed_is_as_if_nothing_had_been(finished: Path, tmp_path: Path, capsys: Captured) -> None:
    from mambaout_edu.training.trained import load_trained

    folder = tmp_path / "stopped"
    assert train(folder, "--max-steps", "8", "--tensorboard") == 130
    assert list((folder / "tensorboard").glob("events.*"))
    assert f"Go on with: mambaout-edu resume {folder}" in capsys.readouterr().out
    assert cli.main(["resume", str(folder), "--quiet", "--set", "keep_checkpoints=5"]) == 0
    assert "finished: 21 updates" in capsys.readouterr().out
    ours, theirs = (load_trained(run, which="latest").model.state_dict() for run in (folder, finished))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("change", ["lr=1", "epochs=9"])
def test_resume_refuses_another_recipe(finished: Path, tmp_path: Path, capsys: Captured, change: str) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "copy"))
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert cli.main(["resume", str(folder), "--quiet", "--set", change]) == 1
    assert change.partition("=")[0] in capsys.readouterr().err
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_two_processes_train_one_run(tmp_path: Path) -> None:
    """As `accelerate launch --cpu --num_processes 2 -m mambaout_edu.cli train ...` does, on this machine."""
    out = tmp_path / "two"
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    more = ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m", "mambaout_edu.cli"]
    words = ["train", "--model", "mambaout_pico_8", "--data", "digits", "--recipe", "digits_cpu", "--quiet"]
    command = [*launch, *more, *words, "--out", str(out), *SHORT, "--max-steps", "3"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.stdout.count("Go on with: mambaout-edu resume") == 1, done.stderr[-3000:]
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "step"] == [1, 2, 3]


# --- words in, words out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_exit_codes(command: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert f"mambaout-edu {command}" in said.partition("examples:")[2]
    assert "exit codes: 0" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_help_are_valid_command_lines(command: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    text = capsys.readouterr().out.partition("examples:")[2].partition("exit codes")[0].replace("\\\n", " ")
    examples = re.findall(rf"(?:mambaout-edu|mambaout_edu\.cli) ({command} .*?)(?:\s+\(.*)?$", text, re.MULTILINE)
    assert examples
    for example in examples:
        assert callable(cli._parser().parse_args(example.split()).run)


def test_the_recipe_is_shown_with_its_changes_and_the_model_s_drop_path(capsys: Captured) -> None:
    words = ["train", "--show-recipe", "--recipe", "imagenet_paper", "--model", "mambaout_small"]
    assert cli.main([*words, "--set", "epochs=40", "--set", "betas=[0.9, 0.95]", "auto_augment=none"]) == 0
    expected = recipe("imagenet_paper", epochs=40, betas=(0.9, 0.95), auto_augment=None, drop_path=0.4)
    assert capsys.readouterr().out == f"{expected}\n"


def test_a_recipe_file_is_a_recipe(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(recipe("digits_cpu", seed=7).to_json())
    assert cli.main(["train", "--show-recipe", "--recipe", str(file), "--set", "lr=0.5"]) == 0
    assert capsys.readouterr().out == f"{recipe('digits_cpu', seed=7, lr=0.5)}\n"


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1e-3", 1e-3), ("40", 40), ("None", None), ("off", None), ("true", True), ("no", False),
        ("[0.9, 0.95]", [0.9, 0.95]), ("rand-m9-mstd0.5-inc1", "rand-m9-mstd0.5-inc1"), ("", ""), ("a=b", "a=b"),
    ],
)  # fmt: skip
def test_values_are_json_or_words(word: str, value: object) -> None:
    found = cli_train._settings([f"name={word}"], "set", "")["name"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "--recipe", "imagenet_papers", "--show-recipe"], "did you mean imagenet_paper?"),
        (["train", "--recipe", "nowhere.json", "--show-recipe"], "nowhere.json"),
        (["train", "--set", "epoch=3", "--show-recipe"], "no setting 'epoch'; did you mean epochs"),
        (["train", "--set", "epochs", "--show-recipe"], "--set wants NAME=VALUE, such as epochs=100; got 'epochs'"),
        (["train", "--set", "epochs=ten", "--show-recipe"], "epochs is 'ten'; expected a whole number"),
        (["train", "--model", "mambaout_tinny", "--show-recipe"], "did you mean mambaout_tiny"),
        (["train", "--model", "mambaout_pico_8", "--data", "digit", "--out", "{new}"], "data is 'digit'; expected"),
        (["train", "--model", "mambaout_pico_8", "--data", "digits", "--out", "{taken}"], "is not empty; give another"),
        (["train", "--model", "mambaout_pico_8", "--data", "folder:{nothing}", "--out", "{new}"], "there is no folder"),
        (["train", "--model", "mambaout_pico_8", "--data", "folder:{taken}", "--out", "{new}"], "no folder for train"),
        (["resume", "{nothing}"], "{nothing}"),
        (["resume", "{taken}"], "{taken}"),
        (["evaluate", "{nothing}"], "no run and no file"),
        (["evaluate", "{taken}"], "not the folder of a run: it has no run.json, it holds a picture.png"),
        (["evaluate", "{weights}"], "no word of the images to measure on; give them with --data"),
        (["evaluate", "{weights}", "--data", "folder:{taken}"], "no folder for validation"),
        (["evaluate", "{weights}", "--data", "digits"], "tells 7 classes apart, but digits, validation has 10"),
        (["evaluate", "{weights}", "--data", "digits", "--model", "vim_tiny"], "they are a MambaOut's"),
        (["evaluate", "{weights}", "--data", "digits", "--device", "gpu"], "device 'gpu' cannot be used here"),
        (["evaluate", "{weights}", "--json", "{weights}"], "is there already; give another name, or --force"),
        (["export", "{weights}", "{weights}"], "is there already; give another name, or --force"),
        (["export", "{weights}", "{new}.onnx"], "a file for timm ends in .safetensors or .pth"),
        (["bench", "--model", "mambaout_tinny"], "did you mean mambaout_tiny"),
        (["bench", "--model", "mambaout_pico_8", "--repeats", "1"], "expected at least 3, 1 and 1"),
    ],
)  # fmt: skip
def test_refusals_are_in_words_and_exit_by_1(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"weights": "seven.safetensors", "taken": "taken", "nothing": "nothing", "new": "new"}
    write_weights(create_model("mambaout_pico_8", num_classes=7).state_dict(), places["weights"])
    Path("taken").mkdir()
    Path("taken/a picture.png").write_bytes(b"")
    assert cli.main([word.format(**places) for word in words]) == 1
    printed = capsys.readouterr()
    assert says.format(**places) in printed.err
    assert printed.err.startswith(f"mambaout-edu {words[0]}: ")
    assert "Traceback" not in printed.err
    assert not Path("new").exists() or not any(Path("new").iterdir())


def test_classes_of_other_names_are_refused_unless_they_are_ignored(
    finished: Path, tmp_path: Path, capsys: Captured
) -> None:
    names = ("nine", "eight", "seven", "six", "five", "four", "three", "two", "one", "zero")
    for part, name in [(part, name) for part in ("train", "val") for name in names]:
        (tmp_path / part / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / part / name / "1.png")
    words = ["evaluate", str(finished), "--data", f"folder:{tmp_path}", "--quiet", "--device", "cpu"]
    assert cli.main(words) == 1
    assert "the model learned other classes (0, ...) than" in capsys.readouterr().err
    assert cli.main([*words, "--ignore-names"]) == 0
    assert "of 10 images" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["train"], ["train", "--model", "mambaout_tiny"], ["bench"], ["export", "a"]])
def test_a_command_line_without_what_it_needs_exits_by_2(words: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    assert "usage: mambaout-edu" in capsys.readouterr().err


def test_several_processes_need_the_name_of_a_folder(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["train", "--model", "mambaout_pico_8", "--data", "digits", "--recipe", "digits_cpu"]) == 1
    assert "name it with --out" in capsys.readouterr().err


def test_the_default_folder_names_model_recipe_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    options = cli._parser().parse_args(["train", "--model", "mambaout_pico_8"])
    folder = cli_train._new_folder(options, recipe("digits_cpu"))
    assert re.fullmatch(r"mambaout_pico_8-digits_cpu-\d{8}-\d{6}", folder.name)
    assert folder.parent == Path("runs")


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "mambaout-edu bench: interrupted"),
        (RuntimeError("out of memory"), 1, "mambaout-edu bench: RuntimeError: out of memory (--traceback shows where"),
        (OSError("the disk is full"), 1, "mambaout-edu bench: the disk is full"),
    ],
)
def test_faults_end_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, fault: BaseException, code: int, says: str
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise fault

    monkeypatch.setattr("mambaout_edu.training.benching.bench", broken)
    assert cli.main(["bench", "--model", "mambaout_pico_8"]) == code
    assert says in capsys.readouterr().err
    if code == 1:
        assert cli.main(["bench", "--model", "mambaout_pico_8", "--traceback"]) == 1
        assert "Traceback" in capsys.readouterr().err


def test_bench_prints_and_writes(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "bench.json"
    words = ["--model", "test_mambaout", "--image-size", "32", "--batch-size", "2", "--repeats", "3", "--device", "cpu"]
    assert cli.main(["bench", *words, "--train", "--quiet", "--json", str(file)]) == 0
    assert "time of ours over timm's" in capsys.readouterr().out
    assert json.loads(file.read_text())["time_over_timm"] > 0
