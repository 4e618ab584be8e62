"""A trained model leaves: for timm, as safetensors, or as a program that torch runs without this package.

What is written is read back and compared with the model before it takes its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from ..models import create_model, export_state_dict, load_official
from ..models.weight_files import read_weights, write_weights
from ..strings import text
from .trained import ABOUT, Trained

__all__ = ["FORMATS", "Exported", "export"]

FORMATS: Mapping[str, tuple[str, ...]] = {
    "timm": (".safetensors", ".pth"),
    "safetensors": (".safetensors",),
    "torch-export": (".pt2",),
}
"""The formats, and the endings that a file of each may have."""

_HERE_ONLY = ("pad_hidden",)  # options that change how a model computes, not what: timm's model has none of them
_TOLERANCE = 1e-4  # of the largest score, for outputs of the model that is read back


@dataclass(frozen=True)
class Exported:
    """What `export` wrote; as text, a summary with the line that loads it.

    Attributes
    ----------
    path, to
        The file and its format.
    name, model_options
        The model.
    megabytes
        The file's size, 10^6 bytes.
    difference
        The largest difference between a score of the model and of what was read back, over the largest score.
    """

    path: Path
    to: str
    name: str
    model_options: dict[str, object]
    megabytes: float
    difference: float

    def __str__(self) -> str:
        options = "".join(f", {key}={value!r}" for key, value in self.model_options.items() if key not in _HERE_ONLY)
        place = {"file": str(self.path), "name": self.name, "options": options}
        wrote = text("cli", "export_wrote", file=str(self.path), to=self.to, megabytes=self.megabytes)
        checked = text("cli", "export_checked", difference=f"{self.difference:.1g}")
        needs = self.to == "timm" and not in_timm(self.name)
        load = text("cli", f"export_load_{self.to.replace('-', '_')}", **place)
        return "\n".join([wrote, checked, load, *([text("cli", "export_import", name=self.name)] if needs else [])])


def export(trained: Trained, target: str | os.PathLike[str], to: str = "timm", *, force: bool = False) -> Exported:
    """Write a trained model in another program's format, and check it by reading it back.

    "timm" is a checkpoint that `timm.create_model(name, checkpoint_path=target)` loads: under timm's keys where timm
    has the model, under ours for names that `import mambaout_edu.models` adds to timm. "safetensors" has our keys, and
    says in its metadata which model, classes and preparation of images it belongs to, as the former does, too.
    "torch-export" is a program for images [B, C, H, W] of the recipe's size and any B.

    Parameters
    ----------
    trained
        What `load_trained` returns.
    target
        The file to write, with an ending of `FORMATS`.
    to
        The format.
    force
        Whether a target that is there already is replaced.

    Raises
    ------
    FileExistsError, FileNotFoundError
        If the target is there without `force`, or its folder is not.
    ValueError
        If the format or the ending is unknown, or what was read back answers differently; nothing is written then.

    Examples
    --------
    >>> import tempfile
    >>> from mambaout_edu.training.recipe import recipe
    >>> trained = Trained(create_model("mambaout_pico_8"), "mambaout_pico_8", {}, (), recipe("digits_cpu"))
    >>> done = export(trained, Path(tempfile.mkdtemp(), "digits.safetensors"))
    >>> timm.create_model("mambaout_pico_8", checkpoint_path=str(done.path)).num_classes
    1000
    """
    target = Path(target)
    check_target(target, to, force)
    write, read = _WAYS[to]
    trained.model.eval()
    # The ending stays last: it tells every reader the format.
    beside = target.with_name(f"{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        write(trained, beside)
        difference = _difference(trained, read(trained, beside))
        beside.replace(target)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
    megabytes = target.stat().st_size / 1e6
    return Exported(target, to, trained.name, dict(trained.model_options), megabytes, difference)


def check_target(target: Path, to: str, force: bool) -> None:
    """Refuse, as `export` does, what cannot be written under this name."""
    if to not in FORMATS:
        raise ValueError(f"to is {to!r}; expected one of {', '.join(FORMATS)}")
    if target.suffix not in FORMATS[to]:
        raise ValueError(f"a file for {to} ends in {' or '.join(FORMATS[to])}; got {target.name!r}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(target.parent)!r} to write into; make it first")
    if target.is_dir():
        raise IsADirectoryError(f"{str(target)!r} is a folder; give the name of a file")
    if target.exists() and not force:
        raise FileExistsError(f"{str(target)!r} is there already; give another name, or --force (force=True)")


def _write_weights(trained: Trained, state: Mapping[str, Tensor], path: Path) -> None:
    about = json.dumps(trained.about())
    if path.suffix == ".safetensors":
        write_weights(state, path, {ABOUT: about})
        return
    with _said_as_os_error(path):
        torch.save({"state_dict": dict(state), "arch": trained.name, ABOUT: about}, path)


@contextlib.contextmanager
def _said_as_os_error(path: Path) -> Iterator[None]:
    """Torch reports a full disk as a RuntimeError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"could not write into {str(path.parent)!r} ({error}). May it be written, and has the disk room left? "
            "Nothing is left of the attempt."
        ) from error


