"""Files of weights: published `.pth` and safetensors, read without running what is in them, and written whole or not.

A `.pth` is a pickle, which can name any function to be called. `torch.load(weights_only=True)` calls none but those
that make tensors; what else a training script left in the file is passed over if it is plain settings, and refused
otherwise.
"""

import contextlib
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.serialization import safe_globals

from mambaout_edu.models.keys import WRAPPERS, State, unwrap

__all__ = ["SUFFIXES", "WeightFile", "read_weights", "write_weights"]

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
# What tools leave in a state besides the model's own tensors, by the last part of the key, and what it is.
AUXILIARY = {
    "total_ops": "an operation count that thop wrote into the model",
    "total_params": "a parameter count that thop wrote into the model",
    "n_averaged": "the number of averaged steps, of torch's AveragedModel",
}


class _Passed:
    """Stands where a file has some settings: takes whatever they are built from, and does nothing with it."""

    def __new__(cls, *args: object) -> "_Passed":
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None: ...


# What training scripts put beside the weights, and what is made of it: torch fills no dictionaries but its own kinds.
SETTINGS: list[Any] = [
    (_Passed, "argparse.Namespace"),
    (_Passed, "pathlib.PosixPath"),
    (_Passed, "pathlib.WindowsPath"),
    (OrderedDict, "yacs.config.CfgNode"),
]


@dataclass(frozen=True)
class WeightFile:
    """The weights of a file, as `read_weights` found them.

    Attributes
    ----------
    state
        The tensors by their keys.
    key
        The key that they were under in the file, nested ones with dots; empty where they were under none.
    others
        Keys beside it that hold weights too, such as "model" beside its average "model_ema".
    dropped
        Keys of tensors that are no weights, and what each is.
    """

    state: State
    key: str
    others: tuple[str, ...]
    dropped: dict[str, str]


