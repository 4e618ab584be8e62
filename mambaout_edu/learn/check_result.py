"""What a check says: one status, in words and with a symbol, as text and as HTML for both themes."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mambaout_edu import strings

__all__ = ["STATUSES", "Result"]

_RIGHT = ("✓", "--jp-success-color1", "#009E73")
_WAITING = ("○", "--jp-info-color1", "#0072B2")
_WRONG = ("✗", "--jp-error-color1", "#D55E00")
_PROBLEMS = """diagnosed differs precision non_finite overflow shape length keys dtype device type none
    input_changed raised time_limit signature not_callable"""
# Symbol, JupyterLab's colour variable, and the colour where it is not set.
STATUSES = {
    "correct": _RIGHT,
    "not_attempted": _WAITING,
    "unfinished": _WAITING,
    **dict.fromkeys(_PROBLEMS.split(), _WRONG),
}


@dataclass(frozen=True)
class Result:
    """The outcome of one check.

    Attributes
    ----------
    exercise
        The exercise's id.
    status
        A key of `STATUSES`: "correct", "not_attempted", "diagnosed", "shape", ...
    message
        What happened, in a sentence or two.
    diagnosis
        The key of the mistake that fits, if one does.
    details
        Parts shown below the message: "call", "traceback", "printed".
    """

    exercise: str
    status: str
    message: str
    diagnosis: str | None = None
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the exercise is solved."""
        return self.status == "correct"

    def _head(self) -> str:
        return f"{STATUSES[self.status][0]} {strings.text('exercises', f'word.{self.status}')}"

    def _parts(self) -> list[tuple[str, str]]:
        return [(strings.text("exercises", f"part.{key}"), text.rstrip()) for key, text in self.details.items()]

    def __repr__(self) -> str:
        lines = [f"{self._head()}: {self.exercise}", self.message]
        for title, text in self._parts():
            lines += [f"{title}:", *(f"    {line}" for line in text.splitlines())]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        _, variable, colour = STATUSES[self.status]
        message = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(self.message))
        parts = "".join(
            f'<div style="margin-top:6px">{html.escape(title)}</div>'
            f'<pre style="margin:2px 0 0;padding:6px;white-space:pre-wrap;color:inherit;'
            f'background:var(--jp-layout-color2,rgba(128,128,128,.15))">{html.escape(text)}</pre>'
            for title, text in self._parts()
        )
        return (
            f'<div role="note" style="border-left:5px solid var({variable},{colour});padding:6px 12px;'
            f'color:var(--jp-content-font-color1,inherit);background:var(--jp-layout-color1,transparent)">'
            f"<div><strong>{html.escape(self._head())}</strong> <code>{html.escape(self.exercise)}</code></div>"
            f"<div>{message}</div>{parts}</div>"
        )
