"""Memories to compare with: those that are published or were read from a machine, each with its source."""

import os
from pathlib import Path
from typing import Any

from mambaout_edu.strings import text

__all__ = ["PLACES", "known_places", "machine_places"]

PLACES = {"l2": 2**20, "l3": 32 * 2**20, "card": 24 * 2**30, "h200": 141 * 10**9}
"""Bytes by key: caches of the machine of the recorded CPU runs, memories of two graphics cards by their data sheets."""

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def known_places() -> list[dict[str, Any]]:
    """Return the memories of `PLACES` with their names and sources, in the reader's language.

    >>> [place["bytes"] for place in known_places()] == list(PLACES.values())
    True
    """
    return [
        {
            "name": text("memory_bank", f"place_{key}"),
            "bytes": size,
            "source": text("memory_bank", f"source_{key}"),
        }
        for key, size in PLACES.items()
    ]


def machine_places(caches: Path = _CACHES) -> list[dict[str, Any]]:
    """Return this machine's memories, as far as its system tells: caches, main memory, graphics card.

    Parameters
    ----------
    caches
        Where Linux describes the caches of a processor; elsewhere they are left out.

    Examples
    --------
    >>> all(place["bytes"] > 0 and place["source"] for place in machine_places())
    True
    """
    found = [("cache", size, {"level": level}) for level, size in _cache_sizes(caches)]
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        found.append(("main", os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), {}))
    found += _graphics()
    return [
        {
            "name": text("memory_bank", f"own_{key}", **values),
            "bytes": size,
            "source": text("memory_bank", "source_own"),
        }
        for key, size, values in found
    ]


def _cache_sizes(folder: Path) -> list[tuple[int, int]]:
    """Return (level, bytes) of the caches that hold data, from level 2."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    found = []
    for cache in sorted(folder.glob("index*")):
        try:
            level, kind, size = (
                (cache / name).read_text(encoding="ascii").strip() for name in ("level", "type", "size")
            )
            scale = units.get(size[-1:], 1)
            told = (int(level), int(size.rstrip("KMG")) * scale)
        except (OSError, ValueError):  # a virtual machine may hide some
            continue
        if kind != "Instruction" and told[0] > 1 and told[1] > 0:
            found.append(told)
    return found


def _graphics() -> list[tuple[str, int, dict[str, Any]]]:
    import torch

    if not torch.cuda.is_available():
        return []
    card = torch.cuda.get_device_properties(0)
    return [
        ("card_cache", int(card.L2_cache_size), {"card": card.name}),
        ("card", int(card.total_memory), {"card": card.name}),
    ]
