"""The commands of training: `train`, `resume`, `evaluate`, `export`, `bench`. Each imports what it needs as it runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambaout_edu.strings import text

if TYPE_CHECKING:
    from mambaout_edu.training.recipe import Recipe
    from mambaout_edu.training.sources import Source
    from mambaout_edu.training.trained import Trained

__all__ = ["add_training_commands"]

Options = argparse.Namespace
_WORDS = {"none": None, "off": None, "true": True, "false": False, "yes": True, "no": False}


def add_training_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the five commands to the parser's."""
    _add_train(commands)
    _add_resume(commands)
    _add_evaluate(commands)
    _add_export(commands)
    _add_bench(commands)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: Callable[[Options], int]
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=text("cli", f"{name}_help"),
        description=text("cli", f"{name}_description"),
        epilog=text("cli", f"{name}_examples"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--traceback", action="store_true", help=text("cli", "traceback_option"))
    parser.set_defaults(run=lambda options: _explained(name, run, options))
    return parser


def _explained(name: str, run: Callable[[Options], int], options: Options) -> int:
    """Run a command; say in words why it refused, or failed, and return the exit code."""
    try:
        return run(options)
    except KeyboardInterrupt:
        sys.stderr.write(text("cli", "interrupted", command=name) + "\n")
        return 130
    except (OSError, ValueError, TypeError, ImportError, ArithmeticError, RuntimeError) as error:
        if options.traceback:
            traceback.print_exc()
        unforeseen = isinstance(error, RuntimeError) and not type(error).__module__.startswith("mambaout_edu")
        said = {"command": name, "kind": type(error).__name__, "error": error}
        sys.stderr.write(text("cli", "failed" if unforeseen else "refused", **said) + "\n")
        return 1


def _first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _say(*lines: object) -> None:
    """Print, from the first of several processes alone."""
    if _first_process():
        sys.stdout.write("\n".join(map(str, lines)) + "\n")
        sys.stdout.flush()


# --- train, resume ----------------------------------------------------------------------------------------------------


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    train = _command(commands, "train", lambda options: _train(options, train.error))
    train.add_argument("--model", metavar="NAME", help=text("cli", "train_model_option"))
    train.add_argument("--data", help=text("cli", "train_data_option"))
    train.add_argument("--recipe", default="imagenet_short", help=text("cli", "train_recipe_option"))
    train.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help=text("cli", "train_set_option")
    )
    train.add_argument(
        "--model-option", nargs="+", action="extend", default=[], metavar="NAME=VALUE",
        help=text("cli", "train_options_option"),
    )  # fmt: skip
    train.add_argument("--out", metavar="FOLDER", type=Path, help=text("cli", "train_out_option"))
    train.add_argument("--show-recipe", action="store_true", help=text("cli", "train_show_option"))
    train.add_argument("--max-steps", metavar="N", type=int, help=text("cli", "train_max_steps_option"))
    train.add_argument("--tensorboard", action="store_true", help=text("cli", "train_tensorboard_option"))
    train.add_argument("--quiet", action="store_true", help=text("cli", "quiet_option"))


def _train(options: Options, refuse: Callable[[str], Any]) -> int:
    recipe = _recipe(options)
    if options.show_recipe:
        _say(recipe)
        return 0
    missing = [f"--{name}" for name in ("model", "data") if getattr(options, name) is None]
    if missing:
        refuse(text("cli", "train_needs", options=", ".join(missing)))
    from mambaout_edu.training.trainer import train

    model_options = _settings(options.model_option, "model-option", "drop_rate=0.1")
    folder = _new_folder(options, recipe)
    run = train(
        options.model, options.data, recipe, folder,
        model_options=model_options, progress=not options.quiet, max_steps=options.max_steps,
        tensorboard=options.tensorboard,
    )  # fmt: skip
    return _ended(run)


