"""Every exercise of the registry: its record, its strings, and a checker that is itself checked."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mambaout_edu import strings
from mambaout_edu.learn import progress
from mambaout_edu.learn.checks import check
from mambaout_edu.learn.exercises import Exercise, card, get, load_reference, registry
from mambaout_edu.learn.hints import hint
from mambaout_edu.learn.solutions import solution

IDS = list(registry())


@pytest.fixture(autouse=True)
def _nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the passes of these tests out of the progress that other tests in this process look at."""
    monkeypatch.setattr(progress, "record", lambda *_, **__: False)


def _answers(name: str) -> dict:
    """Merge one table (RIGHT or WRONG) of all files in `answers`, one file a lesson."""
    found = {}
    for path in sorted((Path(__file__).parent / "answers").glob("lesson_*.py")):
        spec = importlib.util.spec_from_file_location(f"answers_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found |= getattr(module, name)
    return found


RIGHT, WRONG = _answers("RIGHT"), _answers("WRONG")
RIGHT_ANSWERS = [pytest.param(i, f, id=f"{i}-{f.__name__}") for i in RIGHT for f in RIGHT[i]]
WRONG_ANSWERS = [pytest.param(i, key, f, id=f"{i}-{key}") for i in WRONG for key, f in WRONG[i].items()]


@pytest.mark.parametrize("exercise_id", IDS)
def test_every_exercise_has_answers_that_test_its_checker(exercise_id: str) -> None:
    assert len(RIGHT.get(exercise_id, [])) >= 2, "two right answers besides the reference are needed"
    assert len(WRONG.get(exercise_id, {})) >= 5, "five wrong answers are needed"
    assert set(WRONG[exercise_id]) == {diagnosis.key for diagnosis in get(exercise_id).diagnoses}


def test_no_answer_is_for_an_exercise_that_does_not_exist() -> None:
    assert set(RIGHT) == set(WRONG) == set(IDS)


@pytest.mark.parametrize("exercise_id", IDS)
def test_the_reference_is_accepted(exercise_id: str) -> None:
    result = check(exercise_id, load_reference(get(exercise_id)))
    assert result.passed, result


@pytest.mark.parametrize(("exercise_id", "answer"), RIGHT_ANSWERS)
def test_a_right_answer_is_accepted(exercise_id: str, answer) -> None:
    result = check(exercise_id, answer)
    assert result.passed, result


@pytest.mark.parametrize(("exercise_id", "key", "answer"), WRONG_ANSWERS)
def test_a_wrong_answer_gets_its_own_diagnosis(exercise_id: str, key: str, answer) -> None:
    result = check(exercise_id, answer)
    assert (result.status, result.diagnosis, result.passed) == ("diagnosed", key, False), result
    assert result.message == strings.table("exercises")[exercise_id]["diagnoses"][key]


@pytest.mark.parametrize("exercise_id", IDS)
def test_messages_are_distinct_and_complete(exercise_id: str) -> None:
    entry = strings.table("exercises")[exercise_id]
    assert set(entry) == {"title", "goal", "hints", "diagnoses"}
    keys = [diagnosis.key for diagnosis in get(exercise_id).diagnoses]
    assert sorted(entry["diagnoses"]) == sorted(keys)
    assert len(set(entry["diagnoses"].values())) == len(keys)
    assert all(len(message) >= 40 for message in entry["diagnoses"].values())


@pytest.mark.parametrize("exercise_id", IDS)
def test_the_record_is_complete(exercise_id: str) -> None:
    exercise = get(exercise_id)
    assert exercise.objective.startswith(f"{exercise.lesson}.")
    assert 1 <= exercise.minutes <= 60
    assert len(exercise.hints) >= 2
    assert len(set(exercise.hints)) == len(exercise.hints)
    assert len(exercise.cases(0)) >= 2
    assert re.fullmatch(r"[a-z0-9-]+", exercise.equation)
    assert max(map(len, exercise.stub.splitlines())) <= 100
    assert exercise.stub.count("\n") <= 25


@pytest.mark.parametrize("exercise_id", IDS)
def test_the_untouched_stub_is_not_attempted(exercise_id: str) -> None:
    exercise = get(exercise_id)
    names: dict = {}
    exec(exercise.stub, names)
    result = check(exercise_id, names[exercise.function])
    assert (result.status, result.passed) == ("not_attempted", False)
    # Another docstring or comment is no attempt either.
    exec(exercise.stub.replace('"""', '"""My notes. ', 1).replace("#", "# my"), names)
    assert check(exercise_id, names[exercise.function]).status == "not_attempted"


@pytest.mark.parametrize("exercise_id", IDS)
def test_the_cases_follow_the_seed_alone(exercise_id: str) -> None:
    import torch

    from mambaout_edu.learn.compare_values import same

    def cases(seed: int) -> list:
        return [[*case.args, dict(case.kwargs)] for case in get(exercise_id).cases(seed)]

    torch.manual_seed(1)
    before = cases(3)
    torch.manual_seed(2)
    assert same(before, cases(3))
    assert not all(same(before, cases(seed)) for seed in range(4, 9))
    for seed in range(3):  # whatever the seed, the reference takes the cases
        for case in get(exercise_id).cases(seed):
            load_reference(get(exercise_id))(*case.args, **case.kwargs)


def test_a_lesson_has_a_worked_a_completion_and_a_free_exercise() -> None:
    for lesson in {exercise.lesson for exercise in registry().values()}:
        kinds = {exercise.kind for exercise in registry().values() if exercise.lesson == lesson}
        assert kinds == {"worked", "completion", "free"}, lesson


def test_hints_come_one_after_the_other_and_end_in_the_solution() -> None:
    total = len(get("block.split").hints)
    given = [hint("block.split", restart=True), *(hint("block.split") for _ in range(total + 1))]
    assert [each.number for each in given] == [*range(1, total + 1), total + 1, total + 1]
    assert [each.text for each in given[:total]] == list(get("block.split").hints)
    assert 'solution("block.split")' in repr(given[-1])
    assert f"Hint 1 of {total}" in given[0]._repr_markdown_()
    assert hint("block.split", restart=True).number == 1


@pytest.mark.parametrize("exercise_id", IDS)
def test_the_solution_is_the_source_of_the_package(exercise_id: str) -> None:
    shown = solution(exercise_id)
    assert f"def {get(exercise_id).reference.rpartition('.')[2]}(" in shown.source
    assert f"(#{get(exercise_id).equation})" in shown._repr_markdown_()
    assert shown.source in repr(shown)


def test_the_card_shows_goal_difficulty_minutes_and_stub() -> None:
    shown = repr(card("block.gated_product"))
    assert "difficulty 2 of 5 ●●○○○, about 8 minutes, objective 06.block" in shown
    assert get("block.gated_product").stub in shown
    assert get("block.gated_product").stub in card("block.gated_product")._repr_markdown_()


def test_an_unknown_id_names_the_nearest() -> None:
    for function in (card, hint, solution, get, lambda exercise_id: check(exercise_id, len)):
        with pytest.raises(ValueError, match=r"'block\.gate_product'; did you mean 'block\.gated_product'"):
            function("block.gate_product")
    with pytest.raises(ValueError, match="there are '"):
        get("zzz")
    with pytest.raises(TypeError, match="got function"):
        get(lambda: None)


def test_a_record_that_cannot_be_right_is_refused() -> None:
    good = get("block.split")

    def changed(**fields) -> Exercise:
        return Exercise(**{**{name: getattr(good, name) for name in good.__dataclass_fields__}, **fields})

    with pytest.raises(ValueError, match="kind 'easy'"):
        changed(kind="easy")
    with pytest.raises(ValueError, match="difficulty 6"):
        changed(difficulty=6)
    with pytest.raises(ValueError, match=r"ends in 'return 1'; expected 'return \.\.\.'"):
        changed(stub="def f():\n    return 1\n")
    with pytest.raises(ValueError, match="2 statements"):
        changed(stub="import torch\ndef f():\n    return ...\n")


def test_a_replaced_reference_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import mambaout_edu.blocks

    monkeypatch.setattr(mambaout_edu.blocks, "gated_product", lambda gate, identity, mixed, act: gate)
    with pytest.raises(RuntimeError, match="no longer the package's own function"):
        check("block.gated_product", lambda gate, identity, mixed, act: gate)


def test_the_registry_is_light() -> None:
    code = """
import sys, time
started = time.perf_counter()
import mambaout_edu.learn.checks, mambaout_edu.learn.hints, mambaout_edu.learn.solutions
from mambaout_edu.learn.exercises import card, registry
[repr(card(each)) for each in registry()]
print(time.perf_counter() - started)
print([name for name in ("torch", "numpy", "timm", "IPython") if name in sys.modules])
"""
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    assert all(run.stdout.splitlines()[1] == "[]" for run in runs)
    assert min(float(run.stdout.splitlines()[0]) for run in runs) < 0.2
