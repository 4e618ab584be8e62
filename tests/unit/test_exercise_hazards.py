"""What a learner's code may do to a check: nothing gets out, and nothing is marked as done by accident."""

# ruff: noqa: T201  (printing is one of the hazards)

import os
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mambaout_edu.learn import limits, progress
from mambaout_edu.learn.checks import check

HERE = ["main thread", "worker thread"]


@pytest.fixture(autouse=True)
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what is recorded as passed."""
    recorded: list[str] = []
    monkeypatch.setattr(progress, "record", lambda kind, key, value=None: recorded.append(key))
    return recorded


def right(x, hidden, conv_channels):
    return x[..., :hidden], x[..., hidden : 2 * hidden - conv_channels], x[..., 2 * hidden - conv_channels :]


def check_in(where: str, answer, **options):
    """Check an answer to block.split, in this thread or in another one (as a subshell does)."""
    if where == "main thread":
        return check("block.split", answer, **options)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(check, "block.split", answer, **options).result(timeout=60)


@pytest.mark.parametrize("where", HERE)
def test_a_right_answer_passes_and_is_recorded(where: str, passes: list[str]) -> None:
    assert check_in(where, right).passed
    assert passes == ["block.split"]


def test_the_package_function_itself_is_right_but_not_recorded(passes: list[str]) -> None:
    from mambaout_edu.blocks import split_gate

    assert check("block.split", split_gate).passed
    assert passes == []


def forever(x, hidden, conv_channels):
    while True:
        pass


def forever_catching(x, hidden, conv_channels):
    while True:
        try:
            x = x + 0
        except BaseException:
            continue


def sleeping(x, hidden, conv_channels):
    for _ in range(20):
        time.sleep(0.1)


def late(x, hidden, conv_channels):
    try:
        while True:
            pass
    except BaseException:
        return right(x, hidden, conv_channels)


@pytest.mark.parametrize("where", HERE)
@pytest.mark.parametrize("answer", [forever, forever_catching, sleeping, late])
def test_an_endless_loop_is_stopped(where: str, answer, passes: list[str]) -> None:
    threads, started = threading.active_count(), time.monotonic()
    result = check_in(where, answer, seconds=0.3)
    assert (result.status, passes) == ("time_limit", []), result
    assert time.monotonic() - started < 20
    assert "still running after 0.3 s, and it was stopped" in result.message
    deadline = time.monotonic() + 10
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= threads


def test_a_thread_that_cannot_be_stopped_is_left_behind_with_a_word() -> None:
    release = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(check, "block.split", lambda *_: release.wait(60), seconds=0.2).result(timeout=30)
    release.set()
    assert result.status == "time_limit"
    assert "restart the kernel" in result.message


def test_the_thread_path_works_in_the_main_thread_as_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_HAS_TIMER", False)
    assert check("block.split", right).passed
    assert check("block.split", forever, seconds=0.2).status == "time_limit"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no interval timer")
def test_somebody_elses_timer_and_handlers_survive() -> None:
    rang = []
    before = signal.signal(signal.SIGALRM, lambda *_: rang.append(True))
    timer = signal.setitimer(signal.ITIMER_REAL, 1.0)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        assert check("block.split", forever, seconds=0.2).status == "time_limit"
        left = signal.getitimer(signal.ITIMER_REAL)[0]
        assert 0 < left <= 0.85
        assert signal.getsignal(signal.SIGINT) is interrupt
        deadline = time.monotonic() + 5
        while not rang and time.monotonic() < deadline:
            time.sleep(0.02)
        assert rang == [True]
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def _raise(error: BaseException):
    def answer(x, hidden, conv_channels):
        raise error

    return answer


class _Broken(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise RuntimeError("no message")


class _Leaving(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize("where", HERE)
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("too wide"), "ValueError: too wide"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (_Broken(), "_Broken"),
        (_Leaving(), "_Leaving"),
        (ValueError("x" * 10**6), "x…"),
        (StopIteration(), "StopIteration"),
    ],
)
def test_any_exception_is_shown_as_theirs(where: str, error: BaseException, said: str, passes: list[str]) -> None:
    result = check_in(where, _raise(error))
    assert (result.status, passes) == ("raised", [])
    assert result.message.endswith(said)
    assert "raise error" in result.details["traceback"]
    assert len(result.message) < 1_100


def test_the_traceback_holds_their_lines_only() -> None:
    def helper(x):
        return torch.cat((x, x[:, :1]), dim=0)  # fails inside torch

    def answer(x, hidden, conv_channels):
        return helper(x)

    lines = check("block.split", answer).details["traceback"].splitlines()
    assert [line.split(", ")[1] for line in lines[::2]] == ["in answer", "in helper"]
    assert os.sep not in "".join(lines[::2])


def test_exit_quit_and_recursion_do_not_end_the_kernel() -> None:
    def recursion(x, hidden, conv_channels):
        return recursion(x, hidden, conv_channels)

    assert "RecursionError" in check("block.split", recursion).message
    assert len(check("block.split", recursion).details["traceback"].splitlines()) < 12
    assert "SystemExit" in check("block.split", lambda *_: sys.exit(0)).message


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="POSIX")
def test_the_readers_own_interrupt_is_an_interrupt() -> None:
    main = threading.main_thread().ident
    timer = threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        check("block.split", forever, seconds=10)
    timer.join()
    assert check("block.split", right).passed


@pytest.mark.parametrize("where", HERE)
def test_prints_are_kept_in_the_result(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(x, hidden, conv_channels):
        print("shape", tuple(x.shape))
        print("to the error stream", file=sys.stderr)
        return right(x, hidden, conv_channels)

    result = check_in(where, answer)
    assert result.passed
    assert result.details["printed"].startswith("shape (2, 16, 16, 16)\nto the error stream")
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_endless_printing_is_trimmed() -> None:
    def answer(x, hidden, conv_channels):
        while True:
            print("again and again")

    result = check("block.split", answer, seconds=0.3)
    assert result.status == "time_limit"
    assert len(result.details["printed"]) < 300
    assert result.details["printed"].endswith("more characters")


@pytest.mark.parametrize("where", HERE)
def test_closing_or_replacing_the_output_harms_nobody(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    def closes(x, hidden, conv_channels):
        sys.stdout.close()
        sys.stderr.close()
        print("still here")
        return right(x, hidden, conv_channels)

    def replaces(x, hidden, conv_channels):
        sys.stdout = None
        return right(x, hidden, conv_channels)

    before = sys.stdout
    assert check_in(where, closes).passed
    assert check_in(where, replaces).passed
    assert sys.stdout is before
    print("the notebook goes on")
    assert capsys.readouterr().out == "the notebook goes on\n"


def test_other_threads_keep_their_output(capsys: pytest.CaptureFixture[str]) -> None:
    def answer(x, hidden, conv_channels):
        other = threading.Thread(target=print, args=("from elsewhere",))
        other.start()
        other.join()
        return right(x, hidden, conv_channels)

    assert "printed" not in check("block.split", answer).details
    assert "from elsewhere" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "status", "word"),
    [
        (lambda x, h, c: None, "none", "return"),
        (lambda x, h, c: (x, ...)[1], "unfinished", "`...`"),
        (lambda x, h, c: (x[..., :h], ..., x[..., -c:]), "unfinished", "at [1]"),
        (lambda x, h, c: [part.numpy() for part in right(x, h, c)], "type", "numpy.ndarray at [0]"),
        (lambda x, h, c: (part for part in right(x, h, c)), "type", "generator"),
        (lambda x, h, c: tuple(part.half() for part in right(x, h, c)), "dtype", "float16"),
        (lambda x, h, c: tuple(part.long() for part in right(x, h, c)), "dtype", "int64"),
        (lambda x, h, c: tuple(part.to("meta") for part in right(x, h, c)), "device", "meta"),
        (lambda x, h, c: tuple(part.permute(0, 3, 1, 2) for part in right(x, h, c)), "shape", "[2, 8, 16, 16]"),
        (lambda x, h, c: (*right(x, h, c), x), "length", "4 items"),
        (lambda x, h, c: tuple(part / 0 for part in right(x, h, c)), "non_finite", "inf"),
        (lambda x, h, c: tuple((part * 1e6).half() for part in right(x, h, c)), "overflow", "65504"),
        (lambda x, h, c: tuple(part.half().to(part) for part in right(x, h, c)), "precision", "16-bit"),
        (lambda x, h, c: tuple(part + 1 for part in right(x, h, c)), "differs", "at [0][0, 0, 0, 0]"),
        (lambda x: x, "signature", "too many positional arguments"),
        (lambda x, h, c, more: x, "signature", "my_split(float32 tensor [2, 16, 16, 16], 8, 3)"),
        (right(torch.zeros(1, 4), 2, 1), "not_callable", "without brackets"),
        (None, "not_callable", "given None"),
        (_raise(NotImplementedError()), "not_attempted", "Replace `...`"),
        (..., "not_attempted", "Replace `...`"),
    ],
)
def test_each_mishap_has_its_word(answer, status: str, word: str, passes: list[str]) -> None:
    result = check("block.split", answer)
    assert (result.status, result.passed, passes) == (status, False, []), result
    assert word in result.message, result.message


def test_a_changed_input_is_noticed() -> None:
    def product_in_place(gate, identity, mixed, act):
        gate.copy_(act(gate))
        gate[..., : identity.shape[-1]] *= identity
        gate[..., identity.shape[-1] :] *= mixed
        return gate

    result = check("block.gated_product", product_in_place)
    assert (result.status, result.passed) == ("input_changed", False)
    assert "`gate`" in result.message

    def consumes(height, width, dims, stem_stride=4):
        shapes = []
        while len(dims):
            shapes.append((-(-height // stem_stride), -(-width // stem_stride), dims[0]))
            stem_stride *= 2
            dims = dims[1:] if isinstance(dims, tuple) else (dims.pop(0), dims)[1]
        return shapes

    result = check("model.stage_shapes", consumes)
    assert (result.status, "`dims`" in result.message) == ("input_changed", True)
    assert "[24, 40]" in result.details["call"]


def test_settings_of_the_process_are_put_back() -> None:
    def answer(x, hidden, conv_channels):
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        sys.setrecursionlimit(5000)
        warnings.warn("noise", stacklevel=1)
        return right(x, hidden, conv_channels)

    recursion = sys.getrecursionlimit()
    assert check("block.split", answer).passed
    assert torch.get_default_dtype() is torch.float32
    assert torch.is_grad_enabled()
    assert sys.getrecursionlimit() == recursion


def test_a_patched_comparison_does_not_help(monkeypatch: pytest.MonkeyPatch, passes: list[str]) -> None:
    def answer(x, hidden, conv_channels):
        for name in ("equal", "allclose", "isclose"):
            monkeypatch.setattr(torch, name, lambda *_, **__: True)
        return x, x, x

    assert not check("block.split", answer).passed
    assert passes == []


def test_an_object_that_equals_everything_does_not_pass(passes: list[str]) -> None:
    class Yes:
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 0

        def __getattr__(self, name: str) -> "Yes":
            return self

        def __call__(self, *args: object, **kwargs: object) -> "Yes":
            return self

    assert check("block.split", lambda *_: Yes()).status == "type"
    assert check("block.split", Yes()).status == "type"  # even as the function
    assert check("block.parameters", lambda *_, **__: Yes()).status == "type"
    assert passes == []


def test_an_object_that_ends_the_program_when_asked_for_its_signature_does_not() -> None:
    class Trap:
        @property
        def __signature__(self) -> None:
            sys.exit(1)

        def __call__(self, x, hidden, conv_channels):
            return right(x, hidden, conv_channels)

    assert check("block.split", Trap()).passed


def test_the_same_list_returned_twice_is_judged_each_time() -> None:
    kept: list = []

    def answer(x, hidden, conv_channels):
        kept[:] = right(x, hidden, conv_channels)
        return kept

    assert check("block.split", answer).passed


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory limit is Linux's")
def test_huge_memory_is_refused_before_the_system_runs_out() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    result = check("block.split", lambda x, h, c: bytearray(6 * 2**30))
    assert (result.status, "MemoryError" in result.message) == ("raised", True)
    assert check("block.split", lambda x, h, c: torch.ones(6 * 2**30, dtype=torch.uint8)).status == "raised"
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_two_checks_at_once() -> None:
    before, filters = sys.stdout, list(warnings.filters)

    def slow(x, hidden, conv_channels):
        print("slow")
        time.sleep(0.05)
        return right(x, hidden, conv_channels)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: check("block.split", slow), range(8)))
    assert all(result.passed and result.details["printed"].splitlines()[0] == "slow" for result in results)
    assert sys.stdout is before
    assert warnings.filters == filters


def test_a_check_within_a_check() -> None:
    def answer(x, hidden, conv_channels):
        print("before")
        inner = check("block.parameters", lambda *_, **__: print("inner"))
        print(inner.details["printed"])
        return right(x, hidden, conv_channels)

    assert check("block.split", answer).details["printed"].splitlines()[:2] == ["before", "inner"]


def test_the_limit_must_be_positive() -> None:
    with pytest.raises(ValueError, match="seconds must be positive; got 0"):
        check("block.split", right, seconds=0)


def test_results_are_short_deterministic_and_legible_in_html() -> None:
    def answer(x, hidden, conv_channels):
        print("<script>alert(1)</script>")
        return tuple(part + 1 for part in right(x, hidden, conv_channels))

    first, second = check("block.split", answer), check("block.split", answer)
    assert repr(first) == repr(second)
    assert repr(first).splitlines()[0] == "✗ wrong value: block.split"
    page = first._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    for part in ("✗ wrong value", "--jp-error-color1", "--jp-content-font-color1", 'role="note"'):
        assert part in page
    assert "✓ correct" in check("block.split", right)._repr_html_()
    assert "Replace <code>...</code> in the stub" in check("block.split", ...)._repr_html_()


def test_output_is_bounded_whatever_is_printed() -> None:
    outcome = limits.run(lambda: print("x" * 10**7), (), {}, seconds=5)
    assert (len(outcome.printed), outcome.printed_more) == (2_000, 10**7 + 1 - 2_000)
