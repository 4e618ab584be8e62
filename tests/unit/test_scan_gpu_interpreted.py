import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
SCRIPT = Path(__file__).with_name("gpu_interpreted.py")


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str]:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, SCRIPT], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return dict(line.split(": ", 1) for line in run.stdout.splitlines())


CASES = (
    "whole tiles",
    "tails of everything",
    "one of everything",
    "two groups",
    "groups that differ",
    "chunks",
    "chunks, no start, no gate",
    "chunks, more than 64 states",
    "fixed B and C",
    "fixed B, chunks",
    "fixed C, chunks",
    "no softplus",
    "states kept far apart",
    "states kept far apart, chunks",
    "bfloat16",
    "bfloat16 as it is",
    "float16",
    "float64",
    "small and large steps",
    "channels before time",
)


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_all_gradients_equal_the_float64_reference(verdicts, case):
    assert verdicts[case] == "right"


def test_no_case_was_left_out(verdicts):
    assert sorted(verdicts) == sorted(CASES)
