"""Exercises of lesson 04 on seeing both ways: the matrix of two scans, and two causal mixers made into one."""

from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _decay_cases(seed: int) -> list[Case]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    return [
        Case(tuple(-torch.rand(size, generator=generator, dtype=dtype) for _ in range(2)), {})
        for size, dtype in (((4,), torch.float64), ((2, 5), torch.float32), ((3, 3), torch.float64))
    ]


def _one_way(a: Any) -> Any:
    """Return exp(a_(s+1) + ... + a_t) below and on the diagonal, by cumulative sums."""
    total = a.cumsum(-1)
    return (total[..., :, None] - total[..., None, :]).exp().tril()


def _both(ahead: Any, back: Any) -> Any:
    return _one_way(ahead) + _one_way(back.flip(-1)).flip(-2, -1)


def _own_once(ahead: Any, back: Any) -> Any:
    import torch

    return _both(ahead, back) - torch.eye(ahead.shape[-1], dtype=ahead.dtype)


_MATRIX = Exercise(
    id="causality.two_way_matrix",
    lesson="04",
    objective="04.both",
    kind="completion",
    difficulty=3,
    minutes=10,
    stub='''\
def my_two_way_matrix(ahead, back):
    """Return the mixing matrix [..., L, L] of two scans, one from each end, that are added.

    ahead, back [..., L] are the logarithms of the decay at every token. Entry (t, s) is
    exp(a_(s+1) + ... + a_t) for s <= t, plus exp(b_t + ... + b_(s-1)) for s >= t.
    """
    M = dual.decay_matrix(ahead)  # the scan from the first token: entry (t, s) for s <= t
    # Missing: the scan from the last token. It reads back.flip(-1), so rows and columns of its
    # decay_matrix are numbered from the end; .flip(-2, -1) numbers both from the start.
    return ...
''',
    reference="mambaout_edu.training.causality.two_way_matrix",
    cases=_decay_cases,
    diagnoses=(
        Diagnosis("one_way", lambda ahead, back: _one_way(ahead)),
        Diagnosis("transposed_for_turned", lambda ahead, back: _one_way(ahead) + _one_way(back).mT),
        Diagnosis("not_turned_back", lambda ahead, back: _one_way(ahead) + _one_way(back.flip(-1))),
        Diagnosis("never_turned", lambda ahead, back: _one_way(ahead) + _one_way(back)),
        Diagnosis("input_not_turned", lambda ahead, back: _one_way(ahead) + _one_way(back).flip(-2, -1)),
        Diagnosis("own_place_once", _own_once),
        Diagnosis("halved", lambda ahead, back: _both(ahead, back) / 2),
        Diagnosis("one_decay_for_both", lambda ahead, back: _both(ahead, ahead)),
    ),
    equation="equation-both",
)


def _running(x: Any) -> Any:
    return x.cumsum(1)


def _fading(x: Any) -> Any:
    """Run a state that keeps half of itself at every step."""
    import torch

    length = x.shape[1]
    age = torch.arange(length)[:, None] - torch.arange(length)
    return torch.einsum("ts,bsc->btc", (0.5 ** age.to(x.dtype)).tril(), x)


def _square(x: Any) -> Any:
    return (x * x).cumsum(1)


def _mixer_cases(seed: int) -> list[Case]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    return [
        Case((ahead, back, torch.randn(size, generator=generator, dtype=torch.float64)), {})
        for ahead, back, size in (
            (_running, _fading, (2, 5, 3)),
            (_fading, _square, (3, 3, 3)),
            (_fading, _running, (1, 4, 2)),
        )
    ]


_MIXER = Exercise(
    id="causality.both_ways",
    lesson="04",
    objective="04.both",
    kind="free",
    difficulty=2,
    minutes=6,
    stub='''\
def my_both_ways(ahead, back, x):
    """Make two causal mixers one that sees everything: [B, L, C], as x.

    ahead and back are functions from [B, L, C] to the same shape; each sees what comes before.
    Let ahead read x from its first token and back from its last, and add what they say of a token.
    """
    return ...
''',
    reference="mambaout_edu.training.causality.both_ways",
    cases=_mixer_cases,
    diagnoses=(
        Diagnosis("not_turned_back", lambda ahead, back, x: ahead(x) + back(x.flip(1))),
        Diagnosis("never_turned", lambda ahead, back, x: ahead(x) + back(x)),
        Diagnosis("turned_after_alone", lambda ahead, back, x: ahead(x) + back(x).flip(1)),
        Diagnosis("one_after_the_other", lambda ahead, back, x: back(ahead(x).flip(1)).flip(1)),
        Diagnosis("back_forgotten", lambda ahead, back, x: ahead(x) + ahead(x.flip(1)).flip(1)),
        Diagnosis("mean", lambda ahead, back, x: (ahead(x) + back(x.flip(1)).flip(1)) / 2),
        Diagnosis("ways_swapped", lambda ahead, back, x: back(x) + ahead(x.flip(1)).flip(1)),
    ),
    equation="equation-both",
)


EXERCISES = (_MATRIX, _MIXER)
