"""What every test runs under: no network, named seeds, and what is slow only when it is asked for."""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

OFFLINE = Path(__file__).parent / "offline"
sys.path.insert(0, str(OFFLINE))
import no_network  # noqa: E402

# Kernels, servers and other children of the tests are kept off the network by the same module.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")]))
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# The machine is shared, so an example has no deadline; CI draws the same examples every time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "local")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow") and "slow" not in config.getoption("markexpr"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not _has_cuda():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Start every test from seed 0, in the libraries that are loaded."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _no_network() -> Iterator[None]:
    """Fail a test that tried to reach another machine, also where the code forgave the refusal."""
    no_network.attempts.clear()
    yield
    tried = list(no_network.attempts)
    no_network.attempts.clear()
    assert not tried, f"the test tried to reach {tried}; the package passes its tests with the network off"


@pytest.fixture(autouse=True)
def _no_progress_of_other_tests() -> None:
    """Start every test with nothing done: what a doctest or another test left in memory is gone."""
    progress = sys.modules.get("mambaout_edu.learn.progress")
    if progress is not None:
        progress._journal.kept_in_memory.clear()
