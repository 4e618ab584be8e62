"""From a published file of weights to safetensors, in another layout of keys: what `mambaout-edu convert` does."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mambaout_edu.models.checks import check_choice
from mambaout_edu.models.keys import Fit, Keys, State
from mambaout_edu.models.registry import FAMILIES as MODEL_FAMILIES
from mambaout_edu.models.registry import create_model
from mambaout_edu.models.weight_files import WeightFile, read_weights, write_weights
from mambaout_edu.models.weights import FAMILIES, fit_of, misfit_of, not_of, recognise, relayout
from mambaout_edu.strings import text

__all__ = ["LAYOUTS", "Conversion", "convert_file"]

LAYOUTS = {"ours": "mambaout_edu", "timm": "timm", "official": "official"}
SHOWN_FROM = 100e6  # bytes of the source; less takes no time to speak of


@dataclass(frozen=True)
class Conversion:
    """What `convert_file` found and wrote; as text, a summary for the reader.

    Attributes
    ----------
    source, target
        The files.
    found
        What was in the source: `key` and `others`, and the tensors `dropped`, with the reason.
    family, names
        The class of the model, and the names that `create_model` makes it by: several where their weights are alike
        in every shape, none where it is of no published size.
    fit
        The sentence that says so, and the arguments besides the name.
    layouts
        The layout of the source and of the target.
    parameters, tensors, dtypes
        Numbers of the one and the other, and their types.
    megabytes
        Of the target, 10^6 bytes.
    """

    source: Path
    target: Path
    found: WeightFile
    family: str
    names: tuple[str, ...]
    fit: Fit
    layouts: tuple[str, str]
    parameters: int
    tensors: int
    dtypes: tuple[str, ...]
    megabytes: float

    def __str__(self) -> str:
        found, arguments = self.found, ", ".join(f"{name}={value!r}" for name, value in self.fit.arguments.items())
        lines = [
            _say("read", file=self.source.name, where=_say("under", name=found.key) if found.key else ""),
            *([_say("others", keys=", ".join(found.others))] if found.others else []),
            _say("holds", parameters=self.parameters, tensors=self.tensors, dtypes=", ".join(self.dtypes)),
            _say("family", family=self.family, layout=self.layouts[0]),
            _say("model", names=_say("or").join(self.names), arguments=arguments)
            if self.names
            else _say("no_model", call=f"{self.fit.call}, {arguments})"),
            *(_say("dropped", name=key, why=why) for key, why in found.dropped.items()),
            _say("wrote", file=self.target.name, layout=self.layouts[1], megabytes=self.megabytes),
        ]
        return "\n".join(lines)


def convert_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: str | None = None,
    to: str = "ours",
    key: str | None = None,
    force: bool = False,
) -> Conversion:
    """Write the weights of a file as safetensors, under the keys of the wanted layout.

    Family and size are recognised from keys and shapes. If the size is a published one, every key and shape is checked
    against the model, which is built without memory for its weights.

    Parameters
    ----------
    source
        A `.pth`, `.pt`, `.bin`, `.ckpt` or `.safetensors` file with weights in any layout of a known family.
    target
        The `.safetensors` file to write.
    model
        The name of the model that the weights are for, as `create_model` takes it; recognised if None. The published
        weights of Res-VMamba look like VMamba's and need it.
    to
        "ours", "timm" or "official", the authors'.
    key
        Under which key of the file the weights are; see `read_weights`.
    force
        Whether a target that is there already is replaced.

    Raises
    ------
    FileNotFoundError, FileExistsError
        If there is no source, or a target without `force`.
    OSError
        If the target cannot be written; nothing is left of the attempt.
    ValueError
        If the source cannot be read, is of no known family, does not fit the model, or the layout has no keys for it.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> torch.save({"model": create_model("mambaout_pico_8").state_dict()}, folder / "digits.pth")
    >>> convert_file(folder / "digits.pth", folder / "digits.safetensors", to="timm").names
    ('mambaout_pico_8',)
    """
    source, target = Path(source), Path(target)
    check_choice("to", to, tuple(LAYOUTS))
    _check_target(source, target, force)
    with _Steps(source) as step:
        found = step("reading", lambda: read_weights(source, key))
        keys, layout = _family(found.state, model)
        state, fit, names = step("checking", lambda: _checked(keys, found.state, model))
        state = state if to == "ours" else relayout(keys, state, LAYOUTS[to])
        about = {"family": keys.family, "layout": LAYOUTS[to], "model": " or ".join(names)}
        step("writing", lambda: write_weights(state, target, about))
    return Conversion(
        source,
        target,
        found,
        keys.family,
        names,
        fit,
        (layout, LAYOUTS[to]),
        sum(value.numel() for value in state.values()),
        len(state),
        tuple(sorted({str(value.dtype).removeprefix("torch.") for value in state.values()})),
        target.stat().st_size / 1e6,
    )


def _say(line: str, **values: object) -> str:
    return text("cli", f"convert_{line}", **values)


def _check_target(source: Path, target: Path, force: bool) -> None:
    if target.suffix.lower() != ".safetensors":
        raise ValueError(f"the target is a .safetensors file; got {target.name!r}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(target.parent)!r} to write into; make it first")
    if target.is_dir():
        raise IsADirectoryError(f"{str(target)!r} is a folder; give the name of a file")
    if target.exists() and source.exists() and target.samefile(source):
        raise ValueError(f"source and target are the same file, {str(target)!r}; give the target another name")
    if target.exists() and not force:
        raise FileExistsError(f"{str(target)!r} is there already; give another name, or --force (force=True)")


def _family(state: State, model: str | None) -> tuple[Keys, str]:
    """Return the family of the weights and their layout; with a name of a model, of that one's family or none."""
    keys = recognise(state) if model is None else _keys_of(model)
    if keys is None:
        raise ValueError(
            f"weights of no known family ({', '.join(FAMILIES)}). Their keys begin with {', '.join(list(state)[:4])}; "
            f"known are {'; or '.join(dict.fromkeys(family.expected for family in FAMILIES.values()))}"
        )
    layout = keys.layout_of(state)
    if layout is None:
        raise ValueError(not_of(keys, state))
    return keys, layout