def _write_timm(trained: Trained, path: Path) -> None:
    state = export_state_dict(trained.model, "timm") if in_timm(trained.name) else trained.model.state_dict()
    _write_weights(trained, state, path)


def in_timm(name: str) -> bool:
    """Tell whether timm has a model of its own under this name."""
    return not timm.models.model_entrypoint(name).__module__.startswith(create_model.__module__.partition(".")[0])


def _timms(trained: Trained, **options: object) -> nn.Module:
    own = {key: value for key, value in trained.model_options.items() if key not in _HERE_ONLY}
    made: nn.Module = timm.create_model(trained.name, **own, **options)
    return made


def _read_timm(trained: Trained, path: Path) -> nn.Module:
    return _timms(trained, checkpoint_path=str(path)).eval()


def _write_safetensors(trained: Trained, path: Path) -> None:
    _write_weights(trained, trained.model.state_dict(), path)


def _read_safetensors(trained: Trained, path: Path) -> nn.Module:
    model = create_model(trained.name, **trained.model_options)
    load_official(model, read_weights(path).state)
    return model.eval()


def _write_program(trained: Trained, path: Path) -> None:
    example = _images(trained, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its inner workings
        shapes = ({0: torch.export.Dim("batch", min=1)},)
        program = torch.export.export(trained.model, (example,), dynamic_shapes=shapes)
        with _said_as_os_error(path):
            torch.export.save(program, path, extra_files={f"{ABOUT}.json": json.dumps(trained.about())})


def _read_program(trained: Trained, path: Path) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.load(path).module()


_WAYS: dict[str, tuple[Callable[[Trained, Path], None], Callable[[Trained, Path], nn.Module]]] = {
    "timm": (_write_timm, _read_timm),
    "safetensors": (_write_safetensors, _read_safetensors),
    "torch-export": (_write_program, _read_program),
}


def _images(trained: Trained, batch: int) -> Tensor:
    side = trained.recipe.eval_image_size or trained.recipe.image_size
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, trained.recipe.in_chans, side, side, generator=generator)


@torch.no_grad()
def _difference(trained: Trained, read_back: nn.Module) -> float:
    images = _images(trained, 3)  # not the batch that a program was traced with
    ours, theirs = trained.model(images), read_back(images)
    difference = float((ours - theirs).abs().max() / ours.abs().max().clamp_min(1e-12))
    if not difference <= _TOLERANCE:
        raise ValueError(
            f"read back, the model answers differently: by {difference:.1g} of its largest score, where rounding makes "
            f"at most {_TOLERANCE:g}. Nothing was written; are the weights finite?"
        )
    return difference
