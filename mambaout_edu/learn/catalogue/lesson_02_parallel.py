"""Exercises of lesson 02 on the parallel scan: the operator that joins two steps, and the scan in chunks."""

from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _combine_cases(seed: int) -> list[Case]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    cases = []
    for shape, dtype in (((), torch.float64), ((3,), torch.float32), ((2, 5), torch.float64)):
        a1, b1, a2, b2 = (torch.randn(shape, generator=generator, dtype=dtype) for _ in range(4))
        cases.append(Case(((a1, b1), (a2, b2)), {}))
    return cases


def _mistake(key: str, join: Any) -> Diagnosis:
    """Build a diagnosis from `join(a1, b1, a2, b2)`."""
    return Diagnosis(key, lambda earlier, later: join(*earlier, *later))


_COMBINE = Exercise(
    id="scan.combine",
    lesson="02",
    objective="02.parallel",
    kind="completion",
    difficulty=2,
    minutes=8,
    stub='''\
def my_combine(earlier, later):
    """Join two steps into one: first h -> a1 h + b1, then h -> a2 h + b2. Return (a, b) of both."""
    (a1, b1), (a2, b2) = earlier, later
    # Put the first step into the second, and sort: a is what multiplies h, b is the rest.
    return ...
''',
    reference="mambaout_edu.scan.associative.combine",
    cases=_combine_cases,
    diagnoses=(
        _mistake("wrong_order", lambda a1, b1, a2, b2: (a1 * a2, a1 * b2 + b1)),
        _mistake("not_carried", lambda a1, b1, a2, b2: (a1 * a2, b1 + b2)),
        _mistake("later_input_lost", lambda a1, b1, a2, b2: (a1 * a2, a2 * b1)),
        _mistake("earlier_input_lost", lambda a1, b1, a2, b2: (a1 * a2, b2)),
        _mistake("own_decay", lambda a1, b1, a2, b2: (a1 * a2, a1 * b1 + b2)),
        _mistake("decays_added", lambda a1, b1, a2, b2: (a1 + a2, a2 * b1 + b2)),
        _mistake("later_decay_alone", lambda a1, b1, a2, b2: (a2, a2 * b1 + b2)),
        _mistake("returned_swapped", lambda a1, b1, a2, b2: (a2 * b1 + b2, a1 * a2)),
    ),
    equation="equation-combine",
)


def _chunked_cases(seed: int) -> list[Case]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    cases = []
    for length, chunk, dtype in ((12, 4, torch.float32), (11, 3, torch.float64), (5, 8, torch.float64)):
        heads, width, states = 2, 3, 4
        x = torch.randn(2, length, heads, width, generator=generator, dtype=dtype)
        delta = 0.1 + torch.rand(2, length, heads, generator=generator, dtype=dtype)
        A = -0.2 - torch.rand(heads, generator=generator, dtype=dtype)
        B, C = (torch.randn(2, length, heads, states, generator=generator, dtype=dtype) for _ in range(2))
        cases.append(Case((x, delta, A, B, C), {"chunk": chunk}))
    return cases


def _decays(a: Any, slip: str) -> Any:
    """Return the decay from step s to step t of a chunk, [B, H, t, s], from a [B, Q, H]."""
    import torch

    total = a.cumsum(1).transpose(1, 2)  # [B, H, Q]
    between = (total[..., :, None] - total[..., None, :]).exp()
    if slip == "not_masked":
        return between
    steps = torch.arange(a.shape[1])
    seen = steps[:, None] - steps >= (1 if slip == "own_input_lost" else 0)
    return torch.where(seen, torch.ones_like(between) if slip == "no_decay_inside" else between, 0.0)


def _in_chunks(x: Any, delta: Any, A: Any, B: Any, C: Any, chunk: int, slip: str = "") -> Any:
    """Run the scan chunk after chunk, with one slip if it is named."""
    import torch

    a, v = delta * A, delta[..., None] * x
    h, outputs = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[-1]), [x[:, :0]]
    whole = x.shape[1] // chunk * chunk if slip == "tail_lost" else x.shape[1]
    for start in range(0, whole, chunk):
        part = slice(start, start + chunk)
        decay = _decays(a[:, part], slip)
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", C[:, part], B[:, part], decay, v[:, part])
        left = _decays(a[:, part], "")[:, :, -1]  # [B, H, Q]
        ending = torch.einsum(
            "bhs,bshp,bshn->bhpn", torch.ones_like(left) if slip == "left_undecayed" else left, v[:, part], B[:, part]
        )
        faded = a[:, part].cumsum(1).exp()[..., None]
        all_of_it = a[:, part].sum(1).exp()[..., None, None]
        after = (h if slip == "carried_undecayed" else all_of_it * h) + ending
        read = torch.einsum("blhn,bhpn->blhp", C[:, part], after if slip == "read_too_late" else h)
        outputs.append(inside + (read if slip == "read_undecayed" else faded * read))
        h = torch.zeros_like(after) if slip == "not_carried" else after
    return torch.cat(outputs, dim=1), (after if slip == "not_carried" else h)


def _slip(key: str) -> Diagnosis:
    return Diagnosis(key, lambda x, delta, A, B, C, chunk: _in_chunks(x, delta, A, B, C, chunk, slip=key))


_CHUNKED = Exercise(
    id="scan.chunked",
    lesson="02",
    objective="02.parallel",
    kind="free",
    difficulty=4,
    minutes=20,
    stub='''\
def my_chunked_scan(x, delta, A, B, C, chunk=64):
    """Return y [B, L, H, P] and the last state [B, H, P, N], chunk by chunk.

    x [B, L, H, P], delta [B, L, H], A [H], B and C [B, L, H, N]. Within a chunk use no loop over
    time: with M = dual.decay_matrix((delta * A).transpose(1, 2)) of the chunk, [B, H, Q, Q], and h
    the state before the chunk,
        y = (M o C B^T) (delta x)  +  exp(running sum of delta A) C h
        h = exp(sum of delta A) h  +  what the chunk's own steps leave at its end
    The last chunk may be shorter.
    """
    return ...
''',
    reference="mambaout_edu.scan.dual.ssd_chunked",
    cases=_chunked_cases,
    diagnoses=tuple(
        map(
            _slip,
            (
                "not_carried",
                "carried_undecayed",
                "left_undecayed",
                "read_undecayed",
                "read_too_late",
                "not_masked",
                "no_decay_inside",
                "own_input_lost",
                "tail_lost",
            ),
        )
    ),
    equation="equation-chunked",
)


EXERCISES = (_COMBINE, _CHUNKED)
