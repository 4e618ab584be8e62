"""Time and memory of one token as the position grows: the bank of attention beside states of fixed size.

python benchmarks/decoding.py                    positions 64 to 65,536 on the CPU, one thread
python benchmarks/decoding.py --device cuda      on the GPU
python benchmarks/decoding.py --record           and write assets/recorded/decoding.json (or decoding_gpu.json)

Attention's times stand beside a straight line in the position, a + b position: what the closed form says, for the bytes
it moves grow so.
"""

import argparse
from typing import Any

import torch

from mambaout_edu import recorded
from mambaout_edu.memory import accounting, build, linear_fit, measure

POSITIONS = [64, 256, 1024, 4096, 16384, 65536]
MIXERS: dict[str, tuple[str, dict[str, Any]]] = {
    "attention": ("attention", {"head_dim": 64}),
    "grouped": ("attention", {"head_dim": 64, "num_kv_heads": 1}),
    "window": ("window", {"head_dim": 64, "window": 256}),
    "lstm": ("lstm", {}),
    "s4d": ("s4d", {}),
    "mamba1": ("mamba1", {}),
    "mamba2": ("mamba2", {}),
    "conv": ("conv", {}),
}


def measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one mixer at all positions; return medians with quarter points, bytes, and what the closed form says."""
    mixer, sizes = MIXERS[name]
    torch.manual_seed(0)
    module = build(mixer, options.dim, options.dtype, options.device, **sizes)
    rows = measure(module, options.positions, batch=options.batch, repeats=options.repeats)
    counted = [
        accounting(mixer, options.dim, p, batch=options.batch, dtype=options.dtype, **sizes) for p in options.positions
    ]
    found = {
        "us": [round(1e6 * r.seconds, 2) for r in rows],
        "us_low": [round(1e6 * r.low, 2) for r in rows],
        "us_high": [round(1e6 * r.high, 2) for r in rows],
        "peak_bytes": [r.peak for r in rows],
        "used_bytes": [a.used for a in counted],
        "moved_bytes": [a.moved for a in counted],
        "multiply_adds": [a.multiply_adds for a in counted],
        "last / first": round(rows[-1].seconds / rows[0].seconds, 3),
    }
    if len(rows) >= 3:
        a, b, share = linear_fit([r.position for r in rows], [r.seconds for r in rows])
        found["fit"] = {"us_at_0": round(1e6 * a, 3), "ns_a_token": round(1e9 * b, 4), "r2": round(share, 4)}
    return found


def main() -> None:
    """Measure, print a table, record on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixers", nargs="+", choices=MIXERS, default=list(MIXERS))
    parser.add_argument("--positions", type=int, nargs="+", default=POSITIONS)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--record", action="store_true", help="write assets/recorded/decoding.json")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a step is too short to share
    results: dict[str, Any] = {
        key: getattr(options, key) for key in ("positions", "dim", "batch", "dtype", "repeats")
    } | {"threads": torch.get_num_threads(), "mixers": {}}
    print("microseconds a token after " + ", ".join(f"{p:,}" for p in options.positions) + " tokens; last / first")
    for name in options.mixers:
        found = results["mixers"][name] = measured(name, options)
        times = "".join(f"{us:10.1f}" for us in found["us"])
        print(f"{name:10}{times}   {found['last / first']:.2f}", flush=True)
    if options.record:
        recorded.save("decoding" if options.device == "cpu" else "decoding_gpu", results, device=options.device)


if __name__ == "__main__":
    main()
