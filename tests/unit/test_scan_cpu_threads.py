"""Threads of the engine "cpu": torch's own where it brings an OpenMP library, else a pool; errors; forks."""

import multiprocessing
import sys
import threading
from pathlib import Path

import pytest
import torch

from mambaout_edu.scan import cpu_threads, selective_scan
from mambaout_edu.scan.cpu_threads import run_on_threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["team", "pool"])
def way(request, monkeypatch, two_threads):
    """Run with torch's threads and with our own, two of them."""
    if request.param == "team" and cpu_threads._openmp_parallel() is None:
        pytest.skip("this torch brings no OpenMP library with GOMP_parallel")
    if request.param == "pool":
        monkeypatch.setattr(cpu_threads, "_openmp_parallel", lambda: None)


def test_two_threads_are_inside_at_once(way):
    met, who = threading.Barrier(2, timeout=60), []

    def kernel(text):
        met.wait()
        who.append((text, threading.get_ident()))

    run_on_threads(kernel, "given", tasks=8)
    assert [text for text, _ in who] == ["given", "given"]
    assert len({ident for _, ident in who}) == 2


def test_no_more_threads_than_tasks(way):
    who = []
    run_on_threads(lambda: who.append(threading.get_ident()), tasks=1)
    assert who == [threading.get_ident()]


@pytest.mark.parametrize("culprit", ["caller", "helper"])
def test_an_error_in_any_thread_reaches_the_caller(way, culprit):
    caller, met = threading.get_ident(), threading.Barrier(2, timeout=60)

    def kernel():
        met.wait()
        if (threading.get_ident() == caller) == (culprit == "caller"):
            raise ArithmeticError(culprit)

    with pytest.raises(ArithmeticError, match=culprit):
        run_on_threads(kernel, tasks=2)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the pool is used")
def test_torch_s_own_threads_are_found_where_torch_brings_them():
    folder = Path(torch.__file__).parent
    brought = [*folder.glob("lib/libgomp*"), *folder.parent.glob("torch.libs/libgomp*")]
    assert (cpu_threads._openmp_parallel() is not None) == bool(brought)


def _scan_in_child(tensors, answers):
    torch.set_num_threads(2)
    answers.put(selective_scan(**tensors, delta_softplus=True).numpy())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_with_two_threads_does_not_wait_for_its_parent_s(two_threads):
    g = torch.Generator().manual_seed(0)
    u, delta = (torch.randn(1, 256, 30, generator=g) for _ in range(2))
    B, C = (torch.randn(1, 4, 30, generator=g) for _ in range(2))
    tensors = {"u": u, "delta": delta, "A": -torch.ones(256, 4), "B": B, "C": C}
    expected = selective_scan(**tensors, delta_softplus=True)  # now the parent's threads exist
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_scan_in_child, args=(tensors, answers))
    child.start()
    found = torch.from_numpy(answers.get(timeout=60))
    child.join(60)
    assert torch.equal(found, expected)
