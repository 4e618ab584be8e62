"""Exercise of lesson 04 on proving causality: which outputs change when one token is changed."""

from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _running(x: Any) -> Any:
    return x.cumsum(1)


def _neighbours(x: Any) -> Any:
    """Take a token and the one after it, and turn all channels off but the last, the only one that tells."""
    import torch
    import torch.nn.functional as F

    both = x + F.pad(x[:, 1:], (0, 0, 0, 1))
    return both * torch.eye(x.shape[-1], dtype=x.dtype)[-1]


def _first_for_all(x: Any) -> Any:
    """Hand every output the first token, and nothing of itself; the last channel stays silent."""
    import torch

    return x[:, :1].expand_as(x) * (1 - torch.eye(x.shape[-1], dtype=x.dtype)[-1])


def _visible_cases(seed: int) -> list[Case]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    cases = []
    for mixer, length in ((_running, 4), (_neighbours, 5), (_first_for_all, 3)):
        cases.append(Case((mixer, torch.randn(1, length, 3, generator=generator, dtype=torch.float64)), {}))
    return cases


def _table(mixer: Any, x: Any, slip: str = "") -> Any:
    """Change token after token; entry (t, s)."""
    import torch

    columns = []
    for s in range(x.shape[1]):
        nudged = x.clone()
        if slip == "zeroed_before":
            nudged[:, : s + 1] += 1
        else:
            nudged[:, s] += 1
        difference = mixer(nudged) - mixer(x)  # [1, L, C]
        columns.append(difference[0])
    moved = torch.stack(columns, 1)  # [t, s, C]
    if slip == "how_much":
        return moved.abs().sum(-1)
    if slip == "first_channel":
        return moved[..., 0] != 0
    if slip == "all_channels":
        return (moved != 0).all(-1)
    return (moved != 0).any(-1)


def _others(mixer: Any, x: Any) -> Any:
    import torch

    return _table(mixer, x) & ~torch.eye(x.shape[1], dtype=torch.bool)


_VISIBLE = Exercise(
    id="causality.visible",
    lesson="04",
    objective="04.prove",
    kind="free",
    difficulty=3,
    minutes=12,
    stub='''\
def my_visible(mixer, x):
    """Return which outputs change when one token is changed: bool [L, L], row t for the output.

    mixer is a function from [B, L, C] to the same shape; x is one input, [1, L, C]. For every token
    s: add 1 to all its channels in a copy of x. Output t is reached if any channel of it changes.
    """
    return ...
''',
    reference="mambaout_edu.training.causality.visible",
    cases=_visible_cases,
    diagnoses=(
        Diagnosis("transposed", lambda mixer, x: _table(mixer, x).T),
        Diagnosis("how_much", lambda mixer, x: _table(mixer, x, "how_much")),
        Diagnosis("first_channel", lambda mixer, x: _table(mixer, x, "first_channel")),
        Diagnosis("all_channels", lambda mixer, x: _table(mixer, x, "all_channels")),
        Diagnosis("changes_pile_up", lambda mixer, x: _table(mixer, x, "zeroed_before")),
        Diagnosis("untouched", lambda mixer, x: ~_table(mixer, x)),
        Diagnosis("itself_left_out", _others),
    ),
    equation="equation-visible",
)


EXERCISES = (_VISIBLE,)
