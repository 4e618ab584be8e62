"""Where a model's parameters and multiply-adds go, part by part.

A module names the part it belongs to in an attribute `part` ("stem", "token mixing", ...); what lies
inside it belongs there too, unless it names another. Multiply-adds are half the count of
`torch.utils.flop_counter`: matrix products and convolutions, no norms, activations or pooling.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["PARTS", "Part", "Profile", "profile"]

PARTS = ("stem", "token mixing", "channel mixing", "downsampling", "head", "other")


@dataclass(frozen=True)
class Part:
    """Parameters and multiply-adds (for one image) of one part of a model."""

    name: str
    parameters: int
    multiply_adds: int


@dataclass(frozen=True, repr=False)
class Profile:
    """What `profile` found: the parts in the order of `PARTS`, those that the model has."""

    image_size: tuple[int, int]
    parts: tuple[Part, ...]

    @property
    def parameters(self) -> int:
        """Number of parameters of the whole model."""
        return sum(part.parameters for part in self.parts)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one image."""
        return sum(part.multiply_adds for part in self.parts)

    def __getitem__(self, name: str) -> Part:
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(f"no part {name!r}; this model has {', '.join(part.name for part in self.parts)}")

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)

    def __repr__(self) -> str:
        height, width = self.image_size
        lines = [f"{f'one image of {height} x {width}':<24}{'parameters':>14}{'':8}{'multiply-adds':>16}"]
        for part in (*self.parts, Part("all", self.parameters, self.multiply_adds)):
            shares = (part.parameters / (self.parameters or 1), part.multiply_adds / (self.multiply_adds or 1))
            lines.append(
                f"{part.name:<24}{part.parameters:>14,}{shares[0]:>7.1%} {part.multiply_adds:>16,}{shares[1]:>7.1%}"
            )
        return "\n".join(lines)


def profile(model: nn.Module, image_size: int | tuple[int, int]) -> Profile:
    """Count a model's parameters and its multiply-adds on one image, part by part.

    Nothing is computed: shapes alone run through the model (torch's meta device), so a large model on
    a large image costs no time and no memory.

    Parameters
    ----------
    model
        Takes images [B, in_chans, H, W]; it is left as it was.
    image_size
        Side in pixels, or (height, width).

    Raises
    ------
    ValueError
        If the size is not positive.

    Examples
    --------
    >>> from mambaout_edu.models import create_model
    >>> cost = profile(create_model("mambaout_tiny"), 224)
    >>> f"{cost['token mixing'].multiply_adds / cost.multiply_adds:.1%}"
    '2.3%'
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if min(height, width) < 1:
        raise ValueError(f"image_size must be at least 1 pixel a side; got {height} x {width}")
    flops = _flops(model, height, width)
    root = type(model).__name__
    parameters = dict.fromkeys(PARTS, 0)
    multiply_adds = dict.fromkeys(PARTS, 0)

    def book(module: nn.Module, name: str, part: str) -> int:
        """Book what is the module's own; return what it and all inside it compute."""
        part = getattr(module, "part", part)
        parameters[part] += sum(p.numel() for p in module.parameters(recurse=False))
        inside = sum(book(child, f"{name}.{key}", part) for key, child in module.named_children())
        total = flops.get(name, 0)
        multiply_adds[part] += (total - inside) // 2
        return total

    book(model, root, "other")
    found = tuple(Part(n, parameters[n], multiply_adds[n]) for n in PARTS if parameters[n] or multiply_adds[n])
    return Profile((height, width), found)


def _flops(model: nn.Module, height: int, width: int) -> dict[str, int]:
    """Return floating-point operations by dotted module name, each with all that lies inside it."""
    state = {k: torch.empty_like(v, device="meta") for k, v in (*model.named_parameters(), *model.named_buffers())}
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    image = torch.empty(1, getattr(model, "in_chans", 3), height, width, device="meta", dtype=dtype)
    training = model.training
    counter = FlopCounterMode(display=False)
    try:
        model.eval()
        with torch.no_grad(), counter:
            torch.func.functional_call(model, state, (image,))
    finally:
        model.train(training)
    return {name: sum(operations.values()) for name, operations in counter.get_flop_counts().items()}