def _new_folder(options: Options, recipe: Recipe) -> Path:
    if options.out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:  # each would name its own
        raise ValueError(text("cli", "out_needed"))
    folder = options.out or Path("runs", f"{options.model}-{recipe.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if taken and _first_process():  # the others may see what the first one has written by now
        raise FileExistsError(text("cli", "out_taken", folder=folder))
    return folder


def _recipe(options: Options) -> Recipe:
    """Return the recipe of the command line, changed as it says, with the drop path of the model."""
    from mambaout_edu.training.recipe import Recipe, recipe
    from mambaout_edu.training.trained import create_on_meta

    if options.model:
        create_on_meta(options.model)  # which refuses an unknown name
    changes = _settings(options.set, "set", "epochs=100")
    file = Path(options.recipe)
    if file.suffix == ".json":
        plan = Recipe.from_json(file.read_text(encoding="utf-8")).with_(**changes)
    else:
        plan = recipe(options.recipe, **changes)
    return plan.for_model(options.model) if options.model else plan


def _settings(given: Sequence[str], option: str, example: str) -> dict[str, Any]:
    """Return NAME=VALUE words as a dictionary; values are JSON's, or none, off, true, false, or plain words."""
    settings = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(text("cli", "set_wrong", option=option, example=example, given=word))
        settings[name] = _value(value)
    return settings


def _value(word: str) -> Any:
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    try:
        return json.loads(word)
    except json.JSONDecodeError:
        return word


def _add_resume(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    resume = _command(commands, "resume", _resume)
    resume.add_argument("folder", type=Path, help=text("cli", "resume_folder"))
    resume.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help=text("cli", "resume_set_option")
    )
    resume.add_argument("--max-steps", metavar="N", type=int, help=text("cli", "train_max_steps_option"))
    resume.add_argument("--tensorboard", action="store_true", help=text("cli", "train_tensorboard_option"))
    resume.add_argument("--quiet", action="store_true", help=text("cli", "quiet_option"))


def _resume(options: Options) -> int:
    from mambaout_edu.training.trainer import resume

    changes = _settings(options.set, "set", "workers=8")
    plan = None
    if changes:
        from mambaout_edu.training.recipe import Recipe

        plan = Recipe.from_json((options.folder / "recipe.json").read_text(encoding="utf-8")).with_(**changes)
    run = resume(
        options.folder, plan,
        progress=not options.quiet, max_steps=options.max_steps, tensorboard=options.tensorboard,
    )  # fmt: skip
    return _ended(run)


def _ended(run: Any) -> int:
    """Say how a run ended, and what may come next."""
    steps = run.log.steps[-1]["step"] if run.log.steps else 0
    if run.interrupted:
        _say(text("cli", "train_stopped", steps=steps, folder=run.folder))
        return 130
    result = text("cli", "train_no_accuracy")
    if run.log.evals:
        from mambaout_edu.training.evaluation import wilson_interval

        last = run.log.evals[-1]
        low, high = (f"{100 * end:.1f}" for end in wilson_interval(last["correct"], last["total"]))
        percent = f"{100 * last['correct'] / last['total']:.1f}"
        result = text("cli", "train_accuracy", percent=percent, low=low, high=high)
    target = f"{Path(run.folder).name}.safetensors"
    _say(text("cli", "train_done", steps=steps, result=result, folder=run.folder, target=target))
    return 0


# --- evaluate, export, bench ------------------------------------------------------------------------------------------


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help=text("cli", "evaluate_source"))
    parser.add_argument("--model", metavar="NAME", help=text("cli", "evaluate_name_option"))
    parser.add_argument(
        "--which", choices=("best", "latest"), default="best", help=text("cli", "evaluate_which_option")
    )
    parser.add_argument("--no-ema", action="store_true", help=text("cli", "evaluate_ema_option"))
    parser.add_argument("--force", action="store_true", help=text("cli", "force_option"))


def _loaded(options: Options) -> Trained:
    from mambaout_edu.training.trained import load_trained

    return load_trained(options.source, options.model, which=options.which, ema=not options.no_ema)


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = _command(commands, "evaluate", _evaluate)
    _add_source(evaluate)
    evaluate.add_argument("--data", help=text("cli", "evaluate_data_option"))
    evaluate.add_argument("--device", help=text("cli", "device_option"))
    evaluate.add_argument("--batch-size", type=int, metavar="N", help=text("cli", "evaluate_batch_option"))
    evaluate.add_argument("--image-size", type=int, metavar="PIXELS", help=text("cli", "evaluate_size_option"))
    evaluate.add_argument("--ignore-names", action="store_true", help=text("cli", "evaluate_names_option"))
    evaluate.add_argument("--json", type=Path, metavar="FILE", help=text("cli", "json_option"))
    evaluate.add_argument("--quiet", action="store_true", help=text("cli", "quiet_option"))


