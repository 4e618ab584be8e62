import importlib.util
import os
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def counter():
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("the interpreter compiles nothing")
    spec = importlib.util.spec_from_file_location("gpu_instructions", BENCHMARKS / "gpu_instructions.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_instructions"] = module
    spec.loader.exec_module(module)
    tool = Path(sys.modules["triton"].__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists() and not tool.with_suffix(".exe").exists():
        pytest.skip("this Triton brings no compiler for NVIDIA GPUs")
    yield module
    del sys.modules["gpu_instructions"]


def test_the_final_passes_spend_few_instructions_and_spill_little(counter):
    forward, backward = counter.final_passes()
    assert (forward.kernel, backward.kernel) == ("outputs", "gradients")
    assert 5 < forward.instructions <= 11, forward
    assert 15 < backward.instructions <= 40, backward  # the way from a kept state to every second window is in it
    assert forward.registers <= 168, forward  # three warps a scheduler
    assert forward.stack <= 16, forward
    assert backward.stack <= 64, backward
    # an exponential a state element forward, and at least one backward: the loop that was counted is the right one
    assert forward.special > 1
    assert backward.special > 1


def test_the_longest_loop_is_found(counter):
    code = [(0, "MOV R1, R2"), (16, "FADD R1"), (32, "@P0 BRA 0x10"), (48, "FMUL"), (64, "MUFU.EX2"), (80, "BRA 0x30")]
    code += [(96, "BRA 0x60"), (112, "@!P1 BRA 0x0")]
    assert counter.longest_loop(code) == [text for _, text in code]
    assert counter.longest_loop(code[:3]) == ["FADD R1", "@P0 BRA 0x10"]
    assert counter.longest_loop(code[:2]) == []
