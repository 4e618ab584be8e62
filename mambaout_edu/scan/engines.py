"""Which engines there are, which of them can run here, and which one "auto" takes.

The engine `cpu`, and kernels like it, run inside one torch operator, `mambaout_edu::selective_scan`, with a
backward of their own. The others are ordinary torch functions that autograd sees through.
"""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["ENGINES", "Engine", "EngineStatus", "choose", "engines", "load", "saved_shape"]


@dataclass(frozen=True)
class Engine:
    """One way to run the scan: where its code is, and when it cannot run.

    `module` is imported on first use. It has `forward` and `backward` if the engine runs inside the operator, and
    `scan`, with the arguments of `reference.scan`, if it does not. `saving` is the module that has `saved_shape`.
    """

    name: str
    what: str
    module: str
    in_operator: bool
    hindrance: Callable[[str, bool], str | None]  # (device type, complex A) -> why it cannot run
    saving: str = ""


@dataclass(frozen=True)
class EngineStatus:
    """Whether an engine can run on a device, and why not."""

    name: str
    available: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {'can run' if self.available else 'cannot run'}, {self.reason}"


def _needs_real_cpu(device: str, complex_system: bool) -> str | None:
    if complex_system:
        return "it computes with real A only"
    if device not in ("cpu", "meta"):
        return f"it computes on the CPU, and the tensors are on {device!r}"
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed (pip install numba)"
    return None


def _needs_gpu(device: str, complex_system: bool) -> str | None:
    if complex_system:
        return "it computes with real A only"
    if device != "cuda":
        return f"it computes on a GPU, and the tensors are on {device!r}"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install triton; on Linux it comes with torch)"
    return None


def _needs_mamba_ssm(device: str, complex_system: bool) -> str | None:
    if complex_system:
        return "it is used with real A only"
    if device != "cuda":
        return f"its kernel is for CUDA, and the tensors are on {device!r}"
    if importlib.util.find_spec("mamba_ssm") is None or importlib.util.find_spec("selective_scan_cuda") is None:
        return "mamba-ssm with its selective_scan_cuda extension is not installed"
    return None


def _needs_real(device: str, complex_system: bool) -> str | None:
    return "it computes with real A only" if complex_system else None


def _nothing(device: str, complex_system: bool) -> str | None:
    return None


# In the order in which "auto" asks them. What comes after the reference, which can always run, is taken by name only:
# mamba-ssm's kernel has no initial state, and its last state no gradient.
ENGINES = {
    engine.name: engine
    for engine in (
        Engine("gpu", "Triton, state in registers, chunks of time in parallel", "gpu", True, _needs_gpu, "gpu"),
        Engine("cpu", "Numba, state in cache, on all threads of torch", "cpu", True, _needs_real_cpu, "cpu_saved"),
        Engine("torch", "chunks in parallel, ordinary torch operations", "chunked", False, _needs_real),
        Engine("reference", "a loop over time, slow, any dtype", "reference", False, _nothing),
        Engine("mamba_ssm", "the CUDA kernel of mamba-ssm", "cuda", False, _needs_mamba_ssm),
    )
}


def engines(device: str | torch.device = "cpu", complex_system: bool = False) -> dict[str, EngineStatus]:
    """Return for every engine whether it can run on a device, and why not.

    Parameters
    ----------
    device
        A torch device or its name.
    complex_system
        Whether A is complex.

    Examples
    --------
    >>> engines("cpu")["cpu"].available
    True
    >>> print(engines("cpu")["mamba_ssm"])
    mamba_ssm: cannot run, its kernel is for CUDA, and the tensors are on 'cpu'
    """
    kind = torch.device(device).type
    found = {}
    for engine in ENGINES.values():
        why_not = engine.hindrance(kind, complex_system)
        found[engine.name] = EngineStatus(engine.name, why_not is None, why_not or engine.what)
    return found


@torch.compiler.assume_constant_result
def choose(engine: str, device: str, complex_system: bool) -> str:
    """Return the engine to use: the one that was asked for if it can run, or for "auto" the first that can.

    Raises ValueError for an unknown engine and for one that cannot run here, with the reason.

    >>> choose("auto", "cpu", complex_system=False)
    'cpu'
    """
    if engine != "auto" and engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; the engines are 'auto', {', '.join(map(repr, ENGINES))}")
    status = engines(device, complex_system)
    if engine == "auto":
        return next(name for name, s in status.items() if s.available)
    if not status[engine].available:
        able = ", ".join(repr(name) for name, s in status.items() if s.available)
        raise ValueError(f"engine {engine!r} cannot run here: {status[engine].reason}. These can: 'auto', {able}.")
    return engine


def load(name: str) -> Any:
    """Return the module of an engine, imported on first use."""
    return importlib.import_module(f"{__package__}.{ENGINES[name].module}")


def saved_shape(name: str, batch: int, length: int, channels: int, state: int) -> tuple[int, ...]:
    """Return the shape of what an engine of the operator keeps for its backward pass.

    >>> saved_shape("cpu", 2, 33, 384, 16)
    (2, 2, 16, 384)
    """
    shape: tuple[int, ...] = importlib.import_module(f"{__package__}.{ENGINES[name].saving}").saved_shape(
        batch, length, channels, state
    )
    return shape
