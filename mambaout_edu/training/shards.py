"""WebDataset shards read in place: tar files whose members `KEY.jpg` and `KEY.cls` are a picture and its label.

A stream of shards cannot be resumed at an exact image. So each shard is looked through once, from header to header, and
its pictures are then read by their position in the file.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from tqdm.auto import tqdm

from ..strings import text

__all__ = ["Shards", "open_shards"]

_PICTURES = frozenset({"jpg", "jpeg", "png", "webp", "ppm"})
_NAMES = {"train": ("train",), "validation": ("val", "test")}

Place = tuple[int, int, int, int]  # shard, offset and size of the picture in bytes, label


class Shards:
    """Pictures in shards; item i is (the picture's file, its label).

    Attributes
    ----------
    classes
        The names in `classes.txt` beside the shards, one a line; the numbers of the labels where there is none.
    """

    def __init__(self, paths: list[Path], places: list[Place], classes: tuple[str, ...]) -> None:
        self.paths, self.places, self.classes = paths, places, classes

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[io.BytesIO, int]:
        shard, offset, size, label = self.places[index]
        with self.paths[shard].open("rb") as file:
            file.seek(offset)
            return io.BytesIO(file.read(size)), label


def open_shards(root: Path, split: str, *, progress: bool = True) -> Shards:
    """Look through the shards of a split, `*train*.tar` or `*val*.tar` (or `*test*.tar`) in one folder.

    Raises
    ------
    FileNotFoundError
        If the folder is not there.
    ValueError
        If there are no shards, a shard is broken, a picture has no label, or a label has no name.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {str(root)!r}; check the drive or the spelling")
    paths = next((found for name in _NAMES[split] if (found := sorted(root.glob(f"*{name}*.tar")))), [])
    places = [
        (shard, *place)
        for shard, path in enumerate(tqdm(paths, desc=text("data", "folder.checking"), disable=not progress, delay=5))
        for place in _pictures(path)
    ]
    if not places:
        wanted = " or ".join(f"*{name}*.tar" for name in _NAMES[split])
        raise ValueError(f"{str(root)!r} has no pictures for {split} in {len(paths)} shards; expected {wanted}")
    return Shards(paths, places, _classes(root, max(label for *_, label in places)))


def _pictures(path: Path) -> list[tuple[int, int, int]]:
    """Return (offset, size, label) of every picture in a shard."""
    pictures: dict[str, tuple[int, int]] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                folder, slash, file = member.name.rpartition("/")
                stem, _, suffix = file.partition(".")  # as WebDataset does: "a.seg.png" is no picture of "a"
                key = folder + slash + stem
                if suffix.lower() in _PICTURES:
                    pictures[key] = (member.offset_data, member.size)
                elif suffix in ("cls", "json"):
                    labels[key] = _label(shard.extractfile(member).read(), suffix)  # type: ignore[union-attr]
    except (tarfile.TarError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"shard {path.name} is broken or has labels of another kind: {error!r}") from error
    if missing := [key for key in pictures if key not in labels]:
        raise ValueError(f"shard {path.name}: {len(missing)} pictures have no label KEY.cls, the first {missing[0]!r}")
    return [(*place, labels[key]) for key, place in pictures.items()]


def _label(content: bytes, suffix: str) -> int:
    return int(content) if suffix == "cls" else int(json.loads(content)["label"])


def _classes(root: Path, largest: int) -> tuple[str, ...]:
    listed = root / "classes.txt"
    if not listed.is_file():
        return tuple(str(label) for label in range(largest + 1))
    names = tuple(line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip())
    if largest >= len(names):
        raise ValueError(
            f"classes.txt names {len(names)} classes, but there is a label {largest}; expected one line each"
        )
    return names
