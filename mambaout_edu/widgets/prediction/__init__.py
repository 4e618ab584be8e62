"""A question that is answered before the outcome is seen, and the two shown side by side."""

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

import traitlets

from mambaout_edu import strings
from mambaout_edu.widgets._base import Widget

__all__ = ["Prediction", "fit_answer", "fit_outcome"]


class Prediction(Widget):
    """One prediction; `mambaout_edu.learn.predict` makes it and checks its parts.

    Parameters
    ----------
    key : str
        The id under which the prediction is kept, such as "06.share".
    kind : str
        "choice", "number" or "curve".
    question, why : str
        What is asked, and the one sentence that explains the outcome.
    spec : dict
        choice: `choices` {key: text}. number: `label`, `min`, `max`, `step`, `unit`, `log`, `close`.
        curve: `x` {label, values, log, names} and `y` {label, min, max, log}.
    outcome : object
        A value (a choice's key, a number, or a curve as y values or (x, y) pairs), a callable that
        returns one and runs after the commit, or None when `reveal` gives it later. The callable
        may run in another thread than the cells.

    Examples
    --------
    >>> p = Prediction(key="t.coin", kind="choice", question="Heads?", spec={"choices": {"y": "yes", "n": "no"}})
    >>> p
    Prediction t.coin: Heads? (not answered)
    >>> p.commit("y")
    >>> p.reveal("n")
    >>> p
    Prediction t.coin: Heads? (answered: yes; outcome: no)
    """

    strings_part = "predict"

    key = traitlets.Unicode().tag(sync=True)
    kind = traitlets.Enum(("choice", "number", "curve")).tag(sync=True)
    question = traitlets.Unicode().tag(sync=True)
    why = traitlets.Unicode().tag(sync=True)
    spec = traitlets.Dict().tag(sync=True)
    answer = traitlets.Any(None, allow_none=True).tag(sync=True)
    committed = traitlets.Bool(False).tag(sync=True)
    skipped = traitlets.Bool(False).tag(sync=True)
    outcome = traitlets.Any(None, allow_none=True).tag(sync=True)
    # later: a cell will give it; on_commit: a callable waits; working: it runs; known; failed: see problem
    state = traitlets.Enum(("later", "on_commit", "working", "known", "failed"), "later").tag(sync=True)
    problem = traitlets.Unicode().tag(sync=True)

    def __init__(self, *, outcome: Any = None, **kwargs: Any) -> None:
        self._lock = threading.RLock()
        self._work: Callable[[], Any] | None = outcome if callable(outcome) else None
        super().__init__(**kwargs)
        if self._work is not None:
            self.state = "on_commit"
        elif outcome is not None:
            self.outcome = fit_outcome(self.kind, self.spec, outcome)
            self.state = "known"
        self.observe(self._closed, ["committed", "skipped"])

    @traitlets.validate("answer")
    def _answer_fits(self, proposal: Any) -> Any:
        if proposal["value"] is None or not self.kind:
            return proposal["value"]
        try:
            return fit_answer(self.kind, self.spec, proposal["value"])
        except (TypeError, ValueError) as error:
            raise traitlets.TraitError(str(error)) from None

    def commit(self, answer: Any) -> None:
        """Answer and commit from Python, as the button does.

        Raises traitlets.TraitError for an answer that does not fit the question.
        """
        self.answer = answer
        self.committed = True

    def reveal(self, outcome: Any) -> None:
        """Give the outcome; it is shown to those who have committed, and to the others when they do.

        Raises ValueError or TypeError when it does not fit the question.
        """
        with self._lock:
            self.outcome = fit_outcome(self.kind, self.spec, outcome)
            self._work = None
            self.problem = ""
            self.state = "known"
            self._keep()

    def settle(self) -> None:
        """Work out a callable outcome now, for a page that will have no kernel."""
        with self._lock:
            if self._work is not None:
                self._run(self._work)

    def _closed(self, change: Any) -> None:
        if not change["new"]:
            return
        with self._lock:
            if change["name"] == "committed":
                self._keep()
            if self._work is not None:
                self._run(self._work)

    def _run(self, work: Callable[[], Any]) -> None:
        """Run the notebook's callable; whatever it does, the page gets an outcome or a sentence."""
        self.state = "working"
        try:
            value = work()
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            self.problem = strings.text("predict", "problem", kind=type(error).__name__, text=error)
            self.state = "failed"
            return
        try:
            self.reveal(value)
        except (TypeError, ValueError) as error:
            self.problem = strings.text("predict", "problem.unfit", text=error)
            self.state = "failed"

    def _keep(self) -> None:
        """Record the prediction, with the outcome once there is one."""
        if not self.committed or self.answer is None:
            return
        from mambaout_edu.learn import progress

        progress.record("prediction", self.key, {"answer": self.answer, "outcome": self.outcome})

    def _in_words(self, value: Any) -> str:
        if self.kind == "choice":
            return str(self.spec["choices"][value])
        if self.kind == "number":
            return f"{value:.4g} {self.spec.get('unit', '')}".strip()
        return strings.text("predict", "repr.curve", count=len(value))

    def __repr__(self) -> str:
        state = "repr.skipped" if self.skipped else "repr.open"
        words: dict[str, str] = {}
        if self.committed and self.answer is not None:
            words["answer"] = self._in_words(self.answer)
            state = "repr.committed"
            if self.state == "known":
                words["outcome"] = self._in_words(self.outcome)
                state = "repr.revealed"
        told = strings.text("predict", state, **words)
        return strings.text("predict", "repr", id=self.key, question=self.question, state=told)


