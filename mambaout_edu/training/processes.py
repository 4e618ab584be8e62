"""One process or several: accelerate's part, signals that ask a run to stop, and what a lost process looks like."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch

from .recipe import Recipe

__all__ = ["ProcessLost", "StopRequest", "create_accelerator", "lost"]


class ProcessLost(RuntimeError):  # noqa: N818 - what happened
    """Another process of the same run ended, so that this one cannot go on."""


# What gloo, NCCL and torch's store say when the other side is gone.
_GONE = re.compile(r"closed by peer|reset by peer|Broken pipe|Connection refused|Timed? ?out|NCCL|Gloo|TCPStore", re.I)


def lost(error: RuntimeError, processes: int) -> RuntimeError:
    """Return `ProcessLost` for the error of a broken connection between processes, any other error as it is.

    >>> lost(RuntimeError("[gloo] Connection closed by peer [127.0.0.1]"), 3).__class__.__name__
    'ProcessLost'
    >>> lost(RuntimeError("shapes do not fit"), 3)
    RuntimeError('shapes do not fit')
    """
    if processes == 1 or not _GONE.search(str(error)):
        return error
    return ProcessLost(
        f"one of the {processes} processes of this run ended, so all stop. Its own message, further up, says why; "
        "mend that, then resume the run from its last checkpoint"
    )


def create_accelerator(recipe: Recipe) -> Any:
    """Return Hugging Face accelerate's object for a recipe, on the devices that there are.

    Raises ImportError where accelerate is missing.

    >>> create_accelerator(Recipe(accumulate=2)).gradient_accumulation_steps
    2
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise ImportError(
            'training needs the package accelerate; install it with: pip install "mambaout-edu[train]"',
            name="accelerate",
        ) from error
    # A run before this one in the same notebook may have had another precision, which accelerate would keep.
    AcceleratorState._reset_state()
    mixed = "bf16" if recipe.precision == "bf16" else "no"
    return Accelerator(mixed_precision=mixed, gradient_accumulation_steps=recipe.accumulate)


class StopRequest:
    """A first SIGINT or SIGTERM asks to stop after the update; a second SIGINT stops at once.

    Used as a context; outside the main thread, where signals cannot be caught, it does nothing.
    """

    def __init__(self) -> None:
        self.name = ""

    def __bool__(self) -> bool:
        return bool(self.name)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.name and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name

    @contextlib.contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Catch the signals meanwhile."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def everywhere(self, accelerator: Any) -> bool:
        """Return whether any process was asked; all processes must call this together."""
        if accelerator.num_processes == 1:
            return bool(self)
        asked = torch.tensor(int(bool(self)), device=accelerator.device)
        return bool(accelerator.reduce(asked, reduction="sum").item())
