"""Held-out accuracy on the digits: MambaOut, a plain CNN of equal size and a linear classifier, over several seeds.

python benchmarks/digits.py --seeds 0 1 2 --record

A seed draws the split, the first weights and the order of training alike.
"""

import argparse
import time

import torch
from torch import nn

from mambaout_edu import recorded
from mambaout_edu.data import digits
from mambaout_edu.models import create_model, plain_cnn_of_size
from mambaout_edu.training import DIGITS, evaluate, fit, linear_classifier


def networks(seed: int) -> dict[str, nn.Module]:
    """Return the two networks with the first weights that the seed draws."""
    torch.manual_seed(seed)
    mambaout = create_model("mambaout_pico_8", num_classes=10)
    torch.manual_seed(seed)
    size = sum(p.numel() for p in mambaout.parameters())
    return {"MambaOut": mambaout, "plain CNN": plain_cnn_of_size(size, in_chans=1, num_classes=10)}


def main() -> None:
    """Train, print a table, record on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--record", action="store_true", help="write assets/recorded/digits.json")
    options = parser.parse_args()

    correct: dict[str, list[int]] = {}
    seconds: dict[str, list[float]] = {}
    total = 0
    for seed in options.seeds:
        train, test = digits(seed=seed)
        results = {"linear": linear_classifier(train, test)}
        for name, model in networks(seed).items():
            begin = time.process_time()
            fit(model, train, **DIGITS, seed=seed)
            seconds.setdefault(name, []).append(time.process_time() - begin)
            results[name] = evaluate(model, test)
        total = len(test)
        for name, result in results.items():
            correct.setdefault(name, []).append(result.correct)
        print(f"seed {seed}: " + ", ".join(f"{name} {100 * r.accuracy:.1f} %" for name, r in results.items()))
    base = sum(seconds["MambaOut"])
    ratios = {name: round(sum(times) / base, 2) for name, times in seconds.items()}
    print(f"processor time of training over MambaOut's: {ratios}")
    if options.record:
        results_of_all = {"total": total, "correct": correct, "seeds": options.seeds, "time_ratio": ratios}
        recorded.save("digits", results_of_all)


if __name__ == "__main__":
    main()
