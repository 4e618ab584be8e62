"""Exercise of lesson 03 on forgetting: a state unrolled into one term for each past token."""

from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _cases(seed: int) -> list[Case]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    cases = []
    for shape, dtype in (((4, 4), torch.float64), ((7, 3), torch.float32), ((5, 2), torch.float64)):
        decay = 0.3 + 0.6 * torch.rand(shape, generator=generator, dtype=dtype)
        cases.append(Case((decay, torch.randn(shape, generator=generator, dtype=dtype)), {}))
    return cases


def _terms(decay: Any, fed: Any, slip: str = "") -> Any:
    import torch

    length = len(fed)
    rows = []
    for s in range(length):
        first = s if slip == "own_decay_too" else s + 1
        last = length - 1 if slip == "last_decay_left_out" else length
        factors = decay[:s] if slip == "decays_before" else decay[first:last]
        kept = factors.sum(0) if slip == "summed_decays" else factors.prod(0)
        if slip == "one_decay":
            kept = decay[s] ** (length - 1 - s)
        rows.append(kept if slip == "inputs_left_out" else kept * fed[s])
    terms = torch.stack(rows)
    return {"running_state": terms.cumsum(0), "last_first": terms.flip(0), "added_up": terms.sum(0)}.get(slip, terms)


def _slip(key: str) -> Diagnosis:
    return Diagnosis(key, lambda decay, fed: _terms(decay, fed, key))


_UNROLLED = Exercise(
    id="memory.unrolled",
    lesson="03",
    objective="03.forget",
    kind="free",
    difficulty=3,
    minutes=10,
    stub='''\
def my_unrolled(decay, fed):
    """Return [L, N]: what each token has left in the last state of h_t = decay_t h_(t-1) + fed_t.

    decay, fed [L, N]. h starts at 0. The rows add up to the last state; row 0 is the first token's.
    """
    return ...
''',
    reference="mambaout_edu.memory.forgetting.unrolled",
    cases=_cases,
    diagnoses=tuple(
        map(
            _slip,
            (
                "own_decay_too", "last_decay_left_out", "decays_before", "one_decay", "inputs_left_out",
                "running_state", "last_first", "added_up", "summed_decays",
            ),
        )
    ),
    equation="equation-unrolled",
)  # fmt: skip


EXERCISES = (_UNROLLED,)
