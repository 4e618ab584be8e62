"""Predict first: ask, let the learner commit, then show answer and outcome side by side.

Questions live in the strings table of their lesson ("lesson_06"), by id; a notebook only gives the
outcome, so that predictions are about its own run.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mambaout_edu import strings

if TYPE_CHECKING:
    from mambaout_edu.widgets.prediction import Prediction

__all__ = ["KINDS", "predict", "predictions_of", "specify"]

KINDS = {
    "choice": ({"choices"}, set()),
    "number": ({"min", "max"}, {"label", "step", "unit", "log", "close"}),
    "curve": ({"x", "y"}, set()),
}  # kind: (fields that must be given, fields that have a default)


def predict(
    id: str,
    question: str | None = None,
    *,
    outcome: Any = None,
    kind: str | None = None,
    choices: Mapping[str, str] | None = None,
    min: float | None = None,
    max: float | None = None,
    step: float | None = None,
    unit: str | None = None,
    label: str | None = None,
    log: bool | None = None,
    close: float | None = None,
    x: Mapping[str, Any] | None = None,
    y: Mapping[str, Any] | None = None,
    why: str | None = None,
) -> "Prediction":
    """Ask for a prediction; the last line of a cell shows it.

    Parameters
    ----------
    id : str
        The prediction's id, such as "06.share". What its lesson's table says about it is taken
        from there; keyword arguments stand above the table.
    question : str, optional
        The question, where the table has none.
    outcome : object, optional
        What came out: a value, or a callable that is run after the commit (its errors are shown in
        words). Without it, `reveal(outcome)` gives it in a later cell.
    kind : {"choice", "number", "curve"}, optional
        Told from the other arguments where it is absent.
    choices : dict
        For a choice: {key: text}; the outcome is a key.
    min, max, step, unit, label, log, close
        For a number: the slider's ends, step, unit, label, whether it is logarithmic, and how far
        off still counts as close (in the slider's unit).
    x, y : dict
        For a curve: `x` with label, values (where there are points to move), optionally names and
        log; `y` with label, min, max, optionally log. The outcome is y values or (x, y) pairs.
    why : str, optional
        One sentence that explains the outcome.

    Returns
    -------
    Prediction
        A widget; without an answer it changes nothing, so a notebook runs through.

    Raises
    ------
    ValueError
        For an id that the table does not have, when no question is given, and for parts that do
        not fit together; the message says which.

    Examples
    --------
    >>> p = predict("t.sum", "How much is 2 + 2?", min=0, max=10, outcome=lambda: 2 + 2)
    >>> p
    Prediction t.sum: How much is 2 + 2? (not answered)
    >>> p.commit(5)
    >>> p
    Prediction t.sum: How much is 2 + 2? (answered: 5; outcome: 4)
    """
    from mambaout_edu.widgets.prediction import Prediction

    given = {"question": question, "kind": kind, "choices": choices, "min": min, "max": max, "step": step,
             "unit": unit, "label": label, "log": log, "close": close, "x": x, "y": y, "why": why}  # fmt: skip
    record = _from_table(id, question is None)
    for name, value in given.items():
        if isinstance(value, Mapping) and isinstance(record.get(name), Mapping) and name != "choices":
            record[name] = {**record[name], **value}  # an axis: what is given stands above the table's
        elif value is not None:
            record[name] = value
    kind, spec = specify(id, record)
    if outcome is None:
        outcome = record.get("outcome")
    return Prediction(
        key=id, kind=kind, question=record["question"], why=record.get("why", ""), spec=spec, outcome=outcome
    )


def predictions_of(lesson: str) -> dict[str, dict[str, Any]]:
    """Return the predictions of a lesson's table by id; none where there is no such table.

    >>> all(id.startswith("06.") for id in predictions_of("06"))
    True
    """
    try:
        found = strings.table(f"lesson_{lesson}")
    except ValueError:
        return {}
    return {id: dict(record) for id, record in found.items() if isinstance(record, Mapping)}


def _from_table(id: str, needed: bool) -> dict[str, Any]:
    table = predictions_of(id.split(".")[0])
    if id in table:
        return table[id]
    if needed:
        known = f"lesson {id.split('.')[0]} has {', '.join(table)}" if table else "that lesson has none"
        raise ValueError(f"there is no prediction {id!r}; {known}. Check the id, or give a question of your own.")
    return {}


def specify(id: str, record: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a prediction's kind and the description that its widget draws from.

    Raises ValueError that names the prediction, what is wrong and what was expected.

    >>> specify("t.x", {"choices": {"a": "yes", "b": "no"}})
    ('choice', {'choices': {'a': 'yes', 'b': 'no'}})
    """

    def wrong(problem: str) -> ValueError:
        return ValueError(f"prediction {id!r}: {problem}")

    kind = record.get("kind") or next((k for k, (must, _) in KINDS.items() if must <= record.keys()), None)
    if kind not in KINDS:
        raise wrong(f"kind is {kind!r}; expected choice (with choices), number (with min, max) or curve (with x, y)")
    must, may = KINDS[kind]
    missing = must - record.keys()
    unknown = record.keys() - must - may - {"kind", "question", "why", "outcome"}
    if missing or unknown:
        words = [f"{'needs' if missing else 'does not take'} {', '.join(sorted(missing or unknown))}"]
        raise wrong(f"a {kind} {words[0]}")
    if kind == "choice":
        choices = dict(record["choices"])
        if len(choices) < 2:
            raise wrong(f"choices is {choices}; expected at least two, as {{key: text}}")
        return kind, {"choices": choices}
    if kind == "number":
        return kind, _number_spec(record, wrong)
    return kind, _curve_spec(record["x"], record["y"], wrong)


def _number_spec(record: Mapping[str, Any], wrong: Any) -> dict[str, Any]:
    low, high, log = record["min"], record["max"], bool(record.get("log", False))
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise wrong(f"min is {low} and max is {high}; expected min below max")
    if log and low <= 0:
        raise wrong(f"min is {low} on a logarithmic slider; expected a number above 0")
    step = record.get("step") or (high - low) / 100
    if not 0 < step <= high - low:
        raise wrong(f"step is {step}; expected a number above 0 and at most {high - low}")
    unit = record.get("unit", "")
    return {
        "label": record.get("label") or unit or strings.text("predict", "number.label"),
        "min": low, "max": high, "step": step, "unit": unit, "log": log,
        "close": record.get("close", step),
    }  # fmt: skip


def _curve_spec(x: Mapping[str, Any], y: Mapping[str, Any], wrong: Any) -> dict[str, Any]:
    for axis, name, must in ((x, "x", {"label", "values"}), (y, "y", {"label", "min", "max"})):
        if must - axis.keys():
            raise wrong(f"the axis {name} needs {', '.join(sorted(must - axis.keys()))}")
    values = list(x["values"])
    if len(values) < 2 or values != sorted(set(values)):
        raise wrong(f"x values are {values}; expected at least two, rising")
    if not y["min"] < y["max"]:
        raise wrong(f"y min is {y['min']} and max is {y['max']}; expected min below max")
    if (x.get("log") and values[0] <= 0) or (y.get("log") and y["min"] <= 0):
        raise wrong("a logarithmic axis begins at or below 0; expected numbers above 0")
    names = x.get("names")
    if names is not None and len(names) != len(values):
        raise wrong(f"x has {len(names)} names for {len(values)} values; expected one each")
    return {
        "x": {"label": x["label"], "values": values, "names": names, "log": bool(x.get("log", False))},
        "y": {"label": y["label"], "min": y["min"], "max": y["max"], "log": bool(y.get("log", False))},
    }
