"""What a state, a bank and a window remember: the measured runs of lesson 03.

python experiments/recall.py --tune --workers 2 --record        learning rates first: recall_tuning.json
python experiments/recall.py --workers 2 --record
python experiments/recall.py --device cuda --workers 15 --record
python experiments/recall.py --only selective --mixers mamba1 lstm --seeds 0

selective   selective copying at length 256
induction   induction heads, trained at 64 tokens, asked at 64 to 1,024
pairs       associative recall, trained with 2 to 64 pairs in turn, asked with each; Mamba-2 also with smaller states
needle      the far needle, trained at distances 8 to 128 in turn, asked at 16 to 1,024

Every combination of part, mixer and seed is one run, one line in `--out`. Started again, it runs what is missing there.
All models of a part have about as many parameters. Every mixer is tried at the same learning rates, with a seed that is
not among the recorded ones; the runs take the best of them.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from mambaout_edu import recorded
from mambaout_edu.data.recall import RecallTask, recall_task
from mambaout_edu.memory.forgetting import MixedDials
from mambaout_edu.models.sequence_model import SequenceModel, sequence_model
from mambaout_edu.training.recall import recall_accuracy, train_recall

MIXERS: dict[str, tuple[str, dict[str, Any]]] = {
    "attention": ("attention", {}),
    "lstm": ("lstm", {}),
    "s4d": ("s4d", {}),
    "mamba1": ("mamba1", {}),
    "mamba2": ("mamba2", {}),
    "mamba2, N = 8": ("mamba2", {"d_state": 8}),
    "mamba2, N = 2": ("mamba2", {"d_state": 2}),
    "conv": ("conv", {}),
    "lstm, embedding 0.02": ("lstm", {"embed_std": 0.02}),
    "mamba1, embedding 0.02": ("mamba1", {"embed_std": 0.02}),
    "lstm, long": ("lstm", {}),
    "mamba1, long": ("mamba1", {}),
    "mamba1, embedding 0.02, long": ("mamba1", {"embed_std": 0.02}),
}
LONG = 3  # times the steps: is a mixer that fell short slow to learn, or unable?
# In these parts only: what a smaller state costs, at Mamba-2's own learning rate; and whether a state suffers from the
# embedding that attention needs, at the rate that was better for both on the tuning seed (of 1e-3 and 3e-3); and what
# longer training gives, at the same rates.
VARIANTS: dict[str, tuple[str, ...]] = {
    "mamba2, N = 8": ("pairs",),
    "mamba2, N = 2": ("pairs",),
    "lstm, embedding 0.02": ("selective", "needle"),
    "mamba1, embedding 0.02": ("selective", "needle"),
    "lstm, long": ("selective",),
    "mamba1, long": ("selective",),
    "mamba1, embedding 0.02, long": ("selective",),
}
SMALL_EMBEDDING_RATE = 3e-3
WIDTH = 64  # of the attention model, whose number of parameters the others match
RATES = (1e-3, 3e-3, 6e-3)
TUNING_SEED = 100

# task and its numbers; the dial of the training, or its values in turn; where the trained model is asked; steps and
# batch. A run ends early once 999 of 1,000 answers are right at the hardest of the training's values.
PARTS: dict[str, dict[str, Any]] = {
    "selective": {
        "task": "selective_copying", "numbers": {"items": 8, "symbols": 16}, "train": [240], "ask": [240],
        "steps": 3000, "batch_size": 64,
    },
    "induction": {
        "task": "induction_heads", "numbers": {"symbols": 16}, "train": [64], "ask": [64, 128, 256, 512, 1024],
        "steps": 2000, "batch_size": 64,
    },
    "pairs": {
        "task": "associative_recall", "numbers": {"symbols": 64}, "train": [2, 4, 8, 16, 32, 64],
        "ask": [2, 4, 8, 16, 32, 64], "steps": 3000, "batch_size": 128,
    },
    "needle": {
        "task": "needle", "numbers": {"symbols": 16}, "train": [8, 16, 32, 64, 128],
        "ask": [16, 32, 64, 128, 256, 512, 1024], "steps": 1500, "batch_size": 64,
    },
}  # fmt: skip

FRESH = 10_000  # added to the seed of the sequences that the trained model is asked

Job = dict[str, Any]
Rates = Callable[[str, str], list[float]]


@dataclass(frozen=True)
class RecallRun:
    """One training: `accuracies` by the dial's value at which the model was asked, `state` by its bytes there."""

    part: str
    mixer: str
    seed: int
    lr: float
    steps: int
    parameters: int
    dim: int
    accuracies: dict[str, float]
    state_bytes: dict[str, int]
    measured_at: list[int]
    while_training: list[float]
    seconds: float


