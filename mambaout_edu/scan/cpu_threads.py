"""Run a compiled function that needs no interpreter lock on as many threads as torch may use.

On Linux they are torch's own: its OpenMP workers go on spinning for some milliseconds after each of torch's operations,
so that other threads would wait for a core all that time. Where torch brings no such library, or after a fork (which
none of its threads survive), there is a pool of our own: torch's count less the caller, it belongs to one process, and
if it is busy with another caller's work, the caller does everything itself and cancels what did not start.

Numba's own thread layers are not used: they either may not be entered from two threads at once or do not survive a
fork, and they have a thread count of their own.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

__all__ = ["run_on_threads"]

_MEMBER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_size = 0
_forked = False


def run_on_threads(kernel: Callable[..., None], *arguments: Any, tasks: int) -> None:
    """Call kernel(*arguments) at once in at most `tasks` threads, which share out the work among themselves."""
    threads = min(torch.get_num_threads(), tasks)
    parallel = None if _forked else _openmp_parallel()
    if threads == 1:
        kernel(*arguments)
    elif parallel is None:
        _run_in_pool(kernel, arguments, threads - 1)
    else:
        _run_in_team(parallel, kernel, arguments, threads)


def _run_in_team(parallel: Any, kernel: Callable[..., None], arguments: tuple[Any, ...], threads: int) -> None:
    raised: list[BaseException] = []

    def member(_: object) -> None:
        try:
            kernel(*arguments)
        except BaseException as error:  # nothing may pass through the C code below
            raised.append(error)

    parallel(_MEMBER(member), None, threads, 0)
    if raised:
        raise raised[0]


@functools.cache
def _openmp_parallel() -> Any:
    """Return `GOMP_parallel(function, data, threads, flags)` of the OpenMP library that torch brings, or None."""
    if "OpenMP" not in torch.__config__.parallel_info():
        return None
    root = Path(torch.__file__).parent
    for path in (*root.glob("lib/libgomp*.so*"), *root.parent.glob("torch.libs/libgomp*.so*")):
        parallel = ctypes.CDLL(str(path)).GOMP_parallel  # already loaded: this finds the same one
        parallel.argtypes, parallel.restype = (_MEMBER, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
        return parallel
    return None


def _run_in_pool(kernel: Callable[..., None], arguments: tuple[Any, ...], helpers: int) -> None:
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


def _forget_threads() -> None:
    """After a fork: the threads are gone, and the lock may have been held by one of them."""
    global _lock, _pool, _size, _forked
    _lock, _pool, _size, _forked = threading.Lock(), None, 0, True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
