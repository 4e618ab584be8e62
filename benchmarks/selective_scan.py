"""The CPU engine of the selective scan beside those who compute the same thing: ratios of medians, and memory.

python benchmarks/selective_scan.py --fetch        get the peers with pip into benchmarks/.peers, then measure
python benchmarks/selective_scan.py --record       measure and write assets/recorded/selective_scan.json

mamba-ssm     its `selective_scan_ref`, that one function taken out of the source package and run alone
transformers  its `mamba_selective_scan`, the loop that its Mamba runs without CUDA, taken out in the same way
mambapy       its parallel scan `pscan`, with the few lines around it that make a selective scan of it
floor         B L D N exp2 alone, by the engine's own exp2, in a vectorised loop that stays in the first-level cache
copy          u, delta and z copied into tensors that are there already
"""

import argparse
import ast
import functools
import importlib.util
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from side_by_side import side_by_side
from torch import Tensor

from mambaout_edu import recorded
from mambaout_edu.scan import selective_scan
from mambaout_edu.scan.cpu_kernels import PLAIN
from mambaout_edu.scan.cpu_math import claim, exp2, get, put
from mambaout_edu.scan.cpu_threads import run_on_threads

PEERS = Path(__file__).resolve().parent / ".peers"
MAMBA_SSM = "mamba-ssm==2.3.2.post1"
TRANSFORMERS = "transformers==5.23.0"
SIZES = [
    (8, 196, 384, 16),
    (2, 3136, 192, 16),
    (1, 4096, 768, 16),
    (2, 784, 192, 16),
    (8, 196, 384, 1),
    (2, 3136, 192, 1),
]
TRAINING = [(8, 196, 384, 16), (2, 784, 192, 16), (8, 196, 384, 1)]  # longer ones take the peers minutes
TRANSFORMERS_TAKES = ("A", "B", "C", "D", "z", "delta_bias")
FOUR_KB = 1024  # numbers in the floor's array


def fetch() -> None:
    """Download the peers: mamba-ssm as source, never built; the others without what they depend on."""
    pip = [sys.executable, "-m", "pip"]
    source = ["download", "--no-deps", "--no-build-isolation", "--no-binary", "mamba-ssm", MAMBA_SSM, "-d", str(PEERS)]
    environment = {**os.environ, "MAMBA_SKIP_CUDA_BUILD": "TRUE"}
    subprocess.run([*pip, *source], check=True, env=environment)
    wheel = ["download", "--no-deps", "--only-binary", ":all:", TRANSFORMERS, "-d", str(PEERS)]
    subprocess.run([*pip, *wheel], check=True)
    target = ["install", "--no-deps", "--upgrade", "--target", str(PEERS / "site"), "einops", "mambapy==1.2.0"]
    subprocess.run([*pip, *target], check=True)


def mamba_ssm_reference() -> Callable[..., Any]:
    """Return `selective_scan_ref` out of the downloaded source, without importing the package around it."""
    sys.path.insert(0, str(PEERS / "site"))
    from einops import rearrange, repeat  # type: ignore[import-not-found]

    with tarfile.open(_downloaded("mamba_ssm-*.tar.gz")) as files:
        member = next(m for m in files.getmembers() if m.name.endswith("ops/selective_scan_interface.py"))
        extracted = files.extractfile(member)
        assert extracted is not None
        source = extracted.read()
    return _function(source, "selective_scan_ref", rearrange=rearrange, repeat=repeat)


def transformers_scan() -> Callable[..., Any]:
    """Return `mamba_selective_scan` out of the downloaded wheel, with its faster paths' packages said to be absent."""
    with zipfile.ZipFile(_downloaded("transformers-*.whl")) as files:
        source = files.read("transformers/models/mamba/modeling_mamba.py")
    absent = (
        "is_torch_greater_or_equal",
        "is_mambapy_available",
        "is_torchdynamo_compiling",
        "is_torchdynamo_exporting",
    )
    return _function(source, "mamba_selective_scan", **dict.fromkeys(absent, lambda *_: False))


def _downloaded(pattern: str) -> Path:
    found = next(PEERS.glob(pattern), None)
    if found is None:
        sys.exit(f"{pattern} is not in benchmarks/.peers; run this script once with --fetch")
    return found


