"""The GPU engine of the selective scan beside mamba-ssm's CUDA kernel, in one process on one card.

python benchmarks/selective_scan.py --fetch        once, with a network: mamba-ssm's source into benchmarks/.peers
python benchmarks/gpu_selective_scan.py            everything: the first run compiles the CUDA kernel (minutes)
python benchmarks/gpu_selective_scan.py --only speed --states 16
python benchmarks/gpu_selective_scan.py --record   measure all and write assets/recorded/gpu_selective_scan.json

errors    distances from float64, ours and theirs, outputs and all gradients
speed     medians of CUDA events, everybody in turn; ours channels last, theirs time last, each its own layout
roofline  bytes and exponentials of the forward pass over what this card copies and computes
memory    the peak of a training step, inputs and gradients included
compile   the first forward and backward call of a process, with an empty and with a filled Triton cache

Theirs is called as its autograd function calls it. Ours is the engine's own forward and backward, all passes,
allocations and final sums included; "training" keeps what its backward pass needs, "forward" keeps nothing.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from tqdm import tqdm

from mambaout_edu import recorded
from mambaout_edu.scan import gpu, selective_scan

PEERS = Path(__file__).resolve().parent / ".peers"
VERSION = "2.3.2.post1"
SIZES = [
    (8, 2048, 2048),
    (8, 4096, 1536),
    (128, 196, 384),
    (64, 196, 768),
    (32, 3136, 192),
    (1, 8192, 2048),
]
STATES = [1, 8, 16, 64]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PARTS = ["errors", "speed", "roofline", "memory", "compile"]
SEQUENCES, WEIGHTS, VECTORS = ("u", "delta", "z"), ("B", "C"), ("A", "D", "delta_bias")
Size = tuple[int, int, int, int]


def cuda_kernel() -> Any:
    """Return mamba-ssm's extension, compiled for this card alone where it is not there yet."""
    name = "selective_scan_cuda"
    major, minor = torch.cuda.get_device_capability()
    folder = PEERS / f"{name}-torch{torch.__version__.partition('+')[0]}-sm_{major}{minor}"
    library = folder / f"{name}.so"
    if not library.exists():
        _compile(name, folder, f"{major}{minor}")
    spec = importlib.util.spec_from_file_location(name, library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def peer_source() -> Path:
    """Return the folder of mamba-ssm's source, unpacked where it is not yet."""
    archive = next(PEERS.glob(f"mamba_ssm-{VERSION}*.tar.gz"), None)
    if archive is None:
        sys.exit(
            f"{PEERS} has no source of mamba-ssm; run benchmarks/selective_scan.py --fetch where there is a network"
        )
    folder = PEERS / archive.name.removesuffix(".tar.gz")
    if not folder.exists():
        with tarfile.open(archive) as files:
            files.extractall(PEERS, filter="data")
    return folder


def _compile(name: str, folder: Path, capability: str) -> None:
    """Compile the source package's ten files, in parallel, with its own options but for one kind of card."""
    from torch.utils import cpp_extension

    source = peer_source() / "csrc" / name.removesuffix("_cuda")
    folder.mkdir(parents=True, exist_ok=True)
    undone = [f"-U__CUDA_NO_{kind}_{what}__" for kind in ("HALF", "BFLOAT16") for what in ("OPERATORS", "CONVERSIONS")]
    options = ["--expt-relaxed-constexpr", "--expt-extended-lambda", "--use_fast_math"]
    target = ["-gencode", f"arch=compute_{capability},code=sm_{capability}"]
    cpp_extension.load(
        name,
        [str(path) for path in sorted(source.iterdir()) if path.suffix in (".cpp", ".cu")],
        extra_cflags=["-O3", "-std=c++17"],
        extra_cuda_cflags=["-O3", "-std=c++17", *undone, *options, *target],
        extra_include_paths=[str(source)],
        build_directory=str(folder),
        verbose=False,
    )


def tensors(size: Size, dtype: torch.dtype, batch: int | None = None) -> dict[str, Tensor]:
    """Return a Mamba layer's scan inputs, time last as mamba-ssm wants them: A = -1 ... -N, steps through softplus."""
    entries, length, channels, state = size
    entries = batch or entries
    g = torch.Generator("cuda").manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, device="cuda").to(dtype)

    t = {name: normal(entries, channels, length) for name in SEQUENCES}
    t["delta"] = t["delta"] - 2  # steps around 0.15
    t |= {name: normal(entries, 1, state, length) for name in WEIGHTS}
    t["A"] = -torch.arange(1.0, state + 1, device="cuda").repeat(channels, 1)
    t |= {"D": torch.ones(channels, device="cuda"), "delta_bias": torch.zeros(channels, device="cuda")}
    return t


