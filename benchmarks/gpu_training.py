"""Training steps on one GPU: MambaOut beside timm's, and what mixers cost as the picture grows.

python benchmarks/gpu_training.py                     everything, about 10 minutes on one H200
python benchmarks/gpu_training.py --only speed --models mambaout_base
python benchmarks/gpu_training.py --record            and write assets/recorded/gpu_training_speed.json

speed        a step (forward, loss, backward, AdamW) in bfloat16 autocast at 224 x 224: timm's model and ours with the
             same weights, as they are and compiled, ours also with hidden widths padded to multiples of 8 and 16.
             All cases of a model run in turn in one process, timed by CUDA events; ratios are of medians.
resolution   forward and backward of one skeleton (patches of 4 pixels, isotropic, 6 blocks of 192 channels) with
             attention, windows, convolution and selective scans as mixer, bfloat16, from 224 pixels up, until the
             memory ends or a step takes longer than a limit: milliseconds and peak memory an image

Compiling takes longest, so the compiled models are first made side by side in processes of their own, which leave
their kernels in torch's cache.
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from gpu_vision_models import in_turn
from torch import nn
from tqdm import tqdm

from mambaout_edu import recorded
from mambaout_edu.blocks import GatedBlock
from mambaout_edu.models import create_model, load_official, metaformer_like

BATCH = {"mambaout_femto": 256, "mambaout_tiny": 256, "mambaout_base": 256}
CASES: dict[str, dict[str, Any]] = {
    "timm": {},
    "ours": {},
    "ours, padded to 8": {"pad_hidden": 8},
    "ours, padded to 16": {"pad_hidden": 16},
}
MIXERS = ("attention", "window", "conv", "cross", "ssm")
SIZES = (224, 320, 448, 640, 896, 1280, 1792, 2048)
RESOLUTION_BATCH = 8
LONGEST = 2.0  # seconds of a step, beyond which larger pictures are left out


class Case:
    """A model with its optimiser, and a batch on the card."""

    def __init__(self, name: str, case: str, compiled: bool, images: torch.Tensor) -> None:
        torch.manual_seed(0)
        theirs = timm.create_model(name)
        self.model: nn.Module = theirs
        if case != "timm":
            self.model = create_model(name, **CASES[case])
            load_official(self.model, theirs.state_dict())
        self.model = self.model.cuda().train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.run: Callable[..., torch.Tensor] = torch.compile(self.model) if compiled else self.model
        self.images, self.targets = images, torch.arange(len(images), device="cuda") % 1000

    def step(self) -> None:
        """Do one training step."""
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(self.run(self.images), self.targets)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def fits(name: str, case: str) -> bool:
    """Return whether a case is one of its own: padding that changes no width is not."""
    if not CASES.get(case):
        return True
    with torch.device("meta"):
        modules = list(create_model(name, **CASES[case]).modules())
    return any(module.padding for module in modules if isinstance(module, GatedBlock))


def speed(name: str, repeats: int) -> dict[str, Any]:
    """Return images a second, quarter points of the step's milliseconds and peak memory of every case of a model."""
    images = torch.randn(BATCH[name], 3, 224, 224, device="cuda")
    cases: dict[str, Case] = {}
    for compiled in (False, True):
        for label in filter(lambda label: fits(name, label), CASES):
            cases[f"{label}, compiled" if compiled else label] = Case(name, label, compiled, images)
    found: dict[str, Any] = {}
    peaks = {}
    for label, case in cases.items():
        for _ in range(2):
            case.step()  # compiles, chooses kernels
        torch.cuda.reset_peak_memory_stats()
        # What the other cases' weights and averages hold is not this one's.
        before = torch.cuda.memory_allocated()
        case.step()
        peaks[label] = torch.cuda.max_memory_allocated() - before
    milliseconds = in_turn({label: case.step for label, case in cases.items()}, repeats)
    for label, middle in milliseconds.items():
        base = milliseconds["timm, compiled" if "compiled" in label else "timm"]
        found[label] = {
            "images_per_second": round(1000 * len(images) / middle),
            "speed_over_timm": round(base / middle, 3),
            "peak_bytes": peaks[label],
        }
    return {"batch": len(images), "cases": found}


