"""The command line: exit codes, what it prints, and that it stays light."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mambaout_edu import __version__, cli, doctor


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("optional", 0), ("missing", 1)])
def test_doctor_prints_its_table_and_exits_by_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: doctor.Finding, code: int
) -> None:
    monkeypatch.setattr(doctor, "PARTS", {"python": lambda: doctor.Finding("Python", status, "9.9", "why so", "do")})
    assert cli.main(["doctor"]) == code
    assert "9.9" in capsys.readouterr().out


def test_a_check_that_breaks_does_not_break_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> doctor.Finding:
        raise ZeroDivisionError("in the check itself")

    monkeypatch.setattr(doctor, "PARTS", {"torch": broken})
    assert cli.main(["doctor"]) == 1
    assert "ZeroDivisionError: in the check itself" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["no-such-command"], ["doctor", "--no-such-option"]])
def test_a_wrong_command_line_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert "usage: mambaout-edu" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == f"mambaout-edu {__version__}"


def test_the_installed_command_is_this_one() -> None:
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="mambaout-edu")
    assert entry.load() is cli.main
    assert importlib.metadata.version("mambaout-edu") == __version__


def test_help_needs_no_torch() -> None:
    code = "import sys; from mambaout_edu import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'numpy', 'timm'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "doctor" in done.stdout


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    from mambaout_edu.models import create_model

    path = tmp_path / "digits.pth"
    torch.save({"model": create_model("mambaout_pico_8").state_dict(), "epoch": 3}, path)
    return path


def test_convert_writes_and_says_what(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = checkpoint.with_suffix(".safetensors")
    assert cli.main(["convert", str(checkpoint), str(target), "--to", "timm", "--key", "model"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    for part in (
        'under "model"',
        "float32",
        'MambaOut, in the layout "mambaout_edu"',
        "mambaout_pico_8",
        "digits.safe",
    ):
        assert part in printed.out
    assert target.is_file()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "is there already; give another name, or --force"),
        (["--force", "--model", "vim_tiny"], "they are a MambaOut's. They fit create_model('mambaout_pico_8'"),
        (["--force", "--key", "model_ema"], "no weights under the key 'model_ema'; it has some under 'model'"),
        (["--force", "--model", "mambaout_pico_9"], "did you mean mambaout_pico_8"),
    ],
)
def test_convert_refuses_in_words_and_exits_by_1(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    target = checkpoint.with_suffix(".safetensors")
    target.write_bytes(b"mine")
    assert cli.main(["convert", str(checkpoint), str(target), *options]) == 1
    printed = capsys.readouterr()
    assert says in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert target.read_bytes() == b"mine"
    if not options:
        assert cli.main(["convert", str(checkpoint), str(target), "--force"]) == 0


def test_an_interrupted_conversion_says_so(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mambaout_edu.models.convert.convert_file", interrupted)
    assert cli.main(["convert", str(checkpoint), "x.safetensors"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_convert_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["convert", "--help"])
    assert stop.value.code == 0
    assert "mambaout-edu convert mambaout_tiny.pth mambaout_tiny.safetensors" in capsys.readouterr().out
