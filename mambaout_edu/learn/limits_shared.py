"""What the whole process shares while a learner's code runs: output, warnings, settings, memory.

Several checks may run at once, in several threads. The first to begin puts the guards up, the last
to end takes them down, so none of them restores a state that another one had set.
"""

import contextlib
import io
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

__all__ = ["Printed", "contained"]

_KEPT = 2_000  # characters of output that are kept
_MEMORY = 4 * 2**30  # bytes that the code may take on top of what is in use

_lock = threading.Lock()
_users = 0
_guards = contextlib.ExitStack()
_listening: "dict[int, Printed]" = {}  # by thread: who keeps what it prints


class Printed:
    """The first characters that one call prints, from all threads that were told to `listen`."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.length = 0
        self.threads: dict[int, Printed | None] = {}  # and who listened to them before

    def listen(self) -> None:
        """Keep what the current thread prints from here on."""
        ident = threading.get_ident()
        self.threads[ident] = _listening.get(ident)
        _listening[ident] = self

    def end(self) -> None:
        """Let all threads print as before."""
        for ident, before in self.threads.items():
            if before is None:
                _listening.pop(ident, None)
            else:
                _listening[ident] = before

    def write(self, text: str) -> int:
        """Keep a text, as far as there is room."""
        if self.length < _KEPT:
            self.parts.append(text[: _KEPT - self.length])
        self.length += len(text)
        return len(text)

    def text(self) -> str:
        """Return what was kept."""
        return "".join(self.parts)

    @property
    def more(self) -> int:
        """How many characters were not kept."""
        return max(0, self.length - _KEPT)


class _Router(io.TextIOBase):
    """Stands in for a stream: threads that somebody listens to are kept, the others pass through."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        listener = _listening.get(threading.get_ident())
        return listener.write(text) if listener else self.stream.write(text)

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Stay open: `sys.stdout.close()` in a learner's code must not close the notebook's output."""


@contextlib.contextmanager
def contained() -> Iterator[Printed]:
    """Keep what this thread prints, and put the process's settings back at the end."""
    global _users
    with _lock:
        if not _users:
            for guard in (_output(), _warnings(), _settings(), _memory()):
                _guards.enter_context(guard)
        _users += 1
    printed = Printed()
    printed.listen()
    try:
        with _grad_mode():
            yield printed
    finally:
        printed.end()
        with _lock:
            _users -= 1
            if not _users:
                _guards.close()


@contextlib.contextmanager
def _output() -> Iterator[None]:
    with contextlib.redirect_stdout(_Router(sys.stdout)), contextlib.redirect_stderr(_Router(sys.stderr)):
        yield


@contextlib.contextmanager
def _warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    torch = sys.modules.get("torch")
    dtype = torch.get_default_dtype() if torch else None
    recursion = sys.getrecursionlimit()
    try:
        yield
    finally:
        sys.setrecursionlimit(recursion)
        if torch:
            torch.set_default_dtype(dtype)


@contextlib.contextmanager
def _grad_mode() -> Iterator[None]:
    """Put torch's gradient mode back: every thread has its own."""
    torch = sys.modules.get("torch")
    enabled = torch.is_grad_enabled() if torch else None
    try:
        yield
    finally:
        if torch:
            torch.set_grad_enabled(enabled)


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    """On Linux, let an allocation beyond `_MEMORY` raise MemoryError before the system kills the kernel."""
    if not sys.platform.startswith("linux"):
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    pages = int(Path("/proc/self/statm").read_text().split()[5])  # data and stack
    bounds = [bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([pages * resource.getpagesize() + _MEMORY, *bounds]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
