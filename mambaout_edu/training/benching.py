"""How quick a model is, beside timm's model of the same name: same weights and images, in turn, in the same run."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..models import create_model, load_official
from ..recorded import device_name
from ..strings import text
from .exporting import in_timm

__all__ = ["Bench", "Timing", "bench"]

_WARM_UP = 3  # the first runs compile, choose kernels and fill caches
_STEPS = {"cuda": 10}  # a GPU step is too short to be timed alone


@dataclass(frozen=True)
class Timing:
    """Seconds of one pass, in the order in which they were measured; and the device's peak memory of one, in bytes."""

    seconds: tuple[float, ...]
    peak_bytes: int | None = None

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    @property
    def quarters(self) -> tuple[float, float]:
        """The lower and the upper quarter point."""
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return low, high


@dataclass(frozen=True)
class Bench:
    """What `bench` measured; as text, a table.

    Attributes
    ----------
    name, train, batch_size, image_size, precision, compiled, device
        What was measured, and on what.
    cases
        "ours", and "timm" where timm has a model of this name.
    """

    name: str
    train: bool
    batch_size: int
    image_size: int
    precision: str
    compiled: bool
    device: str
    cases: Mapping[str, Timing]

    @property
    def ratios(self) -> list[float]:
        """Seconds of ours over timm's, pair by pair; below 1 ours is quicker. Empty where timm has no such model."""
        if "timm" not in self.cases:
            return []
        pairs = zip(self.cases["ours"].seconds, self.cases["timm"].seconds, strict=True)
        return [ours / theirs for ours, theirs in pairs]

    def images_per_second(self, case: str = "ours") -> float:
        """Images that go through a model in a second, by the median."""
        return self.batch_size / self.cases[case].median

    def as_json(self) -> dict[str, Any]:
        """Return all figures as JSON's kinds of values."""
        settings = {k: getattr(self, k) for k in ("name", "train", "batch_size", "image_size", "precision", "compiled")}
        cases = {
            name: {
                "images_per_second": self.images_per_second(name),
                "median_seconds": timing.median,
                "quarter_points": list(timing.quarters),
                "peak_bytes": timing.peak_bytes,
            }
            for name, timing in self.cases.items()
        }
        ratio = statistics.median(self.ratios) if self.ratios else None
        return {**settings, "device": self.device, "cases": cases, "time_over_timm": ratio}

    def __str__(self) -> str:
        said = {
            "what": text("cli", "bench_train" if self.train else "bench_infer"),
            "compiled": text("cli", "bench_compiled" if self.compiled else "bench_eager"),
        }
        plain = {"name": self.name, "precision": self.precision, "device": self.device}
        lines = [text("cli", "bench_title", batch=self.batch_size, side=self.image_size, **plain, **said)]
        memory = text("cli", "bench_header_memory") if self.cases["ours"].peak_bytes is not None else ""
        lines += [text("cli", "bench_header") + memory, *(self._line(name) for name in self.cases)]
        if not self.ratios:
            return "\n".join([*lines, text("cli", "bench_alone")])
        low, middle, high = statistics.quantiles(self.ratios, n=4)
        ratio = {"ratio": middle, "low": low, "high": high, "repeats": len(self.ratios)}
        return "\n".join([*lines, text("cli", "bench_ratio", **ratio)])

    def _line(self, name: str) -> str:
        timing = self.cases[name]
        low, high = (1e3 * end for end in timing.quarters)
        peak = timing.peak_bytes
        memory = text("cli", "bench_memory", megabytes=peak / 1e6) if peak is not None else ""
        speed = {"speed": self.images_per_second(name), "median": 1e3 * timing.median}
        return text("cli", "bench_case", name=name, low=low, high=high, memory=memory, **speed)


