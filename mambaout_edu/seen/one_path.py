"""One scan direction alone: the parameters with which all other paths of a mixer say nothing.

A path speaks through C, which reads its state, and D, which lets its input pass. With both at 0 it adds nothing to the
sum over paths, and nothing else changes.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mambaout_edu.mixers import SS2D, BiMamba, ScannedSSM

__all__ = ["silence_other_paths"]


def silence_other_paths(model: nn.Module, layer: nn.Module, path: int) -> dict[str, Tensor]:
    """Return parameters of the model, by name, with which only one path of the mixers inside the layer speaks.

    Give them to `torch.func.functional_call`; the model itself stays as it is.

    Raises ValueError if there is no mixer with several paths, a path is out of range, or paths share their parameters.

    >>> mixer = BiMamba(4)
    >>> sorted(silence_other_paths(mixer, mixer, path=0))
    ['D_b', 'x_proj_b.weight']
    """
    changed: dict[str, Tensor] = {}
    inside = {id(module) for module in layer.modules()}
    found = False
    for name, module in model.named_modules():
        if id(module) in inside and isinstance(module, (ScannedSSM, SS2D, BiMamba)):
            found = True
            values = _silent(module, path)
            changed |= {f"{name}.{key}" if name else key: value for key, value in values.items()}
    if not found:
        raise ValueError(
            f"path = {path} chooses among the paths of a ScannedSSM, SS2D or BiMamba, and {type(layer).__name__} holds "
            "none of them; leave path out, or choose a layer that holds one"
        )
    return changed


def _silent(mixer: Any, path: int) -> dict[str, Tensor]:
    """Return the parameters of one mixer, by name, that silence all its paths but one."""
    count = 2 if isinstance(mixer, BiMamba) else len(mixer.dt_proj_bias) if isinstance(mixer, SS2D) else mixer.count
    if not 0 <= path < count:
        raise ValueError(f"path must be from 0 to {count - 1} for this {type(mixer).__name__}; got {path}")
    others = [number for number in range(count) if number != path]
    if isinstance(mixer, BiMamba):
        ending = "" if path else "_b"
        skip, projection = f"D{ending}", f"x_proj{ending}.weight"
        return {
            skip: torch.zeros_like(getattr(mixer, skip)),
            projection: _without_C(mixer.get_parameter(projection), mixer.d_state),
        }
    if isinstance(mixer, SS2D):
        weight, D = mixer.x_proj_weight.detach().clone(), mixer.D.detach().clone()
        weight[others] = _without_C(weight[others], mixer.d_state)
        D.unflatten(0, (count, -1))[others] = 0
        return {"x_proj_weight": weight, "D": D}
    if mixer.shared and others:
        raise ValueError(
            "the paths of a ScannedSSM with shared=True have one set of parameters, so one cannot be silenced without "
            "the other; take a mixer with shared=False, or copy the parameters into one"
        )
    changed = {}
    for number in others:
        ssm = mixer.ssms[number]
        changed[f"ssms.{number}.D"] = torch.zeros_like(ssm.D)
        changed[f"ssms.{number}.x_proj.weight"] = _without_C(ssm.x_proj.weight, ssm.d_state)
    return changed


def _without_C(weight: Tensor, states: int) -> Tensor:
    """Return x_proj's weight [..., R + 2 N, d] with the rows that make C at 0: the last N."""
    weight = weight.detach().clone()
    weight[..., -states:, :] = 0
    return weight
