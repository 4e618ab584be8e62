"""Tasks that ask for something out of the past: what a model remembers, and for how long.

Every task draws tokens [B, L] and what is to be said at each of them [B, L], with `IGNORED` where nothing is asked. A
number makes the task harder: its dial. Sources: selective copying and induction heads, Mamba, arXiv 2312.00752, section
4.1; copying, Hochreiter and Schmidhuber 1997 and Arjovsky et al., arXiv 1511.06464; associative recall with many
queries, Arora et al., arXiv 2312.04927.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "IGNORED",
    "TASKS",
    "AssociativeRecall",
    "Copying",
    "Drawn",
    "InductionHeads",
    "Needle",
    "RecallTask",
    "SelectiveCopying",
    "recall_task",
]

IGNORED = -100
"""What stands where nothing is asked: `torch.nn.functional.cross_entropy` skips it."""


class Drawn(NamedTuple):
    """Tokens [B, L], and what is to be said at each of them [B, L]."""

    tokens: Tensor
    targets: Tensor


@dataclass(frozen=True)
class RecallTask:
    """What all tasks share.

    Attributes
    ----------
    symbols
        How many different symbols there are to remember, the tokens 0 ... symbols - 1.
    dial
        The name of the number that makes this task harder.
    """

    symbols: int = 16
    dial: ClassVar[str] = ""
    marks: ClassVar[tuple[str, ...]] = ()  # further tokens, after the symbols

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            least = 2 if field.name == "symbols" else 0 if field.name == "delay" else 1
            given = getattr(self, field.name)
            if given < least:
                raise ValueError(f"{field.name} of {type(self).__name__} must be at least {least}; got {given}")
        self._check()

    @property
    def vocab_size(self) -> int:
        """How many different tokens there are."""
        return self.symbols + len(self.marks)

    @property
    def length(self) -> int:
        """Tokens of a sequence."""
        raise NotImplementedError

    @property
    def chance(self) -> float:
        """The share of answers that a blind guess has right."""
        return 1 / self.symbols

    @property
    def bag(self) -> float:
        """The share that is right for one who knows which symbols came, but not where or with which key.

        A model above `chance` and not above this has remembered a set, not an order or a bond. It equals `chance` where
        a set says nothing.
        """
        return self.chance

    def with_dial(self, value: int) -> RecallTask:
        """Return this task with another difficulty.

        >>> Needle(distance=50).with_dial(100).length
        103
        """
        return dataclasses.replace(self, **{self.dial: value})

    def draw(self, batch: int, generator: torch.Generator) -> Drawn:
        """Return `batch` new sequences; the same generator state gives the same ones."""
        if batch < 1:
            raise ValueError(f"batch must be at least 1; got {batch}")
        return Drawn(*self._draw(batch, generator))

    def mark(self, name: str) -> int:
        """Return the token of a mark."""
        return self.symbols + self.marks.index(name)

    def _check(self) -> None:
        """Raise ValueError where numbers that are each in range do not go together."""

    def _draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


@dataclass(frozen=True)
class Copying(RecallTask):
    """Repeat the symbols from the beginning, in order, after a delay.

    In a picture: x x x . . . . ? ? ?

    Nothing has to be selected: what is to be remembered always stands at the same place.

    Examples
    --------
    >>> task = Copying(symbols=8, items=3, delay=2)
    >>> tokens, targets = task.draw(1, torch.Generator().manual_seed(0))
    >>> tokens.tolist(), targets.tolist()
    ([[4, 7, 5, 8, 8, 9, 9, 9]], [[-100, -100, -100, -100, -100, 4, 7, 5]])
    """

    items: int = 8
    delay: int = 40
    dial: ClassVar[str] = "delay"
    marks: ClassVar[tuple[str, ...]] = ("blank", "say")

    @property
    def length(self) -> int:
        """Items, delay, and the items once more."""
        return 2 * self.items + self.delay

    def _draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        items = torch.randint(self.symbols, (batch, self.items), generator=generator)
        tokens = torch.full((batch, self.length), self.mark("blank"))
        tokens[:, : self.items] = items
        return _asked_at_the_end(tokens, items, self.mark("say"))


@dataclass(frozen=True)
class SelectiveCopying(RecallTask):
    """Repeat the symbols in order, which stand anywhere among blanks.

    In a picture: . x . . x . x . ? ? ?

    What is to be remembered stands at other places in every sequence, so it must be told from what is to be forgotten.

    Examples
    --------
    >>> task = SelectiveCopying(symbols=8, items=3, blanks=5)
    >>> tokens, targets = task.draw(1, torch.Generator().manual_seed(1))
    >>> tokens.tolist(), targets[0, -3:].tolist()
    ([[8, 5, 3, 8, 4, 8, 8, 8, 9, 9, 9]], [5, 3, 4])
    """

    items: int = 8
    blanks: int = 240
    dial: ClassVar[str] = "blanks"
    marks: ClassVar[tuple[str, ...]] = ("blank", "say")

    @property
    def length(self) -> int:
        """Items and blanks, and the items once more."""
        return 2 * self.items + self.blanks

    def _draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        items = torch.randint(self.symbols, (batch, self.items), generator=generator)
        places = _places(batch, self.items + self.blanks, self.items, generator)
        tokens = torch.full((batch, self.length), self.mark("blank"))
        tokens.scatter_(1, places, items)
        return _asked_at_the_end(tokens, items, self.mark("say"))


@dataclass(frozen=True)
class InductionHeads(RecallTask):
    """Say what followed a mark the last time, when the mark comes again at the end.

    In a picture: a b c ! d e a b !

    The rule does not depend on the length, so a model can be asked at lengths that it was not trained on.

    Examples
    --------
    >>> task = InductionHeads(symbols=8, size=9)
    >>> tokens, targets = task.draw(1, torch.Generator().manual_seed(0))
    >>> tokens.tolist(), targets[0, -1].item()
    ([[4, 7, 5, 0, 3, 8, 3, 7, 8]], 3)
    """

    size: int = 64
    dial: ClassVar[str] = "size"
    marks: ClassVar[tuple[str, ...]] = ("mark",)

    def _check(self) -> None:
        if self.size < 3:
            raise ValueError(f"size must be at least 3: mark, answer, mark; got {self.size}")

    @property
    def length(self) -> int:
        """All tokens, both marks among them."""
        return self.size

    def _draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        tokens = torch.randint(self.symbols, (batch, self.size), generator=generator)
        place = torch.randint(self.size - 2, (batch, 1), generator=generator)
        answers = tokens.gather(1, place + 1)
        tokens.scatter_(1, place, self.mark("mark"))
        return _asked_at_the_end(tokens, answers, self.mark("mark"))


@dataclass(frozen=True)
class AssociativeRecall(RecallTask):
    """Learn pairs of key and value, then say the value of every key, asked in any order.

    In a picture: a 1 b 2 c 3, then b a c

    Keys are the tokens 0 ... symbols - 1, values the next as many; within a sequence all keys differ, and all values.
    A state of fixed size holds so many pairs and no more; a bank holds them all.

    Examples
    --------
    >>> task = AssociativeRecall(symbols=4, pairs=2)
    >>> tokens, targets = task.draw(1, torch.Generator().manual_seed(3))
    >>> tokens.tolist(), targets[0, -2:].tolist()
    ([[0, 6, 3, 7, 0, 3]], [6, 7])
    >>> task.chance, task.bag
    (0.25, 0.5)
    """

    symbols: int = 64
    pairs: int = 8
    dial: ClassVar[str] = "pairs"

    def _check(self) -> None:
        if self.pairs > self.symbols:
            raise ValueError(
                f"{self.pairs} pairs need as many different keys, and there are symbols = {self.symbols}; give more"
            )

    @property
    def vocab_size(self) -> int:
        """Keys and values."""
        return 2 * self.symbols

    @property
    def length(self) -> int:
        """Pairs, and one key for each."""
        return 3 * self.pairs

    @property
    def bag(self) -> float:
        """One of the values that came: 1 in `pairs` is right."""
        return 1 / self.pairs

    def _draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        keys = _shuffled(batch, self.symbols, generator)[:, : self.pairs]
        values = _shuffled(batch, self.symbols, generator)[:, : self.pairs] + self.symbols
        asked = _shuffled(batch, self.pairs, generator)
        pairs = torch.stack((keys, values), -1).flatten(1)  # [B, 2 pairs]
        tokens = torch.cat((pairs, keys.gather(1, asked)), 1)
        targets = torch.full_like(tokens, IGNORED)
        targets[:, 2 * self.pairs :] = values.gather(1, asked)
        return tokens, targets


@dataclass(frozen=True)
class Needle(RecallTask):
    """Say the one symbol that followed a mark, so many other symbols later.

    In a picture: ! x a b c d e f ?

    The distance is exact, where in `InductionHeads` it is drawn: accuracy against it is how fast a model forgets.

    Examples
    --------
    >>> task = Needle(symbols=8, distance=4)
    >>> tokens, targets = task.draw(1, torch.Generator().manual_seed(0))
    >>> tokens.tolist(), targets[0, -1].item()
    ([[8, 7, 5, 0, 3, 3, 9]], 7)
    """

    distance: int = 100
    dial: ClassVar[str] = "distance"
    marks: ClassVar[tuple[str, ...]] = ("mark", "ask")

    @property
    def length(self) -> int:
        """Mark, needle, hay, question."""
        return self.distance + 3

    def _draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        tokens = torch.randint(self.symbols, (batch, self.length), generator=generator)
        tokens[:, 0] = self.mark("mark")
        return _asked_at_the_end(tokens, tokens[:, 1:2].clone(), self.mark("ask"))


TASKS: dict[str, type[RecallTask]] = {
    "copying": Copying,
    "selective_copying": SelectiveCopying,
    "induction_heads": InductionHeads,
    "associative_recall": AssociativeRecall,
    "needle": Needle,
}
"""The tasks by name."""


def recall_task(name: str, **numbers: Any) -> RecallTask:
    """Return a task by its name, with other numbers than its own where they are given.

    Raises ValueError for an unknown task or a number out of range, TypeError for a number that the task has not.

    >>> recall_task("associative_recall", pairs=4)
    AssociativeRecall(symbols=64, pairs=4)
    """
    if name not in TASKS:
        raise ValueError(f"no task is named {name!r}; expected one of {', '.join(TASKS)}")
    known = [field.name for field in dataclasses.fields(TASKS[name])]
    if unknown := [number for number in numbers if number not in known]:
        raise TypeError(f"{name} has no {', '.join(unknown)}; it has {', '.join(known)}")
    return TASKS[name](**numbers)


def _asked_at_the_end(tokens: Tensor, answers: Tensor, question: int) -> tuple[Tensor, Tensor]:
    """Put a question at each of the last places, and return what is to be said there."""
    count = answers.shape[1]
    tokens[:, -count:] = question
    targets = torch.full_like(tokens, IGNORED)
    targets[:, -count:] = answers
    return tokens, targets


def _shuffled(batch: int, count: int, generator: torch.Generator) -> Tensor:
    """Return the numbers 0 ... count - 1 in random order, one order for each row, [B, count]."""
    return torch.rand(batch, count, generator=generator, dtype=torch.float64).argsort(1)


def _places(batch: int, among: int, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` different places of so many, in rising order, [B, count]."""
    return _shuffled(batch, among, generator)[:, :count].sort(1).values
