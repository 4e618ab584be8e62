"""Exercises of lesson 06 on the gated CNN block: the split of fc1, and the gated product."""

from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _split_cases(seed: int) -> list[Case]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    cases = []
    for hidden, conv_channels, dtype in ((8, 3, torch.float32), (6, 6, torch.float32), (5, 2, torch.float64)):
        # As many rows and columns as channels, so that a split along another axis runs, too, and can be named.
        x = torch.randn((2, *[2 * hidden] * 3), generator=generator, dtype=dtype)
        cases.append(Case((x, hidden, conv_channels), {}))
    return cases


def _cat(*parts: Any) -> Any:
    import torch

    return torch.cat(parts, dim=-1)


_SPLIT = Exercise(
    id="block.split",
    lesson="06",
    objective="06.block",
    kind="worked",
    difficulty=1,
    minutes=5,
    stub='''\
def my_split(x, hidden, conv_channels):
    """Split the output of fc1, [B, H, W, 2 * hidden], into gate, identity and conv channels."""
    # Worked for hidden = 256 and conv_channels = 96, when x has 512 channels:
    #     gate     = x[..., :256]       the first half, 256 channels
    #     identity = x[..., 256:416]    the next 256 - 96 = 160: the convolution leaves them alone
    #     conv     = x[..., 416:]       the last 96: the convolution acts on these
    # Now for any hidden and conv_channels.
    return ...
''',
    reference="mambaout_edu.blocks.split_gate",
    cases=_split_cases,
    diagnoses=(
        Diagnosis("returned_swapped", lambda x, h, cc: (x[..., :h], x[..., 2 * h - cc :], x[..., h : 2 * h - cc])),
        Diagnosis("sizes_swapped", lambda x, h, cc: (x[..., :h], x[..., h : h + cc], x[..., h + cc :])),
        Diagnosis("conv_first", lambda x, h, cc: (x[..., :h], x[..., h + cc :], x[..., h : h + cc])),
        Diagnosis("gate_last", lambda x, h, cc: (x[..., h:], x[..., : h - cc], x[..., h - cc : h])),
        Diagnosis("thirds", lambda x, h, cc: tuple(x.chunk(3, dim=-1))),
        Diagnosis("halves", lambda x, h, cc: (x[..., :h], x[..., h:])),
        Diagnosis("overlap", lambda x, h, cc: (x[..., :h], x[..., h:], x[..., 2 * h - cc :])),
        Diagnosis("other_axis", lambda x, h, cc: (x[:, :h], x[:, h : 2 * h - cc], x[:, 2 * h - cc :])),
    ),
    equation="equation-split",
)


def _product_cases(seed: int) -> list[Case]:
    import torch
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(seed)
    cases = []
    for hidden, mixed, act, dtype in (
        (8, 3, F.gelu, torch.float32),
        (6, 6, torch.tanh, torch.float32),
        (5, 1, F.silu, torch.float64),
        (7, 4, torch.relu, torch.float32),
    ):
        sizes = (hidden, hidden - mixed, mixed)
        parts = (torch.randn((2, 3, 4, size), generator=generator, dtype=dtype) for size in sizes)
        cases.append(Case((*parts, act), {}))
    return cases


def _always_gelu(gate: Any, identity: Any, mixed: Any, act: Any) -> Any:
    import torch.nn.functional as F

    return F.gelu(gate) * _cat(identity, mixed)


_PRODUCT = Exercise(
    id="block.gated_product",
    lesson="06",
    objective="06.block",
    kind="completion",
    difficulty=2,
    minutes=8,
    stub='''\
def my_gated_product(gate, identity, mixed, act):
    """Return act(gate) times the value, [B, H, W, hidden]: MambaOut's equation 9, before W3."""
    value = torch.cat((identity, mixed), dim=-1)  # [B, H, W, hidden]
    # One line is missing: let the gate decide, number by number, how much of the value passes.
    return ...
''',
    reference="mambaout_edu.blocks.gated_product",
    cases=_product_cases,
    diagnoses=(
        Diagnosis("no_activation", lambda g, i, m, act: g * _cat(i, m)),
        Diagnosis("activation_on_value", lambda g, i, m, act: g * act(_cat(i, m))),
        Diagnosis("activation_on_both", lambda g, i, m, act: act(g) * act(_cat(i, m))),
        Diagnosis("activation_on_product", lambda g, i, m, act: act(g * _cat(i, m))),
        Diagnosis("activation_on_mixed", lambda g, i, m, act: act(g) * _cat(i, act(m))),
        Diagnosis("mixed_first", lambda g, i, m, act: act(g) * _cat(m, i)),
        Diagnosis("sum", lambda g, i, m, act: act(g) + _cat(i, m)),
        Diagnosis("sigmoid", lambda g, i, m, act: _cat(i, m) / (1 + (-g).exp())),
        Diagnosis("always_gelu", _always_gelu),
        Diagnosis("no_gate", lambda g, i, m, act: _cat(i, m)),
    ),
    equation="equation-gate",
)


EXERCISES = (
    _SPLIT,
    _PRODUCT,
)