def channels_last(t: Mapping[str, Tensor], copy: bool = True) -> dict[str, Tensor]:
    """Return the same as [B, L, D] and [B, L, G, N]: dense, or as views of what is time last."""
    turned = {name: t[name].transpose(1, 2) for name in SEQUENCES}
    turned |= {name: t[name].permute(0, 3, 1, 2) for name in WEIGHTS}
    turned = {name: x.contiguous() if copy else x for name, x in turned.items()}
    return {**turned, **{name: t[name] for name in VECTORS}}


class Theirs:
    """mamba-ssm's kernel, as its autograd function calls it."""

    def __init__(self, kernel: Any, t: Mapping[str, Tensor]) -> None:
        self.kernel, self.given = kernel, [t[k] for k in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")]

    def forward(self) -> list[Tensor]:
        """Return out before the gate, states at chunks' ends, out."""
        return self.kernel.fwd(*self.given, True)

    def backward(self, dout: Tensor, out: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Return the gradients."""
        du, ddelta, dA, dB, dC, dD, dbias, dz = self.kernel.bwd(*self.given, dout, x, out, None, True, False)
        return {"u": du, "delta": ddelta, "A": dA, "B": dB, "C": dC, "D": dD, "delta_bias": dbias, "z": dz}


class Ours:
    """The engine "gpu", without torch's operator around it."""

    def __init__(self, t: Mapping[str, Tensor]) -> None:
        self.given = [t[k] for k in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")] + [None]

    def forward(self, save: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return out, the last state, and what the backward pass needs if it is to be kept."""
        return gpu.forward(*self.given, delta_softplus=True, save=save)  # type: ignore[arg-type]

    def backward(self, dout: Tensor, saved: Tensor) -> dict[str, Tensor | None]:
        """Return the gradients."""
        grads = gpu.backward(dout, None, saved, *self.given, delta_softplus=True)  # type: ignore[arg-type]
        return dict(zip(("u", "delta", "A", "B", "C", "D", "z", "delta_bias"), grads, strict=False))


def in_turn(cases: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return each case's median in microseconds, by CUDA events; all run in turn, so that noise meets all alike.

    Before each, the card fills 4 GiB: that empties its cache, and takes longer than the call does on the host, so
    that the card's own time is measured.
    """
    filler = torch.empty(2**31, dtype=torch.uint8, device="cuda")
    for run in cases.values():
        for _ in range(3):
            run()
    names = list(cases)
    marks: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {name: [] for name in names}
    for turn in range(repeats):
        for name in names[:: -1 if turn % 2 else 1]:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            filler.zero_()
            filler.zero_()
            start.record()
            cases[name]()
            end.record()
            marks[name].append((start, end))
    torch.cuda.synchronize()
    return {name: 1e3 * statistics.median(a.elapsed_time(b) for a, b in pairs) for name, pairs in marks.items()}


def host(run: Callable[[], object], repeats: int = 50) -> float:
    """Return the microseconds that the host takes to ask for a call, which the card may still be busy with."""
    run()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        torch.cuda.synchronize()
    return 1e6 * statistics.median(times)


def speed(kernel: Any, size: Size, dtype: torch.dtype, repeats: int) -> dict[str, float]:
    """Time everybody forward and backward; return microseconds."""
    t = tensors(size, dtype)
    last, views = channels_last(t), channels_last(t, copy=False)
    theirs, ours, ours_bdl = Theirs(kernel, t), Ours(last), Ours(views)
    dout = torch.randn_like(t["u"])
    dout_last = dout.transpose(1, 2).contiguous()
    out, x, _ = theirs.forward()
    saved = ours.forward(save=True)[2]
    with gpu.checkpoints(64):
        sparse = ours.forward(save=True)[2]
    cases = {
        "theirs forward": theirs.forward,
        "ours forward": lambda: ours.forward(save=False),
        "ours forward, training": lambda: ours.forward(save=True),
        "ours forward, time last": lambda: ours_bdl.forward(save=False),
        "theirs backward": lambda: theirs.backward(dout, out, x),
        "ours backward": lambda: ours.backward(dout_last, saved),
        "ours backward, checkpoints(64)": lambda: ours.backward(dout_last, sparse),
        "ours backward, time last": lambda: ours_bdl.backward(dout.transpose(1, 2), saved),
    }
    found = in_turn(cases, repeats)
    for name in ("theirs forward", "ours forward", "theirs backward", "ours backward"):
        found[f"{name}, host"] = host(cases[name])
    return {name: round(us, 1) for name, us in found.items()}


def errors(kernel: Any, size: Size, dtype: torch.dtype) -> dict[str, dict[str, float]]:
    """Return the relative distance of outputs and gradients from float64, of ours and of theirs, for one entry."""
    t = tensors(size, dtype, batch=1)
    last = channels_last(t)
    dout = torch.randn_like(t["u"])
    wide = {k: x.double().requires_grad_() for k, x in last.items()}
    truth = selective_scan(**wide, delta_softplus=True, layout="bld", engine="torch")  # type: ignore[arg-type]
    assert isinstance(truth, Tensor)
    expected = dict(
        zip(wide, torch.autograd.grad(truth, list(wide.values()), dout.transpose(1, 2).double()), strict=True)
    )
    expected["out"] = truth.detach()
    ours, theirs = Ours(last), Theirs(kernel, t)
    y, _, saved = ours.forward(save=True)
    out, x, gated = theirs.forward()
    found: dict[str, dict[str, Any]] = {"ours": {**ours.backward(dout.transpose(1, 2).contiguous(), saved), "out": y}}
    found["theirs"] = channels_last({**theirs.backward(dout, out, x)}) | {"out": gated.transpose(1, 2)}
    return {who: {k: _distance(got[k], expected[k]) for k in expected} for who, got in found.items()}


def _distance(got: Tensor | None, expected: Tensor) -> float:
    assert got is not None
    return float(f"{((got.double() - expected).norm() / expected.norm()).item():.2e}")


class _Step(torch.autograd.Function):
    """mamba-ssm's autograd function: what it keeps is what counts for memory."""

    @staticmethod
    def forward(ctx: Any, kernel: Any, *given: Tensor) -> Tensor:
        out, x, gated = kernel.fwd(*given, True)
        ctx.kernel = kernel
        ctx.save_for_backward(*given, x, out)
        return gated

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        *given, x, out = ctx.saved_tensors
        du, ddelta, dA, dB, dC, dD, dbias, dz = ctx.kernel.bwd(*given, dout, x, out, None, True, False)
        return None, du, ddelta, dA, dB, dC, dD, dz, dbias


def memory(kernel: Any, size: Size, dtype: torch.dtype) -> dict[str, float]:
    """Return the peak of a training step in MiB: inputs, output, what is kept, gradients, and room to work."""
    order = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")

    def theirs(t: dict[str, Tensor]) -> Tensor:
        return _Step.apply(kernel, *(t[k] for k in order))

    def ours(t: dict[str, Tensor]) -> Tensor:
        return selective_scan(**t, delta_softplus=True, layout="bld", engine="gpu")  # type: ignore[return-value, arg-type]

    found = {}
    for name, scan, every in (("theirs", theirs, None), ("ours", ours, None), ("ours, checkpoints(64)", ours, 64)):
        for _ in range(2):  # the first compiles
            t = tensors(size, dtype)
            t = {k: x.requires_grad_() for k, x in (t if scan is theirs else channels_last(t)).items()}
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            with gpu.checkpoints(every or gpu.checkpoint_every()):
                out = scan(t)
            out.backward(torch.ones_like(out))
            torch.cuda.synchronize()
            found[name] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
            del t, out
    return found


@triton.jit
def _exponentials(x, repeats, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(x + i)
    for _ in range(repeats):
        for _unrolled in tl.static_range(16):
            a = tl.exp2(-a)
    tl.store(x + i, a)


def rates() -> dict[str, float]:
    """Return what this card copies (bytes read and written) and how many exponentials it computes, each a second."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    few = torch.rand(2**20, device="cuda")
    cases = {"copy": lambda: target.copy_(source), "exp2": lambda: _exponentials[(4096,)](few, 100, BLOCK=256)}
    us = in_turn(cases, 15)
    return {
        "bytes_per_s": 2 * source.numel() / us["copy"] * 1e6,
        "exponentials_per_s": few.numel() * 1600 / us["exp2"] * 1e6,
    }


def roofline(size: Size, dtype: torch.dtype, rate: Mapping[str, float]) -> dict[str, float]:
    """Return the least time in microseconds that a forward pass of this size could take, and what it must move.

    u, delta and z are read and out is written once, B and C too; every state element takes one exponential, and
    every position three special functions each for softplus and gate: two exponentials, and reciprocals.
    """
    batch, length, channels, state = size
    positions, width = batch * length * channels, torch.empty((), dtype=dtype).element_size()
    moved = 4 * positions * width + 2 * batch * length * state * width
    special = positions * (state + 4)
    parts = {"bytes": moved / rate["bytes_per_s"] * 1e6, "exponentials": special / rate["exponentials_per_s"] * 1e6}
    return {"floor": round(max(parts.values()), 1), **{f"{k} us": round(us, 1) for k, us in parts.items()}}


def compile_seconds() -> dict[str, float]:
    """Return the time of the first forward and backward call of a process: nothing cached, then cached."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TRITON_CACHE_DIR": cache}
        command = [sys.executable, __file__, "--first-call"]
        times = [
            float(
                subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()[-1]
            )
            for _ in range(2)
        ]
    return {"first process": round(times[0], 2), "later process": round(times[1], 2)}


def first_call() -> None:
    """Print the seconds that the first forward and backward call takes in this process, torch being warm."""
    t = {k: x.requires_grad_() for k, x in channels_last(tensors((1, 8192, 2048, 16), torch.float32)).items()}
    (t["u"] @ t["u"].transpose(1, 2)).sum().item()
    start = time.perf_counter()
    out = selective_scan(**t, delta_softplus=True, layout="bld", engine="gpu")  # type: ignore[arg-type]
    out.sum().backward()  # type: ignore[union-attr]
    torch.cuda.synchronize()
    print(time.perf_counter() - start)


def measure(part: str, kernel: Any, size: Size, dtype: torch.dtype, rate: Mapping[str, float], repeats: int) -> Any:
    """Return what a part finds for one case."""
    if part == "speed":
        return speed(kernel, size, dtype, repeats)
    if part == "roofline":
        return roofline(size, dtype, rate)
    return errors(kernel, size, dtype) if part == "errors" else memory(kernel, size, dtype)


def line(row: Mapping[str, Any]) -> str:
    """Return a case as one line of the table."""
    cells = [f"{row['size']!s:<18} N {row['state']:<3} {row['dtype']:<9}"]
    if us := row.get("speed"):
        for way in ("forward", "backward"):
            theirs, ours = us[f"theirs {way}"], us[f"ours {way}"]
            cells.append(
                f"{way} {theirs:7.0f} us, {theirs / ours:4.2f}x (bdl {theirs / us[f'ours {way}, time last']:4.2f})"
            )
        cells.append(f"keeping {us['theirs forward'] / us['ours forward, training']:4.2f}x")
        cells.append("host " + "/".join(f"{value:.0f}" for name, value in us.items() if name.endswith("host")))
    if floor := row.get("roofline"):
        fraction = f", reached {floor['floor'] / us['ours forward']:.0%}" if us else ""
        cells.append(f"floor {floor['floor']:.0f} us{fraction}")
    if mib := row.get("memory"):
        ratios = (f"{name} {value / mib['theirs']:.2f}" for name, value in mib.items() if name != "theirs")
        cells.append(f"peak {mib['theirs']:.0f} MiB, " + ", ".join(ratios))
    if found := row.get("errors"):
        cells += [
            f"{who} out {e['out']:.1e} gradients {max(v for k, v in e.items() if k != 'out'):.1e}"
            for who, e in found.items()
        ]
    return "  ".join(cells)


def main() -> None:
    """Measure, print a line for each case, record on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--states", nargs="+", type=int, default=STATES)
    parser.add_argument("--sizes", nargs="+", metavar="B,L,D", help="instead of the standard ones")
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--record", action="store_true", help="write assets/recorded/gpu_selective_scan.json")
    parser.add_argument("--first-call", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this measures a GPU, and torch sees none here")
    if options.first_call:
        first_call()
        return
    kernel, rate = cuda_kernel(), rates()
    print(
        f"{recorded.device_name('cuda')}, torch {torch.__version__}, Triton {triton.__version__}, mamba-ssm {VERSION}"
    )
    print(f"copies {rate['bytes_per_s'] / 1e12:.2f} TB/s, computes {rate['exponentials_per_s'] / 1e12:.2f} T exp2/s")
    results: dict[str, Any] = {"triton": triton.__version__, "mamba_ssm": VERSION, "rates": rate, "cases": []}
    sizes = [tuple(map(int, s.split(","))) for s in options.sizes] if options.sizes else SIZES
    cases = [(*size, state, dtype) for state in options.states for size in sizes for dtype in options.dtypes]
    parts = [part for part in options.only if part != "compile"]
    for *size, state, dtype in tqdm(cases if parts else [], disable=None):
        row: dict[str, Any] = {"size": size, "state": state, "dtype": dtype}
        for part in parts:
            row[part] = measure(part, kernel, (*size, state), DTYPES[dtype], rate, options.repeats)
            torch.cuda.empty_cache()
        results["cases"].append(row)
        tqdm.write(line(row))
    if "compile" in options.only:
        results["compile_s"] = compile_seconds()
        print("first call: " + json.dumps(results["compile_s"]) + " seconds")
    if options.record:
        print(recorded.save("gpu_selective_scan", results, device="cuda"))


if __name__ == "__main__":
    main()
