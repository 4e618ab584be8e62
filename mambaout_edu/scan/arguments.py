"""What a selective scan may be called with: every shape, dtype and device is checked, and refused in words."""

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["LAYOUTS", "check_arguments", "check_values", "grouped_weights", "time_before_channels", "warn_of_values"]

LAYOUTS = {
    "bdl": {"sequence": "(B, D, L)", "weights": "(D, N), (B, N, L) or (B, G, N, L)"},
    "bld": {"sequence": "(B, L, D)", "weights": "(D, N), (B, L, N) or (B, L, G, N)"},
}


def check_arguments(tensors: Mapping[str, Tensor | None], layout: str) -> None:
    """Raise TypeError or ValueError that names the argument, what it is and what it should be."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be 'bdl' (channels before time) or 'bld' (time before channels); got {layout!r}")
    u = _tensor("u", tensors["u"])
    _check_kinds(tensors, u)
    if u.ndim != 3 or 0 in u.shape:
        form = LAYOUTS[layout]["sequence"]
        raise ValueError(f"u must be {form} in layout {layout!r}, with no side 0; got shape {tuple(u.shape)}")
    batch, (channels, length) = u.shape[0], (u.shape[1:] if layout == "bdl" else u.shape[:0:-1])
    for name in ("delta", "z"):
        x = tensors[name]
        if x is not None and x.shape != u.shape:
            raise ValueError(f"{name} must have the shape of u, {tuple(u.shape)}; got {tuple(x.shape)}")
    A = _tensor("A", tensors["A"])
    if A.ndim != 2 or A.shape[0] != channels or A.shape[1] < 1:
        raise ValueError(
            f"A must be (D, N) with D = {channels} from u (layout {layout!r}) and N at least 1; got {tuple(A.shape)}"
        )
    for name in ("D", "delta_bias"):
        x = tensors[name]
        if x is not None and x.shape != (channels,):
            raise ValueError(f"{name} must be (D,) = ({channels},), one number a channel; got {tuple(x.shape)}")
    for name in ("B", "C"):
        _check_weights(name, _tensor(name, tensors[name]), batch, length, channels, A, layout)
    _check_same_groups(tensors["B"], tensors["C"], layout)
    state = tensors["initial_state"]
    if state is not None and state.shape != (batch, channels, A.shape[1]):
        expected = (batch, channels, A.shape[1])
        raise ValueError(f"initial_state must be (B, D, N) = {expected}; got {tuple(state.shape)}")


def _tensor(name: str, x: Tensor | None) -> Tensor:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor; got {type(x).__name__}")
    return x


def _check_kinds(tensors: Mapping[str, Tensor | None], u: Tensor) -> None:
    """Refuse what is no tensor, not floating, complex in the wrong place, or on another device than u."""
    A = tensors["A"]
    complex_system = isinstance(A, Tensor) and A.is_complex()
    for name, x in tensors.items():
        if x is None and name not in ("u", "delta", "A", "B", "C"):
            continue
        x = _tensor(name, x)
        if x.is_complex():
            if name not in ("A", "B", "C", "initial_state"):
                raise TypeError(f"{name} must be real; got {x.dtype}. Only A, B, C and initial_state may be complex.")
            if not complex_system:
                raise TypeError(f"{name} is {x.dtype}, but A is real; give A as complex too, or {name}.real")
        elif not x.is_floating_point():
            raise TypeError(f"{name} must be floating point; got {x.dtype}. Convert it with {name}.float().")
        if x.device != u.device:
            raise ValueError(f"{name} is on {x.device}, u on {u.device}; move one with .to(device)")


def _check_weights(name: str, x: Tensor, batch: int, length: int, channels: int, A: Tensor, layout: str) -> None:
    state = A.shape[1]
    form = LAYOUTS[layout]["weights"]
    sizes = f"B = {batch}, L = {length}, D = {channels}, N = {state}"
    if x.ndim == 2:
        fits = x.shape == (channels, state)
    elif layout == "bdl":
        pairs = A.is_complex() and not x.is_complex()  # mamba-ssm's real view of complex numbers
        fits = x.ndim in (3, 4) and x.shape[0] == batch and x.shape[-2:] == (state, 2 * length if pairs else length)
    else:
        fits = x.ndim in (3, 4) and x.shape[:2] == (batch, length) and x.shape[-1] == state
    if not fits:
        raise ValueError(f"{name} must be {form} with {sizes}; got {tuple(x.shape)} in layout {layout!r}")
    groups = 1 if x.ndim < 4 else x.shape[1 if layout == "bdl" else 2]
    if groups < 1 or channels % groups:
        raise ValueError(
            f"{name} has G = {groups} groups, which do not divide the D = {channels} channels of u evenly; "
            f"use a G that divides {channels}"
        )


def _check_same_groups(B: Tensor | None, C: Tensor | None, layout: str) -> None:
    axis = 1 if layout == "bdl" else 2
    groups = [x.shape[axis] for x in (B, C) if x is not None and x.ndim == 4]
    if len(groups) == 2 and groups[0] != groups[1] and 1 not in groups:
        raise ValueError(f"B has {groups[0]} groups and C has {groups[1]}; give both the same number, or one of them 1")


def time_before_channels(x: Tensor, layout: str) -> Tensor:
    """Return a sequence as [B, L, D]: a view, nothing is copied. The same call goes back."""
    return x if layout == "bld" else x.transpose(1, 2)


def grouped_weights(x: Tensor, layout: str, A: Tensor) -> Tensor:
    """Return B or C as [B, L, G, N], or [D, N] where they are fixed: views, nothing is copied."""
    if x.ndim == 2:
        return x
    if layout == "bld":
        return x if x.ndim == 4 else x.unsqueeze(2)
    if A.is_complex() and not x.is_complex():
        x = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())  # (..., 2L) real to (..., L)
    return (x if x.ndim == 4 else x.unsqueeze(1)).permute(0, 3, 1, 2)


def check_values(tensors: Mapping[str, Tensor | None]) -> None:
    """Raise ValueError for the first NaN or infinity, with the name of the tensor and the place."""
    for name, x in tensors.items():
        if x is not None and not bool(torch.isfinite(x).all()):
            place = tuple((~torch.isfinite(x)).nonzero()[0].tolist())
            raise ValueError(f"{name} is {x[place].item()} at {place}; a scan carries it into every later step")


def warn_of_values(A: Tensor, last_state: Tensor | None = None, *, stacklevel: int = 3) -> None:
    """Warn of a positive A, with which states grow without end, and of a state that is no longer finite."""
    largest = (A.real if A.is_complex() else A).detach().max().item()
    if largest > 0:
        warnings.warn(
            f"A has positive entries (largest {largest:g}): those states grow at every step. "
            "Mamba uses A = -exp(A_log).",
            RuntimeWarning,
            stacklevel=stacklevel,
        )
    if last_state is not None and not _is_finite(last_state):
        warnings.warn(
            "the last state is not finite: an input was NaN or infinite, or the state grew (A or a step has the "
            "wrong sign). "
            "selective_scan(..., check=True) says which input and where.",
            RuntimeWarning,
            stacklevel=stacklevel,
        )


def _is_finite(x: Tensor) -> bool:
    """Whether no number is NaN or infinite, in one pass: both extremes are NaN if any number is."""
    least, most = torch.aminmax(torch.view_as_real(x.detach()) if x.is_complex() else x.detach())
    return math.isfinite(least.item()) and math.isfinite(most.item())
