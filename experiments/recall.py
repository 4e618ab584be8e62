"""What a state, a bank and a window remember: the measured runs of lesson 03.

python experiments/recall.py --workers 2 --record
python experiments/recall.py --device cuda --workers 4 --record
python experiments/recall.py --only selective --mixers mamba1 lstm --seeds 0

selective   selective copying at length 256
induction   induction heads, trained at 64 tokens, asked at 64 to 1,024
pairs       associative recall, one training for every number of pairs
needle      the far needle, trained at distances 8 to 128 in turn, asked at 16 to 1,024

Every combination of part, dial, mixer and seed is one run, one line in `--out`. Started again, it runs what is missing
there. All models of a part have about as many parameters.
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
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from mambaout_edu import recorded
from mambaout_edu.data.recall import Drawn, RecallTask, recall_task
from mambaout_edu.models.sequence_model import sequence_model
from mambaout_edu.training.recall import recall_accuracy, train_recall

MIXERS = ("attention", "rnn", "lstm", "gru", "s4d", "mamba1", "mamba2", "conv")
WIDTH = 64  # of the attention model, whose number of parameters the others match

# task and its numbers; the dial's values, one training each ("none": one training for all); where the trained model is
# asked besides; steps, batch, learning rate
PARTS: dict[str, dict[str, Any]] = {
    "selective": {
        "task": "selective_copying", "numbers": {"items": 8, "symbols": 16}, "train": [240], "ask": [240],
        "steps": 6000, "batch_size": 32, "lr": 3e-3,
    },
    "induction": {
        "task": "induction_heads", "numbers": {"symbols": 16}, "train": [64], "ask": [64, 128, 256, 512, 1024],
        "steps": 6000, "batch_size": 32, "lr": 3e-3,
    },
    "pairs": {
        "task": "associative_recall", "numbers": {"symbols": 64}, "train": [4, 8, 16, 32, 64], "ask": [],
        "steps": 6000, "batch_size": 32, "lr": 3e-3,
    },
    "needle": {
        "task": "needle", "numbers": {"symbols": 16}, "train": [128], "ask": [16, 32, 64, 128, 256, 512, 1024],
        "steps": 4000, "batch_size": 32, "lr": 3e-3,
    },
}  # fmt: skip

Job = dict[str, Any]


@dataclass(frozen=True)
class RecallRun:
    """One training: `accuracies` by the dial's value at which the model was asked."""

    part: str
    dial: int
    mixer: str
    seed: int
    steps: int
    parameters: int
    dim: int
    accuracies: dict[str, float]
    measured_at: list[int]
    while_training: list[float]
    seconds: float


class AnyDistance:
    """A task whose dial is drawn anew for every batch, so that a model cannot learn one distance by heart."""

    def __init__(self, task: RecallTask, values: Sequence[int]) -> None:
        self.task, self.values = task, values

    def draw(self, batch: int, generator: torch.Generator) -> Drawn:
        """Return a batch at one of the dial's values."""
        value = self.values[int(torch.randint(len(self.values), (), generator=generator))]
        return self.task.with_dial(value).draw(batch, generator)


def parameters_of(task: RecallTask) -> int:
    """Return how many parameters all models of a task shall have, nearly: as many as attention of width `WIDTH`."""
    return sum(p.numel() for p in sequence_model("attention", task.vocab_size, WIDTH, seed=0).parameters())


