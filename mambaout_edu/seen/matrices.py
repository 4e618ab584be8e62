"""The mixing matrix of any mixer: how much output token t takes from input token s, by its weights or by gradient."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from mambaout_edu.seen.hooks import still
from mambaout_edu.seen.weights import Mixing, has_weights, mixing
from mambaout_edu.strings import text

__all__ = ["mixing_matrix"]

WAYS = ("auto", "weights", "gradient")
_AT_ONCE = 2**23  # numbers in the largest tensor of a step, so that memory stays small


def mixing_matrix(
    mixer: nn.Module,
    x: Tensor,
    channel: int | None = None,
    *,
    head: int | None = None,
    how: str = "auto",
    skip: bool = True,
    progress: bool = True,
) -> Tensor:
    """Return the mixing matrix of a mixer on an input: entry (t, s) is what output token t takes from input token s.

    By "weights" it is the exact matrix M of the linear step inside the mixer, mixed = M values, once the input has
    decided M (see `mixing`): the attention weights, an SSM's hidden attention, a convolution's band. Without `channel`
    or `head` it is the mean of |M| over all of them.

    By "gradient" it is the Jacobian of the whole module, each entry the length of the gradient of an output channel of
    token t with respect to the input token s (the root of the sum of squares over the channels of s), averaged over
    the output channels. It includes projections, gates, and that the input decides the weights; it knows any module
    that treats the samples of a batch apart. Where channels stay apart and nothing depends on the input (a depthwise
    convolution, pooling) both are the same. A backward pass for every token and channel: choose channels for long
    sequences.

    Sources: Ali et al., "The hidden attention of Mamba models", arXiv 2403.01590, for the matrix of an SSM.

    Parameters
    ----------
    mixer
        The module; it runs in evaluation mode, and keeps the mode it has.
    x
        Its input, [B, L, C] or [B, H, W, C]; tokens of an image are numbered row by row.
    channel
        One channel alone, and with its sign by "weights": of what is mixed inside, or of the output by "gradient".
    head
        One head of attention or Mamba-2 alone, by "weights".
    how
        "weights", "gradient", or "auto": weights where `mixing` knows them, else the gradient.
    skip
        By "weights", whether an SSM's D counts, the part of the input that passes to its own place past the state.
    progress
        Whether a progress bar shows itself where the work takes seconds.

    Returns
    -------
    Tensor
        [B, L, L], detached.

    Raises
    ------
    ValueError
        If the mixer refuses the input or has no weights of the kind, `how` is unknown, a channel or head is out of
        range or both are given, or the output has other tokens than the input.
    TypeError
        If the input is no floating tensor.

    Examples
    --------
    >>> from mambaout_edu.mixers import Attention, Recurrent
    >>> x = torch.randn(1, 3, 8)
    >>> causal = mixing_matrix(Attention(8, num_heads=2, causal=True), x)[0]
    >>> torch.equal(causal, causal.tril()), causal.sum(1).round(decimals=4)
    (True, tensor([1., 1., 1.]))
    >>> mixing_matrix(Recurrent(8), x).shape
    torch.Size([1, 3, 3])
    """
    if how not in WAYS:
        raise ValueError(f"how must be one of {', '.join(map(repr, WAYS))}; got {how!r}")
    if not isinstance(x, Tensor) or not x.is_floating_point():
        given = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise TypeError(f"x must be a floating tensor [B, L, C] or [B, H, W, C]; got {given}")
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise ValueError(f"x must be [B, L, C] or [B, H, W, C] with no side 0; got shape {tuple(x.shape)}")
    if channel is not None and head is not None:
        raise ValueError(f"give a channel or a head, not both; got channel = {channel} and head = {head}")
    with still(mixer):
        if how == "weights" or (how == "auto" and has_weights(mixer)):
            return _by_weights(mixing(mixer, x.detach(), skip), channel, head, progress)
        if head is not None:
            raise ValueError(
                f"head = {head} chooses among the weights of attention; {type(mixer).__name__} is read by gradient, "
                "where channel chooses an output channel. Leave head out."
            )
        with torch.inference_mode(False):  # its tensors could not take part in a backward pass
            return _by_gradient(mixer, x.detach(), channel, progress)


def _by_weights(found: Mixing, channel: int | None, head: int | None, progress: bool) -> Tensor:
    """Return the matrix of one channel or head [B, L, L], or the mean of the absolute values of all."""
    if channel is not None:
        head = _in_range("channel", channel, found.channels) * found.heads // found.channels
    if head is not None:
        return found.matrices([_in_range("head", head, found.heads)])[:, 0]
    batch, length, _ = found.terms[0][0].shape
    step = max(1, _AT_ONCE // (batch * length * length))
    chunks = [range(start, min(start + step, found.heads)) for start in range(0, found.heads, step)]
    total: Tensor | None = None
    for chunk in _bar(chunks, "matrix_progress", progress):
        part = found.matrices(chunk).abs().sum(dim=1)
        total = part if total is None else total + part
    assert total is not None  # there is a head
    return total / found.heads


def _by_gradient(mixer: nn.Module, x: Tensor, channel: int | None, progress: bool) -> Tensor:
    """Return the mean over output channels of the length of their gradient in each input token [B, L, L]."""
    with torch.no_grad():
        y = mixer(x)
    if not isinstance(y, Tensor) or y.shape[:-1] != x.shape[:-1]:
        got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
        raise ValueError(
            f"a mixer returns as many tokens as it gets, {tuple(x.shape[:-1])} and channels; "
            f"{type(mixer).__name__} returned {got}. Of a whole model, take receptive_field."
        )
    channels = range(y.shape[-1]) if channel is None else [_in_range("channel", channel, y.shape[-1])]
    length = x[0, ..., 0].numel()
    pairs = torch.cartesian_prod(torch.arange(length), torch.tensor(list(channels))).view(
        -1, 2
    )  # output token, channel
    chunks = pairs.split(max(1, _AT_ONCE // (8 * x[0].numel())))
    M = x.new_zeros(len(x), length, length)
    steps = [(sample, chunk) for sample in range(len(x)) for chunk in chunks]
    for sample, chunk in _bar(steps, "gradient_progress", progress):
        tokens, chosen = chunk.to(x.device).T
        lengths = _gradients(mixer, x[sample], tokens, chosen)
        M[sample].index_add_(0, tokens, lengths / len(channels))
    return M


def _gradients(mixer: nn.Module, x: Tensor, tokens: Tensor, channels: Tensor) -> Tensor:
    """Return the length in each input token of the gradients of n entries (token, channel) of the output [n, L]."""
    with torch.enable_grad():
        # One copy of the input for each entry: a single backward pass then gives all their gradients.
        copies = x.expand(len(tokens), *x.shape).clone().requires_grad_()
        y = mixer(copies)
        entries = y.flatten(1, -2)[torch.arange(len(tokens), device=x.device), tokens, channels]
        if not entries.requires_grad:  # an output that takes nothing from the input
            return x.new_zeros(len(tokens), x[..., 0].numel())
        (gradient,) = torch.autograd.grad(entries.sum(), copies, materialize_grads=True)
    return gradient.flatten(1, -2).norm(dim=-1)


def _in_range(name: str, number: int, count: int) -> int:
    if not 0 <= number < count:
        raise ValueError(f"{name} must be from 0 to {count - 1}; got {number}")
    return number


def _bar(steps: Sequence, key: str, progress: bool) -> tqdm:
    """Return the steps with a progress bar, which shows itself only where they take seconds."""
    return tqdm(steps, desc=text("seen", key), delay=2, leave=False, disable=not progress)
