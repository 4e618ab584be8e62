"""Where numbers stopped being finite: in the images, in a weight, or in the output of a layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["check_finite", "where_not_finite"]


@torch.no_grad()
def where_not_finite(model: nn.Module, images: Tensor) -> str:
    """Say in words what is first infinite or undefined as the model looks at images [B, C, H, W].

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU())
    >>> _ = nn.init.ones_(model[1].weight)
    >>> where_not_finite(model, torch.full((1, 1, 2, 2), 3e38))
    "the output of layer '1' (Linear) is the first that is infinite or undefined"
    """
    if not torch.isfinite(images).all():
        return "the images of this batch hold infinite or undefined numbers"
    broken = _first_broken_weight(model)
    if broken is not None:
        return f"the weights {broken!r} are, so the update before it was too large"
    found: list[str] = []

    def look(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, inputs: Any, output: Any) -> None:
            if not found and isinstance(output, Tensor) and not torch.isfinite(output).all():
                found.append(f"the output of layer {name!r} ({type(module).__name__}) is the first that is infinite")

        return module.register_forward_hook(hook)

    leaves = [(name, module) for name, module in model.named_modules() if not any(module.children())]
    handles = [look(name, module) for name, module in leaves]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return f"{found[0]} or undefined" if found else "the scores are finite, so it is the loss itself or its labels"


def check_finite(model: nn.Module, step: int) -> None:
    """Raise FloatingPointError where a weight is infinite or undefined.

    >>> check_finite(nn.Linear(2, 2), step=0)
    """
    broken = _first_broken_weight(model)
    if broken is not None:
        raise FloatingPointError(
            f"after step {step} the weights {broken!r} are infinite or undefined, so they are not saved. The "
            "checkpoints are from before; lower the learning rate, or set clip"
        )


def _first_broken_weight(model: nn.Module) -> str | None:
    named = [(name, weight) for name, weight in model.named_parameters() if weight.is_floating_point()]
    if not named:
        return None
    # One look for all: each of them would make a GPU wait.
    whole = torch.stack([torch.isfinite(weight).all() for _, weight in named])
    return None if bool(whole.all()) else named[int((~whole).int().argmax())][0]