def train_one(part: str, dial: int, mixer: str, seed: int, steps: int, device: str = "cpu") -> RecallRun:
    """Train one model and ask it; the seed draws its first weights and all sequences."""
    settings = PARTS[part]
    task = recall_task(settings["task"], **settings["numbers"]).with_dial(dial)
    model = sequence_model(mixer, task.vocab_size, parameters=parameters_of(task), seed=seed).to(device)
    drawn = AnyDistance(task, [dial >> k for k in range(5)]) if part == "needle" else task
    started = time.perf_counter()
    history = train_recall(
        model, drawn, steps, batch_size=settings["batch_size"], lr=settings["lr"], seed=seed,
        measure_every=max(1, steps // 20), target=0.999, threads=1, progress=False,
    )  # fmt: skip
    if history.interrupted:
        raise KeyboardInterrupt(f"stopped after {len(history.losses)} steps")
    seconds = time.perf_counter() - started
    asked = settings["ask"] or [dial]
    # As many answers everywhere: one a sequence, or several.
    found = {str(value): recall_accuracy(model, task.with_dial(value), 1024, 32, seed) for value in asked}
    return RecallRun(
        part, dial, mixer, seed, steps, sum(p.numel() for p in model.parameters()), model.dim,
        {value: round(accuracy, 5) for value, accuracy in found.items()},
        history.accuracy_steps, [round(accuracy, 4) for accuracy in history.accuracies], round(seconds, 1),
    )  # fmt: skip


def plan(parts: list[str], mixers: list[str], seeds: list[int], steps: int | None) -> list[Job]:
    """Return the arguments of every run, seed by seed, so that an interrupted plan is still balanced."""
    return [
        {"part": part, "dial": dial, "mixer": mixer, "seed": seed, "steps": steps or PARTS[part]["steps"]}
        for seed, part in itertools.product(seeds, parts)
        for dial, mixer in itertools.product(PARTS[part]["train"], mixers)
    ]


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
    done = {(r.part, r.dial, r.mixer, r.seed, r.steps) for r in runs}
    return [j for j in jobs if (j["part"], j["dial"], j["mixer"], j["seed"], j["steps"]) not in done]


def carry_out(jobs: list[Job], path: Path, workers: int, device: str) -> Iterator[RecallRun]:
    """Run jobs in processes of their own, and append each result as one line as it comes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(train_one, device=device, **job) for job in jobs]
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
    """Return the runs as one table: accuracies by part, dial, mixer and where it was asked, one a seed."""
    table: dict[str, Any] = {}
    for run in sorted(runs, key=lambda r: (list(PARTS).index(r.part), r.dial, MIXERS.index(r.mixer), r.seed)):
        part = table.setdefault(run.part, {"settings": {**PARTS[run.part], "steps": run.steps}, "runs": {}})
        mixers = part["runs"].setdefault(str(run.dial), {})
        cell = mixers.setdefault(run.mixer, {"parameters": run.parameters, "dim": run.dim, "seeds": [], "asked": {}})
        cell["seeds"].append(run.seed)
        cell.setdefault("seconds", []).append(run.seconds)
        cell.setdefault("while_training", []).append(dict(zip(run.measured_at, run.while_training, strict=True)))
        for value, accuracy in run.accuracies.items():
            cell["asked"].setdefault(value, []).append(accuracy)
    for name, part in table.items():
        task = recall_task(part["settings"]["task"], **part["settings"]["numbers"])
        values = {int(v) for cells in part["runs"].values() for cell in cells.values() for v in cell["asked"]}
        part["dial"] = task.dial
        part["chance"] = {str(v): task.with_dial(v).chance for v in sorted(values)}
        part["bag"] = {str(v): task.with_dial(v).bag for v in sorted(values)}
        part["name"] = name
    return {"parts": table}


def report(results: dict[str, Any]) -> str:
    """Return the table as text: mean, lowest and highest of the seeds, in percent."""
    lines = []
    for name, part in results["parts"].items():
        lines.append(f"{name}: {part['settings']['task']}, accuracy in percent, mean (lowest - highest) of the seeds")
        for dial, cells in part["runs"].items():
            for mixer, cell in cells.items():
                said = "  ".join(
                    f"{value}: {100 * statistics.mean(a):.1f} ({100 * min(a):.1f} - {100 * max(a):.1f})"
                    for value, a in cell["asked"].items()
                )
                lines.append(f"  trained at {dial:>4}  {mixer:10} {cell['parameters']:>7,} parameters  {said}")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, print the tables, record on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--mixers", nargs="+", choices=MIXERS, default=list(MIXERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, help="instead of what PARTS says")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each with one thread")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--out", type=Path, default=Path("build/recall.jsonl"), help="one line a run")
    parser.add_argument("--record", nargs="?", const="", help="write recall.json, to assets/recorded or a folder")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before the workers start: they share the cores as processes

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` and `timeout` stop the workers too

    jobs = plan(options.only, options.mixers, options.seeds, options.steps)
    runs = finished(options.out)
    try:
        runs += carry_out(missing(jobs, runs), options.out, options.workers, options.device)
    except KeyboardInterrupt:
        sys.exit(f"stopped; {options.out} keeps what was finished, and the same command goes on from there")
    runs = [run for run in runs if missing(jobs, [run]) != jobs]  # those of this plan
    results = collect(runs)
    tqdm.write(report(results))
    if options.record is not None:
        folder = {"folder": Path(options.record)} if options.record else {}
        chosen = f"--only {' '.join(options.only)} --mixers {' '.join(options.mixers)}"
        seeds = " ".join(map(str, options.seeds))
        steps = f" --steps {options.steps}" if options.steps else ""
        command = f"python experiments/recall.py {chosen} --seeds {seeds}{steps} --device {options.device} --record"
        recorded.save("recall", results, command=command, device=options.device, **folder)


if __name__ == "__main__":
    main()
