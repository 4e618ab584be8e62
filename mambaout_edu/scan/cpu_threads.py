"""Run a compiled function that needs no interpreter lock on as many threads as torch may use.

Numba's own thread layers are not used: they either may not be entered from two threads at once or do not survive a
fork, and they have a thread count of their own. Here the pool is torch's count less the caller, it belongs to one
process (a forked data-loader worker starts afresh, and has one thread by torch's own setting), and the caller works
too: if the pool is busy with another caller's work, it does everything itself and cancels what did not start.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

__all__ = ["run_on_threads"]

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_size = 0


def run_on_threads(kernel: Callable[..., None], *arguments: Any, tasks: int) -> None:
    """Call kernel(*arguments) at once in at most `tasks` threads, which share out the work among themselves."""
    helpers = min(torch.get_num_threads(), tasks) - 1
    futures = [_executor(helpers).submit(kernel, *arguments) for _ in range(helpers)]
    kernel(*arguments)
    for future in futures:
        if not future.cancel():
            future.result()


def _executor(helpers: int) -> ThreadPoolExecutor:
    global _pool, _size
    with _lock:
        if _pool is None or _size < helpers:
            # A smaller pool that is left finishes its work and ends by itself.
            if _pool is not None:
                _pool.shutdown(wait=False)
            _pool, _size = ThreadPoolExecutor(helpers, thread_name_prefix="selective_scan"), helpers
        return _pool


def _forget_pool() -> None:
    """After a fork: the threads are gone, and the lock may have been held by one of them."""
    global _lock, _pool, _size
    _lock, _pool, _size = threading.Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
