"""Count the machine instructions that the GPU scan spends on a state element: compiled for sm_90, no GPU needed.

A state element is one of N numbers of one channel at one step. Counted is the loop over windows of steps, from its
first instruction to the branch back, divided by the elements that one thread handles in it; mamba-ssm's CUDA kernel
spends 20 forward and 66 backward. Spilled registers are reported beside it.

    python benchmarks/gpu_instructions.py
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mambaout_edu.scan import gpu_backward, gpu_kernels
from mambaout_edu.scan.gpu_launch import NEAR, WINDOW, Tile, backward_tile, forward_tile

TARGET = GPUTarget("cuda", 90, 32)
SEQUENCES = ("u", "delta", "z", "out", "dy", "du", "ddelta", "dz")
POINTERS = (*SEQUENCES, *"ABCD", "bias", "ends", "sums", "entering", "kept", "last")
POINTERS = (*POINTERS, "dA", "dB", "dC", "dD", "dbias", "dstart")
WIDTH = 2048  # channels of the example: a multiple of every tile


@dataclass(frozen=True)
class Count:
    """What one kernel costs: instructions an element in its longest loop, registers, and bytes of stack."""

    kernel: str
    instructions: float
    special: float  # of them, those of the special function unit: exponentials and reciprocals
    shuffles: float
    registers: int
    stack: int


def compile_kernel(kernel: Any, tile: Tile, dtype: str, state: int, **constants: Any) -> Any:
    """Compile a kernel as a launch with dense, aligned tensors of whole tiles would."""
    import triton.language as tl

    constants |= {"N": state, "NP": tile.state, "BD": tile.channels, "U": tile.window, "K": WINDOW, "EVERY": NEAR}
    constants |= {"SOFTPLUS": True, "FIXED_B": False, "FIXED_C": False, "EVEN_D": True, "FETCH": True}
    constants.setdefault("EVEN_L", True)
    constants["REAL"] = tl.float32
    signature, attributes, values = {}, {}, {}
    for i, parameter in enumerate(kernel.params):
        name = parameter.name
        if name in constants:
            signature[name], values[name] = "constexpr", constants[name]
            continue
        signature[name] = "i32" if name not in POINTERS else f"*{dtype if name in SEQUENCES else 'fp32'}"
        if not (parameter.do_not_specialize or parameter.do_not_specialize_on_alignment):
            attributes[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature=signature, constexprs=values, attrs=attributes)
    options = {"num_warps": tile.warps, "num_stages": 1, "enable_fp_fusion": True, "maxnreg": tile.registers}
    return triton.compile(source, target=TARGET, options=options)


def disassemble(compiled: Any) -> tuple[list[tuple[int, str]], int, int]:
    """Return a kernel's instructions with their addresses, its registers a thread, and its bytes of stack."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        code, usage = (
            subprocess.run([tool, option, cubin], capture_output=True, text=True, check=True).stdout
            for option in ("--dump-sass", "--dump-resource-usage")
        )
    lines = re.findall(r"^\s+/\*([0-9a-f]{4,})\*/\s+(.*?);", code, re.MULTILINE)
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    if not lines or found is None:
        raise RuntimeError(f"{tool} printed no machine code; it said: {code[:200]!r}, {usage[:200]!r}")
    return [(int(address, 16), text) for address, text in lines], int(found[1]), int(found[2])


def longest_loop(instructions: list[tuple[int, str]]) -> list[str]:
    """Return the instructions between the farthest backward branch and its target."""
    index = {address: i for i, (address, _) in enumerate(instructions)}
    best: list[str] = []
    for i, (address, text) in enumerate(instructions):
        target = re.search(r"\bBRA\b.*?(0x[0-9a-f]+)", text)
        if target and int(target[1], 16) < address and int(target[1], 16) in index:
            body = [line for _, line in instructions[index[int(target[1], 16)] : i + 1]]
            best = max(best, body, key=len)
    return best


def count(kernel: Any, tile: Tile, dtype: str = "fp32", state: int = 16, **constants: Any) -> Count:
    """Compile and count one kernel. Raises RuntimeError where Triton's disassembler gives nothing."""
    instructions, registers, stack = disassemble(compile_kernel(kernel, tile, dtype, state, **constants))
    loop = longest_loop(instructions)
    elements = tile.window * tile.channels * tile.state / (32 * tile.warps)
    names = [re.sub(r"^@!?U?P\w+\s+", "", text).split()[0].split(".")[0] for text in loop]
    name = kernel.fn.__name__
    return Count(
        name,
        len(loop) / elements,
        names.count("MUFU") / elements,
        names.count("SHFL") / elements,
        registers,
        stack,
    )


def final_passes(dtype: str = "fp32", state: int = 16) -> list[Count]:
    """Count the passes that make outputs and gradients, with gate, D, bias and softplus, as in a training step."""
    return [
        count(gpu_kernels.outputs, forward_tile(state, WIDTH), dtype, state),
        count(gpu_backward.gradients, backward_tile(state, WIDTH), dtype, state, dstart=None),
    ]


def first_passes(dtype: str = "fp32", state: int = 16) -> list[Count]:
    """Count the passes that a scan in chunks has before them."""
    tile = forward_tile(state, WIDTH)
    kernels = (gpu_kernels.chunk_states, gpu_backward.chunk_adjoints)
    return [count(kernel, tile, dtype, state) for kernel in kernels]


def main() -> None:
    """Print a table."""
    print(f"Triton {triton.__version__}, sm_90, gate, D, bias, softplus; instructions for a state element")
    print(f"{'kernel':<16}{'dtype':<7}{'N':>4}{'all':>8}{'special':>9}{'shuffles':>10}{'registers':>11}{'stack':>7}")
    for dtype, state in (("fp32", 16), ("bf16", 16), ("fp32", 1), ("fp32", 64)):
        for c in final_passes(dtype, state) + first_passes(dtype, state):
            row = f"{c.instructions:>8.2f}{c.special:>9.2f}{c.shuffles:>10.2f}{c.registers:>11}{c.stack:>7}"
            print(f"{c.kernel:<16}{dtype:<7}{state:>4}{row}")


if __name__ == "__main__":
    main()
