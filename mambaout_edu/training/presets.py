"""Settings of `fit` that were tuned once, on a validation part of the training images."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from .augment import random_affine

__all__ = ["DIGITS"]

# For `mambaout_pico_8` on `data.digits()`, in well under a minute on two cores. The random turns and
# shifts matter most: without them about one held-out digit in a hundred more goes wrong. One thread:
# on batches this small, two threads wait for each other (several times slower on a busy machine).
DIGITS: Mapping[str, Any] = MappingProxyType(
    {
        "epochs": 20,
        "batch_size": 64,
        "lr": 2e-3,
        "weight_decay": 0.05,
        "warmup": 0.1,
        "label_smoothing": 0.1,
        "threads": 1,
        "augment": partial(random_affine, degrees=10.0, scale=0.1, shear=0.1, pixels=0.7),
    }
)
"""Arguments of `fit` for the handwritten digits: `fit(model, train, test, **DIGITS)`."""
