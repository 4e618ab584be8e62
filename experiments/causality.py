"""What does a causal mixer cost a small image classifier? The measured run of lesson 04.

python experiments/causality.py --workers 2 --record

Attention and SSM, causal and fully visible, read out by the mean, the last and the first token: twelve arms, each
with the same seeds. Every run is one line in `--out`; started again, what is missing there is run. See
`mambaout_edu.training.causality` for the model.
"""

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from mambaout_edu import recorded
from mambaout_edu.strings import text
from mambaout_edu.training.causality import (
    MIXERS,
    READOUTS,
    SETTINGS,
    VIEWS,
    CausalityRun,
    accuracies,
    price,
    train_one,
)
from mambaout_edu.training.scan_order_summary import mean_interval

Key = tuple[str, str, str, int, int]  # mixer, view, read-out, seed, epochs


def plan(mixers: list[str], seeds: list[int], epochs: int | None) -> list[Key]:
    """Return every run, seed by seed, so that an interrupted plan is still balanced."""
    arms = itertools.product(seeds, mixers, VIEWS, READOUTS)
    return [(m, view, readout, seed, epochs or SETTINGS["epochs"]) for seed, m, view, readout in arms]


def key(run: CausalityRun) -> Key:
    """Return which entry of a plan a run has done."""
    return run.mixer, run.view, run.readout, run.seed, run.epochs


def finished(path: Path) -> list[CausalityRun]:
    """Return the runs in a file; a last line that was cut short is taken out of it."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    if whole != lines:
        beside = path.with_suffix(".part")
        beside.write_text("".join(whole), encoding="utf-8")
        beside.replace(path)
    return [CausalityRun(**json.loads(line)) for line in whole]


def carry_out(jobs: list[Key], path: Path, workers: int) -> None:
    """Run jobs in processes of their own, and append each result as one line as it comes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(train_one, *job[:3], seed=job[3], epochs=job[4]) for job in jobs]
        try:
            for future in tqdm(as_completed(futures), total=len(futures), mininterval=5):
                with path.open("ab") as lines:  # one write a line: an interruption can only cut the last one short
                    lines.write((json.dumps(dataclasses.asdict(future.result())) + "\n").encode())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def collect(runs: Iterable[CausalityRun]) -> dict[str, Any]:
    """Return runs as one table: counts of right answers by mixer, read-out and view, one a seed.

    Raises ValueError if there are no runs, a seed is missing or there twice, or sizes, epochs or totals differ.
    """
    ranked = sorted(runs, key=lambda r: (MIXERS.index(r.mixer), READOUTS.index(r.readout), VIEWS.index(r.view), r.seed))
    seeds = sorted({run.seed for run in ranked})
    correct: dict[str, Any] = {}
    sizes: dict[str, set[tuple[int, int, int]]] = {}
    wrong = []
    for arm, group in itertools.groupby(ranked, key=lambda run: (run.mixer, run.readout, run.view)):
        of_arm = list(group)
        if [run.seed for run in of_arm] != seeds:
            wrong.append(arm)
        mixer, readout, view = arm
        correct.setdefault(mixer, {}).setdefault(readout, {})[view] = [run.correct for run in of_arm]
        sizes.setdefault(mixer, set()).update((run.parameters, run.epochs, run.total) for run in of_arm)
    if not seeds or wrong or any(len(found) > 1 for found in sizes.values()):
        raise ValueError(
            f"these runs cannot be compared; expected each of the seeds {seeds} once in every arm, and one size, one "
            f"number of epochs and of held-out digits a mixer; got {sizes}, and other seeds in {wrong or 'no arm'}"
        )
    parameters, epochs, total = ({m: next(iter(found))[i] for m, found in sizes.items()} for i in range(3))
    settings = {m: {**SETTINGS, "epochs": epochs[m]} for m in sizes}
    return {"seeds": seeds, "settings": settings, "parameters": parameters, "total": total, "correct": correct}


def report(results: Mapping[str, Any]) -> str:
    """Return a line for each mixer, read-out and view, then the price of the causal view with its interval."""
    lines = [text("causality", "heading", seeds=len(results["seeds"]))]
    for mixer, by_readout in results["correct"].items():
        for readout in by_readout:
            for view in VIEWS:
                mean = mean_interval(accuracies(results, mixer, readout, view))
                lines.append(f"{mixer:10}{readout:6}{view:9}{mean.value:6.2f}  ({mean.low:.2f} - {mean.high:.2f})")
            lost = price(results, mixer, readout)
            lines.append(text("causality", "price", points=lost.value, low=lost.low, high=lost.high))
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, print the table, record on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixers", nargs="+", choices=MIXERS, default=list(MIXERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--epochs", type=int, help="instead of what training.causality.SETTINGS says")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each with one thread")
    parser.add_argument("--out", type=Path, default=Path("build/causality.jsonl"), help="one line a run")
    parser.add_argument("--record", nargs="?", const="", help="write causality.json, to assets/recorded or a folder")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before the workers start: they share the cores as processes
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` and `timeout` stop the workers too

    jobs = plan(options.mixers, options.seeds, options.epochs)
    done = {key(run) for run in finished(options.out)}
    try:
        carry_out([job for job in jobs if job not in done], options.out, options.workers)
    except KeyboardInterrupt:
        sys.exit(f"stopped; {options.out} keeps what was finished, and the same command goes on from there")
    results = collect(run for run in finished(options.out) if key(run) in jobs)
    tqdm.write(report(results))
    if options.record is not None:
        folder: dict[str, Any] = {"folder": Path(options.record)} if options.record else {}
        seeds, mixers = " ".join(map(str, options.seeds)), " ".join(options.mixers)
        command = f"python experiments/causality.py --mixers {mixers} --seeds {seeds} --record"
        recorded.save("causality", results, command=command, **folder)


if __name__ == "__main__":
    main()
