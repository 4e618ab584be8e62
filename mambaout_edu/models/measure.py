"""What a model does when it runs: the shapes it passes, time and memory of a pass, and whether it repeats itself."""

import gc
import statistics
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from tqdm.auto import tqdm

from mambaout_edu.strings import text

__all__ = ["RunCost", "feature_shapes", "first_difference", "outputs_in_order", "run_cost", "run_costs"]

_MOST_BYTES = 2 * 2**30  # no measurement may need more, unless the caller says so


@dataclass(frozen=True)
class RunCost:
    """What one image of `size` x `size` pixels costs: median seconds on one thread, and the peak of live tensors."""

    size: int
    seconds: float
    peak_bytes: int


def feature_shapes(model: nn.Module, height: int, width: int) -> list[tuple[int, int, int]]:
    """Return (H, W, C) of a model's feature maps in their order, equal neighbours once; nothing is computed.

    Parameters
    ----------
    model
        With timm's `forward_intermediates`. A model with stages gives one map a stage; ViT and Vim, whose blocks all
        give the same shape, one altogether.
    height, width
        Of the image in pixels.

    Examples
    --------
    >>> from mambaout_edu.models import create_model
    >>> feature_shapes(create_model("mambaout_femto"), 224, 224)
    [(56, 56, 48), (28, 28, 96), (14, 14, 192), (7, 7, 288)]
    >>> feature_shapes(create_model("vim_tiny"), 224, 224)
    [(14, 14, 192)]
    """

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> list[Tensor]:
            return list(model.forward_intermediates(x, output_fmt="NCHW", intermediates_only=True))  # type: ignore[operator]

    asked = Features()
    state = {k: torch.empty_like(v, device="meta") for k, v in (*asked.named_parameters(), *asked.named_buffers())}
    image = torch.empty(1, getattr(model, "in_chans", 3), height, width, device="meta")
    with torch.no_grad():
        maps = torch.func.functional_call(asked, state, (image,))
    found: list[tuple[int, int, int]] = []
    for x in maps:
        shape = (x.shape[2], x.shape[3], x.shape[1])
        if found[-1:] != [shape]:
            found.append(shape)
    return found


def run_cost(model: nn.Module, size: int, *, backward: bool = False, repeats: int = 3) -> RunCost:
    """Run a model on one random image of `size` x `size` pixels; return what it costs.

    On the CPU one thread works, and the seconds are the processor's: other programs do not count. Memory is the
    peak of all tensors that are alive at once, beyond weights and image; what a kernel keeps for itself is not seen.
    On a GPU both come from the device. The model is left as it was.

    Parameters
    ----------
    model
        Takes images [B, in_chans, H, W].
    size
        Side of the image in pixels.
    backward
        Whether the backward pass is run, too.
    repeats
        How many runs the median is over; one more warms up.

    Raises
    ------
    ValueError
        If size or repeats is below 1.

    Examples
    --------
    >>> cost = run_cost(nn.Conv2d(3, 8, 1), 32)
    >>> cost.peak_bytes == 8 * 32 * 32 * 4
    True
    """
    if min(size, repeats) < 1:
        raise ValueError(f"size and repeats must be at least 1; got {size} and {repeats}")
    like = next(model.parameters())
    image = torch.randn(1, getattr(model, "in_chans", 3), size, size, device=like.device, dtype=like.dtype)

    def run() -> None:
        with torch.set_grad_enabled(backward):
            output = model(image)
            if backward:
                output.square().mean().backward()
                model.zero_grad(set_to_none=True)

    with _evaluated(model), _one_thread():
        peak = _peak_bytes(run, like.device)  # the first run warms up, too
        seconds = [_seconds(run, like.device) for _ in range(repeats)]
    return RunCost(size, statistics.median(seconds), peak)


