"""A whole training run: it can be stopped or killed at any moment, and ends as if it had not been.

    train(model, data, recipe, folder)     a new run
    resume(folder)                         goes on where it stopped
    launch(processes, ...)                 the same from a notebook, on several GPUs

The step itself is `run_loop.Loop.micro_step`. Hugging Face accelerate spreads it over processes, timm makes what the
recipe asks for, and every random choice follows from its place in the run (`randomness`): no generator needs saving.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..models import create_model
from ..recorded import device_name
from .checkpoints import Checkpoints, read_checkpoint
from .randomness import seeded
from .recipe import Recipe
from .run_log import Log, RunLog
from .run_loop import Loop
from .sources import Source, open_source

__all__ = ["Run", "launch", "resume", "train"]

Data = str | tuple[Source, Source]


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A run that has ended, or was stopped.

    Attributes
    ----------
    folder, log
        Where it lies, and what happened.
    model, ema
        The model, and its running average where the recipe keeps one; on the device they were trained on.
    accuracy
        On the validation images, at the last measurement; None where none was made.
    interrupted
        Whether a signal or `max_steps` stopped it before its end; `resume(folder)` goes on.
    """

    folder: Path
    log: Log
    model: nn.Module
    ema: nn.Module | None
    accuracy: float | None
    interrupted: bool

    def __repr__(self) -> str:
        said = f", accuracy {self.accuracy:.1%}" if self.accuracy is not None else ""
        return f"Run({len(self.log.steps)} steps{said}{', interrupted' * self.interrupted})"


