"""`selective_scan`: one call for every engine, with the arguments of mamba-ssm's `selective_scan_fn`."""

import warnings

import torch
from torch import Tensor

from mambaout_edu.scan.arguments import (
    check_arguments,
    check_values,
    grouped_weights,
    time_before_channels,
    warn_of_values,
)
from mambaout_edu.scan.engines import ENGINES, choose, load
from mambaout_edu.scan.operator import operator

__all__ = ["explain", "selective_scan"]

LONG = 256  # steps from which the loop is worth a warning when nobody asked for it


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    *,
    initial_state: Tensor | None = None,
    layout: str = "bdl",
    engine: str = "auto",
    check: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run the selective state-space recurrence of Mamba over a sequence.

    With dt = delta + delta_bias, through softplus if `delta_softplus`: h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t,
    y_t = C_t h_t + D u_t, out_t = y_t silu(z_t) (Gu and Dao, 2023, algorithm 2; B is discretised to first order,
    as in every released Mamba). A complex A gives y_t = 2 Re(C_t h_t) + D u_t, and runs in the reference engine.

    Parameters
    ----------
    u, delta, z
        (B, D, L); z, the gate, may be None. With layout "bld": (B, L, D). Strides are free, nothing is copied
        to change them.
    A
        (D, N), negative for states that decay.
    B, C
        (D, N) fixed, (B, N, L), or (B, G, N, L) with G groups of D / G channels each. With layout "bld":
        (D, N), (B, L, N) or (B, L, G, N).
    D, delta_bias
        (D,) or None.
    delta_softplus
        Whether steps go through softplus, after the bias.
    return_last_state
        Whether to return the state after the last step too.
    initial_state
        (B, D, N), the state before the first step; zero if None.
    layout
        "bdl", mamba-ssm's, or "bld", channels last.
    engine
        "auto", or one of `engines()`; `explain` says which one "auto" takes and why.
    check
        Whether to look for NaN and infinity in all arguments. Without it an eager call on the CPU warns of a
        positive A and of a last state that is not finite, and other calls look at no value.

    Returns
    -------
    Tensor or tuple
        out, in the shape and dtype of u; and with `return_last_state` the last state (B, D, N), float32 for 16- and
        32-bit arguments, float64 if one is. Gradients flow through both, and to initial_state.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit each other, and an engine that is unknown or cannot run here.

    Examples
    --------
    A state that halves at every step, fed once:

    >>> one = torch.ones(1, 1, 3)
    >>> u, A = torch.tensor([[[1.0, 0.0, 0.0]]]), torch.tensor([[-0.6931472]])
    >>> selective_scan(u, one, A, one, one)
    tensor([[[1.0000, 0.5000, 0.2500]]])
    """
    tensors = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z, "delta_bias": delta_bias}
    tensors["initial_state"] = initial_state
    check_arguments(tensors, layout)
    if check:
        check_values(tensors)
    name = choose(engine, u.device.type, A.is_complex())
    _warn_of_slowness(name, engine, u.shape[2 if layout == "bdl" else 1])
    arguments = (
        time_before_channels(u, layout),
        time_before_channels(delta, layout),
        A,
        grouped_weights(B, layout, A),
        grouped_weights(C, layout, A),
        D,
        None if z is None else time_before_channels(z, layout),
        delta_bias,
        initial_state,
        delta_softplus,
    )
    if ENGINES[name].in_operator:
        save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors.values())
        out, last_state, _ = operator(*arguments, name, save)
    else:
        out, last_state = load(name).scan(*arguments)
    if check or _values_are_at_hand(u):
        warn_of_values(A, last_state)
    out = time_before_channels(out, layout)
    return (out, last_state) if return_last_state else out


def explain(u: Tensor, A: Tensor, engine: str = "auto") -> str:
    """Say in a sentence which engine a scan of these tensors would use, and why.

    Raises ValueError where `selective_scan` would, for an engine that is unknown or cannot run.

    Examples
    --------
    >>> print(explain(torch.zeros(1, 8, 4), -torch.ones(8, 2)))  # doctest: +ELLIPSIS
    engine 'cpu' (Numba, state in cache, on all threads of torch): the first that can run with real A on 'cpu'...
    """
    device, complex_system = u.device.type, A.is_complex()
    name = choose(engine, device, complex_system)
    what = f"engine {name!r} ({ENGINES[name].what})"
    if engine != "auto":
        return f"{what}: asked for by name"
    passed = []
    for other in ENGINES.values():
        if other.name == name:
            break
        passed.append(f"{other.name!r} cannot: {other.hindrance(device, complex_system)}")
    kind = "complex" if complex_system else "real"
    return "; ".join([f"{what}: the first that can run with {kind} A on {device!r}", *passed])


def _warn_of_slowness(name: str, asked: str, length: int) -> None:
    if name == "reference" and asked == "auto" and length > LONG:
        warnings.warn(
            f"a scan with complex A over {length} steps runs in the reference engine, a slow loop over time; "
            "engine='reference' asks for it without this warning",
            RuntimeWarning,
            stacklevel=3,
        )


def _values_are_at_hand(u: Tensor) -> bool:
    """Whether looking at a value costs nothing: a plain tensor on the CPU, outside any tracing."""
    plain = type(u) in (Tensor, torch.nn.Parameter)
    return plain and u.device.type == "cpu" and not torch.compiler.is_compiling()
