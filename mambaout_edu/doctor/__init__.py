"""What this machine has for the course, part by part: found, missing, why it matters, what mends it.

`mambaout-edu doctor` prints it and the first lesson shows it. Each part is examined on its own, and a part
that breaks while it is imported is a finding like any other. No path of the machine is ever shown.
"""

from collections.abc import Callable

from mambaout_edu.doctor.finding import Finding, Report, say
from mambaout_edu.doctor.packages import without_paths
from mambaout_edu.doctor.parts import PARTS

__all__ = ["Finding", "Report", "examine", "report"]


def examine() -> list[Finding]:
    """Examine every part and return one finding a part; nothing raises, whatever is broken.

    >>> [finding.part for finding in examine()][:2]
    ['Python', 'PyTorch']
    """
    return [_guarded(key, check) for key, check in PARTS.items()]


def report() -> Report:
    """Examine every part and return the findings as a report that shows itself.

    >>> "PyTorch" in str(report())
    True
    """
    return Report(tuple(examine()))


def _guarded(key: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:
        return Finding(say(key), "missing", say("not_examined", error=without_paths(error)), say(f"{key}_why"))
