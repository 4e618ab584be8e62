"""Imports from the optional packages, with a plain sentence where one is missing."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["require"]

_PACKAGES = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


def require(module: str) -> Any:
    """Import a module of the `lab` extra.

    Raises ImportError with the command that installs it where it is missing.

    >>> require("sklearn.datasets").__name__
    'sklearn.datasets'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.split(".")[0]
        if error.name is None or error.name.split(".")[0] != top:
            raise
        raise ImportError(
            f"this needs {_PACKAGES.get(top, top)}, which is not installed; "
            'install it with: pip install "mambaout-edu[lab]"',
            name=top,
        ) from error
