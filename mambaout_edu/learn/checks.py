"""Check a learner's function: run it on seeded cases and say what happened, and which mistake it was."""

import dis
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from mambaout_edu import strings
from mambaout_edu.learn import limits, progress
from mambaout_edu.learn.check_result import Result
from mambaout_edu.learn.compare import Finding, compare
from mambaout_edu.learn.compare_values import same, show, snapshot
from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise, get, load_reference, stub_code

__all__ = ["SEED", "check"]

SEED = 0


def check(exercise_id: str, function: Callable[..., Any], *, seconds: float = 5.0) -> Result:
    """Compare a learner's function with the package's own on seeded cases, and say which mistake was made.

    Nothing that the function does gets out: it may print, raise, loop for ever, change its input or
    return anything. A stub that nobody touched is "not attempted", and is not run.

    Parameters
    ----------
    exercise_id
        Such as "block.split".
    function
        The learner's function.
    seconds
        Time limit of each call.

    Returns
    -------
    Result
        `.passed`, `.status`, `.message`; a pass is kept in the reader's progress.

    Raises
    ------
    ValueError
        If there is no exercise of this name (the nearest are listed), or `seconds` is not positive.

    Examples
    --------
    >>> check("block.parameters", lambda dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7: 0).passed
    False
    """
    exercise = get(exercise_id)
    if not seconds > 0:
        raise ValueError(f"seconds must be positive; got {seconds}")
    if _is_stub(exercise, function):
        return _result(exercise, Finding("not_attempted", "", {}))
    if not callable(function):
        return _result(exercise, Finding("not_callable", "", {"given": show(function)}))
    reference = load_reference(exercise)
    trials = []
    for case in exercise.cases(SEED):
        trials.append(_try(exercise, function, reference, case, seconds))
        if not trials[-1].comparable:
            break
    result = _verdict(exercise, trials)
    if result.passed and function is not reference:
        progress.record("exercise", exercise.id, {"passed": True, "lesson": exercise.lesson})
    return result


@dataclass(frozen=True)
class _Trial:
    """One case, run: what was expected, what came, and the first thing that is wrong with it."""

    case: Case
    expected: Any
    outcome: limits.Outcome
    given: Any
    finding: Finding | None
    changed: str | None  # the argument that the function changed

    @property
    def comparable(self) -> bool:
        """Whether there is a value to compare known mistakes with."""
        stopped = self.finding is not None and self.finding.status in (
            "signature",
            "none",
            "unfinished",
            "not_attempted",
        )
        return self.outcome.kind == "value" and not stopped


def _try(
    exercise: Exercise, function: Callable[..., Any], reference: Callable[..., Any], case: Case, seconds: float
) -> _Trial:
    expected = snapshot(_apply(reference, case))
    mismatch = _signature_mismatch(exercise, function, case, seconds)
    if mismatch:
        return _Trial(case, expected, limits.Outcome("value"), None, mismatch, None)
    args, kwargs = snapshot(case.args), snapshot(dict(case.kwargs))
    outcome = limits.run(function, args, kwargs, seconds)
    given = snapshot(outcome.value)
    if outcome.kind == "raised":
        untouched = outcome.error_type == "NotImplementedError"
        finding: Finding | None = Finding("not_attempted" if untouched else "raised", "", {"error": outcome.error})
    elif outcome.kind == "time_limit":
        words = strings.text("exercises", "running" if not outcome.ended else "stopped")
        finding = Finding("time_limit", "", {"seconds": f"{seconds:g}", "ended": words})
    else:
        finding = compare(expected, given, exercise.tolerance)
    return _Trial(case, expected, outcome, given, finding, _changed_argument(reference, case, args, kwargs))


def _apply(function: Callable[..., Any], case: Case) -> Any:
    return function(*snapshot(case.args), **snapshot(dict(case.kwargs)))


