"""Exercise of lesson 03 on recall: build the needle task."""

from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _cases(seed: int) -> list[Case]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    cases = []
    for batch, distance, symbols in ((3, 4, 6), (2, 2, 5), (1, 7, 4)):
        needle = torch.randint(symbols, (batch,), generator=generator)
        hay = torch.randint(symbols, (batch, distance), generator=generator)
        cases.append(Case((needle, hay, symbols, symbols + 1), {}))
    return cases


def _build(needle: Any, hay: Any, mark: int, ask: int, slip: str = "") -> Any:
    import torch

    batch = len(needle)
    needles, marks, asks = needle[:, None], torch.full((batch, 1), mark), torch.full((batch, 1), ask)
    parts = {
        "mark_after_needle": (needles, marks, hay, asks),
        "mark_left_out": (needles, hay, asks),
        "needle_at_the_end": (hay, marks, needles, asks),
        "marks_swapped": (asks, needles, hay, marks),
        "answer_shown": (marks, needles, hay, asks, needles),
    }.get(slip, (marks, needles, hay, asks))
    tokens = torch.cat(parts, 1)
    targets = torch.full_like(tokens, 0 if slip == "zero_for_ignored" else -100)
    if slip == "asked_everywhere":
        targets[:, :-1] = tokens[:, 1:]
    if slip == "answer_at_the_needle":
        targets[:, 1] = needle
    else:
        targets[:, -1] = needle
    return tokens, targets


def _slip(key: str) -> Diagnosis:
    return Diagnosis(key, lambda needle, hay, mark, ask: _build(needle, hay, mark, ask, key))


_NEEDLE = Exercise(
    id="memory.needle",
    lesson="03",
    objective="03.recall",
    kind="free",
    difficulty=2,
    minutes=10,
    stub='''\
def my_needle(needle, hay, mark, ask):
    """Return (tokens, targets), int64 [B, distance + 3] each: mark, needle, hay, ask.

    needle [B], hay [B, distance]; mark and ask are tokens. Targets say at the last place what the
    needle was, and -100 everywhere else: there the loss asks nothing.
    """
    return ...
''',
    reference="mambaout_edu.memory.forgetting.hide_needle",
    cases=_cases,
    diagnoses=tuple(
        map(
            _slip,
            (
                "mark_after_needle", "mark_left_out", "needle_at_the_end", "marks_swapped", "answer_shown",
                "zero_for_ignored", "asked_everywhere", "answer_at_the_needle",
            ),
        )
    ),
    equation="equation-needle",
)  # fmt: skip


EXERCISES = (_NEEDLE,)
