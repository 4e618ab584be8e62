"""What a model does to one image, step by step, as its forward pass really runs.

Shapes alone run through the model, on torch's meta device. Every call of a torch function is seen, with the module that
makes it. A tensor is followed from where it comes: what was computed from the image is an activation, all else is a
weight, and a weight knows the parameters that it was computed from. So a sum of two activations can be told from
the addition of a learned position, and no parameter is missed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from mambaout_edu.models.profile import _OneStep

__all__ = ["KINDS", "Step", "record_steps"]

# What is a step, by the names of torch's functions; one function in two kinds is told apart by what it is given.
_PRODUCT, _SUM = {"mul", "__mul__", "__rmul__", "multiply"}, {"add", "__add__", "__radd__", "__iadd__", "add_"}
_MATRIX = {"linear", "einsum", "matmul", "__matmul__", "bmm", "mm", "addmm"}
_CALLS: dict[str, set[str]] = {
    "linear": _MATRIX,
    "conv": {"conv1d", "conv2d", "conv3d"},
    "norm": {"layer_norm", "rms_norm", "group_norm", "batch_norm"},
    "activation": {"gelu", "silu", "relu", "leaky_relu", "sigmoid", "tanh", "hardswish"},
    "product": _PRODUCT,
    "sum": _SUM,
    "attention": {"scaled_dot_product_attention"},
    "scan": {"selective_scan"},
    "recurrent": {"lstm", "gru", "rnn_tanh", "rnn_relu"},
    "pool": {"mean", "avg_pool2d", "max_pool2d", "adaptive_avg_pool2d"},
    "tokens": {"cat", "concatenate"},
    "shift": {"roll"},
    "reverse": {"flip"},
}
_KIND_OF = {name: kind for kind, names in _CALLS.items() for name in names}
KINDS = (*_CALLS, "scale", "positions")


@dataclass(frozen=True)
class Step:
    """One step of a forward pass: what it is, which module takes it, on what, at what cost."""

    kind: str  # one of `KINDS`
    module: str  # dotted path of the module whose own code calls it
    name: str  # of the parameter that it uses, or of the function
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]
    parameters: int  # those that no earlier step has used
    operations: int  # two a multiply-add; a scan's by its own count
    detail: dict[str, Any] = field(default_factory=dict)


def record_steps(model: nn.Module, height: int, width: int) -> list[Step]:
    """Return the steps that a model takes on one image [1, in_chans, height, width], in their order.

    Nothing is computed, and the model is left as it was.

    >>> from mambaout_edu.mixers import DepthwiseConv
    >>> from mambaout_edu.blocks import GatedBlock
    >>> class Alone(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.block = GatedBlock(3)
    ...     def forward(self, x):
    ...         return self.block(x.permute(0, 2, 3, 1))
    >>> [step.kind for step in record_steps(Alone(), 8, 8)]
    ['norm', 'linear', 'conv', 'activation', 'product', 'linear', 'sum']
    """
    state = {k: torch.empty_like(v, device="meta") for k, v in (*model.named_parameters(), *model.named_buffers())}
    own = {name for name, _ in model.named_parameters()}
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    image = torch.empty(1, getattr(model, "in_chans", 3), height, width, device="meta", dtype=dtype)
    training = [(module, module.training) for module in model.modules()]
    counter = FlopCounterMode(display=False)
    recorder = _Recorder(model, {k: v for k, v in state.items() if k in own}, image, counter)
    try:
        model.eval()
        with torch.no_grad(), counter, _OneStep(), recorder:
            torch.func.functional_call(model, state, (image,))
    finally:
        for module, mode in training:
            module.training = mode
    return recorder.steps


class _Recorder(TorchFunctionMode):
    """Follow tensors and note steps; while it is active, the model's modules tell when they are entered and left."""

    def __init__(
        self, model: nn.Module, parameters: dict[str, Tensor], image: Tensor, counter: FlopCounterMode
    ) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.model, self.counter = model, counter
        self.sizes = {name: p.numel() for name, p in parameters.items()}  # of those not yet booked
        # By identity, with the tensor itself so that no other can take its identity: the names of the parameters it
        # was computed from, or None for what was computed from the image.
        self.known: dict[int, tuple[Tensor, tuple[str, ...] | None]] = {id(p): (p, (n,)) for n, p in parameters.items()}
        self.known[id(image)] = (image, None)
        self.inside = [""]
        self.hooks: list[Any] = []

    def __enter__(self) -> Any:
        for name, module in self.model.named_modules():
            self.hooks.append(
                module.register_forward_pre_hook(lambda module, args, name=name: self.inside.append(name))
            )
            self.hooks.append(module.register_forward_hook(self._leave, always_call=True))
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self.hooks:
            hook.remove()
        super().__exit__(kind, error, trace)

    def _leave(self, *_: Any) -> None:
        self.inside.pop()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = _KIND_OF.get(_name(func))
        before = self.counter.get_total_flops() if kind else 0
        given = [t for t in _tensors((args, kwargs)) if id(t) in self.known]
        out = func(*args, **kwargs)
        made = list(_tensors(out))
        if not made or not given:  # what comes from neither the image nor a parameter is a constant
            return out
        weights = [name for t in given for name in self.known[id(t)][1] or ()]
        from_image = [t for t in given if self.known[id(t)][1] is None]
        for t in made:
            self.known[id(t)] = (t, None if from_image else tuple(dict.fromkeys(weights)))
        if kind and from_image:
            self._note(kind, func, (args, kwargs), from_image, weights, made[0], before)
        return out

    def _note(
        self,
        kind: str,
        func: Callable[..., Any],
        call: tuple[tuple[Any, ...], dict[str, Any]],
        images: list[Tensor],
        weights: list[str],
        out: Tensor,
        before: int,
    ) -> None:
        found = _told_apart(kind, _name(func), images, weights, out)
        if found is None:
            return
        self.steps.append(
            Step(
                found,
                self.inside[-1],
                weights[0] if weights else _name(func),
                tuple(images[0].shape),
                tuple(out.shape),
                sum(self.sizes.pop(name, 0) for name in weights),
                self.counter.get_total_flops() - before,
                _detail(found, func, *call, self.known),
            )
        )


def _told_apart(kind: str, name: str, images: list[Tensor], weights: list[str], out: Tensor) -> str | None:
    """Return the kind of a call by what it was given; None for what only prepares another step."""
    if kind == "product":
        return "scale" if weights else "product" if len(images) == 2 else None
    if kind == "sum":
        return "positions" if weights else "sum" if len(images) == 2 else None
    if kind == "tokens":
        return "tokens" if weights else None
    if kind == "pool" and name == "mean" and images[0].shape[:-1] in (out.shape[:-1], out.shape):
        return None  # over channels
    if kind == "pool" and out.numel() == images[0].numel() and name == "mean":
        return None  # over a single position
    if kind == "linear" and not weights:
        return "attention"  # a product of two activations, as attention has where it is written out
    return kind


def _detail(
    kind: str,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    known: dict[int, tuple[Tensor, tuple[str, ...] | None]],
) -> dict[str, Any]:
    """Return what tells one step from another of its kind: a window, a number of states, of directions."""
    if kind == "conv":
        weight = args[1] if len(args) > 1 else kwargs["weight"]
        stride = args[3] if len(args) > 3 else kwargs.get("stride", 1)
        return {
            "kernel": list(weight.shape[2:]),
            "stride": int(stride if isinstance(stride, int) else stride[0]),
            "depthwise": weight.shape[1] == 1 and weight.shape[0] > 1,
        }
    if kind == "scan":
        u, _, A, B = args[:4]  # [B, L, D], ..., [D, N], [B, L, N] or [B, L, G, N]
        return {"states": A.shape[1], "steps": u.shape[1], "groups": B.shape[2] if B.ndim == 4 else 1}
    if kind == "attention" and _name(func) == "scaled_dot_product_attention":
        return {
            "heads": args[0].shape[-3],
            "tokens": args[0].shape[-2],
            "causal": bool(kwargs.get("is_causal", args[5] if len(args) > 5 else False)),
        }
    if kind in ("norm", "activation", "recurrent"):
        return {"function": _name(func)}
    if kind == "pool":
        kernel = kwargs.get("kernel_size", args[1] if len(args) > 1 else None)
        return {"kernel": kernel} if _name(func) in ("max_pool2d", "avg_pool2d") else {}
    return {}


def _name(func: Callable[..., Any]) -> str:
    """Return a function's name; an operator's is "namespace.name.overload" or "name.overload"."""
    name = str(getattr(func, "__name__", ""))
    return "selective_scan" if name.split(".")[0] == "selective_scan" else name


def _tensors(nest: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dictionaries."""
    if isinstance(nest, Tensor):
        yield nest
    elif isinstance(nest, (tuple, list)):
        for each in nest:
            yield from _tensors(each)
    elif isinstance(nest, dict):
        yield from _tensors(list(nest.values()))
