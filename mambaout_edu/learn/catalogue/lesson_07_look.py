"""Exercises of lesson 07 on looking: where two runs part, how far an output sees, which models are worth choosing."""

import random
from collections.abc import Sequence
from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _difference_cases(seed: int) -> list[Case]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    names = ["stem", "stages.0", "projection", "stages.1", "head"]
    once = {name: torch.randn((2, 3), generator=generator) for name in names}

    def again(**changed: Any) -> dict[str, Any]:
        copies = {name: output.clone() for name, output in once.items()}
        return {name: changed.get(name.replace(".", ""), output) for name, output in copies.items()}

    noise = torch.randn((2, 3), generator=generator)
    backwards = dict(reversed(list(again(projection=noise, head=noise).items())))
    return [
        Case((once, again(projection=noise, stages1=noise + 1, head=noise - 1)), {}),
        Case((once, again()), {}),
        Case((once, again(stages1=once["stages.1"].flip(1), head=noise)), {}),
        Case((once, again(stages0=once["stages.0"] * (1 + 1e-6), head=noise)), {}),
        Case((once, backwards), {}),
    ]


def _differ(once: Any, again: Any) -> list[str]:
    import torch

    return [name for name in once if not torch.equal(once[name], again[name])]


def _close(once: Any, again: Any) -> str | None:
    import torch

    return next((name for name in once if not torch.allclose(once[name], again[name])), None)


def _sums(once: Any, again: Any) -> str | None:
    return next((name for name in once if abs(float(once[name].sum() - again[name].sum())) > 1e-6), None)


def _first(names: Sequence[str]) -> str | None:
    return next(iter(names), None)


_DIFFERENCE = Exercise(
    id="zoo.first_difference",
    lesson="07",
    objective="07.residual",
    kind="free",
    difficulty=2,
    minutes=8,
    stub='''\
def my_first_difference(once, again):
    """Return the name of the first module whose output differs between two runs, or None.

    once and again are dictionaries {name: tensor}; `once` has its names in the order in which the
    modules finished. Differs means: in any entry, by however little.
    """
    return ...
''',
    reference="mambaout_edu.models.measure.first_difference",
    cases=_difference_cases,
    diagnoses=(
        Diagnosis("last", lambda once, again: _first(_differ(once, again)[::-1])),
        Diagnosis("all_names", _differ),
        Diagnosis("nearly_equal", _close),
        Diagnosis("sums", _sums),
        Diagnosis("order_of_again", lambda once, again: _first([n for n in again if n in _differ(once, again)])),
        Diagnosis("first_equal", lambda once, again: _first([n for n in once if n not in _differ(once, again)])),
        Diagnosis("yes_or_no", lambda once, again: bool(_differ(once, again))),
    ),
    equation="equation-shortcut",
)


def _area_cases(seed: int) -> list[Case]:
    import numpy as np

    draw = np.random.default_rng(seed)
    field = draw.exponential(size=(9, 7)) ** 3
    holes = draw.uniform(0.5, 2.0, (4, 5))
    holes[1:3, 1:3] = 0
    steps = np.array([[4.0, 1.0, 1.0], [1.0, 1.0, 0.0]])  # 4 of 8: exactly half with the first
    return [Case((field, 0.5), {}), Case((field, 0.9), {}), Case((holes, 1.0), {}), Case((steps, 0.5), {})]


def _sorted(field: Any) -> Any:
    import numpy as np

    return np.sort(field, axis=None)[::-1]


def _needed(values: Any, share: float) -> int:
    """Return how many of the values, one after the other, are needed for a share of their sum."""
    total = values.cumsum()
    return int((total < share * total[-1] * (1 - 1e-12)).sum()) + 1


