"""How a family of models names its weights, and how one naming becomes another.

A naming is called a layout. Every family has "mambaout_edu", ours, and "official", its authors'; some have "timm" too.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["WRAPPERS", "Fit", "Keys", "rename", "unwrap"]

State = dict[str, Tensor]

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")  # how training scripts nest a state


@dataclass(frozen=True)
class Fit:
    """Which model a state fits, by its numbers of blocks and channels; as text, a sentence that says so.

    >>> str(Fit(("vim_tiny",), "Vim(depth=24", {"num_classes": 10}))
    "They fit create_model('vim_tiny', num_classes=10)."
    """

    names: tuple[str, ...]  # published variants of these sizes, the likeliest first
    call: str  # the start of the call that makes the model where there are none
    arguments: dict[str, Any]  # of `create_model` or of the call, the rest
    note: str = "."  # what ends the sentence

    def __str__(self) -> str:
        start = f"create_model({self.names[0]!r}" if self.names else self.call
        return f"They fit {start}{''.join(f', {name}={value!r}' for name, value in self.arguments.items())}){self.note}"


@dataclass(frozen=True)
class Keys:
    """What one family knows of its own keys.

    `layout_of` returns the layout of a state, None for another family's; `convert` takes a state, its layout and the
    wanted one (never the same); `identify` says which variant a state in our layout fits; `expected`
    names keys that a reader can look for.
    """

    family: str  # the name of the model's class
    expected: str
    layout_of: Callable[[Mapping[str, Tensor]], str | None]
    convert: Callable[[State, str, str], State]
    identify: Callable[[Mapping[str, Tensor]], Fit]


def rename(state: Mapping[str, Tensor], rules: list[tuple[str, str]]) -> State:
    """Return a state with renamed keys; a key takes the first rule (pattern, replacement) that fits it, and no other.

    One rule a key, so that norm -> head.norm cannot meet head.norm -> pre_logits.norm.
    """

    def one(key: str) -> str:
        for pattern, replacement in rules:
            renamed, hits = re.subn(pattern, replacement, key)
            if hits:
                return renamed
        return key

    return {one(key): value for key, value in state.items()}


def unwrap(state: Mapping[str, object]) -> State:
    """Take a state out of what training scripts wrap around it: nesting (the EMA first) and a leading "module."."""
    for wrapper in WRAPPERS:
        inner = state.get(wrapper)
        if isinstance(inner, Mapping):
            return unwrap(inner)
    return {key.removeprefix("module."): value for key, value in state.items()}  # type: ignore[misc]