def bench(
    name: str,
    *,
    train: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    precision: str | None = None,
    channels_last: bool = False,
    compile: bool = False,
    repeats: int = 15,
    progress: bool = True,
) -> Bench:
    """Time a model of this package and timm's model of the same name, in turn, with the same weights and images.

    Parameters
    ----------
    name
        As `create_model` takes it.
    train
        Time a whole training step (forward, backward, AdamW) instead of a forward pass alone.
    device
        "cpu", "cuda" or another of torch's; None is a GPU where there is one.
    batch_size, image_size
        Images at a time (64 on a GPU, 8 elsewhere) and their side in pixels (the model's own).
    precision
        "fp32" or "bf16" (autocast); None is bf16 on a GPU, fp32 elsewhere.
    channels_last
        Keep convolutions' weights and images in this memory format.
    compile
        Put both models through `torch.compile`.
    repeats
        How many pairs of timings; on a GPU each is ten passes long.
    progress
        Show a progress bar.

    Raises
    ------
    ValueError
        If the model is unknown, the device is not there or cannot be used, or a number is too small.

    Examples
    --------
    >>> done = bench("mambaout_pico_8", batch_size=2, repeats=4, device="cpu", progress=False)
    >>> list(done.cases), done.ratios  # timm has no model of this name
    (['ours'], [])
    """
    place = usable_device(device)
    on_gpu = place.type == "cuda"
    batch_size = (64 if on_gpu else 8) if batch_size is None else batch_size
    precision = ("bf16" if on_gpu else "fp32") if precision is None else precision
    if repeats < 3 or batch_size < 1 or (image_size is not None and image_size < 1):
        given = f"repeats {repeats}, batch_size {batch_size}, image_size {image_size}"
        raise ValueError(f"{given}: expected at least 3, 1 and 1")
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision is {precision!r}; expected 'fp32' or 'bf16'")
    models = _models(name)
    chans, side, _ = timm.get_pretrained_cfg(name).input_size
    side = image_size or side
    images = torch.randn(batch_size, chans, side, side, generator=torch.Generator().manual_seed(0)).to(place)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = images.contiguous(memory_format=layout)
    passes = {}
    for case, model in models.items():
        model.to(place).to(memory_format=layout)
        work = torch.compile(model) if compile else model
        passes[case] = _step(model, work, images, precision) if train else _forward(model, work, images, precision)
    cases = _in_turn(passes, place, repeats, progress)
    told = device_name("cuda" if on_gpu else "cpu")
    return Bench(name, train, batch_size, side, precision, compile, told, cases)


def usable_device(asked: str | None) -> torch.device:
    """Return a device that was tried: the one asked for, else a GPU where there is one; ValueError where it fails."""
    if asked is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=asked)
        return torch.device(asked)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"the device {asked!r} cannot be used here ({reason}); 'cpu' always can") from error


def _models(name: str) -> dict[str, nn.Module]:
    ours = create_model(name)
    if not in_timm(name):
        return {"ours": ours}
    theirs = timm.create_model(name)
    load_official(ours, theirs.state_dict())
    return {"ours": ours, "timm": theirs}


def _forward(model: nn.Module, work: Callable[[Tensor], Tensor], images: Tensor, precision: str) -> Callable[[], None]:
    model.eval()

    def run() -> None:
        with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
            work(images)

    return run


def _step(model: nn.Module, work: Callable[[Tensor], Tensor], images: Tensor, precision: str) -> Callable[[], None]:
    model.train()
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    fused = images.device.type == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=fused)  # so small that the weights stay sane

    def run() -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(work(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return run


def _in_turn(
    passes: Mapping[str, Callable[[], None]], device: torch.device, repeats: int, progress: bool
) -> dict[str, Timing]:
    peaks = {case: _warm_up(run, device) for case, run in passes.items()}
    seconds: dict[str, list[float]] = {case: [] for case in passes}
    steps = _STEPS.get(device.type, 1)
    bar = tqdm(range(repeats), desc=text("cli", "benching"), leave=False, disable=not progress)
    for turn in bar:
        for case in list(passes)[:: -1 if turn % 2 else 1]:  # nobody is always first
            seconds[case].append(_seconds(passes[case], device, steps))
    return {case: Timing(tuple(seconds[case]), peaks[case]) for case in passes}


def _warm_up(run: Callable[[], None], device: torch.device) -> int | None:
    for _ in range(_WARM_UP):
        run()
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    held = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - held


def _seconds(run: Callable[[], None], device: torch.device, steps: int) -> float:
    """Return the seconds of one pass; the device has nothing left to do before and after."""
    wait = getattr(getattr(torch, device.type, None), "synchronize", None) if device.type != "cpu" else None
    if wait is not None:
        wait()
    start = time.perf_counter()
    for _ in itertools.repeat(None, steps):
        run()
    if wait is not None:
        wait()
    return (time.perf_counter() - start) / steps
