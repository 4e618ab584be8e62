"""A trained model comes back: from the folder of a run, from a file that `export` wrote, or from published weights."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..models import create_model, load_official
from ..models.weight_files import read_weights
from ..models.weights import family_of, fit_of, misfit_of, not_of, recognise, relayout
from .recipe import Recipe

__all__ = ["Trained", "load_trained"]

ABOUT = "mambaout_edu"  # the key under which exported files say what they are
CHOICES = ("best", "latest")


@dataclass(frozen=True, eq=False, repr=False)
class Trained:
    """A model with what is needed to use it.

    Attributes
    ----------
    model
        In evaluation mode, on the CPU.
    name, model_options
        `create_model(name, **model_options)` makes one like it.
    classes
        Their names; empty where the file does not tell.
    recipe
        How its images are prepared; what else of it belongs to training.
    data
        What it learned from; empty where that is not known.
    step
        Updates that went into it, None for a file that does not tell.
    ema
        Whether the weights are the running average.
    """

    model: nn.Module
    name: str
    model_options: dict[str, Any]
    classes: tuple[str, ...]
    recipe: Recipe
    data: str = ""
    step: int | None = None
    ema: bool = False

    def __repr__(self) -> str:
        what = ", the running average" if self.ema else ""
        step = f", step {self.step}" if self.step is not None else ""
        return f"Trained({self.name}, {self.model_options}{step}{what})"

    def about(self) -> dict[str, Any]:
        """Return all but the weights as JSON's kinds of values, as exported files carry it."""
        return {
            "model": self.name,
            "model_options": self.model_options,
            "classes": list(self.classes),
            "recipe": json.loads(self.recipe.to_json()),
            "data": self.data,
            "step": self.step,
            "ema": self.ema,
        }


def load_trained(
    path: str | os.PathLike[str], model: str | None = None, *, which: str = "best", ema: bool = True
) -> Trained:
    """Load the model of a run's folder or of a file of weights.

    Parameters
    ----------
    path
        The folder that `train` wrote; or a `.safetensors` or `.pth` file, of `export` or published.
    model
        The name of the model that the weights are for; otherwise the folder or the file tells, or keys and shapes do.
    which
        Of a run: "best" on the validation images, or "latest".
    ema
        Of a run: take the running average of the weights where there is one.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or file, no run in the folder, or no checkpoint yet.
    ValueError
        If the weights are another model's; the message says which.

    Examples
    --------
    >>> import tempfile
    >>> from mambaout_edu.models.weight_files import write_weights
    >>> path = Path(tempfile.mkdtemp(), "digits.safetensors")
    >>> write_weights(create_model("mambaout_pico_8", num_classes=10).state_dict(), path)
    >>> load_trained(path)
    Trained(mambaout_pico_8, {'num_classes': 10, 'in_chans': 1})
    """
    path = Path(path)
    if which not in CHOICES:
        raise ValueError(f"which must be {' or '.join(map(repr, CHOICES))}; got {which!r}")
    if path.is_dir():
        return _from_run(path, model, which, ema)
    if not path.exists():
        raise FileNotFoundError(
            f"there is no run and no file {str(path)!r}; expected the folder that `mambaout-edu train` wrote, "
            "or a file of weights"
        )
    return _from_file(path, model)