def _keys_of(model: str) -> Keys:
    kind = next((family.model for family in MODEL_FAMILIES if model in family.variants), None)
    name = kind.__name__ if isinstance(kind, type) else ""
    if kind is None:
        create_model(model)  # which refuses the name, and offers the nearest
    if name not in FAMILIES:
        raise ValueError(f"{model!r} is of a family without published weights; known are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def _checked(keys: Keys, state: State, model: str | None) -> tuple[State, Fit, tuple[str, ...]]:
    """Return the weights in our layout, what they fit, and the names of the models that they fit to the last key."""
    state = relayout(keys, state, "mambaout_edu")
    fit = fit_of(keys, state)
    names = fit.names if model is None else (model,)
    misfits = {name: _misfit(name, fit, state) for name in names}
    fitting = tuple(name for name, misfit in misfits.items() if not misfit)
    if names and not fitting:
        raise ValueError(f"the weights do not fit {names[0]}: {misfits[names[0]]}. {fit}")
    return state, fit, fitting


def _misfit(name: str, fit: Fit, state: State) -> str:
    with torch.device("meta"):
        own = create_model(name, **fit.arguments).state_dict()
    return misfit_of(own, state)


class _Steps:
    """The progress of a conversion, by its steps: how far each is, the libraries that read and write do not tell."""

    def __init__(self, file: Path) -> None:
        quick = not file.is_file() or file.stat().st_size < SHOWN_FROM
        self.bar = tqdm(total=3, leave=False, bar_format="{desc} |{bar}| {n}/{total}", disable=quick)

    def __enter__(self) -> Callable[[str, Callable[[], Any]], Any]:
        return self._step

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def _step(self, name: str, work: Callable[[], Any]) -> Any:
        self.bar.set_description(_say(name))
        result = work()
        self.bar.update()
        return result
