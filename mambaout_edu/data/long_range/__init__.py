"""Pictures in which things must be related that stand far apart.

Every task draws images [B, H, W, C] and targets; its dial says how many pixels lie between what must be related.

far_key         a key in the corner says how shapes far away must be painted: a class for every pixel of a shape
local_control   the very same pictures; a mark beside each shape says it, and the corner says nothing
connected_path  are the two dots on one curve? One class for the picture
"""

from .far_key import FarKey, LocalControl
from .path import ConnectedPath
from .task import IGNORED, Drawn, LongRangeTask

__all__ = ["IGNORED", "TASKS", "ConnectedPath", "Drawn", "FarKey", "LocalControl", "LongRangeTask", "long_range_task"]

TASKS: dict[str, type[LongRangeTask]] = {
    "far_key": FarKey,
    "local_control": LocalControl,
    "connected_path": ConnectedPath,
}
"""The tasks by name."""


def long_range_task(name: str, **numbers: int | float) -> LongRangeTask:
    """Return a task by its name, with other numbers than its own where they are given.

    Raises ValueError for an unknown task or a number out of range, TypeError for a number that the task has not.

    >>> long_range_task("far_key", size=32, distance=8)
    FarKey(size=32, noise=0.05, distance=8, mark=4, shapes=2)
    """
    if name not in TASKS:
        raise ValueError(f"no task is named {name!r}; expected one of {', '.join(TASKS)}")
    known = TASKS[name].numbers()
    if unknown := [number for number in numbers if number not in known]:
        raise TypeError(f"{name} has no {', '.join(unknown)}; it has {', '.join(known)}")
    return TASKS[name](**numbers)  # type: ignore[arg-type]
