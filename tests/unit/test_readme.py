"""Every command and every snippet in the README and in CONTRIBUTING.md works, and every link leads somewhere."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from mambaout_edu import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def blocks(language: str) -> list[tuple[str, str]]:
    """Return (page, text) of every fenced block in a language."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [(page.name, text) for page in PAGES for text in fence.findall(page.read_text(encoding="utf-8"))]


COMMANDS = sorted({line for _, text in blocks("sh") for line in text.splitlines() if line.strip()})


def dry_run(*words: str) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", "-n", *words], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_exists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        assert "tools/setup_env.py" in dry_run(*words[1:])
    elif words[0] == ".venv/bin/mambaout-edu":
        with pytest.raises(SystemExit) as stop:
            cli.main([*words[1:], "--help"])
        assert stop.value.code == 0
        assert words[1] in capsys.readouterr().out
    elif words[0] == "conda":
        environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
        assert words[1:] in (["env", "create", "-f", "environment.yml"], ["activate", environment["name"]])
    else:
        pytest.fail(f"no test knows the command {command!r}; teach this one to try it")


def test_the_two_commands_are_there() -> None:
    assert {"make lab", "make test"} <= set(COMMANDS)


def test_every_make_target_named_in_the_text_exists() -> None:
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8"))}
    assert named
    for target in sorted(named):
        dry_run(target)


@pytest.mark.parametrize(("page", "snippet"), blocks("python"))
def test_every_snippet_runs(page: str, snippet: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(compile(snippet, page, "exec"), names)
    if "profile" in snippet:
        assert tuple(names["logits"].shape) == (2, 10)  # type: ignore[attr-defined]
        assert "token mixing" in capsys.readouterr().out
    if "selective_scan" in snippet:
        assert tuple(names["y"].shape) == (2, 64, 100)  # type: ignore[attr-defined]
        assert "engine 'cpu'" in capsys.readouterr().out


def test_snippets_are_short() -> None:
    snippets = [text for page, text in blocks("python") if page == "README.md"]
    assert [len([line for line in text.splitlines() if line.strip()]) for text in snippets] == [5, 6]


def test_every_name_of_the_package_in_the_readme_exists() -> None:
    from mambaout_edu import models

    named = set(re.findall(r"`models\.(\w+)\(", PAGES[0].read_text(encoding="utf-8")))
    assert named >= {"load_official", "export_state_dict"}
    assert all(hasattr(models, name) for name in named)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_pictures_have_alternative_text(page: Path) -> None:
    links = re.findall(r"(!?)\[([^\]]*)\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    for picture, words, target in links:
        assert (ROOT / target).is_file(), target
        assert len(words) > (30 if picture else 2)


def test_the_picture_has_a_title_a_description_and_a_dark_form() -> None:
    picture = (ROOT / "assets" / "course.svg").read_text(encoding="utf-8")
    assert "<title" in picture
    assert "<desc" in picture
    assert "prefers-color-scheme: dark" in picture


def test_the_lesson_table_agrees_with_the_lessons() -> None:
    import json

    lessons = json.loads((ROOT / "mambaout_edu" / "learn" / "lessons.json").read_text(encoding="utf-8"))["lessons"]
    rows = re.findall(r"^\| (\d\d) \|.*\| ([C\d, ]+) \| (ready|to come) \|$", PAGES[0].read_text("utf-8"), re.MULTILINE)
    table = {number: (claims.split(", "), state == "ready") for number, claims, state in rows}
    assert table == {lesson["number"]: (lesson["claims"], lesson["written"]) for lesson in lessons}
