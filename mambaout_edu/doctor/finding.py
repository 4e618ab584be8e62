"""What one part of the machine was found to be, and the table of all parts."""

import functools
import html
from dataclasses import dataclass
from typing import Literal

from mambaout_edu.strings import text

__all__ = ["Finding", "Report", "Status", "say"]

Status = Literal["ok", "optional", "missing"]

say = functools.partial(text, "doctor")


@dataclass(frozen=True)
class Finding:
    """One part of the machine: its status, what was found, and for what is not ok why it matters and what mends it.

    >>> Finding("Python", "ok", "3.12.1").status
    'ok'
    """

    part: str
    status: Status
    detail: str
    why: str = ""
    mend: str = ""


@dataclass(frozen=True, repr=False)
class Report:
    """All findings, as a table of text (`print`) and of HTML (in JupyterLab, in its light and dark themes).

    >>> print(Report((Finding("Python", "ok", "3.12.1"),)))
    ok        Python       3.12.1
    Everything that the lessons need is here.
    """

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing that the lessons need is missing."""
        return all(finding.status != "missing" for finding in self.findings)

    @property
    def verdict(self) -> str:
        """The last line: all is well, or which parts are missing."""
        missing = ", ".join(finding.part for finding in self.findings if finding.status == "missing")
        return say("not_well", parts=missing) if missing else say("all_well")

    def __repr__(self) -> str:
        lines = []
        for finding in self.findings:
            lines.append(f"{say('status_' + finding.status):<9} {finding.part:<12} {finding.detail}".rstrip())
            lines += [f"{'':<10}{say(label):<6} {help_}" for label, help_ in _help(finding)]
        return "\n".join([*lines, self.verdict])

    def _repr_html_(self) -> str:
        marks = {"ok": "✓", "optional": "○", "missing": "✗"}  # never colour alone
        heads = "".join(
            f'<th scope="col" style="text-align:left">{html.escape(say(f"column_{column}"))}</th>'
            for column in ("status", "part", "detail", "help")
        )
        rows = []
        for finding in self.findings:
            word = html.escape(f"{marks[finding.status]} {say('status_' + finding.status)}")
            help_ = "<br>".join(f"{html.escape(say(label))} {html.escape(line)}" for label, line in _help(finding))
            rows.append(
                f'<tr><td style="text-align:left;white-space:nowrap">{word}</td>'
                f'<th scope="row" style="text-align:left;white-space:nowrap">{html.escape(finding.part)}</th>'
                f'<td style="text-align:left">{html.escape(finding.detail)}</td>'
                f'<td style="text-align:left">{help_}</td></tr>'
            )
        style = "color:var(--jp-content-font-color1,inherit);font-family:var(--jp-content-font-family,sans-serif)"
        return (
            f'<table style="{style}"><caption style="text-align:left">{html.escape(say("title"))}</caption>'
            f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
            f'<p style="{style}">{html.escape(self.verdict)}</p>'
        )


def _help(finding: Finding) -> list[tuple[str, str]]:
    pairs = [("why_label", finding.why), ("mend_label", finding.mend)]
    return [(label, line) for label, line in pairs if line and finding.status != "ok"]
