"""Cases for Triton's interpreter, run by test_scan_gpu_interpreted.py in a process of their own.

The interpreter is chosen before triton is imported, and stays chosen: other tests compile kernels in theirs.
"""

import os
import sys

if __name__ == "__main__":  # pytest imports this file too, when it looks for doctests
    os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch import Tensor

from mambaout_edu.scan import gpu, gpu_gradients, gpu_launch, reference

TENSORS = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")


def inputs(sizes: tuple[int, int, int, int], groups: tuple[int, int], fixed: str, without: str, dtype: torch.dtype):
    """Return seeded arguments; `fixed` holds letters of weights that are [D, N], `without` of tensors that are None."""
    batch, length, channels, state = sizes
    generator = torch.Generator().manual_seed(sum(sizes))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    B, C = (
        normal(channels, state) if name in fixed else normal(batch, length, g, state)
        for name, g in zip("BC", groups, strict=True)
    )
    sequences = [normal(batch, length, channels).to(dtype) for _ in range(3)]
    A = -2 * torch.rand(channels, state, generator=generator) - 0.05
    D = None if "D" in without else normal(channels)
    z = None if "z" in without else sequences[2]
    bias = None if "b" in without else normal(channels)
    start = None if "s" in without else normal(batch, channels, state)
    return [sequences[0], sequences[1] - 1, A, B.to(dtype), C.to(dtype), D, z, bias, start]


def truth(tensors: list[Tensor | None], softplus: bool, dy: Tensor, dlast: Tensor | None) -> dict[str, Tensor]:
    """Return outputs and gradients of the reference in float64."""
    wide = [None if t is None else t.double().requires_grad_() for t in tensors]
    out, last = reference.scan(*wide, delta_softplus=softplus)
    loss = (out * dy.double()).sum() + (0 if dlast is None else (last * dlast.double()).sum())
    given = [(name, t) for name, t in zip(TENSORS, wide, strict=True) if t is not None]
    grads = torch.autograd.grad(loss, [t for _, t in given])
    found = {name: g for (name, _), g in zip(given, grads, strict=True)}
    return {"out": out.detach(), "last": last.detach(), **{f"d_{name}": g for name, g in found.items()}}


def ours(
    tensors: list[Tensor | None], softplus: bool, dy: Tensor, dlast: Tensor | None, every: int
) -> dict[str, Tensor]:
    """Return the same from the engine."""
    with gpu.checkpoints(every):
        out, last, saved = gpu.forward(*tensors, delta_softplus=softplus, save=True)
    grads = gpu.backward(dy, dlast, saved, *tensors, delta_softplus=softplus)
    for name, t, g in zip(TENSORS, tensors, grads, strict=True):
        if (t is None) != (g is None) or (t is not None and (g.dtype, g.shape) != (t.dtype, t.shape)):
            raise AssertionError(f"gradient of {name}: {None if g is None else (g.dtype, g.shape)}")
    found = {f"d_{name}": g for name, g in zip(TENSORS, grads, strict=True) if g is not None}
    return {"out": out, "last": last, **found}


CASES = {
    "whole tiles": {"sizes": (2, 16, 64, 16)},
    "tails of everything": {"sizes": (1, 11, 20, 5)},
    "one of everything": {"sizes": (1, 1, 1, 1)},
    "two groups": {"sizes": (2, 9, 24, 4), "groups": (2, 2), "without": "Dzbs"},
    "groups that differ": {"sizes": (1, 7, 12, 3), "groups": (2, 3)},
    "chunks": {"sizes": (1, 53, 40, 4), "chunk": 16},
    "chunks, no start, no gate": {"sizes": (1, 48, 32, 2), "chunk": 16, "without": "zs", "last": False},
    "chunks, more than 64 states": {"sizes": (1, 18, 3, 65), "chunk": 8},
    "fixed B and C": {"sizes": (1, 12, 8, 4), "fixed": "BC"},
    "fixed B, chunks": {"sizes": (1, 22, 8, 4), "fixed": "B", "chunk": 8},
    "fixed C, chunks": {"sizes": (1, 22, 8, 4), "fixed": "C", "chunk": 8, "groups": (2, 1)},
    "no softplus": {"sizes": (1, 10, 33, 2), "softplus": False, "without": "b"},
    "states kept far apart": {"sizes": (5, 41, 8, 4), "every": 16},
    "states kept far apart, chunks": {"sizes": (2, 41, 8, 4), "every": 16, "chunk": 8, "without": "D"},
    "bfloat16": {"sizes": (1, 21, 40, 8), "dtype": torch.bfloat16, "chunk": 8},
    "bfloat16 as it is": {"sizes": (1, 9, 16, 4), "dtype": torch.bfloat16, "softplus": False, "without": "Dzbs"},
    "float16": {"sizes": (1, 9, 16, 8), "dtype": torch.float16},
    "float64": {"sizes": (1, 12, 40, 4), "dtype": torch.float64, "chunk": 8},
    "small and large steps": {"sizes": (1, 9, 8, 4), "scale": 12.0},
    "channels before time": {"sizes": (1, 9, 20, 4), "transposed": True},
}
LIMITS = {torch.float64: (1e-12, 1e-12), torch.float32: (2e-6, 2e-5), torch.bfloat16: (6e-3, 6e-3)}
LIMITS[torch.float16] = (1e-3, 1e-3)


def check(
    sizes: tuple[int, int, int, int],
    groups: tuple[int, int] = (1, 1),
    fixed: str = "",
    without: str = "",
    dtype: torch.dtype = torch.float32,
    chunk: int | None = None,
    every: int = gpu_launch.NEAR,
    softplus: bool = True,
    last: bool = True,
    scale: float = 1.0,
    transposed: bool = False,
) -> str:
    """Return what is wrong with a case: nothing, or the names of what differs and by how much."""
    rule = gpu_launch.chunk_length
    if chunk is not None:
        gpu.chunk_length = gpu_gradients.chunk_length = lambda programs, length, state: chunk
    tensors = inputs(sizes, groups, fixed, without, dtype)
    if dtype == torch.float64:
        tensors = [None if t is None else t.double() for t in tensors]
    if scale != 1.0:
        tensors[1] = tensors[1] * scale
    if not softplus:
        tensors[1] = tensors[1].abs()
    if transposed:
        for i in (0, 1, 6):
            tensors[i] = tensors[i].transpose(1, 2).contiguous().transpose(1, 2)
    dy = torch.randn(tensors[0].shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    shape = (sizes[0], sizes[2], sizes[3])
    dlast = torch.randn(shape, generator=torch.Generator().manual_seed(2)) if last else None
    try:
        got = ours(tensors, softplus, dy, dlast, every)
        expected = truth(tensors, softplus, dy, dlast)
    finally:
        gpu.chunk_length = gpu_gradients.chunk_length = rule
    wrong = []
    if transposed and (got["out"].stride(1) != 1 or got["d_u"].stride(1) != 1):
        wrong.append("strides of out or d_u are not those of u")
    for name, value in expected.items():
        limit = LIMITS[dtype][name.startswith("d_")]
        error = ((got[name].double() - value).norm() / value.norm().clamp_min(1e-30)).item()
        if not error <= limit:
            wrong.append(f"{name} differs by {error:.1e} (limit {limit:.0e})")
    return ", ".join(wrong)


if __name__ == "__main__":
    for case, arguments in CASES.items():
        sys.stdout.write(f"{case}: {check(**arguments) or 'right'}\n")
        sys.stdout.flush()
