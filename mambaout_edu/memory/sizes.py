"""Bytes: what a memory holds, what is free on the machine, and a refusal in words before anything too large is made."""

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Bytes", "check_free", "count_bytes", "free_memory", "readable", "tensors_of"]


class Bytes(NamedTuple):
    """Bytes of a memory: `used` by what is remembered, and `reserved` by the tensors that hold it."""

    used: int
    reserved: int

    def __repr__(self) -> str:
        return f"Bytes({readable(self.used)} used, {readable(self.reserved)} reserved)"


def count_bytes(state: Any) -> Bytes:
    """Return the bytes of a state: of a tensor, of tuples, lists and dicts of them, and of what has a `bytes()`.

    `reserved` counts the storage behind every tensor, once: a slice keeps alive all that it was cut from.

    Raises TypeError for anything else.

    >>> whole = torch.zeros(100)
    >>> tuple(count_bytes((whole[:10], whole[10:20])))
    (80, 400)
    """
    used = 0
    storages: dict[tuple[torch.device, int], int] = {}
    for tensor, counted in tensors_of(state):
        used += counted
        storage = tensor.untyped_storage()
        # On torch's meta device all addresses are 0: there every tensor counts by itself.
        storages[(tensor.device, storage.data_ptr() or -1 - len(storages))] = storage.nbytes()
    return Bytes(used, sum(storages.values()))


def tensors_of(state: Any) -> Iterator[tuple[Tensor, int]]:
    """Yield every tensor inside a state, with the bytes of it that are in use.

    >>> [(tuple(t.shape), used) for t, used in tensors_of((torch.zeros(2, 3), None))]
    [((2, 3), 24)]
    """
    if state is None:
        return
    if isinstance(state, Tensor):
        yield state, state.numel() * state.element_size()
    elif hasattr(state, "held"):
        yield from state.held()
    elif isinstance(state, Mapping):
        yield from tensors_of(list(state.values()))
    elif isinstance(state, tuple | list):
        for part in state:
            yield from tensors_of(part)
    else:
        raise TypeError(f"a state is made of tensors, tuples, lists and dicts; got {type(state).__name__}")


def readable(count: float) -> str:
    """Return a number of bytes as a reader says it.

    >>> readable(512), readable(3 * 2**20)
    ('512 bytes', '3.00 MiB')
    """
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = 0
    while abs(count) >= 1024 and power < len(units) - 1:
        count, power = count / 1024, power + 1
    return f"{count:.{2 if power else 0}f} {units[power]}"


def check_free(parts: Mapping[str, int], device: torch.device | str = "cpu", free: int | None = None) -> None:
    """Refuse what does not fit, before it is allocated.

    Parameters
    ----------
    parts
        Bytes that are about to be allocated, under what they are for.
    device
        Where.
    free
        Free bytes there; asked of the machine if None. Where it cannot tell, nothing is refused.

    Raises
    ------
    MemoryError
        If the sum is more than what is free; the message shows the sum.

    Examples
    --------
    >>> check_free({"keys": 2**30, "values": 2**30}, free=2**32)
    >>> check_free({"keys": 2**30, "values": 2**30}, free=2**30)
    Traceback (most recent call last):
    ...
    MemoryError: does not fit: keys 1.00 GiB + values 1.00 GiB = 2.00 GiB, and 1.00 GiB is free on cpu. ...
    """
    available = free_memory(device) if free is None else free
    need = sum(parts.values())
    if available is None or need <= available:
        return
    sum_of = " + ".join(f"{name} {readable(size)}" for name, size in parts.items())
    total = f" = {readable(need)}" if len(parts) > 1 else ""
    raise MemoryError(
        f"does not fit: {sum_of}{total}, and {readable(available)} is free on {device}. Nothing was allocated. "
        "Take fewer tokens, a smaller batch, fewer key-value heads, a window, or a 16-bit dtype."
    )


def free_memory(device: torch.device | str = "cpu") -> int | None:
    """Return the free bytes of a device, None where the system does not tell.

    On the CPU it is what programs may take without swapping, within the limit of a container.

    >>> free = free_memory()
    >>> free is None or free > 0
    True
    """
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    if sys.platform == "win32":
        return _free_on_windows()
    found = [size for size in (_free_by_meminfo(), _free_in_container()) if size is not None]
    if not found and "SC_PHYS_PAGES" in os.sysconf_names:  # macOS: all there is; better than no bound
        found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    return min(found, default=None)


def _free_by_meminfo(path: Path = Path("/proc/meminfo")) -> int | None:
    if not path.exists():
        return None
    lines = path.read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _free_in_container(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return what a container's limit (cgroup v2) leaves; files that were read and can be dropped count as free."""
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        taken = int((folder / "memory.current").read_text(encoding="ascii"))
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    if limit == "max":
        return None
    droppable = next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
    return max(0, int(limit) - taken + droppable)


def _free_on_windows() -> int | None:
    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            *((name, ctypes.c_uint64) for name in ("total", "free", "page", "free_page", "virtual", "v_free", "more")),
        )

    status = Status(length=ctypes.sizeof(Status))
    kernel: Any = getattr(ctypes, "windll", None)
    if kernel is None or not kernel.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.free)
