"""Colour photographs that travel inside scikit-image: nothing is downloaded."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..strings import text
from .extras import require

__all__ = ["Photograph", "Photographs", "photograph", "photographs"]

# scikit-image's own names, everyday subjects first, with who to thank.
_CREDITS = {
    "astronaut": "NASA, public domain",
    "chelsea": "Stéfan van der Walt, CC0",
    "coffee": "Rachel Michetti, courtesy of Pikolo Espresso Bar, CC0",
    "rocket": "SpaceX, public domain",
    "retina": "Mikael Häggström, CC0",
    "hubble_deep_field": "NASA, public domain",
    "immunohistochemistry": "Center for Microscopy and Molecular Imaging, no known restrictions",
}


@dataclass(frozen=True, eq=False, repr=False)
class Photograph:
    """A colour photograph.

    Attributes
    ----------
    name, title, credit
        Its short name, what it shows, and who made it.
    image
        uint8 [H, W, 3], red, green, blue.
    """

    name: str
    title: str
    image: npt.NDArray[np.uint8]
    credit: str

    def __repr__(self) -> str:
        height, width, _ = self.image.shape
        return f"Photograph({self.name!r}, {height}x{width})"


class Photographs(Mapping[str, Photograph]):
    """The photographs by name, in a fixed order; each is read when it is first asked for."""

    def __init__(self) -> None:
        self._read: dict[str, Photograph] = {}

    def __getitem__(self, name: str) -> Photograph:
        if name not in _CREDITS:
            raise KeyError(_unknown(name))
        if name not in self._read:
            self._read[name] = photograph(name)
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in _CREDITS

    def __iter__(self) -> Iterator[str]:
        return iter(_CREDITS)

    def __len__(self) -> int:
        return len(_CREDITS)

    def __repr__(self) -> str:
        return f"Photographs({', '.join(self)})"


def photographs() -> Photographs:
    """Return the photographs that scikit-image carries, as a mapping from name to `Photograph`.

    Raises ImportError if scikit-image is missing, KeyError for an unknown name.

    >>> pictures = photographs()
    >>> pictures["coffee"]
    Photograph('coffee', 400x600)
    >>> list(pictures)[:3]
    ['astronaut', 'chelsea', 'coffee']
    """
    require("skimage.data")
    return Photographs()


def photograph(name: str) -> Photograph:
    """Return one photograph by name: uint8 [H, W, 3] with its title and credit.

    Raises ImportError if scikit-image is missing, ValueError for an unknown name.

    >>> photograph("astronaut").image.shape
    (512, 512, 3)
    """
    if name not in _CREDITS:
        raise ValueError(_unknown(name))
    image = np.array(getattr(require("skimage.data"), name)(), dtype=np.uint8)
    return Photograph(name, text("data", f"photograph.{name}"), image, _CREDITS[name])


def _unknown(name: str) -> str:
    nearest = difflib.get_close_matches(str(name).lower(), _CREDITS, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else "."
    return f"no photograph is called {name!r}. There are {', '.join(_CREDITS)}{hint}"
