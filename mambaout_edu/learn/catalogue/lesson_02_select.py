"""Exercises of lesson 02 on selection: one step of the selective recurrence, and the scan that it makes."""

from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _step_cases(seed: int) -> list[Case]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    cases = []
    # As many channels as states in one case, so that an axis put in at the wrong place runs, too.
    for (batch, channels, states), dtype in (
        ((2, 3, 3), torch.float32),
        ((1, 4, 2), torch.float64),
        ((3, 1, 5), torch.float64),
    ):
        state = torch.randn(batch, channels, states, generator=generator, dtype=dtype)
        u = torch.randn(batch, channels, generator=generator, dtype=dtype)
        delta = 0.1 + torch.rand(batch, channels, generator=generator, dtype=dtype)
        A = -0.2 - torch.rand(channels, states, generator=generator, dtype=dtype)
        B, C = (torch.randn(batch, states, generator=generator, dtype=dtype) for _ in range(2))
        cases.append(Case((state, u, delta, A, B, C), {}))
    return cases


def _one_step(state: Any, u: Any, delta: Any, A: Any, B: Any, C: Any, slip: str = "") -> Any:
    """Take one step of Mamba's recurrence, with one slip if it is named."""
    import torch

    exponent = torch.einsum("bd,dn->bdn", delta, A)
    decay = {
        "no_exponential": exponent,
        "euler": 1 + exponent,
        "no_decay": torch.ones_like(exponent),
        "step_left_out_of_decay": A.exp().expand_as(exponent),
    }.get(slip, exponent.exp())
    fed = torch.einsum("bd,bn->bdn", u if slip == "step_left_out_of_B" else delta * u, B)
    after = decay * (state + fed) if slip == "decayed_input" else decay * state + fed
    read = (state if slip == "read_too_early" else after) * C[:, None]
    y = read if slip == "states_not_summed" else read.sum(1 if slip == "summed_over_channels" else 2)
    return (after, y) if slip == "returned_swapped" else (y, after)


def _step_slip(key: str) -> Diagnosis:
    return Diagnosis(key, lambda state, u, delta, A, B, C: _one_step(state, u, delta, A, B, C, slip=key))


_STEP = Exercise(
    id="scan.step",
    lesson="02",
    objective="02.select",
    kind="completion",
    difficulty=1,
    minutes=7,
    stub='''\
def my_step(state, u, delta, A, B, C):
    """Return y [B, D] and the state after one token [B, D, N]. Leave the given state as it is.

    state [B, D, N], u and delta [B, D], A [D, N], B and C [B, N].
    """
    decay = (delta[..., None] * A).exp()  # [B, D, N]: what is kept of every state
    # fed [B, D, N] is what the token writes: delta u of a channel, times B, which channels share.
    # The new state is made of decay, state and fed. y reads it through C, summed over N.
    return ...
''',
    reference="mambaout_edu.scan.recurrence_step",
    cases=_step_cases,
    diagnoses=(
        *map(
            _step_slip,
            (
                "step_left_out_of_B",
                "step_left_out_of_decay",
                "no_exponential",
                "euler",
                "no_decay",
                "decayed_input",
                "read_too_early",
                "states_not_summed",
                "summed_over_channels",
                "returned_swapped",
            ),
        ),
        Diagnosis("swapped_weights", lambda state, u, delta, A, B, C: _one_step(state, u, delta, A, C, B)),
        Diagnosis("output_alone", lambda state, u, delta, A, B, C: _one_step(state, u, delta, A, B, C)[0]),
    ),
    equation="equation-recurrence",
)


def _recurrence_cases(seed: int) -> list[Case]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    cases = []
    # B, L, H, P, N and the groups of B and C: either one for all heads, or one a head.
    for sizes, groups, dtype in (
        ((2, 4, 3, 2, 5), 1, torch.float32),
        ((1, 6, 2, 3, 4), 2, torch.float64),
        ((2, 1, 2, 4, 3), 1, torch.float32),
    ):
        batch, length, heads, width, states = sizes
        x = torch.randn(batch, length, heads, width, generator=generator, dtype=dtype)
        delta = 0.1 + torch.rand(batch, length, heads, generator=generator, dtype=dtype)
        A = -0.2 - torch.rand(heads, generator=generator, dtype=dtype)
        B, C = (torch.randn(batch, length, groups, states, generator=generator, dtype=dtype) for _ in range(2))
        cases.append(Case((x, delta, A, B, C), {}))
    return cases


def _run(x: Any, delta: Any, A: Any, B: Any, C: Any, slip: str = "") -> Any:
    """Run the recurrence of Mamba-2, with one slip if it is named."""
    import torch

    h = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[-1])  # [B, H, P, N]
    outputs = []
    for t in range(x.shape[1]):
        step = delta[:, 0 if slip == "fixed_step" else t]  # [B, H]
        decay = {
            "no_exponential": step * A,
            "euler": 1 + step * A,
            "no_decay": torch.ones_like(step),
            "step_left_out_of_decay": A.exp().expand_as(step),
        }.get(slip, (step * A).exp())[..., None, None]
        fed = x[:, t, :, :, None] * B[:, t, :, None, :]
        if slip != "step_left_out_of_B":
            fed = fed * step[..., None, None]
        before, h = h, decay * (h + fed) if slip == "decayed_input" else decay * h + fed
        outputs.append(((before if slip == "read_too_early" else h) * C[:, t, :, None, :]).sum(-1))
    return torch.stack(outputs, dim=1), h


def _slip(key: str) -> Diagnosis:
    return Diagnosis(key, lambda x, delta, A, B, C: _run(x, delta, A, B, C, slip=key))


_RECURRENCE = Exercise(
    id="scan.recurrence",
    lesson="02",
    objective="02.select",
    kind="worked",
    difficulty=2,
    minutes=10,
    stub='''\
def my_scan(x, delta, A, B, C):
    """Return y [B, L, H, P] and the last state [B, H, P, N] of the selective recurrence.

    x [B, L, H, P], delta [B, L, H], A [H], B and C [B, L, G, N] with G = 1 or G = H.
    """
    h = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[-1])  # [B, H, P, N]
    # Worked for the first token, t = 0:
    #     decay = torch.exp(delta[:, 0] * A)[..., None, None]                      [B, H, 1, 1]
    #     fed = (delta[:, 0, :, None] * x[:, 0])[..., None] * B[:, 0, :, None, :]  [B, H, P, N]
    #     h = decay * h + fed                                                      [B, H, P, N]
    #     y_0 = (h * C[:, 0, :, None, :]).sum(-1)                                  [B, H, P]
    # Now for every token, one after the other. torch.stack(list_of_y, dim=1) puts time second.
    return ...
''',
    reference="mambaout_edu.scan.dual.ssd_recurrence",
    cases=_recurrence_cases,
    diagnoses=(
        *map(
            _slip,
            (
                "step_left_out_of_B",
                "step_left_out_of_decay",
                "no_exponential",
                "euler",
                "no_decay",
                "decayed_input",
                "read_too_early",
                "fixed_step",
            ),
        ),
        Diagnosis("swapped_weights", lambda x, delta, A, B, C: _run(x, delta, A, C, B)),
        Diagnosis("outputs_alone", lambda x, delta, A, B, C: _run(x, delta, A, B, C)[0]),
    ),
    equation="equation-recurrence",
)


EXERCISES = (_STEP, _RECURRENCE)