def _function(source: bytes, name: str, **names: Any) -> Callable[..., Any]:
    """Compile one function of a source file, with the names that it uses."""
    tree = ast.parse(source)
    (function,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name)
    function.decorator_list = []
    tree.body = [function]
    names |= {"torch": torch, "F": F, "nn": torch.nn}
    exec(compile(tree, name, "exec"), names)
    found: Callable[..., Any] = names[name]
    return found


def mambapy_scan() -> Callable[[dict[str, Tensor]], Tensor]:
    """Return a selective scan (B, D, L) around mambapy's pscan, which wants whole decays and inputs [B, L, D, N]."""
    spec = importlib.util.spec_from_file_location("pscan", PEERS / "site" / "mambapy" / "pscan.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(t: dict[str, Tensor]) -> Tensor:
        u, delta, z, B, C = (t[k].transpose(1, 2) for k in ("u", "delta", "z", "B", "C"))
        dt = F.softplus(delta + t["delta_bias"])  # [B, L, D]
        h = module.pscan(torch.exp(dt[..., None] * t["A"]), (dt * u)[..., None] * B[:, :, None])  # [B, L, D, N]
        y = (h @ C[..., None])[..., 0] + t["D"] * u
        return (y * F.silu(z)).transpose(1, 2)

    return run


@njit(**PLAIN)
def _exp2_loop(counter, tasks, repeats):  # type: ignore[no-untyped-def]
    w = np.full(FOUR_KB, -0.5, np.float32)
    while claim(counter) < tasks:
        for _ in range(repeats):
            for i in range(FOUR_KB):
                put(w, i, -exp2(get(w, i)))  # stays between -1 and -0.5


def floor(size: tuple[int, int, int, int]) -> Callable[[], None]:
    """Return a run of as many exp2 as a scan of this size takes, on torch's threads."""
    tasks = 64
    repeats = max(1, round(np.prod(size) / (tasks * FOUR_KB)))

    def run() -> None:
        run_on_threads(_exp2_loop, np.zeros(1, np.int64), tasks, repeats, tasks=tasks)

    return run


def tensors(size: tuple[int, int, int, int], layout: str = "bdl", grad: bool = False) -> dict[str, Tensor]:
    """Return a Mamba layer's scan inputs: A = -1 ... -N, softplus steps, gate, skip and bias."""
    batch, length, channels, state = size
    g = torch.Generator().manual_seed(0)
    sequence, rows = (batch, channels, length), (batch, state, length)
    t = {name: torch.randn(*sequence, generator=g) for name in ("u", "delta", "z")}
    t |= {name: torch.randn(*rows, generator=g) for name in ("B", "C")}
    if layout == "bld":
        t = {name: x.transpose(1, 2).contiguous() for name, x in t.items()}
    t |= {"A": -torch.arange(1.0, state + 1).repeat(channels, 1), "D": torch.ones(channels)}
    t["delta_bias"] = torch.zeros(channels)
    return {name: x.requires_grad_(grad) for name, x in t.items()}


def ours(layout: str) -> Callable[[dict[str, Tensor]], Tensor]:
    """Return our scan of such inputs."""
    return lambda t: selective_scan(**t, delta_softplus=True, layout=layout, engine="cpu")  # type: ignore


def training_step(scan: Callable[[dict[str, Tensor]], Tensor], t: dict[str, Tensor]) -> Callable[[], None]:
    """Return one forward and backward, gradients cleared first."""

    def run() -> None:
        for x in t.values():
            x.grad = None
        scan(t).square().sum().backward()

    return run


def measure(size: tuple[int, int, int, int], backward: bool, repeats: int) -> dict[str, float]:
    """Time everybody on one size, in turn; return medians in milliseconds."""
    reference, pscan, loop = mamba_ssm_reference(), mambapy_scan(), transformers_scan()
    given = {layout: tensors(size, layout, backward) for layout in ("bdl", "bld")}
    scans: dict[str, tuple[Callable[[dict[str, Tensor]], Tensor], str]] = {
        "ours (B, L, D)": (ours("bld"), "bld"),
        "ours (B, D, L)": (ours("bdl"), "bdl"),
        "mambapy": (pscan, "bdl"),
        "mamba-ssm ref": (lambda t: reference(**t, delta_softplus=True), "bdl"),
        "transformers": (lambda t: loop(t["u"], t["delta"], *(t[k] for k in TRANSFORMERS_TAKES), True), "bdl"),
    }
    if backward:
        del (
            scans["mamba-ssm ref"],
            scans["transformers"],
        )  # their backward pass takes time with the square of the length
    cases: dict[str, Callable[[], object]] = {}
    for name, (scan, layout) in scans.items():
        t = given[layout]
        cases[name] = training_step(scan, t) if backward else functools.partial(scan, t)
    outputs = {name: scan(given[layout]).detach() for name, (scan, layout) in scans.items()}
    outputs["ours (B, L, D)"] = outputs["ours (B, L, D)"].transpose(1, 2)
    for name, out in outputs.items():
        error = (out - outputs["ours (B, D, L)"]).norm() / out.norm()
        assert error < 1e-4, f"{name} computes something else: relative distance {error:g}"
    if not backward:
        cases["floor"] = floor(size)
        into = [torch.empty_like(given["bld"][k]) for k in ("u", "delta", "z")]
        cases["copy"] = lambda: [x.copy_(given["bld"][k]) for x, k in zip(into, ("u", "delta", "z"), strict=True)]
    timings = side_by_side(cases, repeats, warmup=1)
    return {name: timing.median * 1e3 for name, timing in timings.items()}


def peak_megabytes(size: tuple[int, int, int, int], who: str) -> float:
    """Return how far one training step raises a fresh process's peak of memory, in MB."""
    command = [sys.executable, __file__, "--step-alone", who, *map(str, size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def step_alone(who: str, size: tuple[int, int, int, int]) -> None:
    """Run one training step, after a small one that loads and compiles; print how far memory rose (Linux)."""
    scan, layout = (ours("bld"), "bld") if who == "ours" else (mambapy_scan(), "bdl")
    training_step(scan, tensors((1, 40, 64, size[3]), layout, grad=True))()
    t = tensors(size, layout, grad=True)
    grad_out = torch.ones_like(t["u"])
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew from what is held now
    before = _status("VmRSS")
    scan(t).backward(grad_out)
    print((_status("VmHWM") - before) / 1024)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def table(
    title: str, sizes: list[tuple[int, int, int, int]], backward: bool, repeats: int
) -> dict[str, dict[str, float]]:
    """Measure all sizes and print everybody's time over ours (channels last)."""
    found = {}
    print(f"\n{title}: ms of ours (B, L, D), then others over it")
    for size in sizes:
        ms = found[str(size)] = measure(size, backward, repeats)
        ours = ms["ours (B, L, D)"]
        ratios = ", ".join(f"{name} {value / ours:.2f}" for name, value in ms.items() if name != "ours (B, L, D)")
        print(f"  {size!s:<22}{ours:8.2f} ms   {ratios}", flush=True)
    return found


def main() -> None:
    """Measure, print tables, record on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fetch", action="store_true", help="download the peers first")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--sizes", nargs="+", metavar="B,L,D,N", help="instead of the standard ones")
    parser.add_argument("--record", action="store_true", help="write assets/recorded/selective_scan.json")
    parser.add_argument("--step-alone", nargs=5, metavar=("WHO", "B", "L", "D", "N"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step_alone:
        who, batch, length, channels, state = options.step_alone
        step_alone(who, (int(batch), int(length), int(channels), int(state)))
        return
    if options.fetch:
        fetch()
    chosen: list[Any] = [tuple(map(int, s.split(","))) for s in options.sizes or []]
    results: dict[str, Any] = {"threads": torch.get_num_threads()}
    results["forward"] = table("forward", chosen or SIZES, False, options.repeats)
    results["training"] = table("forward + backward", chosen or TRAINING, True, options.repeats)
    print("\nMB at the peak of a training step, beyond inputs, output and gradients")
    results["peak_MB"] = {}
    for size in chosen or [*TRAINING, (1, 4096, 768, 16)]:
        inputs = sum(x.nbytes for x in tensors(size).values()) / 2**20
        results_alone = inputs + tensors(size)["u"].nbytes / 2**20  # gradients are as large as inputs
        measured = ("ours",) if size[1] > 1024 else ("ours", "mambapy")  # mambapy's would be many GB
        peaks = {who: round(peak_megabytes(size, who) - results_alone, 1) for who in measured}
        results["peak_MB"][str(size)] = {**peaks, "inputs": round(inputs, 1)}
        print(f"  {size!s:<22} inputs {inputs:.1f}, " + ", ".join(f"{k} {v}" for k, v in peaks.items()), flush=True)
    if options.record:
        recorded.save("selective_scan", results)


if __name__ == "__main__":
    main()
