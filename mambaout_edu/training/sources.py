"""Where images come from, by one word: the packaged digits, a folder, torchvision, Hugging Face, WebDataset shards."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from timm.data import create_dataset
from torch import Tensor

from ..data import ImageSet, digits, image_folder
from ..data.outlines import CLASSES, outlines
from .recipe import Recipe
from .shards import open_shards

__all__ = ["FORMS", "SPLITS", "Source", "open_source"]

SPLITS = ("train", "validation")
FORMS = (
    "digits",
    "outlines",
    "outlines:IMAGES",
    "folder:PATH",
    "torch/NAME:ROOT",
    "hfds/OWNER/NAME",
    "hfds/OWNER/NAME:CACHE",
    "wds:PATH",
)
"""What `open_source` understands. "download:" before a torch/ form lets torchvision fetch it."""

_SPLIT_FOLDERS = {"train": ("train", "training"), "validation": ("val", "valid", "validation", "test")}
_TORCH_SETS = ("cifar10", "cifar100", "fashion_mnist", "imagenet", "kmnist", "mnist", "qmnist")


class Pictures(Protocol):
    """Pictures with a label, by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, int]: ...


@dataclass(frozen=True, eq=False)
class Source:
    """One part of a data set: pictures with labels.

    Attributes
    ----------
    dataset
        Item i is (picture, label): a PIL image, or a float32 tensor [C, H, W] from 0 to 1. OSError says that
        it cannot be read.
    classes
        The name of each label.
    name
        For people.
    in_memory
        Whether reading costs nothing, so that no further processes are needed.
    """

    dataset: Pictures
    classes: tuple[str, ...]
    name: str
    in_memory: bool = False

    def __len__(self) -> int:
        return len(self.dataset)

    def __repr__(self) -> str:
        return f"Source({self.name}: {len(self)} images, {len(self.classes)} classes)"

    @classmethod
    def of(cls, images: ImageSet, name: str = "images in memory") -> Source:
        """Return a source of images in memory.

        >>> Source.of(digits().test, "digits")
        Source(digits: 450 images, 10 classes)
        """
        return cls(_InMemory(images), images.classes, name, in_memory=True)


class _InMemory:
    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images.images[index], int(self.images.labels[index])


class _Coloured:
    """The pictures of a data set in one mode, "RGB" or "L", decoded here: what is broken raises OSError at once."""

    def __init__(self, pictures: Any, mode: str) -> None:
        self.pictures, self.mode = pictures, mode

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        picture, label, *_ = self.pictures[index]
        if not isinstance(picture, Image.Image):  # timm's readers give an open file
            with picture, Image.open(picture) as opened:
                return opened.convert(self.mode), int(label)
        return picture.convert(self.mode), int(label)


class _Folder:
    """The pictures of an `ImageFolder` as PIL images, with the labels of another list of classes."""

    def __init__(self, folder: Any, classes: tuple[str, ...], mode: str) -> None:
        self.folder, self.mode = folder, mode
        self.labels = [classes.index(folder.classes[label]) for label in range(len(folder.classes))]

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        picture = Image.fromarray(self.folder.image(index))
        return picture.convert(self.mode), self.labels[self.folder.labels[index]]


