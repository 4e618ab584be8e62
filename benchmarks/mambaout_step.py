"""Forward and backward of MambaOut beside timm's model of the same name, with the same weights and images.

python benchmarks/mambaout_step.py                      the five published variants at batch 8, 224 x 224
python benchmarks/mambaout_step.py --models mambaout_tiny --where    and where the time goes
python benchmarks/mambaout_step.py --models mambaout_base --update --pad 8 16    whole training steps, and with
                                                        hidden widths padded to multiples of 8 and of 16
python benchmarks/mambaout_step.py --update --pad 8 16 --device cuda --batch 128 --bf16 --compile
"""

import argparse
from collections.abc import Callable
from typing import Any

import timm
import torch
import torch.nn.functional as F
from side_by_side import Timing, side_by_side
from torch import nn
from torch.profiler import ProfilerActivity, profile

from mambaout_edu import recorded
from mambaout_edu.blocks import GatedBlock
from mambaout_edu.models import create_model, load_official
from mambaout_edu.training.ingredients import create_optimizer
from mambaout_edu.training.recipe import recipe

PUBLISHED = ["mambaout_femto", "mambaout_kobe", "mambaout_tiny", "mambaout_small", "mambaout_base"]


def step(model: nn.Module, images: torch.Tensor, update: bool, bf16: bool, compiled: bool) -> Callable[[], None]:
    """Return one forward and backward, gradients cleared first; with `update`, and AdamW's after it."""
    optimizer = create_optimizer(model, recipe("imagenet_paper")) if update else None
    labels = torch.arange(len(images), device=images.device)
    run_model = torch.compile(model) if compiled else model
    device = images.device.type

    def run() -> None:
        model.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(run_model(images), labels)
        loss.backward()
        if optimizer is not None:
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def models(name: str, pads: list[int]) -> dict[str, nn.Module]:
    """Return timm's model, ours and ours with padded widths, all with timm's weights."""
    theirs = timm.create_model(name)
    found: dict[str, nn.Module] = {"timm": theirs}
    for case, pad in [("ours", None), *((f"ours, widths padded to {pad}", pad) for pad in pads)]:
        ours = create_model(name, pad_hidden=pad)
        if pad is None or any(block.padding for block in ours.modules() if isinstance(block, GatedBlock)):
            load_official(ours, theirs.state_dict())
            found[case] = ours
    return found


def summary(timings: dict[str, Timing]) -> dict[str, Any]:
    """Return the median of each of ours over timm's, and the quarter points of all over timm's median."""
    base = timings["timm"].median
    quarters = {case: [round(t.low / base, 3), round(t.high / base, 3)] for case, t in timings.items()}
    ratios = {case: round(t.median / base, 3) for case, t in timings.items() if case != "timm"}
    padded = {case: ratio for case, ratio in ratios.items() if case != "ours"}
    return {"ratio": ratios["ours"], **({"padded": padded} if padded else {}), **quarters}


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
    parser.add_argument("--update", action="store_true", help="whole training steps: also the optimiser's update")
    parser.add_argument("--pad", nargs="+", type=int, default=[], metavar="N", help="also with padded hidden widths")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="under bfloat16 autocast")
    parser.add_argument("--compile", action="store_true", help="compile all models")
    parser.add_argument("--where", action="store_true", help="also profile one step of each")
    parser.add_argument("--record", action="store_true", help="write assets/recorded/mambaout_step.json")
    options = parser.parse_args()

    torch.manual_seed(0)
    images = torch.randn(options.batch, 3, options.size, options.size, device=options.device)
    results: dict[str, dict[str, Any]] = {}
    print(f"{'training step' if options.update else 'forward + backward'}: ours / timm")
    for name in options.models:
        runs = {
            case: step(model.to(options.device), images, options.update, options.bf16, options.compile)
            for case, model in models(name, options.pad).items()
        }
        results[name] = summary(side_by_side(runs, options.repeats))
        for case in runs:
            low, high = results[name][case]
            ratio = {"timm": 1.0, "ours": results[name]["ratio"]}.get(case) or results[name]["padded"][case]
            print(f"{name:<16}{case:<28}{ratio:>7.3f}   quarter points {low:.2f}-{high:.2f}")
        if options.where:
            results[name]["where"] = {case: where(run) for case, run in runs.items()}
            for case, shares in results[name]["where"].items():
                print(f"  {case}: " + ", ".join(f"{op} {share:.0%}" for op, share in shares.items()))
    if options.record:
        how = {k: getattr(options, k) for k in ("batch", "size", "update", "device", "bf16", "compile")}
        recorded.save("mambaout_step", {**how, "models": results}, device=options.device)


if __name__ == "__main__":
    main()