def fit_answer(kind: str, spec: Mapping[str, Any], value: Any) -> Any:
    """Return an answer in the form that is kept, or raise ValueError or TypeError that says why it is none.

    >>> fit_answer("number", {"min": 0, "max": 10}, 3)
    3.0
    """
    if kind == "choice":
        return _choice(spec, value)
    if kind == "number":
        number = _number(value)
        if not spec["min"] <= number <= spec["max"]:
            raise ValueError(f"the answer is {number}; expected a number from {spec['min']} to {spec['max']}")
        return number
    values = [_number(each) for each in _listed(value)]
    if len(values) != len(spec["x"]["values"]):
        raise ValueError(f"the curve has {len(values)} points; expected {len(spec['x']['values'])}, one for each x")
    return values


def fit_outcome(kind: str, spec: Mapping[str, Any], value: Any) -> Any:
    """Return an outcome in the form that the page draws: a choice's key, a number, or [[x, y], ...].

    Arrays and tensors are taken through their `tolist`. Raises ValueError or TypeError.

    >>> fit_outcome("curve", {"x": {"values": [1, 2]}}, [5, 7])
    [[1.0, 5.0], [2.0, 7.0]]
    """
    if kind == "choice":
        return _choice(spec, value)
    if kind == "number":
        return _number(value)
    points = list(value.items()) if isinstance(value, Mapping) else _listed(value)
    if not points:
        raise ValueError("the outcome is an empty curve; give y values or (x, y) pairs")
    if not isinstance(points[0], (list, tuple)):
        if len(points) != len(spec["x"]["values"]):
            raise ValueError(
                f"the outcome has {len(points)} values; expected {len(spec['x']['values'])}, one for each x, "
                f"or (x, y) pairs"
            )
        points = list(zip(spec["x"]["values"], points, strict=True))
    if any(len(_listed(point)) != 2 for point in points):
        raise ValueError(f"the outcome holds {points[0]!r}; expected (x, y) pairs")
    return sorted([_number(x), _number(y)] for x, y in points)


def _choice(spec: Mapping[str, Any], value: Any) -> str:
    if value not in spec["choices"]:
        raise ValueError(f"{value!r} is no choice; expected one of {', '.join(map(repr, spec['choices']))}")
    return str(value)


def _listed(value: Any) -> list[Any]:
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"got {type(value).__name__} {value!r}; expected a list of numbers or of (x, y) pairs")
    return list(value)


def _number(value: Any) -> float:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"got {type(value).__name__} {value!r}; expected a number")
    if not math.isfinite(value):
        raise ValueError(f"got {value!r}; expected a finite number")
    return float(value)
