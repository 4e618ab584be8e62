"""Does the scan order matter, and does a depthwise convolution make it matter less? The measured run of lesson 05.

python experiments/scan_orders.py --workers 2 --record

Every combination of task, order, with or without convolution, and seed is one run, one line in `--out`. Started again,
it runs what is missing there. See `mambaout_edu.training.scan_orders` for the model.
"""

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from mambaout_edu import recorded
from mambaout_edu.training.scan_order_summary import collect, report
from mambaout_edu.training.scan_orders import SCANS, SETTINGS, TASKS, ScanRun, train_one

Job = dict[str, Any]


def plan(tasks: list[str], orders: list[str], seeds: list[int], epochs: int | None) -> list[Job]:
    """Return the arguments of every run, seed by seed, so that an interrupted plan is still balanced."""
    return [
        {"seed": seed, "task": task, "order": order, "conv": conv, "epochs": epochs or SETTINGS[task]["epochs"]}
        for seed, task, order, conv in itertools.product(seeds, tasks, orders, (False, True))
    ]


def finished(path: Path) -> list[ScanRun]:
    """Return the runs in a file; a last line that was cut short is taken out of it."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        beside = path.with_suffix(".part")
        beside.write_text(whole, encoding="utf-8")
        beside.replace(path)
    return [ScanRun(**json.loads(line)) for line in whole.splitlines()]


def missing(jobs: list[Job], runs: list[ScanRun]) -> list[Job]:
    """Return the jobs that no run has done yet."""
    done = {(r.seed, r.task, r.order, r.conv, r.epochs) for r in runs}
    return [j for j in jobs if (j["seed"], j["task"], j["order"], j["conv"], j["epochs"]) not in done]


def carry_out(jobs: list[Job], path: Path, workers: int, device: str) -> Iterator[ScanRun]:
    """Run jobs in processes of their own, and append each result as one line as it comes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(train_one, device=device, **job) for job in jobs]
        try:
            for future in tqdm(as_completed(futures), total=len(futures), mininterval=5):
                run = future.result()
                with path.open("ab") as lines:  # one write a line: an interruption can only cut the last one short
                    lines.write((json.dumps(dataclasses.asdict(run)) + "\n").encode())
                yield run
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def main() -> None:
    """Run what is missing, print the tables, record on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--orders", nargs="+", choices=SCANS, default=list(SCANS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, help="instead of what training.scan_orders.SETTINGS says")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each with one thread")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--out", type=Path, default=Path("build/scan_orders.jsonl"), help="one line a run")
    parser.add_argument("--record", nargs="?", const="", help="write scan_orders.json, to assets/recorded or a folder")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before the workers start: they share the cores as processes

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` and `timeout` stop the workers too

    jobs = plan(options.tasks, options.orders, options.seeds, options.epochs)
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
        seeds, orders = " ".join(map(str, options.seeds)), " ".join(options.orders)
        command = (
            f"python experiments/scan_orders.py --device {options.device} --seeds {seeds} --orders {orders} --record"
        )
        recorded.save("scan_orders", results, command=command, device=options.device, **folder)


if __name__ == "__main__":
    main()