def read_weights(path: str | os.PathLike[str], key: str | None = None) -> WeightFile:
    """Read the weights of a `.pth`, `.pt`, `.bin`, `.ckpt` or `.safetensors` file, without running code from it.

    Parameters
    ----------
    path
        The file.
    key
        Under which key of the file the weights are, "outer.inner" for nested ones. If None, they are under "model",
        "state_dict" or the average of either, which is taken first, or under none.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is of another kind, torn, or holds objects that would need code to run; or no weights are found
        in it.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "checkpoint.pth")
    >>> torch.save({"model": {"module.fc.weight": torch.ones(2, 3)}, "epoch": 300}, path)
    >>> found = read_weights(path)
    >>> found.key, found.state["fc.weight"].shape
    ('model', torch.Size([2, 3]))
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}; give the path of a file of weights")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path.name!r} is no file of weights by its ending; expected one of {', '.join(SUFFIXES)}")
    loaded = _load_safetensors(path) if path.suffix.lower() == ".safetensors" else _load_pickled(path)
    if not isinstance(loaded, Mapping):
        raise ValueError(  # noqa: TRY004 - what a file holds is a value
            f"{path.name!r} holds a {type(loaded).__name__}; expected tensors by their keys (a state_dict)"
        )
    outer, inner = _find(loaded, key)
    dropped = {name: why for name in inner if (why := AUXILIARY.get(str(name).rpartition(".")[2]))}
    state = unwrap({name: value for name, value in inner.items() if name not in dropped})
    _check_tensors(state, loaded, path.name)
    others = tuple(name for name in _holding_weights(loaded) if name != outer.partition(".")[0])
    return WeightFile(state, outer, others if outer else (), dropped)


def write_weights(
    state: Mapping[str, Tensor], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write weights as safetensors: beside the target first, then renamed, so that no half of a file is left behind.

    Raises OSError if they cannot be written; a file that was there before is then as it was.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "model.safetensors")
    >>> write_weights({"fc.weight": torch.ones(2, 3)}, path)
    >>> [file.name for file in path.parent.iterdir()]
    ['model.safetensors']
    """
    path = Path(path)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        save_file(_apart(state), beside, metadata={"format": "pt", **(metadata or {})})
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        size = sum(value.numel() * value.element_size() for value in state.values()) / 1e6
        raise OSError(
            f"could not write {path.name!r} ({error}). Is the folder there, may it be written, and has the disk "
            f"{size:.1f} MB left? Nothing is left of the attempt."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _load_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(_torn(path, error)) from error


def _load_pickled(path: Path) -> object:
    try:
        with safe_globals(SETTINGS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a torn file raises whatever its torn bytes happen to mean
        if isinstance(error, pickle.UnpicklingError) and (named := _refused(str(error))):
            raise ValueError(
                f"{path.name!r} holds {named}, which is neither a tensor nor a number: reading it could run code from "
                "the file, so it is refused. Ask the authors for safetensors or a plain state_dict. If you trust the "
                "file, open it where nothing can be harmed, with torch.load(path, weights_only=False), and save its "
                "state_dict alone with torch.save."
            ) from error
        raise ValueError(_torn(path, error)) from error


def _refused(message: str) -> str:
    """Return the name of what torch refused to make of a pickle; empty where it says nothing of the kind."""
    found = re.search(r"GLOBAL (\S+)|(?:class|function) (\S+) ", message)
    return next((name.rstrip(".,") for name in found.groups() if name), "") if found else ""


def _torn(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if start.startswith(b"<"):
        what = "is a web page, not weights: the download led to a page that asks something. Fetch the file itself."
    elif start.startswith(b"version https://git-lfs"):
        what = "only points to the weights, which git LFS keeps elsewhere: fetch them with git lfs pull."
    else:
        what = f"cannot be read: it is torn or of another kind ({type(error).__name__}). Fetch it again, and compare"
        what += f" its size, {path.stat().st_size:,} bytes, with the original's."
    return f"{path.name!r} {what}"


def _find(loaded: Mapping[str, object], key: str | None) -> tuple[str, Mapping[str, object]]:
    """Return the innermost mapping of weights and its key; without `key`, the way that `unwrap` goes."""
    if key is None:
        name = next((name for name in WRAPPERS if isinstance(loaded.get(name), Mapping)), None)
        if name is None:
            return "", loaded
        deeper, found = _find(loaded[name], None)  # type: ignore[arg-type]
        return f"{name}.{deeper}" if deeper else name, found
    inner: Mapping[str, Any] = loaded
    for name in key.split("."):
        value = inner.get(name)
        if not isinstance(value, Mapping):
            there = ", ".join(map(repr, _holding_weights(loaded))) or "none: leave the key out"
            message = f"the file has no weights under the key {key!r}; it has some under {there}"
            raise ValueError(message)  # noqa: TRY004 - what a file holds is a value
        inner = value
    deeper, found = _find(inner, None)
    return f"{key}.{deeper}" if deeper else key, found


def _holding_weights(loaded: Mapping[str, object]) -> list[str]:
    """Return the keys under which there are mappings of tensors, also nested ones; an optimiser's are numbered."""

    def holds(value: object) -> bool:
        return isinstance(value, Mapping) and any(
            isinstance(name, str) and (isinstance(inner, Tensor) or (name in WRAPPERS and holds(inner)))
            for name, inner in value.items()
        )

    return [name for name, value in loaded.items() if holds(value)]


def _check_tensors(state: Mapping[str, object], loaded: Mapping[str, object], file: str) -> None:
    other = next((name for name, value in state.items() if not isinstance(value, Tensor)), None)
    if state and other is None:
        return
    under = ", ".join(map(repr, _holding_weights(loaded)))
    found = f"{other!r} is a {type(state[other]).__name__}" if other is not None else "there is nothing"
    hint = f"There are tensors under {under}: name the key (--key, or key=...)." if under else "It holds no weights."
    raise ValueError(f"expected tensors alone in {file!r}, but {found}. {hint}")


def _apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors that share no memory and are contiguous, as safetensors wants them; copied where they are not."""
    seen: set[int] = set()
    own: dict[str, Tensor] = {}
    for key, value in state.items():
        storage = value.untyped_storage()
        alone = storage.data_ptr() not in seen and storage.nbytes() == value.numel() * value.element_size()
        seen.add(storage.data_ptr())
        own[key] = value.detach().contiguous() if alone else value.detach().clone(memory_format=torch.contiguous_format)
    return own
