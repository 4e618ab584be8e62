"""Which pixels can change an output at all: what a model can see, whatever its training."""

import copy

import torch
from torch import Tensor, nn

from mambaout_edu.seen.fields import LAYOUTS, _at, _run
from mambaout_edu.seen.hooks import still

__all__ = ["hidden_change", "reach"]


def reach(
    model: nn.Module,
    size: int | tuple[int, int],
    at: str | tuple[int, int] | None = "centre",
    *,
    in_chans: int = 3,
    seed: int = 0,
    layout: str | None = None,
) -> Tensor:
    """Return which pixels can change an output: bool [H, W].

    In double precision, for a random image and weights with random noise added, so that no weight is 0 by its start
    value and no two paths cancel: a gradient that is not exactly 0. Where the set ends, `hidden_change` proves it the
    other way round. A gradient smaller than the least double (about 1e-308) would be missed.

    Parameters
    ----------
    model
        A model for images [B, in_chans, H, W]; a copy of it is asked. Its `forward_features` is, where it has one.
    size
        Of the image: its side, or (height, width), in pixels.
    at
        "centre" or (row, column) in the output, or None for outputs [B, K] that have no position.
    in_chans
        Channels of the image.
    seed
        Of image, noise and of the mixture of output channels whose gradient is taken.
    layout
        "NCHW" or "NHWC", where the output's shape leaves it open; as in `receptive_field`.

    Raises
    ------
    ValueError
        If a size is below 1, or the output has no such position.

    Examples
    --------
    >>> reach(nn.Conv2d(1, 2, 3, padding=1), (3, 5), (1, 0), in_chans=1, layout="NCHW").int()
    tensor([[1, 1, 0, 0, 0],
            [1, 1, 0, 0, 0],
            [1, 1, 0, 0, 0]], dtype=torch.int32)
    """
    asked, image, generator = _prepared(model, size, in_chans, seed)
    layout = layout or _own_layout(model)
    with still(asked), torch.inference_mode(False), torch.enable_grad():
        x = image.requires_grad_()
        output = _at(_run(asked, None, x, {}), asked, (x.shape[2], x.shape[3]), at, layout)  # [K]
        if not output.requires_grad:
            return torch.zeros(x.shape[2:], dtype=torch.bool)
        mixture = torch.randn(output.shape, generator=generator, dtype=output.dtype)
        (gradient,) = torch.autograd.grad(output @ mixture, x, materialize_grads=True)
    return (gradient[0] != 0).any(0)


def hidden_change(
    model: nn.Module,
    hidden: Tensor,
    at: str | tuple[int, int] | None = "centre",
    *,
    in_chans: int = 3,
    seed: int = 0,
    layout: str | None = None,
) -> float:
    """Draw all `hidden` pixels [H, W] anew, at once, and return by how much the output changes at most.

    Exactly 0.0 says that no hidden pixel reaches the output. Other arguments and errors as in `reach`; TypeError if
    `hidden` is not boolean, ValueError if it is not [H, W].

    >>> conv = nn.Conv2d(1, 2, 3, padding=1)
    >>> seen = reach(conv, 7, (3, 3), in_chans=1, layout="NCHW")
    >>> hidden_change(conv, ~seen, (3, 3), in_chans=1, layout="NCHW")
    0.0
    """
    if hidden.dtype != torch.bool:
        raise TypeError(f"hidden must be boolean, True where pixels are drawn anew; got {hidden.dtype}")
    if hidden.ndim != 2:
        raise ValueError(f"hidden must be [H, W]; got shape {tuple(hidden.shape)}")
    size = (hidden.shape[0], hidden.shape[1])
    asked, image, generator = _prepared(model, size, in_chans, seed)
    layout = layout or _own_layout(model)
    other = torch.where(hidden, torch.randn(image.shape, generator=generator, dtype=image.dtype), image)
    with still(asked), torch.no_grad():
        one, two = (_at(_run(asked, None, x, {}), asked, size, at, layout) for x in (image, other))
    return (one - two).abs().max().item()


def _own_layout(model: nn.Module) -> str | None:
    """Return what a model itself says about the layout of its features, as timm's do."""
    said = str(getattr(model, "output_fmt", None))
    return said if hasattr(model, "forward_features") and said in LAYOUTS else None


def _prepared(
    model: nn.Module, size: int | tuple[int, int], in_chans: int, seed: int
) -> tuple[nn.Module, Tensor, torch.Generator]:
    """Return a copy of the model in double precision with noisy weights, an image, and the generator of both."""
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width, in_chans) < 1:
        raise ValueError(f"height, width and in_chans must be at least 1; got {height}, {width} and {in_chans}")
    generator = torch.Generator().manual_seed(seed)
    asked = copy.deepcopy(model).cpu().double()
    with torch.no_grad():
        for parameter in asked.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return asked, torch.randn(1, in_chans, height, width, generator=generator, dtype=torch.float64), generator