def _verdict(exercise: Exercise, trials: Sequence[_Trial]) -> Result:
    wrong = next((trial for trial in trials if trial.finding), None)
    if wrong and all(trial.comparable for trial in trials):
        known = _diagnose(exercise, trials)
        if known:
            return _result(exercise, Finding("diagnosed", "", {}), wrong, known)
    changed = next((trial for trial in trials if trial.changed and trial.outcome.kind == "value"), None)
    if changed:
        return _result(exercise, Finding("input_changed", "", {"argument": changed.changed}), changed)
    if wrong and wrong.finding:
        return _result(exercise, wrong.finding, wrong)
    return _result(exercise, Finding("correct", "", {"cases": len(trials)}), trials[0])


def _diagnose(exercise: Exercise, trials: Sequence[_Trial]) -> Diagnosis | None:
    """Return the first known mistake whose outputs fit the given ones in every case."""

    def fits(diagnosis: Diagnosis) -> bool:
        for trial in trials:
            try:
                if compare(_apply(diagnosis.implementation, trial.case), trial.given, exercise.tolerance):
                    return False
            except Exception:  # the mistake fails on this case, where the learner's function did not
                return False
        return True

    return next((diagnosis for diagnosis in exercise.diagnoses if fits(diagnosis)), None)


def _changed_argument(
    reference: Callable[..., Any], case: Case, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str | None:
    names = list(inspect.signature(reference).parameters)
    pairs = [(names[i], old, args[i]) for i, old in enumerate(case.args)]
    pairs += [(name, old, kwargs.get(name)) for name, old in case.kwargs.items()]
    return next((name for name, old, new in pairs if not same(old, new)), None)


def _signature_mismatch(exercise: Exercise, function: Callable[..., Any], case: Case, seconds: float) -> Finding | None:
    # Asking an object for its signature may run its code. A function of C tells nothing of its arguments.
    signature = limits.run(inspect.signature, (function,), {}, seconds).value
    if type(signature) is not inspect.Signature:
        return None
    try:
        signature.bind(*case.args, **case.kwargs)
    except TypeError as error:
        return Finding("signature", "", {"error": error, "expected": _call_text(exercise, case)})
    return None


def _call_text(exercise: Exercise, case: Case) -> str:
    words = [show(value) for value in case.args] + [f"{name}={show(value)}" for name, value in case.kwargs.items()]
    return f"{exercise.function}({', '.join(words)})"


def _is_stub(exercise: Exercise, function: Any) -> bool:
    if function is ...:
        return True
    return type(function) is FunctionType and _steps(function.__code__) == _steps(stub_code(exercise))


def _steps(code: CodeType) -> list[Any]:
    """Return what a function does, without its line numbers and docstring."""
    steps = []
    for step in dis.get_instructions(code):
        value = _steps(step.argval) if isinstance(step.argval, CodeType) else step.argval
        steps.append((step.opname, value))
    return steps


def _result(
    exercise: Exercise, finding: Finding, trial: _Trial | None = None, diagnosis: Diagnosis | None = None
) -> Result:
    if diagnosis:
        message = str(exercise.text("diagnoses")[diagnosis.key])
    else:
        where = strings.text("exercises", "where", place=finding.where) if finding.where else ""
        message = strings.text("exercises", f"status.{finding.status}", where=where, **finding.values)
    details: dict[str, str] = {}
    if trial and finding.status not in ("correct", "not_attempted", "signature"):
        details["call"] = _call_text(exercise, trial.case)
        if trial.outcome.lines and finding.status == "raised":
            details["traceback"] = trial.outcome.lines
    if trial and trial.outcome.printed:
        details["printed"] = _printed(trial.outcome)
    return Result(exercise.id, finding.status, message, diagnosis.key if diagnosis else None, details)


def _printed(outcome: limits.Outcome) -> str:
    lines = outcome.printed.splitlines()
    shown = "\n".join(lines[:10])
    left = len(outcome.printed) - len(shown) + outcome.printed_more
    if len(lines) <= 10 and not outcome.printed_more:
        return shown
    return f"{shown}\n{strings.text('exercises', 'printed_more', count=left)}"
