"""Where a model's parameters and multiply-adds go, part by part.

A module names the part it belongs to in an attribute `part` ("stem", "token mixing", ...); what lies inside it belongs
there too, unless it names another. Models of timm that the course compares with are known by their classes.

What is counted: matrix products (attention's two among them, causal or not over all L x L pairs) and convolutions, two
operations for a multiply-add; no norms, activations or pooling. A scan of L tokens, D channels and N states is
9 L D N operations, and L D each for the skip `D x` and a gate inside the scan: the count that papers on vision use
(A. Gu's estimate). So it weighs 4.5 L D N multiply-adds here. The papers add 9 L D N, unhalved, to the multiply-adds
of everything else; `Profile.as_published` is that sum.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["PARTS", "Part", "Profile", "profile"]

PARTS = ("stem", "token mixing", "channel mixing", "downsampling", "head", "other")

# Parts in timm's classes: of the module itself under "", of what it holds under the attribute's name.
_ENDS = {"stem": "stem", "patch_embed": "stem", "head": "head"}
_TIMM: dict[str, dict[str, str]] = {
    "VisionTransformer": _ENDS,
    "SwinTransformer": _ENDS,
    "ConvNeXt": _ENDS,
    "MambaOut": _ENDS,
    "SwinTransformerStage": {"downsample": "downsampling"},
    "ConvNeXtStage": {"downsample": "downsampling"},
    "MambaOutStage": {"downsample": "downsampling"},
    "Block": {"": "channel mixing", "attn": "token mixing"},
    "SwinTransformerBlock": {"": "channel mixing", "attn": "token mixing"},
    "ConvNeXtBlock": {"": "channel mixing", "conv_dw": "token mixing"},
    "GatedConvBlock": {"": "channel mixing", "conv": "token mixing"},
}


@dataclass(frozen=True)
class Part:
    """Parameters and multiply-adds (for one image) of one part of a model, and the operations of its scans."""

    name: str
    parameters: int
    multiply_adds: int  # half of `scan_operations` among them
    scan_operations: int = 0


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
        """Multiply-adds of one image; two operations of a scan are one."""
        return sum(part.multiply_adds for part in self.parts)

    @property
    def scan_operations(self) -> int:
        """Operations of all scans, 9 L D N and what skip and gate add."""
        return sum(part.scan_operations for part in self.parts)

    @property
    def as_published(self) -> int:
        """The sum that papers on vision print as FLOPs or MACs: multiply-adds, but each operation of a scan as one."""
        return self.multiply_adds + sum(part.scan_operations - part.scan_operations // 2 for part in self.parts)

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
        if self.scan_operations:
            lines.append(f"{'with 9 L D N, as in papers':<46}{self.as_published:>16,}")
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
    >>> cost = profile(create_model("vmamba_tiny_v0"), 224)  # the paper: 5.6 G
    >>> f"{cost.as_published / 1e9:.1f} G published, {cost.multiply_adds / 1e9:.1f} G multiply-adds"
    '5.6 G published, 4.6 G multiply-adds'
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if min(height, width) < 1:
        raise ValueError(f"image_size must be at least 1 pixel a side; got {height} x {width}")
    operations = _operations(model, height, width)
    parameters, products, scans = (dict.fromkeys(PARTS, 0) for _ in range(3))

    def book(module: nn.Module, name: str, part: str) -> tuple[int, int]:
        """Book what is the module's own; return what it and all inside it compute."""
        parameters[part] += sum(p.numel() for p in module.parameters(recurse=False))
        inside = [
            book(child, f"{name}.{key}", _part_of(child, module, key) or part) for key, child in module.named_children()
        ]
        total = operations.get(name, (0, 0))
        products[part] += total[0] - sum(own for own, _ in inside)
        scans[part] += total[1] - sum(own for _, own in inside)
        return total

    book(model, type(model).__name__, _part_of(model) or "other")
    parts = (Part(n, parameters[n], (products[n] + scans[n]) // 2, scans[n]) for n in PARTS)
    return Profile((height, width), tuple(part for part in parts if part.parameters or part.multiply_adds))


def _part_of(module: nn.Module, parent: nn.Module | None = None, key: str = "") -> str | None:
    """Return the part that a module names; for timm's classes, the one that the table names; else None."""
    named: str | None = getattr(module, "part", None)
    inside = None if parent is None else _timm_part(parent, key)
    return named or inside or _timm_part(module, "")


def _timm_part(module: nn.Module, key: str) -> str | None:
    names = (base.__name__ for base in type(module).__mro__ if base.__module__.startswith("timm."))
    return next((_TIMM[name][key] for name in names if key in _TIMM.get(name, {})), None)


def _operations(model: nn.Module, height: int, width: int) -> dict[str, tuple[int, int]]:
    """Return operations of products and of scans by dotted module name, each with all that lies inside it."""
    state = {k: torch.empty_like(v, device="meta") for k, v in (*model.named_parameters(), *model.named_buffers())}
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    image = torch.empty(1, getattr(model, "in_chans", 3), height, width, device="meta", dtype=dtype)
    training = [(module, module.training) for module in model.modules()]
    counter = FlopCounterMode(display=False)
    try:
        model.eval()
        with torch.no_grad(), counter, _OneStep():
            torch.func.functional_call(model, state, (image,))
    finally:
        for module, mode in training:
            module.training = mode
    scan = torch.ops.mambaout_edu.selective_scan
    return {
        name: (sum(n for op, n in counts.items() if op is not scan), counts.get(scan, 0))
        for name, counts in counter.get_flop_counts().items()
    }


class _OneStep(TorchFunctionMode):
    """Let torch's recurrent networks take one step in place of L, and do the products of all others at once.

    All steps cost the same. One by one, the thousands of an image would take minutes.
    """

    NETS = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # The last arguments are (weights, has bias, layers, dropout, training, both directions, batch first).
        if func not in self.NETS or not isinstance(args[2], list):  # in place of the list: a packed sequence
            return func(*args, **(kwargs or {}))
        x, _, weights, *_, batch_first = args
        time = 1 if batch_first else 0
        length = x.shape[time]
        y, *last = func(x.narrow(time, 0, 1), *args[1:])
        rows = x.shape[1 - time] * (length - 1)
        for weight in weights:
            if weight.ndim == 2:
                x.new_empty(rows, weight.shape[1]) @ weight.t()
        shape: list[int] = list(y.shape)
        shape[time] = length
        out: Tensor = y.expand(shape)
        return out, *last
