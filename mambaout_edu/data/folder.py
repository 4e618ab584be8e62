"""The reader's own pictures: one sub-folder a class, read when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from ..strings import text
from .images import model_input, read_image

__all__ = ["ImageFolder", "Skipped", "image_folder"]

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# What Pillow and its decoders raise for files that are broken, cut short, or made to do harm.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why."""

    path: Path
    reason: str


class ImageFolder(Dataset[tuple[Tensor, int]]):
    """Pictures on disk with one label each; item `i` is a float32 [3, H, W] tensor and its class number.

    Attributes
    ----------
    classes
        The sub-folders' names, sorted; a label is a position in this tuple.
    paths, labels
        One entry a picture.
    skipped
        The files that could not be read, with the reason.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        paths: list[Path],
        labels: list[int],
        skipped: list[Skipped],
        transform: Callable[[npt.NDArray[np.uint8]], Tensor],
    ) -> None:
        self.classes = classes
        self.paths = paths
        self.labels = labels
        self.skipped = skipped
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.image(index)), self.labels[index]

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        """Return picture `index` as it is on disk, uint8 [H, W, 3]."""
        path = self.paths[index]
        try:
            return read_image(path)
        except _UNREADABLE as error:
            raise OSError(
                f"cannot read {path} ({error}). If files changed since, call image_folder again; "
                "with verify=True it leaves unreadable files out"
            ) from error

    def __repr__(self) -> str:
        left_out = f", {len(self.skipped)} files skipped" if self.skipped else ""
        return f"ImageFolder({len(self)} pictures, {len(self.classes)} classes{left_out})"


def image_folder(
    path: Path | str,
    image_size: int = 224,
    *,
    transform: Callable[[npt.NDArray[np.uint8]], Tensor] | None = None,
    verify: bool = True,
    progress: bool = True,
) -> ImageFolder:
    """Find the pictures under `path`, where every sub-folder is one class.

    Parameters
    ----------
    path
        A folder such as `pets`, which holds `pets/cat/1.jpg`, `pets/dog/2.png`, and so on; deeper
        folders count to their class.
    image_size
        Each picture becomes a square of this side: `model_input` resizes, crops and normalises.
    transform
        Used instead, if given: from uint8 [H, W, 3] to a tensor.
    verify
        Decode every file once, and leave out, count and list those that cannot be read. False is
        quicker; an unreadable file then raises OSError when its turn comes.
    progress
        Show a progress bar while checking.

    Returns
    -------
    ImageFolder
        A torch Dataset that reads a picture when it is asked for.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If the path is no folder.
    ValueError
        If there are no sub-folders, or one of them has no picture that can be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         (Path(folder) / name).mkdir()
    ...         Image.new("RGB", (40, 30)).save(Path(folder) / name / "1.png")
    ...     pets = image_folder(folder, image_size=32, progress=False)
    ...     pets, pets[1][0].shape, pets[1][1]
    (ImageFolder(2 pictures, 2 classes), torch.Size([3, 32, 32]), 1)
    """
    root = Path(path).expanduser()
    found = {folder.name: _pictures(folder) for folder in _class_folders(root)}
    skipped = _unreadable([file for files in found.values() for file in files], progress) if verify else []
    bad = {entry.path for entry in skipped}
    kept = {name: [file for file in files if file not in bad] for name, files in found.items()}
    _refuse_empty(root, found, kept)
    classes = tuple(kept)
    paths = [file for files in kept.values() for file in files]
    labels = [label for label, files in enumerate(kept.values()) for _ in files]
    return ImageFolder(classes, paths, labels, skipped, transform or (lambda image: model_input(image, image_size)))


def _class_folders(root: Path) -> list[Path]:
    if not root.exists():
        raise FileNotFoundError(f"there is no folder {str(root)!r}; {_nearest_parent(root)}")
    if not root.is_dir():
        raise NotADirectoryError(f"{str(root)!r} is a file; expected a folder with one sub-folder a class")
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise ValueError(
            f"{str(root)!r} has no sub-folders; it holds {_listing(root)}. Expected one sub-folder a class, "
            "such as cat/ and dog/, with the pictures inside"
        )
    return folders


def _pictures(folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())
    return sorted(file for file in files if not file.name.startswith("."))


def _unreadable(files: list[Path], progress: bool) -> list[Skipped]:
    skipped = []
    for file in tqdm(files, desc=text("data", "folder.checking"), disable=not progress):
        try:
            read_image(file)
        except _UNREADABLE as error:
            skipped.append(Skipped(file, str(error) or type(error).__name__))
    return skipped


def _refuse_empty(root: Path, found: dict[str, list[Path]], kept: dict[str, list[Path]]) -> None:
    empty = [name for name, files in kept.items() if not files]
    if not empty:
        return
    name = empty[0]
    if found[name]:
        what = f"none of its {len(found[name])} pictures can be read"
    else:
        what = f"it holds {_listing(root / name)}"
    raise ValueError(
        f"class {name!r} in {str(root)!r} has no pictures ({what}). "
        f"Add pictures ({', '.join(sorted(_SUFFIXES))}) or remove the folder"
    )


def _nearest_parent(path: Path) -> str:
    parent = next((p for p in path.absolute().parents if p.is_dir()), None)
    return f"{str(parent)!r} holds {_listing(parent)}" if parent else "check the drive or the spelling"


def _listing(folder: Path, limit: int = 6) -> str:
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir() if not entry.name.startswith("."))
    if not names:
        return "nothing"
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
