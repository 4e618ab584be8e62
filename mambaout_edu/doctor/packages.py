"""Installed packages: their versions, the ranges we ask for, and whether they can be imported."""

import functools
import importlib
import importlib.metadata
import re
import warnings
from types import ModuleType

from mambaout_edu.doctor.finding import Finding, Status, say

__all__ = ["import_quietly", "in_range", "installed", "numbers", "package", "without_paths"]


def without_paths(error: BaseException) -> str:
    """Return an error as one short line in which files have lost their folders.

    >>> without_paths(OSError("/home/ada/lib/libcudart.so.13: cannot open"))
    'OSError: libcudart.so.13: cannot open'
    """
    first = (str(error).strip().splitlines() or [""])[0]
    bare = re.sub(r"(?:[A-Za-z]:)?[\\/](?:[^\\/:*?\"'<>|\n]+[\\/])+", "", first)
    return f"{type(error).__name__}: {bare}"[:160].rstrip(": ")


def installed(package: str) -> str | None:
    """Return the version of an installed package, None where there is none.

    >>> installed("no-such-package") is None
    True
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirement(package: str) -> str:
    """Return the range of versions our own metadata asks for, as in 'timm<2,>=1.0.20'; the bare name without one."""
    try:
        lines = importlib.metadata.requires("mambaout-edu") or []
    except importlib.metadata.PackageNotFoundError:
        lines = []
    heads = [line.partition(";")[0].strip() for line in lines]
    return next((head for head in heads if re.match(rf"{re.escape(package)}(?![\w.-])", head)), package)


def numbers(version: str) -> tuple[int, ...]:
    """Return the release numbers of a version, without what follows them.

    >>> numbers("2.15.0+cpu")
    (2, 15, 0)
    """
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(number) for number in match[0].split(".")) if match else ()


def in_range(version: str, requirement: str) -> bool:
    """Tell whether a version lies in the range that a requirement gives with >= and <.

    >>> in_range("1.0.31", "timm>=1.0.20,<2"), in_range("2.0", "timm>=1.0.20,<2")
    (True, False)
    """

    def key(text: str) -> tuple[int, ...]:
        return (*numbers(text), 0, 0, 0, 0)[:4]  # 1.0 and 1.0.0 are the same

    bounds = re.findall(r"(>=|<)\s*([\d.]+)", requirement)
    return all(key(version) >= key(bound) if sign == ">=" else key(version) < key(bound) for sign, bound in bounds)


def import_quietly(module: str) -> ModuleType:
    """Import a module without the warnings it gives on the way; raise what it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a part warns of at import is not for this table
        return importlib.import_module(module)


def package(key: str, name: str, module: str = "", absent: Status = "missing") -> tuple[str, Finding | None]:
    """Return a package's version, and what is wrong with it: None where it is there, fits and can be imported.

    `key` names its strings, `module` what to import (nothing by default), `absent` the status where it is missing.
    """
    version, requirement = installed(name), _requirement(name)
    fault = functools.partial(Finding, say(key), why=say(f"{key}_why"))
    if version is None:
        return "", fault(absent, say("not_installed"), mend=say("mend_install", requirement=requirement))
    if not in_range(version, requirement):
        detail = say("outside_range", version=version, requirement=requirement)
        return version, fault("missing", detail, mend=say("mend_install", requirement=requirement))
    try:
        if module:
            import_quietly(module)
    except Exception as error:
        detail = say("broken", version=version, error=without_paths(error))
        return version, fault("missing", detail, mend=say("mend_repair", requirement=requirement))
    return version, None
