"""Run a learner's function so that whatever it does stays inside: output, errors, time, memory, settings.

The time limit stops Python code. In the main thread on POSIX a timer signal raises `TimeUp` in the
learner's code; it also ends a sleep or a wait. Elsewhere (Windows, JupyterLab's subshells, worker
threads) the function runs in a thread of its own, and `TimeUp` is raised in that thread from outside.
A process of its own would need to carry the function across, which a notebook's function, closing
over the notebook's variables, cannot do on every system; a thread needs nothing of the kind. What no
limit can stop is one endless call inside a C library that never returns to Python.
"""

import ctypes
import signal
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from mambaout_edu.learn.limits_shared import Printed, contained

__all__ = ["Outcome", "run"]

_HAS_TIMER = hasattr(signal, "setitimer")
_SAID = 1_000  # characters of an error message that are kept
_AGAIN = 0.05  # seconds between reminders, for code that catches everything
_GRACE = 1.0  # seconds that a thread gets to end after its first reminder
_PACKAGE = str(Path(__file__).resolve().parent.parent)
_LIBRARY = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib"))


class TimeUp(SystemExit):
    """Raised in the learner's code when its time is over.

    A SystemExit, because a thread ends silently in one, should a second reminder reach it on its way out.
    """


@dataclass(frozen=True)
class Outcome:
    """What one call did: its value, or how it failed, and what it printed."""

    kind: Literal["value", "raised", "time_limit"]
    value: Any = None
    error: str = ""  # "ValueError: what it says"
    error_type: str = ""
    lines: str = ""  # the traceback, the learner's own lines only
    printed: str = ""
    printed_more: int = 0  # characters that were not kept
    ended: bool = True  # False if the code could not be stopped and still runs in its thread


def run(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], seconds: float) -> Outcome:
    r"""Call `function(*args, **kwargs)` for at most `seconds`, and say what happened. Never raises what it raised.

    Raises KeyboardInterrupt only if the reader interrupts the kernel meanwhile.

    >>> run(lambda: print("hello") or 7, (), {}, seconds=5).printed
    'hello\n'
    """
    in_main = threading.current_thread() is threading.main_thread()
    with contained() as printed:
        how = _run_here if in_main and _HAS_TIMER else _run_in_thread
        fields = how(function, args, kwargs, seconds, printed)
    return Outcome(**fields, printed=printed.text(), printed_more=printed.more)


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return function(*args, **kwargs)  # a frame of its own: `TimeUp` may strike here, and in no other of this file


def _attempt(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"kind": "value", "value": _call(function, args, kwargs)}
    except TimeUp:
        raise
    except BaseException as error:  # SystemExit and KeyboardInterrupt too: the learner's code must not end the kernel
        return {"kind": "raised", **_describe(error)}


def _run_here(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], seconds: float, printed: Printed
) -> dict[str, Any]:
    inside = rung = interrupted = False

    def ring(signum: int, frame: FrameType | None) -> None:
        nonlocal rung
        rung = True
        # Raising in our own frames could skip the clean-up; the timer rings again in a moment.
        if inside and (frame is None or frame.f_code is _call.__code__ or frame.f_code.co_filename != __file__):
            raise TimeUp

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    started = time.monotonic()
    before_alarm, before_int = signal.signal(signal.SIGALRM, ring), signal.getsignal(signal.SIGINT)
    if callable(before_int):
        signal.signal(signal.SIGINT, interrupt)
    before_timer = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        inside = True
        fields = _attempt(function, args, kwargs)
        inside = False
    except TimeUp:
        inside = False
        fields = {"kind": "time_limit"}
    finally:
        inside = False
        _restore_alarm(before_alarm, before_timer, started)
        if callable(before_int):
            signal.signal(signal.SIGINT, before_int)
    if interrupted:  # by the reader, not by the code
        raise KeyboardInterrupt
    return {"kind": "time_limit"} if rung else fields


def _restore_alarm(handler: Any, timer: tuple[float, float], started: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, handler if handler is not None else signal.SIG_DFL)
    if timer[0]:  # somebody else's timer goes on, less the time that has passed
        left = timer[0] - (time.monotonic() - started)
        signal.setitimer(signal.ITIMER_REAL, max(left, 0.001), timer[1])


def _run_in_thread(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], seconds: float, printed: Printed
) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def work() -> None:
        printed.listen()
        try:
            found.update(_attempt(function, args, kwargs))
        except TimeUp:
            found["kind"] = "time_limit"

    thread = threading.Thread(target=work, daemon=True, name="exercise")
    thread.start()
    thread.join(seconds)
    if not thread.is_alive():
        return found or {"kind": "time_limit"}
    deadline = time.monotonic() + _GRACE
    while thread.is_alive() and not found and time.monotonic() < deadline:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TimeUp))
        thread.join(_AGAIN)
    return {"kind": "time_limit", "ended": not thread.is_alive() or bool(found)}


def _describe(error: BaseException) -> dict[str, str]:
    """Return type, message and the learner's own lines of an error, as plain text."""
    name = type(error).__name__
    try:
        said = str(error)
    except TimeUp:
        raise
    except BaseException:  # an exception of the learner's own may be broken, too
        said = ""
    said = said if len(said) <= _SAID else f"{said[:_SAID]}…"
    lines = [
        f"line {frame.lineno}, in {frame.name}" + (f"\n    {frame.line}" if frame.line else "")
        for frame in traceback.extract_tb(error.__traceback__)
        if not _is_library(frame.filename)
    ]
    if len(lines) > 6:  # a recursion shows how it began and how it ended
        lines = [*lines[:2], "…", *lines[-2:]]
    return {"error": f"{name}: {said}" if said else name, "error_type": name, "lines": "\n".join(lines)}


def _is_library(filename: str) -> bool:
    return filename.startswith((_PACKAGE, *_LIBRARY, "<frozen"))