def _evaluate(options: Options) -> int:
    from mambaout_edu.training.benching import usable_device
    from mambaout_edu.training.evaluating import evaluate_model
    from mambaout_edu.training.sources import open_source

    _check_json(options)
    trained, device = _loaded(options), usable_device(options.device)
    changes: dict[str, Any] = {"precision": "fp32"} if device.type == "cpu" else {}
    if options.image_size is not None:
        changes["eval_image_size"] = options.image_size
    plan = trained.recipe.with_(**changes)
    data = options.data or trained.data
    if not data:
        raise ValueError(text("cli", "evaluate_no_data"))
    source = open_source(data, "validation", plan)
    if not options.ignore_names:
        _check_names(trained, source)
    step = text("cli", "evaluate_at_step", step=trained.step) if trained.step is not None else ""
    ema = text("cli", "evaluate_of_ema") if trained.ema else ""
    found = evaluate_model(
        trained.model, source, plan, device=device, batch_size=options.batch_size or _batch(plan, device.type),
        progress=not options.quiet,
    )  # fmt: skip
    _say(text("cli", "evaluate_measured", model=trained.name, step=step, ema=ema, images=found.total, data=source.name))
    _say(found)
    _write_json(options, {"source": str(options.source), "data": data, **trained.about(), **found.as_json()})
    return 0


def _batch(plan: Recipe, device: str) -> int:
    """Return how many images to take at a time: no more than fit beside a large model."""
    return min(plan.batch_size // plan.accumulate, 64 if device == "cpu" else 256)


def _check_names(trained: Trained, source: Source) -> None:
    if trained.classes and len(trained.classes) == len(source.classes) and trained.classes != tuple(source.classes):
        pairs = zip(trained.classes, source.classes, strict=True)
        learned, found = next((mine, theirs) for mine, theirs in pairs if mine != theirs)
        raise ValueError(text("cli", "other_names", learned=f"{learned}, ...", found=f"{found}, ...", data=source.name))


def _check_json(options: Options) -> None:
    """Refuse before the work what would only be found out after it."""
    if options.json is not None and options.json.exists() and not options.force:
        raise FileExistsError(text("cli", "json_taken", file=options.json))
    if options.json is not None and not options.json.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(options.json.parent)!r} to write into; make it first")


def _write_json(options: Options, found: dict[str, Any]) -> None:
    if options.json is not None:
        beside = options.json.with_name(f"{options.json.name}.part")
        beside.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        beside.replace(options.json)


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = _command(commands, "export", _export)
    _add_source(export)
    export.add_argument("target", type=Path, help=text("cli", "export_target"))
    export.add_argument(
        "--to", choices=("timm", "safetensors", "torch-export"), default="timm", help=text("cli", "export_to_option")
    )


def _export(options: Options) -> int:
    from mambaout_edu.training.exporting import check_target, export

    check_target(options.target, options.to, options.force)
    _say(export(_loaded(options), options.target, options.to, force=options.force))
    return 0


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    bench = _command(commands, "bench", _bench)
    bench.add_argument("--model", metavar="NAME", required=True, help=text("cli", "train_model_option"))
    bench.add_argument("--train", action="store_true", help=text("cli", "bench_train_option"))
    bench.add_argument("--device", help=text("cli", "device_option"))
    bench.add_argument("--compile", action="store_true", help=text("cli", "bench_compile_option"))
    bench.add_argument("--channels-last", action="store_true", help=text("cli", "bench_layout_option"))
    bench.add_argument("--precision", choices=("fp32", "bf16"), help=text("cli", "bench_precision_option"))
    bench.add_argument("--batch-size", type=int, metavar="N", help=text("cli", "bench_batch_option"))
    bench.add_argument("--image-size", type=int, metavar="PIXELS", help=text("cli", "bench_size_option"))
    bench.add_argument("--repeats", type=int, default=15, metavar="N", help=text("cli", "bench_repeats_option"))
    bench.add_argument("--json", type=Path, metavar="FILE", help=text("cli", "json_option"))
    bench.add_argument("--force", action="store_true", help=text("cli", "force_option"))
    bench.add_argument("--quiet", action="store_true", help=text("cli", "quiet_option"))


def _bench(options: Options) -> int:
    from mambaout_edu.training.benching import bench

    _check_json(options)
    names = ("train", "device", "compile", "channels_last", "precision", "batch_size", "image_size", "repeats")
    found = bench(options.model, **{name: getattr(options, name) for name in names}, progress=not options.quiet)
    _say(found)
    _write_json(options, found.as_json())
    return 0
