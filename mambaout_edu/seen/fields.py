"""The effective receptive field: which pixels an output depends on, and how strongly (Luo et al., arXiv 1701.04128)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from tqdm.auto import tqdm

from mambaout_edu.models.tokens import separate_class_tokens
from mambaout_edu.seen.hooks import find_layer, still, watch_output
from mambaout_edu.seen.one_path import silence_other_paths
from mambaout_edu.strings import text

__all__ = ["receptive_field"]

LAYOUTS = ("NCHW", "NHWC")


def receptive_field(
    model: nn.Module,
    images: Tensor,
    layer: nn.Module | str | None = None,
    position: str | int | tuple[int, int] | None = "centre",
    channels: Sequence[int] | None = None,
    *,
    path: int | None = None,
    layout: str | None = None,
    channels_last: bool = False,
    progress: bool = True,
) -> Tensor:
    """Return how strongly an output depends on each pixel: the mean of |d output at a position / d pixel| [H, W].

    The mean is over output channels, input channels and images. It is exact: a backward pass for every output channel
    and image, so choose some (`channels=range(0, 384, 16)`) where there are many. Any model runs: of this package, of
    timm, or the reader's own. It is left as it was, in its own mode.

    A norm divides by the spread of its input: where an image is flat (a black corner that was not normalised), an
    untrained model can have its largest gradients, wherever that is. Random images, or several, are fairer.

    Parameters
    ----------
    model
        A model or a part of one.
    images
        [B, C, H, W]; several are averaged.
    layer
        A module inside the model, or its name, whose output is asked. None: `model.forward_features` where there is
        one, else the model's own output.
    position
        "centre", or (row, column) in the layer's output: of the feature map, or of the grid of patches for tokens
        [B, L, C]. A number is a token in the sequence, class tokens counted in. None for outputs [B, K], such as class
        scores, which have no position.
    channels
        Numbers of the output channels; all for None.
    path
        Let only this path of every ScannedSSM, SS2D or BiMamba inside the layer speak (0 forward and 1 backward for
        BiMamba; else the order of `flatten.paths`). Norms and gates of the mixer stay.
    layout
        "NCHW" or "NHWC", how the layer puts out images; found from the shape where it can be.
    channels_last
        Whether the images are [B, H, W, C], as blocks and mixers take them.
    progress
        Whether a progress bar shows itself where the work takes seconds.

    Raises
    ------
    ValueError
        If the layer is not in the model, its output has no such position, channel or path, or the shape leaves open
        where its pixels are.
    TypeError
        If images are no floating tensor, or the layer does not return a tensor.

    Examples
    --------
    >>> field = receptive_field(nn.Conv2d(1, 2, 3, padding=1), torch.randn(1, 1, 5, 5))
    >>> (field > 0).int()
    tensor([[0, 0, 0, 0, 0],
            [0, 1, 1, 1, 0],
            [0, 1, 1, 1, 0],
            [0, 1, 1, 1, 0],
            [0, 0, 0, 0, 0]], dtype=torch.int32)
    """
    _check(images, layout)
    part = model if layer is None else find_layer(model, layer)
    changed = {} if path is None else silence_other_paths(model, part, path)
    axis = -1 if channels_last else 0
    bar = tqdm(desc=text("seen", "field_progress"), delay=2, leave=False, disable=not progress)
    with bar, still(model), torch.inference_mode(False), torch.enable_grad():
        total = images.new_zeros(images.shape[1:3] if channels_last else images.shape[2:])
        for image in images.detach():
            x = image.unsqueeze(0).clone().requires_grad_()
            output = _run(model, None if layer is None else part, x, changed)
            at = _at(output, model, tuple(total.shape), position, layout)  # [K]
            chosen = _chosen(channels, len(at))
            bar.total = len(images) * len(chosen)
            for channel in chosen:
                total += _magnitude(at[channel], x, axis) / len(chosen)
                bar.update()
    return total.detach() / len(images)


def _check(images: Tensor, layout: str | None) -> None:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        given = f"a tensor of {images.dtype}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
        raise TypeError(f"images must be a floating tensor [B, C, H, W]; got {given}. Scale bytes: images / 255")
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"images must be four axes, none of length 0; got shape {tuple(images.shape)}")
    if layout not in (None, *LAYOUTS):
        raise ValueError(f"layout must be one of {', '.join(map(repr, LAYOUTS))} or None; got {layout!r}")


def _chosen(channels: Sequence[int] | None, count: int) -> Sequence[int]:
    chosen = range(count) if channels is None else list(channels)
    if not chosen or not all(0 <= channel < count for channel in chosen):
        raise ValueError(f"channels must be one or more numbers from 0 to {count - 1}; got {channels!r}")
    return chosen


def _magnitude(output: Tensor, x: Tensor, axis: int) -> Tensor:
    """Return the mean over input channels of |d output / d x| [H, W]; 0 where the output does not depend on x."""
    if not output.requires_grad:
        return x.new_zeros(()).detach()
    (gradient,) = torch.autograd.grad(output, x, retain_graph=True, materialize_grads=True)
    return gradient[0].abs().mean(dim=axis)


class _Asked(nn.Module):
    """A model behind one call, so that `functional_call` can reach its parameters."""

    def __init__(self, model: nn.Module, features: bool) -> None:
        super().__init__()
        self.model, self.features = model, features

    def forward(self, x: Tensor) -> Any:
        return self.model.forward_features(x) if self.features else self.model(x)  # type: ignore[operator]


def _run(model: nn.Module, layer: nn.Module | None, x: Tensor, changed: dict[str, Tensor]) -> Tensor:
    """Return the output of the layer, or of the model, with some of the model's parameters exchanged."""
    asked = _Asked(model, layer is None and hasattr(model, "forward_features"))
    # Detached, so that nothing is kept or computed for the gradients of parameters, which nobody asks for.
    fixed = {name: parameter.detach() for name, parameter in model.named_parameters()} | changed
    parameters = {f"model.{name}": value for name, value in fixed.items()}
    if layer is None:
        output = functional_call(asked, parameters, (x,))
    else:
        with watch_output(layer) as seen:
            functional_call(asked, parameters, (x,))
        if not seen:
            raise ValueError(f"the layer, a {type(layer).__name__}, did not run when the model saw an image")
        output = seen[0]
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the output is a {type(output).__name__}; expected one tensor. Choose a layer that returns one"
        )
    return output


