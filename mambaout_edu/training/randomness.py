"""Random numbers that depend on where in a run they are drawn, and on nothing that was drawn before.

A run that is stopped and resumed, or that reads with another number of processes, then draws the same numbers, and no
generator has to be saved.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["seeded", "stable_seed"]


def stable_seed(*numbers: int) -> int:
    """Return a seed from 0 to 2**63 - 1 that follows from whole numbers, such as seed, epoch and index of an image.

    Raises ValueError for a negative number.

    >>> stable_seed(0, 1, 2) == stable_seed(0, 1, 2), stable_seed(0, 1, 2) == stable_seed(0, 2, 1)
    (True, False)
    """
    if min(numbers, default=-1) < 0:
        raise ValueError(f"the numbers of a seed are {numbers}; expected one or more, each 0 or more")
    # A hash, for NumPy's SeedSequence takes (0,) and (0, 0) for the same.
    digest = hashlib.blake2b(repr(tuple(map(int, numbers))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextlib.contextmanager
def seeded(*numbers: int) -> Iterator[int]:
    """Seed Python's, NumPy's and torch's CPU generator by `stable_seed` meanwhile; afterwards they are as before.

    For code of libraries that draws from the global generators. CUDA's are left alone. Gives the seed.

    >>> with seeded(0, 1):
    ...     first = random.random(), np.random.rand(), torch.rand(()).item()
    >>> with seeded(0, 1):
    ...     first == (random.random(), np.random.rand(), torch.rand(()).item())
    True
    """
    seed = stable_seed(*numbers)
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs too
    try:
        yield seed
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.default_generator.set_state(before[2])
