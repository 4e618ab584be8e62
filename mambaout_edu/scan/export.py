"""The way out of Python: an exported program whose scans are ordinary operations, for ONNX and other runtimes.

`torch.export` keeps `mambaout_edu::selective_scan` whole, as one operator. A program that stays in Python wants that;
ONNX has no such operator, and a program that is saved needs this package again to load. `unfold_scans` writes every
scan of a program out for its length.

Two ways into ONNX, both tried with torch 2.15.0, onnx 1.23.2, onnxscript 0.7.2 and onnxruntime 1.32.0 on a CPU, real A:

- At a fixed length, a whole sequence or image at a time. The batch may stay free (`dynamic_shapes`).

      program = torch.export.export(model.eval(), (x,))
      torch.onnx.export(unfold_scans(program), dynamo=True).save("model.onnx")

- For any length, a token at a time: export a module that calls the mixer's `step` and returns the new state. It has
  no scan in it, so nothing has to be unfolded; the caller carries the state.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.export import ExportedProgram

from mambaout_edu.scan.engines import load

__all__ = ["ENGINES", "unfold_scans"]

ENGINES = ("torch", "reference")  # those made of ordinary operations


def unfold_scans(program: ExportedProgram, engine: str = "torch") -> ExportedProgram:
    """Return an exported program with every selective scan in it written out in ordinary operations.

    Results stay the same to rounding, and the program loads without this package. The given one is left as it is.

    Parameters
    ----------
    program
        What `torch.export.export(model, args)` returned. Scans that run in the engine "torch" or "reference" are
        ordinary operations already.
    engine
        "torch" writes about 3 sqrt(L) steps, "reference" L of them: a larger program that takes longer to export,
        with fewer exponentials.

    Raises
    ------
    TypeError
        If `program` is no exported program, but a model, for example.
    ValueError
        For another engine, and for a scan whose length is not fixed.

    Examples
    --------
    >>> from mambaout_edu.mixers import SelectiveSSM
    >>> model, x = SelectiveSSM(4, d_state=2).eval(), torch.randn(1, 9, 4)
    >>> program = torch.export.export(model, (x,))
    >>> "mambaout_edu.selective_scan" in str(program.graph)
    True
    >>> unfolded = unfold_scans(program)
    >>> "mambaout_edu.selective_scan" in str(unfolded.graph)
    False
    >>> torch.allclose(unfolded.module()(x), model(x), atol=1e-6)
    True
    """
    if not isinstance(program, ExportedProgram):
        raise TypeError(
            f"program must be a torch.export.ExportedProgram; got {type(program).__name__}. "
            "torch.export.export(model.eval(), (example,)) makes one of a model."
        )
    if engine not in ENGINES:
        raise ValueError(f"engine must be 'torch' or 'reference', which are ordinary operations; got {engine!r}")
    scan = torch.ops.mambaout_edu.selective_scan.default
    for node in program.graph.nodes:
        if node.target is scan:
            _check_length(node.args[0].meta["val"].shape[1])
    return program.run_decompositions({scan: _in_ordinary_operations(engine)})


def _check_length(length: int | torch.SymInt) -> None:
    if not isinstance(length, int):
        raise ValueError(  # noqa: TRY004, a size that is free is a wrong value
            f"the length of a scan must be fixed before it is unfolded; it is the free size {length}. Leave the sides "
            "that make it (L, or H and W of an image) out of dynamic_shapes; the batch may be free."
        )


def _in_ordinary_operations(engine: str) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """Return the operator's result, computed by an engine that is no operator."""
    scan = load(engine).scan

    def decomposition(u: Tensor, *rest: Tensor | bool | str | None) -> tuple[Tensor, Tensor, Tensor]:
        *tensors, delta_softplus, _, _ = rest
        out, last_state = scan(u, *tensors, delta_softplus=delta_softplus)
        return out, last_state, u.new_empty(0)  # nobody asks for what the backward pass would need

    return decomposition
