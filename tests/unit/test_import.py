"""`import mambaout_edu` is light, its subpackages load on first use, and tests run with the network off."""

import os
import socket
import subprocess
import sys
import time

import no_network
import pytest

import mambaout_edu

HEAVY = {"torch", "timm", "numpy", "numba", "matplotlib", "ipywidgets", "anywidget", "IPython", "skimage", "sklearn"}


def python(code: str, **environment: str) -> str:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True, env=env
    )
    return done.stdout.strip()


def fastest(code: str, repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        python(code)
        times.append(time.perf_counter() - start)
    return min(times)


def test_import_loads_nothing_heavy() -> None:
    loaded = python("import sys, mambaout_edu; print(*sys.modules)").split()
    assert "mambaout_edu" in loaded
    assert not HEAVY & set(loaded)


@pytest.mark.parametrize("module", ["strings", "doctor", "cli"])
def test_light_parts_load_no_torch(module: str) -> None:
    loaded = python(f"import sys, mambaout_edu.{module}; print(*sys.modules)").split()
    assert f"mambaout_edu.{module}" in loaded
    assert not HEAVY & set(loaded)


def test_import_takes_less_than_three_tenths_of_a_second() -> None:
    """Best of several, less the bare interpreter's start in the same run, so that a busy machine does not decide."""
    assert fastest("import mambaout_edu") - fastest("pass") < 0.3


def test_subpackages_load_on_first_use_and_an_unknown_name_is_refused_in_words() -> None:
    assert python("import mambaout_edu; print(mambaout_edu.strings.language())") == "en"
    with pytest.raises(AttributeError, match="no attribute 'mixer'; it has"):
        mambaout_edu.mixer  # noqa: B018
    assert "models" in dir(mambaout_edu)


def test_the_tests_themselves_cannot_reach_the_network() -> None:
    beyond = ("192.0.2.1", 9)  # an address kept for documentation; the guard refuses before anything is sent
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        for attempt in (
            lambda: stream.connect(beyond),
            lambda: stream.connect_ex(beyond),
            lambda: datagram.sendto(b"x", beyond),
            lambda: socket.getaddrinfo("example.org", 80),
        ):
            with pytest.raises(no_network.NetworkBlockedError, match="network off"):
                attempt()
    assert len(no_network.attempts) == 4
    no_network.attempts.clear()


def test_this_machine_can_still_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 5) as client:
        client.sendall(b"x")
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1) == b"x"


def test_children_of_the_tests_are_kept_off_the_network_too() -> None:
    code = "import socket\ntry: socket.create_connection(('192.0.2.1', 9), 1)\nexcept OSError as e: print(e)"
    assert "network off" in python(code, PYTHONPATH=os.environ["PYTHONPATH"])
