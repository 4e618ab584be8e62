"""Verse to read and to write, character by character: poems in English and Chinese, all in the public domain."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import NamedTuple

import torch
from torch import Tensor

from .recall import Drawn

__all__ = ["LANGUAGES", "Characters", "Poem", "TextWindows", "poems", "verse"]

LANGUAGES = ("en", "zh")


class Poem(NamedTuple):
    """A poem: `year` is that of publication, None where it is not known."""

    title: str
    author: str
    year: int | None
    text: str


@functools.cache
def poems(language: str = "en") -> tuple[Poem, ...]:
    """Return the poems in a language, "en" or "zh".

    English verse from Shakespeare to Christina Rossetti, Chinese verse of the Tang and Song dynasties; the authors are
    long dead, so the poems are in the public domain.

    Raises ValueError for another language.

    >>> poem = poems("zh")[0]
    >>> poem.author, poem.text.splitlines()[0]
    ('李白', '床前明月光，疑是地上霜。')
    """
    if language not in LANGUAGES:
        raise ValueError(f"there are poems in {' and '.join(LANGUAGES)}; got {language!r}")
    source = files(__package__) / "texts" / f"{language}.json"
    found = json.loads(source.read_text(encoding="utf-8"))["poems"]
    return tuple(Poem(p["title"], p["author"], p.get("year"), p["text"]) for p in found)


def verse(language: str = "en") -> str:
    """Return all poems of a language as one text, an empty line between two.

    Raises ValueError for another language.

    >>> verse("en")[:27]
    'Tyger Tyger, burning bright'
    """
    return "\n\n".join(poem.text for poem in poems(language)) + "\n"


class Characters:
    """The characters of a text as tokens 0 ... V - 1, in the order of Unicode.

    Raises ValueError for a text without characters.

    Examples
    --------
    >>> characters = Characters("我想吃苹果")
    >>> characters.encode("吃苹果")
    tensor([0, 4, 3])
    >>> characters.decode(characters.encode("我想吃"))
    '我想吃'
    """

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("the text is empty; expected one character or more")
        self.symbols = tuple(sorted(set(text)))
        self._tokens = {symbol: token for token, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def __repr__(self) -> str:
        return f"Characters({len(self)} different)"

    def encode(self, text: str) -> Tensor:
        """Return the tokens of a text, int64 [length]; ValueError for a character that has none."""
        if unknown := sorted(set(text) - set(self.symbols)):
            raise ValueError(
                f"no token for {''.join(unknown)!r}; the characters are those of the text it was made from"
            )
        return torch.tensor([self._tokens[symbol] for symbol in text], dtype=torch.long)

    def decode(self, tokens: Tensor | Sequence[int]) -> str:
        """Return the text of tokens [length]; ValueError for what is no token."""
        numbers = tokens.tolist() if isinstance(tokens, Tensor) else list(tokens)
        if wrong := [n for n in numbers if not 0 <= n < len(self)]:
            raise ValueError(f"tokens lie from 0 to {len(self) - 1}; got {wrong[:5]}")
        return "".join(self.symbols[n] for n in numbers)


@dataclass(frozen=True, eq=False)
class TextWindows:
    """Pieces of a text, each with what follows every character of it: drawn as the recall tasks are.

    Parameters
    ----------
    tokens
        The text, int64 [length].
    vocab_size
        How many different tokens there are.
    length
        L, tokens of a piece, fewer than the text has.

    Raises
    ------
    ValueError
        If the text is shorter than a piece and what follows it.

    Examples
    --------
    >>> windows = TextWindows.of("abcdefgh", length=3)
    >>> tokens, targets = windows.draw(2, torch.Generator().manual_seed(0))
    >>> bool((targets == tokens + 1).all())  # in the alphabet, the next letter
    True
    """

    tokens: Tensor
    vocab_size: int
    length: int = 64

    def __post_init__(self) -> None:
        if self.tokens.ndim != 1 or not 1 <= self.length < len(self.tokens):
            raise ValueError(
                f"length must lie from 1 to {max(self.tokens.numel() - 1, 0)} for a text of {self.tokens.numel()} "
                f"tokens; got {self.length}"
            )

    @classmethod
    def of(cls, text: str, length: int = 64) -> TextWindows:
        """Return the windows of a text, its own characters as tokens."""
        characters = Characters(text)
        return cls(characters.encode(text), len(characters), length)

    def draw(self, batch: int, generator: torch.Generator) -> Drawn:
        """Return `batch` pieces from random places: tokens [B, L], and the next of each [B, L]."""
        if batch < 1:
            raise ValueError(f"batch must be at least 1; got {batch}")
        start = torch.randint(len(self.tokens) - self.length, (batch, 1), generator=generator)
        place = start + torch.arange(self.length)
        return Drawn(self.tokens[place], self.tokens[place + 1])