def _from_run(folder: Path, model: str | None, which: str, ema: bool) -> Trained:
    from .checkpoints import Checkpoints, read_checkpoint

    about = _read_json(folder, "run.json")
    name = about["model"]
    if name is None:
        raise ValueError(
            f"the run in {str(folder)!r} trained a model that has no name here; build it as it was built then, and "
            "load the state under 'model' of a checkpoint into it"
        )
    if model is not None and model != name:
        raise ValueError(f"the run in {str(folder)!r} trained {name}, not {model}; leave --model (model=...) out")
    kept = Checkpoints(folder / "checkpoints")
    found = (kept.best() if which == "best" else None) or kept.latest()
    if found is None:
        raise FileNotFoundError(f"the run in {str(folder)!r} has no whole checkpoint yet; let it run on with resume")
    state = read_checkpoint(found)
    averaged = ema and state.get("ema") is not None
    built = create_model(name, **about["model_options"])
    built.load_state_dict(state["ema"] if averaged else state["model"])
    recipe = Recipe.from_json((folder / "recipe.json").read_text(encoding="utf-8"))
    args = (about["model_options"], tuple(about["classes"]), recipe, about.get("data") or "", state["step"], averaged)
    return Trained(built.eval(), name, *args)


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    file = folder / name
    if not file.is_file():
        there = ", ".join(sorted(entry.name for entry in folder.iterdir())[:6]) or "nothing"
        raise FileNotFoundError(
            f"{str(folder)!r} is not the folder of a run: it has no {name}, it holds {there}. Expected the folder that "
            "`mambaout-edu train` wrote"
        )
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _from_file(path: Path, model: str | None) -> Trained:
    state, about = read_weights(path).state, _about(path)
    if about is None:
        return _recognised(state, model)
    name = about["model"]
    if model is not None and model != name:
        raise ValueError(f"the weights in {path.name!r} are those of {name}, not of {model}; leave --model out")
    built = create_model(name, **about["model_options"])
    load_official(built, state)
    recipe = Recipe.from_json(json.dumps(about["recipe"]))
    args = (tuple(about["classes"]), recipe, about["data"], about["step"], about["ema"])
    return Trained(built.eval(), name, about["model_options"], *args)


def _about(path: Path) -> dict[str, Any] | None:
    """Return what an exported file says of itself; None where another program wrote it."""
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            told = (file.metadata() or {}).get(ABOUT)
    else:
        try:
            told = torch.load(path, weights_only=True, map_location="cpu").get(ABOUT)
        except Exception:  # settings of another program, which `read_weights` passed over
            told = None
    return json.loads(told) if isinstance(told, str) else None


def _recognised(state: dict[str, Tensor], model: str | None) -> Trained:
    """Return a model for weights that say nothing of themselves: by keys and shapes, or by the name that is given."""
    keys = recognise(state) if model is None else family_of(create_on_meta(model))
    if keys is None:
        raise ValueError(
            f"weights of no known model; their keys begin with {', '.join(list(state)[:4])}. Name the model (--model)"
        )
    if keys.layout_of(state) is None:
        raise ValueError(not_of(keys, state))
    fit = fit_of(keys, relayout(keys, state, "mambaout_edu"))
    name = model or _first_fitting(fit.names, fit.arguments, relayout(keys, state, "mambaout_edu"))
    if name is None:
        raise ValueError(f"the weights are of no published size: {fit} Name the model (--model)")
    built = create_model(name, **fit.arguments)
    load_official(built, state)
    options = {"in_chans": getattr(built, "in_chans", 3), **fit.arguments}
    return Trained(
        built.eval(), name, {"num_classes": getattr(built, "num_classes", 1000), **options}, (), _usual(name)
    )


def create_on_meta(name: str, **options: Any) -> nn.Module:
    """Build a model without memory for its weights."""
    with torch.device("meta"):
        return create_model(name, **options)


def _first_fitting(names: tuple[str, ...], arguments: dict[str, Any], state: dict[str, Tensor]) -> str | None:
    return next((n for n in names if not misfit_of(create_on_meta(n, **arguments).state_dict(), state)), None)


def _usual(name: str) -> Recipe:
    """Return the recipe that prepares images as the published weights of a model expect them."""
    cfg = timm.get_pretrained_cfg(name)
    chans, side, _ = cfg.input_size
    return Recipe(
        name, image_size=side, in_chans=chans, mean=tuple(cfg.mean), std=tuple(cfg.std), crop_pct=cfg.crop_pct,
        eval_interpolation=cfg.interpolation, batch_size=64,
    )  # fmt: skip
