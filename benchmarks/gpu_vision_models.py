"""Training steps of Vim and VMamba on the GPU, their scans by our Triton kernels or by mamba-ssm's CUDA kernel.

python benchmarks/selective_scan.py --fetch       once, with a network: mamba-ssm's source into benchmarks/.peers
python benchmarks/gpu_vision_models.py            batches of 128 images of 224 x 224 pixels, bfloat16 autocast
python benchmarks/gpu_vision_models.py --record   and write assets/recorded/gpu_vision_models.json

A step is the forward pass, the loss, the backward pass and AdamW. The models and their weights are the same; both
engines run in turn in one process, timed by CUDA events. "no scan" is the same model with its scans left out: what
all the layers around them cost. Memory is the peak of a step, with weights and the optimiser's averages.
"""

import argparse
import gc
import importlib.machinery
import statistics
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from gpu_selective_scan import PEERS, VERSION, cuda_kernel, peer_source
from tqdm import tqdm
from without_scan import without_scan

from mambaout_edu import recorded
from mambaout_edu.models import create_model

MODELS = ["vim_tiny", "vmamba_tiny", "vmamba_tiny_v0"]
ENGINES = ["gpu", "mamba_ssm"]


def install_peer() -> None:
    """Let `import mamba_ssm` find the fetched source, without its own `__init__`, and the kernel compiled from it."""
    kernel = cuda_kernel()
    kernel.__spec__ = importlib.machinery.ModuleSpec("selective_scan_cuda", None)
    sys.modules["selective_scan_cuda"] = kernel
    package = types.ModuleType("mamba_ssm")
    package.__path__ = [str(peer_source() / "mamba_ssm")]
    package.__spec__ = importlib.machinery.ModuleSpec("mamba_ssm", None, is_package=True)
    sys.modules["mamba_ssm"] = package
    sys.path.append(str(PEERS / "site"))  # einops


class Case:
    """A model, its optimiser and a batch on the card."""

    def __init__(self, name: str, engine: str, batch: int, size: int) -> None:
        torch.manual_seed(0)
        self.model = create_model(name, engine=engine, drop_path_rate=0.0).cuda().train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.images = torch.randn(batch, 3, size, size, device="cuda")
        self.targets = torch.randint(1000, (batch,), device="cuda")

    def step(self) -> torch.Tensor:
        """Do one training step; return its loss."""
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(self.model(self.images), self.targets)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()


def in_turn(cases: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return each case's median in milliseconds by CUDA events, all run in turn."""
    for run in cases.values():
        for _ in range(3):
            run()
    marks: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {name: [] for name in cases}
    for turn in range(repeats):
        for name in list(cases)[:: -1 if turn % 2 else 1]:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            cases[name]()
            end.record()
            marks[name].append((start, end))
    torch.cuda.synchronize()
    return {name: statistics.median(a.elapsed_time(b) for a, b in pairs) for name, pairs in marks.items()}


def peak_gigabytes(name: str, engine: str, batch: int, size: int) -> float:
    """Return the peak of a step in GiB, of the model alone on the card."""
    gc.collect()
    torch.cuda.empty_cache()
    held = torch.cuda.memory_allocated()
    case = Case(name, engine, batch, size)
    case.step()
    torch.cuda.reset_peak_memory_stats()
    case.step()
    return (torch.cuda.max_memory_allocated() - held) / 2**30


def measure(name: str, batch: int, size: int, repeats: int) -> dict[str, Any]:
    """Time a model's step with each engine; return milliseconds, images a second and memory."""
    memory = {engine: round(peak_gigabytes(name, engine, batch, size), 2) for engine in ENGINES}
    cases = {engine: Case(name, engine, batch, size) for engine in ENGINES}
    first = {engine: case.step().item() for engine, case in cases.items()}
    assert abs(first["gpu"] - first["mamba_ssm"]) < 0.02, f"the engines give different losses: {first}"
    bare = Case(name, "gpu", batch, size)
    if without_scan(bare.model):
        cases["no scan"] = bare
    ms = in_turn({engine: case.step for engine, case in cases.items()}, repeats)
    return {
        "ms": {k: round(v, 2) for k, v in ms.items()},
        "images_per_s": {k: round(1e3 * batch / v) for k, v in ms.items()},
        "peak_GiB": memory,
        "mamba_ssm / gpu": round(ms["mamba_ssm"] / ms["gpu"], 2),
        "memory, gpu / mamba_ssm": round(memory["gpu"] / memory["mamba_ssm"], 2),
    }


def main() -> None:
    """Measure, print a table, record on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--record", action="store_true", help="write assets/recorded/gpu_vision_models.json")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this measures a GPU, and torch sees none here")
    install_peer()
    results: dict[str, Any] = {"mamba_ssm": VERSION, "batch": options.batch, "size": options.size, "models": {}}
    for name in tqdm(options.models, disable=None):
        found = results["models"][name] = measure(name, options.batch, options.size, options.repeats)
        tqdm.write(f"{name:<16} {found}")
    if options.record:
        print(recorded.save("gpu_vision_models", results, device="cuda"))


if __name__ == "__main__":
    main()
