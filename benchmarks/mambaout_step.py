"""Forward and backward of MambaOut beside timm's model of the same name, with the same weights and images.

python benchmarks/mambaout_step.py                      the five published variants at batch 8, 224 x 224
python benchmarks/mambaout_step.py --models mambaout_tiny --where    and where the time goes
"""

import argparse
from collections.abc import Callable
from typing import Any

import timm
import torch
from side_by_side import side_by_side
from torch import nn
from torch.profiler import ProfilerActivity, profile

from mambaout_edu import recorded
from mambaout_edu.models import create_model, load_official

PUBLISHED = ["mambaout_femto", "mambaout_kobe", "mambaout_tiny", "mambaout_small", "mambaout_base"]


def step(model: nn.Module, images: torch.Tensor) -> Callable[[], None]:
    """Return one forward and backward, gradients cleared first."""

    def run() -> None:
        model.zero_grad(set_to_none=True)
        model(images).square().mean().backward()

    return run


def where(run: Callable[[], None], rows: int = 8) -> dict[str, float]:
    """Return the operations that take most of a step, each with its share of the step's time."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        run()
    events = sorted(seen.key_averages(), key=lambda e: e.self_cpu_time_total, reverse=True)
    total = sum(e.self_cpu_time_total for e in events)
    return {e.key: round(e.self_cpu_time_total / total, 3) for e in events[:rows]}


def main() -> None:
    """Measure, print a table, record on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=PUBLISHED, metavar="NAME")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--where", action="store_true", help="also profile one step of each")
    parser.add_argument("--record", action="store_true", help="write assets/recorded/mambaout_step.json")
    options = parser.parse_args()

    torch.manual_seed(0)
    images = torch.randn(options.batch, 3, options.size, options.size)
    results: dict[str, dict[str, Any]] = {}
    print(f"{'forward + backward':<24}{'ours / timm':>12}   quarter points of each, over the median of timm")
    for name in options.models:
        theirs, ours = timm.create_model(name), create_model(name)
        load_official(ours, theirs.state_dict())
        runs = {"timm": step(theirs, images), "ours": step(ours, images)}
        t = side_by_side(runs, options.repeats)
        base = t["timm"].median
        results[name] = {
            "ratio": round(t["ours"].median / base, 3),
            **{case: [round(t[case].low / base, 3), round(t[case].high / base, 3)] for case in runs},
        }
        r = results[name]
        print(f"{name:<24}{r['ratio']:>12.3f}   ours {r['ours'][0]:.2f}-{r['ours'][1]:.2f}, ", end="")
        print(f"timm {r['timm'][0]:.2f}-{r['timm'][1]:.2f}")
        if options.where:
            results[name]["where"] = {case: where(run) for case, run in runs.items()}
            for case, shares in results[name]["where"].items():
                print(f"  {case}: " + ", ".join(f"{op} {share:.0%}" for op, share in shares.items()))
    if options.record:
        recorded.save("mambaout_step", {"batch": options.batch, "size": options.size, "models": results})


if __name__ == "__main__":
    main()
