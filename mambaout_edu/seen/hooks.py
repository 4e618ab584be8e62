"""What passes through a layer of a model: found by name, read by a hook, with the model left as it was."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["find_layer", "input_of", "still", "watch_output"]


def input_of(model: nn.Module, images: Tensor, layer: nn.Module | str) -> Tensor:
    """Return what enters a layer of a model when it sees images: the input that `mixing_matrix` wants for a mixer.

    The model runs in evaluation mode and is left in the mode it had. A layer that runs several times shows its
    first input.

    Parameters
    ----------
    model
        Called with the images, in its own layout.
    images
        [B, C, H, W] for models of this package and of timm.
    layer
        A module inside the model, or its name, such as "stages.1.blocks.0.mixer".

    Returns
    -------
    Tensor
        The first argument of the layer, in the layer's own shape, detached.

    Raises
    ------
    ValueError
        If the layer is not in the model or did not run.
    TypeError
        If its first argument is no tensor.

    Examples
    --------
    >>> from mambaout_edu.models import MambaOut
    >>> model = MambaOut(depths=(1, 1), dims=(8, 16), num_classes=10, stem_stride=1)
    >>> input_of(model, torch.zeros(2, 3, 8, 8), "stages.1.blocks.0.mixer").shape
    torch.Size([2, 4, 4, 16])
    """
    part = find_layer(model, layer)
    seen: list[Any] = []
    handle = part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0] if inputs else None))
    try:
        with still(model), torch.no_grad():
            model(images)
    finally:
        handle.remove()
    if not seen:
        raise ValueError(f"the layer {layer if isinstance(layer, str) else type(layer).__name__} did not run")
    if not isinstance(seen[0], Tensor):
        raise TypeError(
            f"the first argument of {type(part).__name__} is a {type(seen[0]).__name__}; expected a tensor. "
            "Choose a layer that is called with one, such as a block's mixer."
        )
    return seen[0].detach()


@contextmanager
def still(model: nn.Module) -> Iterator[None]:
    """Hold a model in evaluation mode, without dropout, and give every part its own mode back.

    >>> model = nn.Dropout()
    >>> with still(model):
    ...     model.training
    False
    >>> model.training
    True
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def watch_output(layer: nn.Module) -> Iterator[list[Any]]:
    """Collect what a layer returns, one entry a run, in the list that is handed out.

    >>> layer = nn.Flatten()
    >>> with watch_output(layer) as seen:
    ...     _ = nn.Sequential(layer)(torch.zeros(2, 3, 4))
    >>> [output.shape for output in seen]
    [torch.Size([2, 12])]
    """
    seen: list[Any] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        yield seen
    finally:
        handle.remove()


def find_layer(model: nn.Module, layer: nn.Module | str) -> nn.Module:
    """Return the module of that name, or the module itself if it is part of the model.

    Raises ValueError for another, with the nearest names.

    >>> find_layer(nn.Sequential(nn.ReLU()), "0")
    ReLU()
    """
    named = dict(model.named_modules(remove_duplicate=False))
    if isinstance(layer, nn.Module):
        if any(layer is module for module in named.values()):
            return layer
        raise ValueError(
            f"the {type(layer).__name__} that was given as layer is no part of this {type(model).__name__}; "
            "give a module of the same model, or its name as in model.named_modules()"
        )
    if layer in named:
        return named[layer]
    near = difflib.get_close_matches(layer, named, n=3, cutoff=0.3) or [name for name in named if name][:3]
    raise ValueError(f"{type(model).__name__} has no layer {layer!r}; near it are {', '.join(map(repr, near))}")
