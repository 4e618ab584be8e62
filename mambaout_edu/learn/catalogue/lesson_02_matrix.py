"""Exercise of lesson 02 on the scan as a matrix: the hidden attention of a selective SSM."""

from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _matrix_cases(seed: int) -> list[Case]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    cases = []
    # As many channels as states in one case, so that a sum over the wrong axis runs, too, and can be named.
    for (batch, channels, length, states), dtype in (
        ((2, 3, 5, 2), torch.float32),
        ((1, 2, 4, 2), torch.float64),
        ((1, 1, 3, 4), torch.float64),
    ):
        delta = 0.1 + torch.rand(batch, channels, length, generator=generator, dtype=dtype)
        A = -0.2 - torch.rand(channels, states, generator=generator, dtype=dtype)
        B, C = (torch.randn(batch, states, length, generator=generator, dtype=dtype) for _ in range(2))
        cases.append(Case((delta, A, B, C), {}))
    return cases


def _matrix(delta: Any, A: Any, B: Any, C: Any, slip: str = "") -> Any:
    """Return the matrix with all states at once, with one slip if it is named."""
    import torch

    time = delta.cumsum(-1)
    elapsed = time[..., :, None] - time[..., None, :]  # [B, D, t, s]
    if slip == "own_step_counted":
        elapsed = elapsed + delta[..., None, :]
    decay = (A[:, :, None, None] * elapsed[:, :, None]).exp()  # [B, D, N, t, s]
    if slip == "no_decay":
        decay = torch.ones_like(decay)
    if slip != "not_causal":
        decay = decay.tril(-1 if slip == "own_input_lost" else 0)
    each = C[:, None, :, :, None] * decay * B[:, None, :, None, :]
    if slip == "step_of_output":
        each = each * delta[:, :, None, :, None]
    elif slip != "step_left_out":
        each = each * delta[:, :, None, None, :]
    return each if slip == "states_not_summed" else each.sum(2)


def _slip(key: str) -> Diagnosis:
    return Diagnosis(key, lambda delta, A, B, C: _matrix(delta, A, B, C, slip=key))


_MATRIX = Exercise(
    id="scan.mixing_matrix",
    lesson="02",
    objective="02.matrix",
    kind="free",
    difficulty=4,
    minutes=18,
    stub='''\
def my_mixing_matrix(delta, A, B, C):
    """Return M [B, D, L, L]: the scan's output of a channel is M u.

    delta [B, D, L], A [D, N], B and C [B, N, L]. Entry (t, s), for s <= t, sums over the states n
        C[n, t] * B[n, s] * exp(A[n] * (delta_(s+1) + ... + delta_t)) * delta_s
    """
    return ...
''',
    reference="mambaout_edu.scan.dual.mixing_matrix",
    cases=_matrix_cases,
    diagnoses=(
        *map(
            _slip,
            (
                "own_step_counted",
                "not_causal",
                "own_input_lost",
                "no_decay",
                "step_left_out",
                "step_of_output",
                "states_not_summed",
            ),
        ),
        Diagnosis("transposed", lambda delta, A, B, C: _matrix(delta, A, B, C).mT),
        Diagnosis("swapped_weights", lambda delta, A, B, C: _matrix(delta, A, C, B)),
    ),
    equation="equation-matrix",
)


EXERCISES = (_MATRIX,)
