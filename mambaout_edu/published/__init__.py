"""Numbers from papers, each row with its source; nothing here was measured by this project."""

import csv
import functools
from dataclasses import dataclass
from importlib.resources import files

from mambaout_edu.published.frontier import frontier
from mambaout_edu.published.quotations import Quotation, quoted

__all__ = ["ImageNetRow", "Quotation", "frontier", "imagenet", "quoted"]


@dataclass(frozen=True)
class ImageNetRow:
    """One model of a published ImageNet-1k comparison at 224 x 224 pixels.

    `params_m` in millions, `macs_g` in 1e9 multiply-adds (None where the paper prints none), `top1` in
    percent. `version` names the editions of the paper that print the row so.
    """

    size: str
    model: str
    mixer: str
    params_m: float
    macs_g: float | None
    top1: float
    version: str
    source: str


@functools.cache
def _imagenet() -> tuple[ImageNetRow, ...]:
    with (files(__name__) / "imagenet.csv").open(encoding="utf-8") as file:
        return tuple(
            ImageNetRow(
                size=row["size"],
                model=row["model"],
                mixer=row["mixer"],
                params_m=float(row["params_m"]),
                macs_g=float(row["macs_g"]) if row["macs_g"] else None,
                top1=float(row["top1"]),
                version=row["version"],
                source=row["source"],
            )
            for row in csv.DictReader(file)
        )


def imagenet(size: str | None = None) -> list[ImageNetRow]:
    """Return the rows of MambaOut's Table 1, of one model size or of all.

    Parameters
    ----------
    size
        "very small", "tiny", "small" or "base".

    Raises
    ------
    ValueError
        For another size.

    Examples
    --------
    >>> [row.top1 for row in imagenet("base") if row.model in ("MambaOut-Base", "VMambaV3-B")]
    [83.9, 84.2]
    """
    sizes = dict.fromkeys(row.size for row in _imagenet())
    if size is not None and size not in sizes:
        raise ValueError(f"size must be one of {', '.join(sizes)}; got {size!r}")
    return [row for row in _imagenet() if size in (None, row.size)]