def prepare(names: list[str], processes: int) -> None:
    """Compile every case in a process of its own, `processes` at a time."""
    jobs = [(name, case) for name in names for case in CASES if fits(name, case)]
    code = "import gpu_training as g, sys, torch; g.warm(sys.argv[1], sys.argv[2])"
    running: list[subprocess.Popen[bytes]] = []
    for name, case in jobs:
        while len(running) >= processes:
            running[0].wait()
            running.pop(0)
        running.append(subprocess.Popen([sys.executable, "-c", code, name, case], cwd=Path(__file__).parent))
    for child in running:
        child.wait()


def warm(name: str, case: str) -> None:
    """Compile one case; torch's cache on disk keeps what comes out."""
    images = torch.randn(BATCH[name], 3, 224, 224, device="cuda")
    Case(name, case, True, images).step()
    torch.cuda.synchronize()


def resolution(mixer: str, bar: Any) -> list[dict[str, Any]]:
    """Return what a step costs at each size, and why it stopped."""
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        bar.update()
        gc.collect()
        torch.cuda.empty_cache()
        try:
            rows.append({"size": size, **cost(mixer, size)})
        except torch.OutOfMemoryError:
            rows.append({"size": size, "ended": "memory"})
            break
        except RuntimeError as error:  # a kernel whose indices do not reach so far
            rows.append({"size": size, "ended": "error", "error": str(error).splitlines()[0][:200]})
            break
        if rows[-1]["milliseconds"] * RESOLUTION_BATCH > 1000 * LONGEST:
            rows.append({"size": size, "ended": "time"})
            break
    bar.update(len(SIZES) - len({row["size"] for row in rows}))
    return rows


def cost(mixer: str, size: int) -> dict[str, Any]:
    """Return milliseconds and peak bytes an image of forward and backward."""
    torch.manual_seed(0)
    model = metaformer_like(
        mixer, depths=6, dims=192, hierarchical=False, patch_size=4, img_size=size, pos_embed=False, num_classes=10
    )
    model = model.cuda().train()
    images = torch.randn(RESOLUTION_BATCH, 3, size, size, device="cuda")

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(images).float().square().mean()
        loss.backward()
        model.zero_grad(set_to_none=True)

    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    times = []
    for _ in range(3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    peak = torch.cuda.max_memory_allocated() - before
    return {"milliseconds": round(statistics.median(times) / len(images), 3), "bytes": peak // len(images)}


def main() -> None:
    """Measure, print, record on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=("speed", "resolution"), default=["speed", "resolution"])
    parser.add_argument("--models", nargs="+", choices=BATCH, default=list(BATCH))
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--record", nargs="?", const="", help="to assets/recorded, or to a folder")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("there is no GPU here; benchmarks/mambaout_step.py measures on the CPU")
    results: dict[str, Any] = {}
    if "speed" in options.only:
        prepare(options.models, processes=3)  # more do not fit into the memory
        results["speed"] = {}
        for name in options.models:
            results["speed"][name] = speed(name, options.repeats)
            print(name, json.dumps(results["speed"][name], indent=1), flush=True)
            gc.collect()
            torch.cuda.empty_cache()
    if "resolution" in options.only:
        with tqdm(total=len(MIXERS) * len(SIZES), mininterval=5) as bar:
            results["resolution"] = {
                "batch": RESOLUTION_BATCH,
                "longest_step_seconds": LONGEST,
                "mixers": {mixer: resolution(mixer, bar) for mixer in MIXERS},
            }
        for mixer, rows in results["resolution"]["mixers"].items():
            print(mixer, *(json.dumps(row) for row in rows), sep="\n  ", flush=True)
    if options.record is not None:
        folder = {"folder": Path(options.record)} if options.record else {}
        command = "python benchmarks/gpu_training.py --record"
        recorded.save("gpu_training_speed", results, device="cuda", command=command, **folder)


if __name__ == "__main__":
    main()
