"""Single numbers that the course quotes and that no whole table here holds, each with its source."""

import csv
import functools
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["Quotation", "quoted"]


@dataclass(frozen=True)
class Quotation:
    """One published number: of which model, what, how much, and where it is printed."""

    topic: str
    model: str
    quantity: str
    value: float
    unit: str
    version: str
    source: str


@functools.cache
def _quotations() -> tuple[Quotation, ...]:
    with (files("mambaout_edu.published") / "quoted.csv").open(encoding="utf-8") as file:
        return tuple(Quotation(**{**row, "value": float(row["value"])}) for row in csv.DictReader(file))  # type: ignore[arg-type]


def quoted(topic: str) -> list[Quotation]:
    """Return the numbers on a topic: "throughput", "memory" or "res_vmamba".

    Raises
    ------
    ValueError
        For another topic.

    Examples
    --------
    >>> [row.value for row in quoted("throughput") if row.quantity == "training"]
    [987.0, 195.0, 571.0]
    """
    topics = dict.fromkeys(row.topic for row in _quotations())
    if topic not in topics:
        raise ValueError(f"topic must be one of {', '.join(topics)}; got {topic!r}")
    return [row for row in _quotations() if row.topic == topic]