_AREA = Exercise(
    id="zoo.half_area",
    lesson="07",
    objective="07.field",
    kind="free",
    difficulty=3,
    minutes=10,
    stub='''\
def my_half_area(field, share=0.5):
    """Return the least number of pixels that together hold `share` of the sum of field [H, W].

    field is an array of NumPy, nowhere negative; share is above 0 and at most 1.
    """
    return ...
''',
    reference="mambaout_edu.seen.half_area",
    cases=_area_cases,
    diagnoses=(
        Diagnosis("of_the_largest", lambda field, share: int((field >= share * field.max()).sum())),
        Diagnosis("weakest_first", lambda field, share: min(_needed(_sorted(field)[::-1], share), field.size)),
        Diagnosis("reading_order", lambda field, share: _needed(field.ravel(), share)),
        Diagnosis("always_half", lambda field, share: _needed(_sorted(field), 0.5)),
        Diagnosis("one_too_few", lambda field, share: _needed(_sorted(field), share) - 1),
        Diagnosis("one_too_many", lambda field, share: _needed(_sorted(field), share) + 1),
        Diagnosis("share_of_the_image", lambda field, share: _needed(_sorted(field), share) / field.size),
        Diagnosis("share_of_the_pixels", lambda field, share: int(share * field.size)),
    ),
    equation="equation-field",
)


def _frontier_cases(seed: int) -> list[Case]:
    draw = random.Random(seed)
    costs = [round(draw.uniform(3, 6), 1) for _ in range(12)]
    scores = [round(78 + cost + draw.uniform(-1, 1), 1) for cost in costs]
    return [
        Case(([4.5, 5.7, 4.0, 4.9, 5.6], [82.7, 82.7, 81.8, 82.6, 82.2]), {}),
        Case(([5.0, 3.0, 4.0, 4.0, 3.0], [83.0, 80.0, 82.0, 82.0, 79.0]), {}),
        Case((costs, scores), {}),
        Case(([2.0], [70.0]), {}),
    ]


def _kept(costs: Any, scores: Any, beats: Any) -> list[int]:
    """Return the places of the models that no other beats; `beats(c, s, cost, score)`."""
    pairs = list(zip(costs, scores, strict=True))
    return [i for i, pair in enumerate(pairs) if not any(beats(*p, *pair) for j, p in enumerate(pairs) if j != i)]


def _dominates(c: float, s: float, cost: float, score: float) -> bool:
    return c <= cost and s >= score and (c, s) != (cost, score)


_FRONTIER = Exercise(
    id="zoo.frontier",
    lesson="07",
    objective="07.tables",
    kind="free",
    difficulty=3,
    minutes=12,
    stub='''\
def my_frontier(costs, scores):
    """Return the places (0, 1, ...) of the models that no other one dominates, in their order.

    One model dominates another if it costs no more, scores no less, and is better in at least one
    of the two. costs and scores are lists of the same length.
    """
    return ...
''',
    reference="mambaout_edu.published.frontier",
    cases=_frontier_cases,
    diagnoses=(
        Diagnosis("better_in_both", lambda c, s: _kept(c, s, lambda a, b, cost, score: a < cost and b > score)),
        Diagnosis("twins_lost", lambda c, s: _kept(c, s, lambda a, b, cost, score: a <= cost and b >= score)),
        Diagnosis("dominated", lambda c, s: [i for i in range(len(c)) if i not in _kept(c, s, _dominates)]),
        Diagnosis("by_cost", lambda c, s: sorted(_kept(c, s, _dominates), key=lambda i: (c[i], i))),
        Diagnosis("from_one", lambda c, s: [i + 1 for i in _kept(c, s, _dominates)]),
        Diagnosis("best_alone", lambda c, s: [s.index(max(s))]),
        Diagnosis("dear_is_good", lambda c, s: _kept(c, s, lambda *p: _dominates(-p[0], p[1], -p[2], p[3]))),
        Diagnosis("values", lambda c, s: [(c[i], s[i]) for i in _kept(c, s, _dominates)]),
    ),
    equation="equation-frontier",
)


EXERCISES = (
    _DIFFERENCE,
    _AREA,
    _FRONTIER,
)
