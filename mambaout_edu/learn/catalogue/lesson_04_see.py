"""Exercises of lesson 04 on what an output may use: the causal mask of an order, and the number of visible pairs."""

import random
from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _mask_cases(seed: int) -> list[Case]:
    import numpy as np

    shuffles = np.random.default_rng(seed)
    # The last is its own mirror image in no way, so that steps and tokens cannot be taken for each other.
    orders = [np.arange(5), shuffles.permutation(7), np.roll(shuffles.permutation(6), 1), np.array([1, 2, 0])]
    return [Case((order,), {}) for order in orders]


def _by_steps(order: Any) -> Any:
    import numpy as np

    steps = np.argsort(order)
    return steps[None, :] <= steps[:, None]


def _strict(order: Any) -> Any:
    import numpy as np

    return _by_steps(order) & ~np.eye(len(order), dtype=bool)


def _triangle(order: Any) -> Any:
    import numpy as np

    return np.tri(len(order), dtype=bool)


_MASK = Exercise(
    id="causality.mask",
    lesson="04",
    objective="04.see",
    kind="worked",
    difficulty=2,
    minutes=8,
    stub='''\
def my_causal_mask(order):
    """Return which token each output may use, bool [L, L]: entry (t, s) for output t and token s.

    order [L] is a permutation: entry k is the token that is read at step k.
    """
    # Worked for order = [2, 0, 1]: token 2 is read at step 0, token 0 at step 1, token 1 at step 2.
    #     steps = [1, 2, 0]              when each token is read
    #     row 0 (read at step 1):        tokens 0 and 2   -> [True, False, True]
    #     row 1 (read at step 2):        all              -> [True, True, True]
    #     row 2 (read at step 0):        itself alone     -> [False, False, True]
    # Now for any order. flatten.inverse(order) gives the steps; [:, None] makes a column of them.
    return ...
''',
    reference="mambaout_edu.training.causality.causal_mask",
    cases=_mask_cases,
    diagnoses=(
        Diagnosis("order_ignored", _triangle),
        Diagnosis("order_for_steps", lambda order: order[None, :] <= order[:, None]),
        Diagnosis("transposed", lambda order: _by_steps(order).T),
        Diagnosis("itself_hidden", _strict),
        Diagnosis("future_alone", lambda order: ~_by_steps(order)),
        Diagnosis("numbered_by_step", lambda order: _by_steps(order)[order]),
        Diagnosis("everything", lambda order: _by_steps(order) | True),
    ),
    equation="equation-causal",
)


def _pair_cases(seed: int) -> list[Case]:
    draw = random.Random(seed)
    length = draw.randint(6, 30)
    return [
        Case((5, False, None), {}),
        Case((5, True, None), {}),
        Case((length, False, draw.randint(1, length - 3)), {}),
        Case((length, True, draw.randint(1, length - 3)), {}),
        Case((3, True, 7), {}),
        Case((4, False, 9), {}),
        Case((7, False, 0), {}),
        Case((1, True, 2), {}),
    ]


def _pairs(length: int, causal: bool, window: int | None, seen: Any) -> int:
    """Count the pairs with seen(t - s, causal, reach)."""
    reach = length if window is None else window
    return sum(bool(seen(t - s, causal, reach)) for t in range(length) for s in range(length))


def _endless(length: int, causal: bool, window: int | None) -> int:
    """Give every output its full window, also where the sequence ends."""
    if window is None:
        return _pairs(length, causal, window, lambda d, causal, reach: d >= 0 or not causal)
    return length * (window + 1 if causal else 2 * window + 1)


_PAIRS = Exercise(
    id="causality.visible_pairs",
    lesson="04",
    objective="04.see",
    kind="free",
    difficulty=2,
    minutes=8,
    stub='''\
def my_visible_pairs(length, causal=False, window=None):
    """Return how many pairs (output, token) of `length` tokens are visible.

    A token sees itself. causal: nothing later than itself. window: only up to so many tokens away,
    to each side that is visible at all; None for any distance. The window may exceed the sequence.
    """
    return ...
''',
    reference="mambaout_edu.training.causality.visible_pairs",
    cases=_pair_cases,
    diagnoses=(
        Diagnosis("half_of_all", lambda n, causal, w: _pairs(n, False, w, lambda d, c, r: abs(d) <= r) // (1 + causal)),
        Diagnosis(
            "itself_left_out",
            lambda n, causal, w: _pairs(n, causal, w, lambda d, c, r: abs(d) <= r and (d >= 0 or not c) and d != 0),
        ),
        Diagnosis("causal_ignored", lambda n, causal, w: _pairs(n, False, w, lambda d, c, r: abs(d) <= r)),
        Diagnosis("window_ignored", lambda n, causal, w: _pairs(n, causal, None, lambda d, c, r: d >= 0 or not c)),
        Diagnosis("ends_forgotten", _endless),
        Diagnosis(
            "window_is_the_whole_width",
            lambda n, causal, w: _pairs(
                n,
                causal,
                w,
                lambda d, c, r: (abs(d) <= r if w is None else 2 * abs(d) <= max(r - 1, 0)) and (d >= 0 or not c),
            ),
        ),
        Diagnosis(
            "window_one_short",
            lambda n, causal, w: _pairs(n, causal, w, lambda d, c, r: abs(d) < max(r, 1) and (d >= 0 or not c)),
        ),
    ),
    equation="equation-pairs",
)


EXERCISES = (_MASK, _PAIRS)