def open_source(data: str, split: str, recipe: Recipe) -> Source:
    """Return one part of a data set by its word.

    Parameters
    ----------
    data
        One of `FORMS`:

        digits                scikit-learn's, split as `data.digits` does
        outlines              40,000 generated pictures of `data.outlines`, 8,000 held out; outlines:4000 makes 4,000
        folder:PATH           PATH/train and PATH/val (or validation, or test), one sub-folder a class
        torch/NAME:ROOT       a set of torchvision's under ROOT; download:torch/NAME:ROOT fetches it first
        hfds/OWNER/NAME       a data set of the Hugging Face hub, which fetches what its cache lacks
        wds:PATH              WebDataset shards, PATH/*train*.tar and PATH/*val*.tar, read in place
    split
        "train" or "validation".
    recipe
        `in_chans` decides between colour and grey, `image_size` the size of the digits.

    Raises
    ------
    ValueError
        If the word is not understood, or there are no images or classes of this split.
    FileNotFoundError, NotADirectoryError
        If the folder is not there.
    ImportError
        If the package that reads this form is missing.

    Examples
    --------
    >>> from mambaout_edu.training.recipe import recipe
    >>> open_source("digits", "train", recipe("digits_cpu"))
    Source(digits, train: 1347 images, 10 classes)
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected {' or '.join(SPLITS)}")
    word, _, place = data.removeprefix("download:").partition(":")
    name = f"{data}, {split}"
    if data.startswith("download:") and not word.startswith("torch/"):
        raise ValueError(f"{data!r}: only torch/NAME:ROOT can be downloaded so; leave out download:")
    if word == "digits" and not place:
        return _digits(split, recipe, name)
    if word == "outlines" and (place.isdecimal() or not place):
        return _outlines(split, recipe, int(place or 40_000), name)
    if word == "folder" and place:
        return _folder(Path(place).expanduser(), split, _mode(recipe, data), name)
    if word == "wds" and place:
        shards = open_shards(Path(place).expanduser(), split)
        return Source(_Coloured(shards, _mode(recipe, data)), shards.classes, name)
    if word.startswith("torch/") and place:
        return _torch(word, Path(place).expanduser(), split, data.startswith("download:"), _mode(recipe, data), name)
    if word.startswith("hfds/"):
        return _hugging_face(word, place or None, split, _mode(recipe, data), name)
    raise ValueError(f"data is {data!r}; expected one of {', '.join(FORMS)}")


def _mode(recipe: Recipe, data: str) -> str:
    if recipe.in_chans not in (1, 3):
        raise ValueError(
            f"the recipe has in_chans = {recipe.in_chans}; pictures of {data!r} have 3 channels or 1 (grey)"
        )
    return "RGB" if recipe.in_chans == 3 else "L"


def _digits(split: str, recipe: Recipe, name: str) -> Source:
    size = recipe.image_size if split == "train" else recipe.eval_image_size or recipe.image_size
    train, test = digits(image_size=size)
    images = train if split == "train" else test
    if recipe.in_chans != 1:
        images = ImageSet(images.images.expand(-1, recipe.in_chans, -1, -1), images.labels, images.classes)
    return Source.of(images, name)


def _outlines(split: str, recipe: Recipe, images: int, name: str) -> Source:
    if recipe.in_chans != 3:
        raise ValueError(f"the recipe has in_chans = {recipe.in_chans}; outlines have colours: set in_chans to 3")
    if images % (5 * CLASSES) or not images:
        raise ValueError(f"outlines:{images}: expected a multiple of {5 * CLASSES}, since a fifth as many are held out")
    size = recipe.image_size if split == "train" else recipe.eval_image_size or recipe.image_size
    train, test = (images, CLASSES) if split == "train" else (CLASSES, images // 5)
    made = outlines(train=train, test=test, image_size=size)
    # Reading costs little, augmenting does not: further processes help, unlike with the digits.
    return replace(Source.of(made.train if split == "train" else made.test, name), in_memory=False)


def _folder(root: Path, split: str, mode: str, name: str) -> Source:
    _check_root(root)
    parts = {part: _split_folder(root, part) for part in SPLITS}
    chosen = parts[split]
    if chosen is None:
        held = ", ".join(sorted(entry.name for entry in root.iterdir())[:6]) or "nothing"
        raise ValueError(
            f"{str(root)!r} has no folder for {split}; it holds {held}. Expected {' or '.join(_SPLIT_FOLDERS[split])}, "
            "with one sub-folder a class inside"
        )
    folder = image_folder(chosen, verify=False, progress=False)
    classes = folder.classes
    if split != "train" and parts["train"] is not None:  # labels are places in the list of the training classes
        classes = tuple(sorted(p.name for p in parts["train"].iterdir() if p.is_dir() and not p.name.startswith(".")))
        if unknown := sorted(set(folder.classes) - set(classes)):
            raise ValueError(
                f"{str(chosen)!r} has classes that {parts['train'].name!r} lacks: {', '.join(unknown[:6])}; "
                "a model cannot be measured on what it did not learn"
            )
    return Source(_Folder(folder, classes, mode), classes, name)


def _split_folder(root: Path, split: str) -> Path | None:
    return next((root / name for name in _SPLIT_FOLDERS[split] if (root / name).is_dir()), None)


def _torch(word: str, root: Path, split: str, download: bool, mode: str, name: str) -> Source:
    which = word.removeprefix("torch/").lower()
    if which not in _TORCH_SETS:
        raise ValueError(
            f"torchvision's data set {which!r} is not known here; expected one of {', '.join(_TORCH_SETS)}"
        )
    if not download:
        _check_root(root)
    try:
        found = create_dataset(word, root=str(root), split=split, download=download)
    except RuntimeError as error:
        raise FileNotFoundError(
            f"{which} is not in {str(root)!r} ({error}). To have torchvision fetch it, write download:{word}:{root}"
        ) from error
    classes = tuple(c if isinstance(c, str) else c[0] for c in found.classes)  # ImageNet's have several names each
    return _filled(Source(_Coloured(found, mode), classes, name))


def _hugging_face(word: str, cache: str | None, split: str, mode: str, name: str) -> Source:
    if importlib.util.find_spec("datasets") is None:
        raise ImportError(f"{word} needs the package datasets; install it with: pip install datasets", name="datasets")
    reader = create_dataset(word, root=cache, split=split).reader
    classes = tuple(sorted(reader.class_to_idx, key=reader.class_to_idx.__getitem__))
    return _filled(Source(_Coloured(reader, mode), classes, name))


def _filled(source: Source) -> Source:
    if not len(source) or not source.classes:
        raise ValueError(
            f"{source.name} has {len(source)} images and {len(source.classes)} classes; expected some of each"
        )
    return source


def _check_root(root: Path) -> None:
    if not root.exists():
        raise FileNotFoundError(f"there is no folder {str(root)!r}; check the drive or the spelling")
    if not root.is_dir():
        raise NotADirectoryError(f"{str(root)!r} is a file; expected a folder")
