"""Time and memory of one token, measured, as the position grows.

The states are filled with random numbers (`Decoder.filled`): what a step costs depends on their size alone, and reading
65,536 tokens first would take longer than all that is measured.
"""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm.auto import tqdm

from mambaout_edu.memory.decoder import Decoder, decoder
from mambaout_edu.memory.sizes import Bytes, check_free
from mambaout_edu.strings import text

__all__ = ["Measured", "linear_fit", "measure", "peak_bytes"]


@dataclass(frozen=True)
class Measured:
    """One token's cost at one position.

    Attributes
    ----------
    position
        Tokens read before.
    seconds, low, high
        Median time of a step, and its quarter points.
    memory
        Bytes of the state.
    peak
        The most bytes that tensors took during a step: the state, and all that is computed. Weights do not count.
    repeats
        Steps that were timed.
    """

    position: int
    seconds: float
    low: float
    high: float
    memory: Bytes
    peak: int
    repeats: int


def measure(
    mixer: nn.Module,
    positions: Sequence[int],
    *,
    batch: int = 1,
    repeats: int = 15,
    warmup: int = 3,
    seed: int = 0,
    progress: bool = True,
) -> list[Measured]:
    """Time a mixer's step at growing positions, all positions in turn, so that noise meets them alike.

    Parameters
    ----------
    mixer
        What `decoder` can read, on the CPU or a GPU; a token of it is [batch, D].
    positions
        Tokens that were read before.
    batch
        Sequences that are read side by side.
    repeats, warmup
        Steps that are timed at every position, and steps before.
    seed
        Of states and tokens.
    progress
        Show a progress bar.

    Raises
    ------
    ValueError
        If there are no positions, one is negative, or there are fewer than 3 repeats.
    MemoryError
        If the states of all positions do not fit into the free memory together; none is allocated then.

    Examples
    --------
    >>> from mambaout_edu.mixers import Mamba1
    >>> near, far = measure(Mamba1(16), [64, 65536], repeats=3, progress=False)
    >>> near.memory == far.memory
    True
    """
    if not positions or min(positions) < 0 or repeats < 3:
        raise ValueError(f"expected positions of 0 or more, and 3 repeats or more; got {list(positions)} and {repeats}")
    reader = decoder(mixer)
    like = next(mixer.parameters())
    states = _filled(reader, positions, batch, repeats + warmup + 2, like, seed)
    generator = torch.Generator(like.device).manual_seed(seed)
    token = torch.randn(batch, reader.channels, dtype=like.dtype, device=like.device, generator=generator)
    steps = {p: _stepping(reader, token, state) for p, state in states.items()}
    sizes = {p: reader.bytes(state) for p, state in states.items()}
    for step in steps.values():
        for _ in range(warmup):
            step()
    seconds: dict[int, list[float]] = {p: [] for p in states}
    for turn in tqdm(range(repeats), desc=text("memory", "measuring"), disable=not progress, leave=False):
        for p in list(steps)[:: -1 if turn % 2 else 1]:  # nobody is always first
            seconds[p].append(_timed(steps[p], like.device))
    peaks = {p: sizes[p].reserved + peak_bytes(steps[p], like.device) for p in steps}
    return [_measured(p, seconds[p], sizes[p], peaks[p]) for p in positions]


def linear_fit(positions: Sequence[float], seconds: Sequence[float]) -> tuple[float, float, float]:
    """Return a and b of the straight line a + b position through measured times, and the share R^2 that it explains.

    Least squares of relative errors, so that a short time counts as much as a long one; R^2 is of these.

    Raises ValueError for fewer than three points.

    >>> a, b, share = linear_fit([0, 10, 20], [1.0, 2.0, 3.0])
    >>> round(a, 6), round(b, 6), round(share, 6)
    (1.0, 0.1, 1.0)
    """
    if len(positions) != len(seconds) or len(positions) < 3:
        raise ValueError(f"expected three points or more; got {len(positions)} positions and {len(seconds)} times")
    y = torch.tensor(seconds, dtype=torch.float64)
    design = torch.stack((torch.ones_like(y), torch.tensor(positions, dtype=torch.float64)), 1) / y[:, None]
    scale = design.abs().amax(0)
    solution = torch.linalg.lstsq(design / scale, torch.ones_like(y)[:, None]).solution[:, 0] / scale
    left = 1 - design @ solution
    mean = (1 / y).mean() / (1 / y.square()).mean()  # the constant with the least relative errors
    total = (1 - mean / y).square().sum()
    return float(solution[0]), float(solution[1]), float(1 - left.square().sum() / total) if total > 0 else 1.0


def peak_bytes(work: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Return the most bytes of tensors that exist at once because of some work, beyond those that existed before.

    On a GPU the allocator tells; elsewhere the results of all torch operations are watched. What an operation takes
    inside itself, before it returns, is seen on a GPU alone.

    >>> peak_bytes(lambda: torch.zeros(250) + 1)
    2000
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device)) - before
    with _Watch() as watch:
        work()
    return watch.peak


class _Watch(TorchDispatchMode):
    """Add up the storages that operations make, and take them off when they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {_address(t) for t in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        for result in torch.utils._pytree.tree_leaves(out):
            if isinstance(result, Tensor) and (address := _address(result)) not in given | self.known:
                storage = result.untyped_storage()
                self.known.add(address)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._freed, address, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _freed(self, address: int, size: int) -> None:
        self.known.discard(address)
        self.now -= size


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _filled(
    reader: Decoder, positions: Sequence[int], batch: int, steps: int, like: Tensor, seed: int
) -> dict[int, Any]:
    """Return a filled state for every position, with room for some steps, if all of them fit."""
    need = {f"{p:,} tokens": _bytes_at(reader, batch, p, steps) for p in dict.fromkeys(positions)}
    check_free(need, like.device)
    generator = torch.Generator(like.device).manual_seed(seed)
    return {p: reader.filled(batch, p, p + steps, generator) for p in dict.fromkeys(positions)}


def _bytes_at(reader: Decoder, batch: int, position: int, steps: int) -> int:
    """Return what a filled state will take, from a small one: banks grow evenly, everything else stays."""
    small = reader.start(batch)
    reserved = reader.bytes(small).reserved
    if not hasattr(small, "slots"):
        return reserved
    slots = position + steps if small.window is None else min(position + steps, 2 * small.window)
    return reserved // small.slots * max(small.slots, slots)


def _stepping(reader: Decoder, token: Tensor, state: Any) -> Callable[[], object]:
    """Return a function that takes one step further at every call."""
    current = [state]

    def step() -> object:
        y, current[0] = reader.step(token, current[0])
        return y

    return step


def _timed(step: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _measured(position: int, seconds: list[float], memory: Bytes, peak: int) -> Measured:
    low, median, high = statistics.quantiles(seconds, n=4)
    return Measured(position, median, low, high, memory, peak, len(seconds))
