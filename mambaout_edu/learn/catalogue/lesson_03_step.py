"""Exercise of lesson 03 on decoding: one step of a diagonal SSM with complex states."""

from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _step_cases(seed: int) -> list[Case]:
    import torch

    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, dtype: Any) -> Any:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    cases = []
    for (batch, channels, states), real, whole in (
        ((2, 3, 3), torch.float64, torch.complex128),
        ((3, 4, 2), torch.float32, torch.complex64),
        ((1, 2, 5), torch.float64, torch.complex128),
    ):
        state, u = draw(batch, channels, states, dtype=whole), draw(batch, channels, dtype=real)
        A_bar, B_bar, C = (draw(channels, states, dtype=whole) for _ in range(3))
        cases.append(Case((state, u, A_bar, B_bar, C, draw(channels, dtype=real)), {}))
    return cases


def _step(state: Any, u: Any, A_bar: Any, B_bar: Any, C: Any, D: Any, slip: str = "") -> Any:
    import torch

    decay = A_bar.abs().to(A_bar.dtype) if slip == "decay_without_turning" else A_bar
    fed = torch.einsum("dn,bd->bdn", B_bar, u.to(B_bar.dtype))
    after = decay * (state + fed) if slip == "decayed_input" else decay * state + fed
    read = torch.einsum("dn,bdn->bdn", C, state if slip == "read_too_early" else after)
    if slip == "conjugate_read":
        read = torch.einsum("dn,bdn->bdn", C.conj(), after)
    total = read.sum(2)
    y = (1 if slip == "conjugates_forgotten" else 2) * (total.abs() if slip == "size_for_real_part" else total.real)
    y = y if slip == "skip_forgotten" else y + D * u
    return (after, y) if slip == "returned_swapped" else (y, after)


def _slip(key: str) -> Diagnosis:
    return Diagnosis(key, lambda state, u, A_bar, B_bar, C, D: _step(state, u, A_bar, B_bar, C, D, key))


_STEP = Exercise(
    id="memory.ssm_step",
    lesson="03",
    objective="03.step",
    kind="free",
    difficulty=3,
    minutes=10,
    stub='''\
def my_ssm_step(state, u, A_bar, B_bar, C, D):
    """Return y [B, D] and the state after one token, of S4D. Leave the given state as it is.

    state complex [B, D, N], u real [B, D], A_bar, B_bar and C complex [D, N], D real [D].
    Each complex state stands for itself and its conjugate, whose part of y is the conjugate.
    """
    return ...
''',
    reference="mambaout_edu.memory.formulas.ssm_step",
    cases=_step_cases,
    diagnoses=tuple(
        map(
            _slip,
            (
                "conjugates_forgotten", "size_for_real_part", "conjugate_read", "skip_forgotten", "read_too_early",
                "decayed_input", "decay_without_turning", "returned_swapped",
            ),
        )
    ),
    equation="equation-step",
)  # fmt: skip


EXERCISES = (_STEP,)