def run_costs(
    models: Mapping[str, nn.Module],
    sizes: Sequence[int],
    *,
    backward: bool = False,
    repeats: int = 3,
    most_bytes: int = _MOST_BYTES,
    progress: bool = True,
) -> dict[str, list[RunCost]]:
    """Measure models at growing sizes, and leave out sizes that might not fit into memory.

    Before a model runs, its memory is guessed from the size before, as if it grew with the square of the number of
    pixels, which is the worst that attention does. If the guess is above `most_bytes`, or above half of the memory that
    is free, the model's row ends there.

    Parameters
    ----------
    models
        By the name that figures show.
    sizes
        Sides of the images in pixels, from small to large.
    backward, repeats
        As in `run_cost`.
    most_bytes
        What one measurement may need at most.
    progress
        Whether a progress bar shows itself where the work takes seconds.

    Examples
    --------
    >>> measured = run_costs({"1 x 1": nn.Conv2d(3, 8, 1)}, [16, 32], repeats=1)
    >>> [cost.size for cost in measured["1 x 1"]]
    [16, 32]
    """
    measured: dict[str, list[RunCost]] = {name: [] for name in models}
    work = len(models) * len(sizes)
    with tqdm(total=work, desc=text("zoo", "measuring"), delay=2, leave=False, disable=not progress) as bar:
        for size in sorted(sizes):
            for name, model in models.items():
                before = measured[name][-1:]
                guess = max((cost.peak_bytes * (size / cost.size) ** 4 for cost in before), default=0.0)
                if guess <= min(most_bytes, _free_bytes(next(model.parameters()).device) / 2):
                    measured[name].append(run_cost(model, size, backward=backward, repeats=repeats))
                bar.update()
    return measured


def outputs_in_order(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Run a model once, and return the output of every module by its name, in the order in which they finish.

    A module finishes after all that it calls. So where two runs differ, the first name that differs is a module whose
    own parts all agree. The second call of a module is "name, call 2". Outputs that are no tensors are left out. The
    model runs in evaluation mode, without gradients, and is left as it was.

    >>> list(outputs_in_order(nn.Sequential(nn.Identity(), nn.Sequential(nn.ReLU())), torch.zeros(1)))
    ['0', '1.0', '1', '']
    """
    outputs: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            calls[name] += 1
            if isinstance(output, Tensor):
                outputs[name if calls[name] == 1 else f"{name}, call {calls[name]}"] = output.detach().clone()

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in model.named_modules()]
    try:
        with _evaluated(model), torch.no_grad():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def first_difference(once: Mapping[str, Tensor], again: Mapping[str, Tensor]) -> str | None:
    """Return the first name, in the order of `once`, whose tensors differ in any entry; None if all are equal.

    >>> a, b = torch.zeros(2), torch.ones(2)
    >>> first_difference({"stem": a, "stage": a, "head": a}, {"stem": a, "stage": b, "head": b})
    'stage'
    """
    for name, output in once.items():
        if not torch.equal(output, again[name]):
            return name
    return None


class _LiveTensors(TorchDispatchMode):
    """Add up the bytes of all storages that come up, take off those that go, and remember the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor):
                self._note(x.untyped_storage(), given)
        return out

    def _note(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key = storage._cdata
        if key in self.known or key in given:  # a view, or written in place
            return
        size = storage.nbytes()
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def _peak_bytes(run: Any, device: torch.device) -> int:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        held = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - held
    live = _LiveTensors()
    with live:
        run()
    return live.peak


def _seconds(run: Any, device: torch.device) -> float:
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / 1e3
    began = time.process_time()
    run()
    return time.process_time() - began


def _free_bytes(device: torch.device) -> float:
    """Return the bytes that are free on a device; infinite where the system does not tell."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    told = Path("/proc/meminfo")
    if not told.exists():
        return float("inf")
    lines = told.read_text(encoding="ascii").splitlines()
    free = next((line.split()[1] for line in lines if line.startswith("MemAvailable")), None)
    return float("inf") if free is None else 1024.0 * int(free)


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)