def _at(
    output: Tensor,
    model: nn.Module,
    size: tuple[int, ...],
    position: str | int | tuple[int, int] | None,
    layout: str | None,
) -> Tensor:
    """Return the output at a position [K]."""
    shape = tuple(output.shape)
    if position is None or output.ndim == 2:
        if position is not None or output.ndim != 2:
            raise ValueError(
                f"the output has shape {shape}, and position is {position!r}; expected position=None for outputs "
                "[B, K], which have no position, and a position for all others"
            )
        return output[0]
    if isinstance(position, int):
        if output.ndim != 3 or not 0 <= position < shape[1]:
            raise ValueError(
                f"position = {position} names a token of a sequence [B, L, C]; the output has shape {shape}. "
                "Give 'centre' or (row, column) for images, or a number from 0 to L - 1 for tokens"
            )
        return output[0, position]
    if output.ndim == 3:
        grid = _token_grid(output, model, size)
    elif output.ndim == 4:
        grid = output[0] if _layout(shape, model, size, layout) == "NHWC" else output[0].permute(1, 2, 0)
    else:
        raise ValueError(f"the output has shape {shape}; expected [B, K], [B, L, C], [B, C, h, w] or [B, h, w, C]")
    return grid[_place(position, grid.shape[0], grid.shape[1])]


def _place(position: str | tuple[int, int], height: int, width: int) -> tuple[int, int]:
    if position == "centre":
        return height // 2, width // 2
    if not isinstance(position, str) and len(position) == 2:
        row, column = position
        if 0 <= row < height and 0 <= column < width:
            return row, column
    raise ValueError(
        f"position must be 'centre' or (row, column) in the layer's {height} x {width} positions; got {position!r}"
    )


def _layout(shape: tuple[int, ...], model: nn.Module, size: tuple[int, ...], layout: str | None) -> str:
    """Return "NCHW" or "NHWC": the one whose height and width have the image's proportions."""
    if layout is not None:
        return layout
    grids = {"NCHW": shape[2:], "NHWC": shape[1:3]}
    misfit = {name: _misfit(grid, size) for name, grid in grids.items()}
    best = min(LAYOUTS, key=misfit.__getitem__)
    if misfit["NCHW"] == misfit["NHWC"] or misfit[best] == math.inf:
        raise ValueError(
            f"the output has shape {shape} on images of {size[0]} x {size[1]} pixels, which leaves open where its "
            "rows and columns are; say layout='NCHW' or layout='NHWC'"
        )
    return best


def _token_grid(output: Tensor, model: nn.Module, size: tuple[int, ...]) -> Tensor:
    """Return tokens [1, L, C] as a grid [h, w, C] of the image's proportions, class tokens left out."""
    embed = getattr(model, "patch_embed", None)
    tell = getattr(embed, "dynamic_feat_size", None) or getattr(embed, "grid_size", None)  # timm's name, and ours
    kinds = (_patches(output, model), output)  # before the class tokens are put in, a layer has patches alone
    if callable(tell):
        known = tell(size) if hasattr(embed, "dynamic_feat_size") else tell(*size)
        for patches in kinds:
            if patches.shape[1] == math.prod(known):
                return patches[0].unflatten(0, known)
    found = []
    for patches in kinds:
        count = patches.shape[1]
        grids = [(h, count // h) for h in range(1, count + 1) if count % h == 0]
        found += [(_misfit(grid, size), patches, grid) for grid in grids]
    misfit, patches, grid = min(found, key=lambda candidate: candidate[0])
    if misfit < math.inf:
        return patches[0].unflatten(0, grid)
    raise ValueError(
        f"the {output.shape[1]} tokens form no grid with the proportions of {size[0]} x {size[1]} pixels, with or "
        "without the model's class tokens; give the number of a token as position"
    )


def _patches(output: Tensor, model: nn.Module) -> Tensor:
    """Leave class tokens out of [B, L, C]: where Vim says they stand, or at the head as in timm."""
    if hasattr(model, "class_token") and (model.class_token is None or isinstance(model.class_token, str)):
        return separate_class_tokens(output, model.class_token)[0]
    prefix = getattr(model, "num_prefix_tokens", 0)
    return output[:, prefix:] if isinstance(prefix, int) and prefix < output.shape[1] else output


def _misfit(grid: Sequence[int], size: Sequence[int]) -> float:
    """Return how far the proportions of a grid are from the image's; infinite if no stride can explain them."""
    stride = max(1.0, round(math.sqrt(size[0] * size[1] / (grid[0] * grid[1]))))
    if any(abs(cells - pixels / stride) > 1 for cells, pixels in zip(grid, size, strict=True)):
        return math.inf
    return abs(math.log(grid[0] * size[1] / (grid[1] * size[0])))