def train(
    model: str | nn.Module,
    data: Data,
    recipe: Recipe,
    folder: str | Path,
    *,
    model_options: dict[str, Any] | None = None,
    progress: bool = True,
    on_log: Callable[[dict[str, Any]], object] | None = None,
    max_steps: int | None = None,
    tensorboard: bool = False,
    accelerator: Any = None,
) -> Run:
    """Train a model and write all there is to know about it into a folder.

    Parameters
    ----------
    model
        A name that `create_model` knows; or a module that takes [B, C, H, W] and gives scores [B, classes].
    data
        A word that `open_source` knows; or the two sources of training and validation images.
    recipe
        All settings. A `drop_path` of None becomes the published rate of the model's variant.
    folder
        New or empty. In the end it holds recipe.json, run.json, log.jsonl, checkpoints/, card.json and card.png.
    model_options
        Further arguments of `create_model`.
    progress
        Show a bar.
    on_log
        Called with every line of the log as it is written; a live picture hooks in here.
    max_steps
        Stop after so many updates (of the whole run), as if by a signal; the schedule stays that of the recipe.
    tensorboard
        Write TensorBoard's files too, into tensorboard/.
    accelerator
        Hugging Face accelerate's, where it needs settings that the recipe does not have; one is made otherwise.

    Returns
    -------
    Run
        What came out. A first SIGINT or SIGTERM ends the update, saves and comes back with `interrupted=True`.

    Raises
    ------
    FileExistsError
        If the folder holds something.
    FileNotFoundError, ValueError
        If the data or the model are not there, or do not go together.
    FloatingPointError
        If the loss is infinite or undefined; the message says at which step and in which layer.
    CheckpointNotWritten, TooManyBadImages, WorkerDied, ProcessLost
        As their names say; what was saved before stays whole, and `resume` goes on from it.

    Examples
    --------
    >>> import tempfile
    >>> from mambaout_edu.training.recipe import recipe
    >>> plan = recipe("digits_cpu", epochs=1, warmup_epochs=0)
    >>> run = train("mambaout_pico_8", "digits", plan, Path(tempfile.mkdtemp(), "run"), progress=False)
    >>> len(run.log.steps), sorted(path.name for path in run.folder.iterdir())[:2]
    (21, ['card.json', 'card.png'])
    """
    from .processes import create_accelerator

    folder = Path(folder)
    accelerator = accelerator or create_accelerator(recipe)
    recipe = recipe.for_model(model) if isinstance(model, str) else recipe
    sources = _open(data, recipe)
    module, options = _module(model, model_options or {}, recipe, sources[0])
    about = {
        "model": model if isinstance(model, str) else None,
        "model_options": options,
        "data": data if isinstance(data, str) else None,
        "classes": list(sources[0].classes),
        "images": len(sources[0]),
        "device": device_name("cuda" if accelerator.device.type == "cuda" else "cpu"),
        "processes": accelerator.num_processes,
        "versions": _versions(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": time.time(),
    }
    log = None
    if accelerator.is_main_process:
        log = _begin(folder, recipe, about)
        updates = recipe.updates_per_epoch(len(sources[0]))
        told = {key: about[key] for key in ("model", "data", "device", "processes", "started")}
        begun = {
            "kind": "run", **told, "batch_size": recipe.batch_size, "updates_per_epoch": updates,
            "total_steps": updates * recipe.total_epochs,
        }  # fmt: skip
        log.write(begun)
        if on_log is not None:
            on_log(begun)
    accelerator.wait_for_everyone()
    loop = Loop(module, sources, recipe, folder, log, accelerator, progress, on_log, tensorboard)
    return _run(loop, max_steps)


def resume(
    folder: str | Path,
    recipe: Recipe | None = None,
    *,
    model: nn.Module | None = None,
    data: tuple[Source, Source] | None = None,
    progress: bool = True,
    on_log: Callable[[dict[str, Any]], object] | None = None,
    max_steps: int | None = None,
    tensorboard: bool = False,
    accelerator: Any = None,
) -> Run:
    """Go on with a run from its last whole checkpoint, to the same end as if it had not been stopped.

    Parameters
    ----------
    folder
        Of the run.
    recipe
        The run's own where None. Only what does not change the result may differ: workers, how often to log or save.
    model, data
        Needed where the run was begun with a module or with sources, which no file can name: the same ones again.
    progress, on_log, max_steps, tensorboard, accelerator
        As in `train`.

    Raises
    ------
    FileNotFoundError
        If the folder holds no run, or no whole checkpoint.
    ValueError
        If the recipe, the data or the number of processes differ in a way that would change the result.
    """
    from .processes import create_accelerator

    folder = Path(folder)
    plan, about = _read(folder)
    if recipe is not None:
        changed = plan.differences(recipe.for_model(about["model"]) if about["model"] else recipe, housekeeping=False)
        if changed:
            listed = ", ".join(f"{name}: {was!r} before, {now!r} now" for name, (was, now) in changed.items())
            raise ValueError(
                f"this recipe would end another run than the one in {str(folder)!r} ({listed}). Resume it with its own "
                "recipe, or begin a new run in another folder"
            )
        plan = recipe.with_(drop_path=plan.drop_path)
    accelerator = accelerator or create_accelerator(plan)
    sources = _open(data or about["data"], plan)
    _check_same(about, sources[0], accelerator.num_processes)
    module = create_model(about["model"], **about["model_options"]) if about["model"] else model
    if module is None:
        raise ValueError("this run was begun with a module of your own; hand it over again: resume(folder, model=...)")
    kept = Checkpoints(folder / "checkpoints", plan.keep_checkpoints)
    path = kept.latest()
    if path is None:
        raise FileNotFoundError(f"the run in {str(folder)!r} has no whole checkpoint; begin a new one")
    state = read_checkpoint(path)
    accelerator.wait_for_everyone()
    log = RunLog(folder, resume_at=state["step"]) if accelerator.is_main_process else None
    loop = Loop(module, sources, plan, folder, log, accelerator, progress, on_log, tensorboard)
    loop.load(state)
    for torn, reason in kept.torn:
        loop.event("torn_checkpoint", f"{torn.name}: {reason}")
    loop.event("resumed", path.name)
    return _run(loop, max_steps)


def launch(processes: int, *args: Any, **kwargs: Any) -> None:
    """Call `train(*args, **kwargs)` in several processes from a notebook, one a GPU.

    The result is in the folder: `load_trained(folder)`. From a shell, `accelerate launch -m mambaout_edu.cli train ...`
    does the same. Raises ValueError where there are fewer GPUs than processes.
    """
    from accelerate import notebook_launcher

    if processes < 1 or processes > max(1, torch.cuda.device_count()):
        raise ValueError(
            f"processes is {processes}, and there are {torch.cuda.device_count()} GPUs; expected one for each"
        )

    def work() -> None:
        train(*args, **kwargs)

    notebook_launcher(work, num_processes=processes)


def _run(loop: Loop, max_steps: int | None) -> Run:
    interrupted = loop.run(max_steps)
    if loop.accelerator.is_main_process and loop.lines.steps:
        from .card import run_card

        run_card(loop.folder)
    evals = loop.lines.evals
    accuracy = evals[-1]["accuracy"] if evals else None
    return Run(loop.folder, loop.lines, loop.bare, loop.ema.module if loop.ema else None, accuracy, interrupted)


def _open(data: Data | None, recipe: Recipe) -> tuple[Source, Source]:
    if data is None:
        raise ValueError("this run was begun with sources of your own; hand them over again: resume(folder, data=...)")
    if not isinstance(data, str):
        return data
    return open_source(data, "train", recipe), open_source(data, "validation", recipe)


def _module(
    model: str | nn.Module, options: dict[str, Any], recipe: Recipe, source: Source
) -> tuple[nn.Module, dict[str, Any]]:
    if isinstance(model, nn.Module):
        if options:
            raise ValueError(f"model_options {options} are for a model by name; this one is built already")
        return model, {}
    options = {
        "num_classes": len(source.classes), "in_chans": recipe.in_chans, "drop_path_rate": recipe.drop_path, **options
    }  # fmt: skip
    if options["num_classes"] != len(source.classes):
        raise ValueError(
            f"num_classes is {options['num_classes']}, but {source.name} has {len(source.classes)} classes; "
            "leave it out"
        )
    with seeded(recipe.seed):
        return create_model(model, **options), options


def _begin(folder: Path, recipe: Recipe, about: dict[str, Any]) -> RunLog:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{str(folder)!r} is there and not empty; resume its run, or choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("recipe.json", recipe.to_json()), ("run.json", json.dumps(about, indent=1))):
        beside = folder / f"{name}.part"
        beside.write_text(content + "\n", encoding="utf-8")
        beside.replace(folder / name)
    return RunLog(folder)


def _read(folder: Path) -> tuple[Recipe, dict[str, Any]]:
    for name in ("recipe.json", "run.json", "log.jsonl"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{str(folder)!r} is not the folder of a run: it has no {name}")
    recipe = Recipe.from_json((folder / "recipe.json").read_text(encoding="utf-8"))
    return recipe, json.loads((folder / "run.json").read_text(encoding="utf-8"))


def _check_same(about: dict[str, Any], source: Source, processes: int) -> None:
    now = {"classes": list(source.classes), "images": len(source), "processes": processes}
    for name, value in now.items():
        if about[name] != value:
            raise ValueError(
                f"the run had {name} = {_short(about[name])}, now there are {_short(value)}; a run goes on only with "
                "the same. Bring them back, or begin a new run"
            )


def _short(value: Any) -> str:
    return f"{len(value)} ({', '.join(value[:4])}, ...)" if isinstance(value, list) and len(value) > 4 else str(value)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("torch", "timm", "accelerate", "mambaout-edu"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            continue
    return found