def parameters_of(task: RecallTask) -> int:
    """Return how many parameters all models of a task shall have, nearly: as many as attention of width `WIDTH`."""
    return sum(p.numel() for p in sequence_model("attention", task.vocab_size, WIDTH, seed=0).parameters())


def train_one(part: str, mixer: str, seed: int, lr: float, steps: int, device: str = "cpu") -> RecallRun:
    """Train one model and ask it; the seed draws its first weights and all sequences."""
    settings = PARTS[part]
    dials = settings["train"]
    task = recall_task(settings["task"], **settings["numbers"]).with_dial(max(dials))
    name, sizes = MIXERS[mixer]
    model = sequence_model(name, task.vocab_size, parameters=parameters_of(task), seed=seed, **sizes).to(device)
    started = time.perf_counter()
    history = train_recall(
        model, MixedDials(task, dials) if len(dials) > 1 else task, steps, batch_size=settings["batch_size"], lr=lr,
        seed=seed, measure_every=max(1, steps // 20), measure_on=task, target=0.999, threads=1, progress=False,
    )  # fmt: skip
    if history.interrupted:
        raise KeyboardInterrupt(f"stopped after {len(history.losses)} steps")
    seconds = time.perf_counter() - started
    asked = {str(value): task.with_dial(value) for value in settings["ask"]}
    # Neither training nor its early end has seen these sequences.
    found = {value: recall_accuracy(model, one, 1024, 32, seed + FRESH) for value, one in asked.items()}
    return RecallRun(
        part, mixer, seed, lr, steps, sum(p.numel() for p in model.parameters()), model.dim,
        {value: round(accuracy, 5) for value, accuracy in found.items()},
        {value: state_bytes(model, one.length) for value, one in asked.items()},
        history.accuracy_steps, [round(accuracy, 4) for accuracy in history.accuracies], round(seconds, 1),
    )  # fmt: skip


def state_bytes(model: SequenceModel, length: int) -> int:
    """Return the bytes that a model keeps of one sequence after `length` tokens."""
    device = next(model.parameters()).device
    return model.bytes(model.prefill(torch.zeros(1, length, dtype=torch.int64, device=device))[1]).used


def plan(
    parts: list[str], mixers: list[str], seeds: list[int], rates: Rates, steps: int | None, share: int = 1
) -> list[Job]:
    """Return the arguments of every run, seed by seed, so that an interrupted plan is still balanced.

    `share` divides the steps: rates are chosen at half of them.
    """
    return [
        {"part": part, "mixer": mixer, "seed": seed, "lr": lr, "steps": steps or steps_of(part, mixer) // share}
        for seed, part, mixer in itertools.product(seeds, parts, mixers)
        if part in VARIANTS.get(mixer, PARTS)
        for lr in rates(part, mixer)
    ]


def steps_of(part: str, mixer: str) -> int:
    """Return how many steps a mixer is trained for, unless it is ready before."""
    steps: int = PARTS[part]["steps"]
    return LONG * steps if mixer.endswith(", long") else steps


def every_rate(part: str, mixer: str) -> list[float]:
    """Return the learning rates that every mixer is tried at."""
    return list(RATES)


def tuned(folder: Path | None) -> Rates:
    """Return the best rate of every part and mixer, from `recall_tuning.json`."""
    found = recorded.load("recall_tuning", **({"folder": folder} if folder else {}))["results"]["best"]

    def rate(part: str, mixer: str) -> list[float]:
        name, sizes = MIXERS[mixer]
        return [SMALL_EMBEDDING_RATE if "embed_std" in sizes else found[part][name]]

    return rate


def best_rates(runs: list[RecallRun]) -> dict[str, Any]:
    """Return each mixer's accuracy at each rate, the mean of where it is asked, and the best rate."""
    tried: dict[str, Any] = {}
    for run in runs:
        mean = round(statistics.mean(run.accuracies.values()), 4)
        tried.setdefault(run.part, {}).setdefault(run.mixer, {})[str(run.lr)] = mean
    best = {
        part: {mixer: float(max(rates, key=lambda lr: rates[lr])) for mixer, rates in mixers.items()}
        for part, mixers in tried.items()
    }
    return {"seed": TUNING_SEED, "rates": list(RATES), "accuracy": tried, "best": best}


def finished(path: Path) -> list[RecallRun]:
    """Return the runs in a file; a last line that was cut short is taken out of it."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        beside = path.with_suffix(".part")
        beside.write_text(whole, encoding="utf-8")
        beside.replace(path)
    return [RecallRun(**json.loads(line)) for line in whole.splitlines()]


def missing(jobs: list[Job], runs: list[RecallRun]) -> list[Job]:
    """Return the jobs that no run has done yet."""
    done = [{"part": r.part, "mixer": r.mixer, "seed": r.seed, "lr": r.lr, "steps": r.steps} for r in runs]
    return [job for job in jobs if job not in done]


def carry_out(jobs: list[Job], path: Path, workers: int, device: str) -> Iterator[RecallRun]:
    """Run jobs in processes of their own, and append each result as one line as it comes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        longest_first = sorted(jobs, key=lambda job: -job["steps"])
        futures = [pool.submit(train_one, device=device, **job) for job in longest_first]
        try:
            for future in tqdm(as_completed(futures), total=len(futures), mininterval=5):
                run = future.result()
                with path.open("ab") as lines:  # one write a line: an interruption can only cut the last one short
                    lines.write((json.dumps(asdict(run)) + "\n").encode())
                yield run
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def collect(runs: list[RecallRun]) -> dict[str, Any]:
    """Return the runs as one table: accuracies by part, mixer and where it was asked, one a seed."""
    table: dict[str, Any] = {}
    for run in sorted(runs, key=lambda r: (list(PARTS).index(r.part), list(MIXERS).index(r.mixer), r.seed)):
        part = table.setdefault(run.part, {"settings": dict(PARTS[run.part]), "runs": {}})
        cell = part["runs"].setdefault(
            run.mixer,
            {"parameters": run.parameters, "dim": run.dim, "lr": run.lr, "steps": run.steps,
             "state_bytes": run.state_bytes},
        )  # fmt: skip
        for key, value in (("seeds", run.seed), ("seconds", run.seconds), ("last_step", run.measured_at[-1])):
            cell.setdefault(key, []).append(value)
        cell.setdefault("while_training", []).append(dict(zip(run.measured_at, run.while_training, strict=True)))
        for value, accuracy in run.accuracies.items():
            cell.setdefault("asked", {}).setdefault(value, []).append(accuracy)
    for part in table.values():
        task = recall_task(part["settings"]["task"], **part["settings"]["numbers"])
        asked = {str(value): task.with_dial(value) for value in part["settings"]["ask"]}
        part["dial"] = task.dial
        part["chance"] = {value: one.chance for value, one in asked.items()}
        part["bag"] = {value: one.bag for value, one in asked.items()}
        part["length"] = {value: one.length for value, one in asked.items()}
    return {"parts": table}


def report(results: dict[str, Any]) -> str:
    """Return the table as text: mean, lowest and highest of the seeds, in percent."""
    lines = []
    for name, part in results["parts"].items():
        lines.append(f"{name}: {part['settings']['task']}, accuracy in percent, mean (lowest - highest) of the seeds")
        for mixer, cell in part["runs"].items():
            said = "  ".join(
                f"{value}: {100 * statistics.mean(a):.1f} ({100 * min(a):.1f} - {100 * max(a):.1f})"
                for value, a in cell["asked"].items()
            )
            lines.append(f"  {mixer:14} {cell['parameters']:>7,} parameters, rate {cell['lr']:g}  {said}")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, print the tables, record on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune", action="store_true", help="try the learning rates, with a seed of its own")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--mixers", nargs="+", choices=MIXERS, default=list(MIXERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, help="instead of what PARTS says")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each with one thread")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--out", type=Path, default=Path("build/recall.jsonl"), help="one line a run")
    parser.add_argument("--record", nargs="?", const="", help="write recall.json, to assets/recorded or a folder")
    parser.add_argument("--rates", type=Path, help="the folder of recall_tuning.json, if not assets/recorded")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before the workers start: they share the cores as processes
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` and `timeout` stop the workers too

    if options.tune:
        options.mixers = [mixer for mixer in options.mixers if mixer not in VARIANTS]
        options.seeds, rates = [TUNING_SEED], every_rate
    else:
        rates = tuned(options.rates)
    jobs = plan(options.only, options.mixers, options.seeds, rates, options.steps, 2 if options.tune else 1)
    runs = finished(options.out)
    try:
        runs += carry_out(missing(jobs, runs), options.out, options.workers, options.device)
    except KeyboardInterrupt:
        sys.exit(f"stopped; {options.out} keeps what was finished, and the same command goes on from there")
    runs = [run for run in runs if len(missing(jobs, [run])) < len(jobs)]  # those of this plan
    results = best_rates(runs) if options.tune else collect(runs) | {"not_run": missing(jobs, runs)}
    tqdm.write(json.dumps(results, indent=1) if options.tune else report(results))
    if options.record is not None:
        folder = {"folder": Path(options.record)} if options.record else {}
        recorded.save("recall_tuning" if options.tune else "recall", results, device=options.device, **folder)


if __name__ == "__main__":
    main()
