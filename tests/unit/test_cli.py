"""The command line: exit codes, what it prints, and that it stays light."""

import importlib.metadata
import subprocess
import sys

import pytest

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
