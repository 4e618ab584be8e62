"""MambaOut trained on one GPU, in full: the recorded runs of lesson 08.

python experiments/gpu_training.py --record              all parts, about 10 minutes on one H200
python experiments/gpu_training.py --only outlines --seeds 0

outlines    `mambaout_pico_32` and the same skeleton with the SSM (eq. 11), of as many parameters, on 40,000 generated
            pictures of 20 outlines (chance 5 %), recipe `small_images_gpu` without mirroring and crops, three seeds;
            and a linear classifier on the pixels
digits      the same pair, from `mambaout_pico_8`, with the recipe `digits_cpu` on the GPU
killed      one run of outlines, killed without warning and resumed: no step lost, none twice
paper       `imagenet_paper` for 50 updates of 4,096 images of 224 x 224 pixels, Tiny and Base, stopped and resumed
            half-way; the pictures are generated, as many as ImageNet has, so that only their reading from a disk is
            left out: augmentation, mixup and erasing are the recipe's

Every run is a folder in `--out`; one that is finished there is not run again, one that was stopped goes on.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from tqdm.auto import tqdm

from mambaout_edu import recorded
from mambaout_edu.data import outlines
from mambaout_edu.models import MODELS, create_model, match_width, metaformer_like
from mambaout_edu.training import Recipe, Source, resume, train
from mambaout_edu.training.recipe import recipe
from mambaout_edu.training.run_log import Log, read_log

PARTS = ("outlines", "digits", "killed", "paper")
MIXERS = {"conv": "without the SSM", "conv_ssm": "with the SSM"}
EPOCHS = 12
IMAGENET = 1_281_167  # training images; architectures: ImageNet-1k
PAPER = {"mambaout_tiny": 16, "mambaout_base": 32}  # and how many batches make an update of 4,096
PAPER_UPDATES = 50


class Pool:
    """As many pictures as ImageNet has, of which `made` differ before augmentation."""

    def __init__(self, made: int = 1000, side: int = 256) -> None:
        images = outlines.outlines(train=made, test=outlines.CLASSES, image_size=side).train.images
        self.pictures = (images.permute(0, 2, 3, 1) * 255).to(torch.uint8).numpy()  # [N, H, W, 3]

    def __len__(self) -> int:
        return IMAGENET

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.pictures[index % len(self.pictures)]), index % 1000


def outline_recipe(seed: int) -> Recipe:
    """Return the recipe of the outlines: a mirrored curve is another curve, and there are pictures enough."""
    return recipe(
        "small_images_gpu", epochs=EPOCHS, warmup_epochs=1, hflip=0.0, scale=None, auto_augment=None, cutmix=0.0,
        seed=seed, workers=2,
    )  # fmt: skip


def pair(name: str, mixer: str, side: int, seed: int, **options: Any) -> str | nn.Module:
    """Return the model by its name, or a module of its skeleton with the SSM and as many parameters."""
    if mixer == "conv":
        return name
    torch.manual_seed(seed)
    return match_width(metaformer_like("conv", **MODELS[name], **options), mixer, image_size=side).create()


def run_in(folder: Path, begin: dict[str, Any], **more: Any) -> Log:
    """Begin a run, go on with it, or leave it as it is if it has ended."""
    if not (folder / "log.jsonl").exists():
        shutil.rmtree(folder, ignore_errors=True)
        return train(**begin, folder=folder, progress=False, **more).log
    log = read_log(folder)
    if any(event["what"] == "finished" for event in log.events):
        return log
    model, data = begin["model"], begin["data"]
    own = {"model": model} if isinstance(model, nn.Module) else {}
    return resume(folder, **own, **({} if isinstance(data, str) else {"data": data}), progress=False, **more).log


def of_log(log: Log) -> dict[str, Any]:
    """Return what is recorded of a run: the curve, the end, the speed once all is warm."""
    speeds = [line["images_per_second"] for line in log.steps[len(log.steps) // 4 :]]
    every = max(1, len(log.steps) // 60)
    return {
        "updates": len(log.steps),
        "seconds": round(log.steps[-1]["time"] - log.run["started"], 1),
        "images_per_second": round(statistics.median(speeds)),
        "gpu_memory": log.steps[-1]["gpu_memory"],
        "loss": [[line["step"], round(line["loss"], 4)] for line in log.steps[::every]],
        "accuracy": [[line["step"], line["accuracy"]] for line in log.evals],
        "correct": log.evals[-1]["correct"] if log.evals else None,
        "total": log.evals[-1]["total"] if log.evals else None,
    }


def one(out: Path, part: str, mixer: str, seed: int) -> tuple[str, str, int, dict[str, Any]]:
    """Run one training of outlines or digits."""
    if part == "outlines":
        name, side, data, plan, options = "mambaout_pico_32", 32, "outlines", outline_recipe(seed), {"num_classes": 20}
    else:
        name, side, data, plan = "mambaout_pico_8", 8, "digits", recipe("digits_cpu", seed=seed)
        options = {"num_classes": 10}
    model = pair(name, mixer, side, seed, **options)
    counted = model if isinstance(model, nn.Module) else create_model(model, **options)
    found = of_log(run_in(out / f"{part}-{mixer}-{seed}", {"model": model, "data": data, "recipe": plan}))
    return part, mixer, seed, found | {"parameters": sum(p.numel() for p in counted.parameters())}


def pairs(out: Path, parts: list[str], seeds: list[int], workers: int) -> dict[str, Any]:
    """Run the pair on outlines and digits, several trainings at a time."""
    jobs = [(part, mixer, seed) for part in parts for mixer in reversed(MIXERS) for seed in seeds]
    table: dict[str, Any] = {part: {mixer: {} for mixer in MIXERS} for part in parts}
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in tqdm(as_completed([pool.submit(one, out, *job) for job in jobs]), total=len(jobs)):
            part, mixer, seed, found = future.result()
            table[part][mixer][str(seed)] = found
            tqdm.write(f"{part} {MIXERS[mixer]}, seed {seed}: {found['accuracy'][-1][1]:.2%}, {found['seconds']} s")
    return {part: {"runs": runs, "at_a_time": workers} for part, runs in table.items()}


def linear(images: int = 10_000) -> dict[str, Any]:
    """Return how often a linear classifier on the pixels of the outlines is right."""
    from sklearn.linear_model import SGDClassifier

    made = outlines.outlines(train=images, test=4000)
    model = SGDClassifier(loss="log_loss", alpha=1e-3, random_state=0)
    model.fit(made.train.images.flatten(1).numpy(), made.train.labels.numpy())
    return {"images": images, "accuracy": float(model.score(made.test.images.flatten(1).numpy(), made.test.labels))}


def killed(out: Path) -> dict[str, Any]:
    """Kill a run without warning, resume it; return what its log says."""
    folder, plan = out / "killed", outline_recipe(0).with_(epochs=2, warmup_epochs=0, checkpoint_every_steps=20)
    shutil.rmtree(folder, ignore_errors=True)
    (out / "killed.json").write_text(plan.to_json(), encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from mambaout_edu.training import Recipe, train; "
        "train('mambaout_pico_32', 'outlines', Recipe.from_json(Path(sys.argv[1]).read_text()), sys.argv[2])"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(out / "killed.json"), str(folder)])
    while child.poll() is None and (not (folder / "log.jsonl").exists() or len(read_log(folder).steps) < 50):
        time.sleep(0.2)
    child.send_signal(signal.SIGKILL)
    child.wait()
    died_at = len(read_log(folder).steps)
    log = resume(folder, progress=False).log
    steps = [line["step"] for line in log.steps]
    return {
        "killed_after": died_at,
        "resumed_at": next(event["step"] for event in log.events if event["what"] == "resumed"),
        "updates": len(steps),
        "whole": steps == list(range(1, len(steps) + 1)),
        "accuracy": log.evals[-1]["accuracy"],
    }


def paper(out: Path, name: str) -> dict[str, Any]:
    """Make the first updates of the paper's recipe, stopped and resumed half-way."""
    plan = recipe("imagenet_paper", precision="bf16", compile=True, accumulate=PAPER[name], log_every=5)
    pool = Pool()
    classes = tuple(str(number) for number in range(1000))
    sources = (Source(pool, classes, "generated"), Source(pool, classes, "generated, not measured on"))
    begin = {"model": name, "data": sources, "recipe": plan}
    shutil.rmtree(out / name, ignore_errors=True)
    run_in(out / name, begin, max_steps=PAPER_UPDATES // 2)
    started = time.perf_counter()
    log = run_in(out / name, begin, max_steps=PAPER_UPDATES)
    seconds = time.perf_counter() - started
    steps = [line["step"] for line in log.steps]
    # The first updates after each start compile, and wait for the reading processes.
    speeds = [line["images_per_second"] for line in log.steps if (line["step"] - 1) % (PAPER_UPDATES // 2) >= 10]
    speed = statistics.median(speeds)
    return {
        "updates": len(steps),
        "whole": steps == list(range(1, len(steps) + 1)),
        "batch_size": plan.batch_size,
        "accumulate": plan.accumulate,
        "images_per_second": round(speed),
        "gpu_memory": log.steps[-1]["gpu_memory"],
        "losses": [round(log.steps[0]["loss"], 4), round(log.steps[-1]["loss"], 4)],
        "seconds_of_the_second_half": round(seconds, 1),
        "epochs": plan.total_epochs,
        "hours": round(plan.total_epochs * IMAGENET / speed / 3600, 1),
        "cores": os.cpu_count(),
    }


def main() -> None:
    """Run what is missing, print it, record on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=6, help="trainings at a time, of outlines and digits")
    parser.add_argument("--models", nargs="+", choices=PAPER, default=list(PAPER), help="of the paper's recipe")
    parser.add_argument("--out", type=Path, default=Path("build/gpu_training"), help="a folder of runs")
    parser.add_argument("--record", nargs="?", const="", help="write gpu_training.json, to assets/recorded or a folder")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("there is no GPU here; the lesson trains a smaller model on the CPU, with the recipe digits_cpu")
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    if together := [part for part in ("outlines", "digits") if part in options.only]:
        results |= pairs(options.out, together, options.seeds, options.workers)
    if "outlines" in options.only:
        results["outlines"] |= {"chance": 1 / outlines.CLASSES, "linear": linear(), "recipe": str(outline_recipe(0))}
    if "killed" in options.only:
        results["killed"] = killed(options.out)
    if "paper" in options.only:
        results["paper"] = {name: paper(options.out, name) for name in options.models}
    tqdm.write(json.dumps({k: v for k, v in results.items() if k in ("killed", "paper")}, indent=1))
    if options.record is not None:
        folder = {"folder": Path(options.record)} if options.record else {}
        command = "python experiments/gpu_training.py --record"
        recorded.save("gpu_training", results, device="cuda", command=command, **folder)


if __name__ == "__main__":
    main()
