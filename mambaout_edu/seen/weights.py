"""The matrix by which a mixer mixes, read from its own weights: exact where it is linear once they are known.

    mixed = M values

Attention computes M from the input by a softmax, a selective SSM by its steps, B and C; a convolution has it learned.
Whatever makes the values before (projections, convolutions) and whatever follows (gate, norm, projection) keeps tokens
apart or is no part of M; `mixing_matrix(..., how="gradient")` sees all of it together.

glossary
    B, L   batch, tokens (pixels row by row)     d   channels that are mixed, inside the mixer
    M      [L, L]: row t holds what each token s gives to token t
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import window_partition
from timm.models.vision_transformer import Attention as TimmAttention
from torch import Tensor, nn

from mambaout_edu import mixers
from mambaout_edu.flatten import flatten_paths
from mambaout_edu.flatten import order as order_of
from mambaout_edu.flatten import paths as paths_of
from mambaout_edu.mixers.faces import as_image
from mambaout_edu.mixers.mamba1 import causal_conv
from mambaout_edu.mixers.scanned import atrous_phases
from mambaout_edu.mixers.selective import as_sequence
from mambaout_edu.scan.dual import decay_matrix, mixing_matrix, spread_over_heads

__all__ = ["Mixing", "has_weights", "mixing"]


Read = Callable[[Sequence[int]], Tensor]  # from the numbers of some heads to their matrices [B, heads, L, L]


@dataclass(frozen=True)
class Mixing:
    """What a mixer mixes, and the matrices it does it with; made by `mixing`.

    Attributes
    ----------
    heads
        How many matrices there are. Each serves d / heads channels: one for an SSM or a convolution, a head for
        attention and Mamba-2.
    terms
        Values [B, L, d] in the order of the sequence, or of the image row by row, each with what reads its matrices.
        One pair, but two in Vim, whose directions mix the values of a convolution each; their matrices are added.

    Examples
    --------
    >>> found = mixing(mixers.Pooling(4), torch.ones(1, 3, 4))
    >>> found.heads
    1
    >>> found.matrices([0])[0, 0]
    tensor([[-0.5000,  0.5000,  0.0000],
            [ 0.3333, -0.6667,  0.3333],
            [ 0.0000,  0.5000, -0.5000]])
    """

    heads: int
    terms: tuple[tuple[Tensor, Read], ...]

    @property
    def channels(self) -> int:
        """The number of channels d that are mixed."""
        return self.terms[0][0].shape[-1]

    def matrices(self, heads: Sequence[int]) -> Tensor:
        """Return the matrices of these heads [B, len(heads), L, L], with their signs."""
        with torch.no_grad():
            return sum((read(heads) for _, read in self.terms[1:]), start=self.terms[0][1](heads))

    def mixed(self) -> Tensor:
        """Return M values [B, L, d]: what the mixer goes on with."""
        total: Any = 0
        for values, read in self.terms:
            parts = values.unflatten(-1, (self.heads, -1))  # [B, L, heads, channels of a head]
            with torch.no_grad():
                mixed = [
                    torch.einsum("bts,bsc->btc", read([head])[:, 0].to(values.dtype), parts[:, :, head])
                    for head in range(self.heads)
                ]
            total = total + torch.cat(mixed, dim=-1)
        return total


def mixing(mixer: nn.Module, x: Tensor, skip: bool = True) -> Mixing:
    """Return what a mixer mixes of an input, and its matrices.

    For attention they are the softmax weights; for an SSM its hidden attention (Ali et al., arXiv 2403.01590), summed
    over its paths, each put back in the places of its pixels; for a convolution, pooling and identity a fixed band.
    Known for all mixers of `mambaout_edu.mixers` but `Recurrent`, and for timm's `Attention`.

    Parameters
    ----------
    mixer
        The module. It is called once, and refuses in its own words what it cannot take.
    x
        Its input, [B, L, C] or [B, H, W, C].
    skip
        Whether D counts, by which an SSM lets the input pass to its own place: an entry on the diagonal. In an
        untrained SSM it is far larger than what the state carries from token to token.

    Raises
    ------
    ValueError
        If the mixer has no such matrix, or refuses the input.

    Examples
    --------
    >>> attention = mixers.Attention(8, num_heads=2)
    >>> x = torch.randn(1, 5, 8)
    >>> torch.allclose(attention.proj(mixing(attention, x).mixed()), attention(x), atol=1e-5)
    True
    """
    for kind, read in _READERS:
        if isinstance(mixer, kind):
            with torch.no_grad():
                mixer(x)
                return read(mixer, x, skip)
    known = ", ".join(kind.__name__ for kind, _ in _READERS)
    raise ValueError(
        f"{type(mixer).__name__} has no mixing matrix of its own: known are {known}. "
        'Use mixing_matrix(..., how="gradient"), which linearises any module around an input.'
    )


def has_weights(mixer: nn.Module) -> bool:
    """Tell whether `mixing` knows the mixer.

    >>> has_weights(mixers.DepthwiseConv(4, 3)), has_weights(mixers.Recurrent(4))
    (True, False)
    """
    return isinstance(mixer, tuple(kind for kind, _ in _READERS))


class _Path(NamedTuple):
    """One scan: the pixels it visits, in order, and what `selective_scan` would get for them."""

    way: Tensor  # [l]
    delta: Tensor  # [B, l, d], before bias and softplus
    A: Tensor  # [d, N]
    B: Tensor  # [B, l, N]
    C: Tensor  # [B, l, N]
    D: Tensor | None  # [d]
    bias: Tensor  # [d]

    def matrices(self, channels: Sequence[int]) -> Tensor:
        """Return the hidden attention of these channels in the order of the path [B, channels, l, l]."""
        exact = self.A.dtype  # float32 or more, as in the scan
        chosen = list(channels)
        return mixing_matrix(
            self.delta[..., chosen].transpose(1, 2).to(exact),
            self.A[chosen],
            self.B.transpose(1, 2).to(exact),
            self.C.transpose(1, 2).to(exact),
            None if self.D is None else self.D[chosen].to(exact),
            self.bias[chosen].to(exact),
            delta_softplus=True,
        )


def _scans(paths: Sequence[_Path], values: Tensor, scale: float = 1.0) -> tuple[Tensor, Read]:
    """Return values [B, L, d], and the sum of several scans over them, each put back in its place, times a scale."""

    def read(channels: Sequence[int]) -> Tensor:
        batch, length, _ = values.shape
        total = values.new_zeros(batch, len(channels), length, length, dtype=paths[0].A.dtype)
        for path in paths:  # no path visits a pixel twice, so nothing is lost in +=
            total[..., path.way[:, None], path.way] += path.matrices(channels)
        return total * scale

    return values, read


def _selective(mixer: Any, x: Tensor, skip: bool) -> Mixing:
    """SelectiveSSM, and what it sees inside Mamba1 and ConvSSM."""
    if isinstance(mixer, mixers.Mamba1):
        u, _ = mixer.in_proj(as_sequence(x, mixer.dim, "Mamba1")).chunk(2, dim=-1)
        u = F.silu(causal_conv(u, mixer.conv1d, None)[0])  # [B, L, d]
    else:
        u = mixer.act(mixer.conv(x)) if isinstance(mixer, mixers.ConvSSM) else x
        u = as_sequence(u, mixer.channels, type(mixer).__name__)
    term = _scans([_along(mixer, u, torch.arange(u.shape[1], device=u.device), skip)], u)
    return Mixing(u.shape[-1], (term,))


def _along(ssm: Any, u: Tensor, way: Tensor, skip: bool) -> _Path:
    """Return the scan of a SelectiveSSM over u [B, L, C] along a path."""
    delta, B, C = ssm._select(u[:, way])
    return _Path(way, delta, ssm.A, B, C, ssm.D if skip else None, ssm.dt_proj.bias)


def _scanned(mixer: Any, x: Tensor, skip: bool) -> Mixing:
    if x.ndim == 3:  # a sequence is taken as it comes, or from both ends
        image, name, options = mixer.act(x).unsqueeze(1), "raster" if mixer.count == 1 else "bidirectional", {}
    else:
        image, name, options = mixer.act(mixer.conv(x)), mixer.paths, mixer.options
    size = (image.shape[1], image.shape[2])
    ways = _ways(paths_of(name, *size, **options), image)
    numbers = [number for number, _ in atrous_phases(*size, options["skip"])] if name == "atrous" else range(len(ways))
    ssms = [mixer.ssms[0 if mixer.shared else number] for number in numbers]
    u = image.flatten(1, 2)  # [B, L, C]
    scale = 1 / mixer.count if mixer.merge == "mean" and name != "atrous" else 1.0
    term = _scans([_along(ssm, u, way, skip) for ssm, way in zip(ssms, ways, strict=True)], u, scale)
    return Mixing(u.shape[-1], (term,))


def _ss2d(mixer: Any, x: Tensor, skip: bool) -> Mixing:
    u = mixer.in_proj(x)
    u = mixer.act(mixer.conv2d(u.chunk(2, dim=-1)[0] if mixer.gate else u))  # [B, H, W, d]
    delta, B, C = mixer._select(flatten_paths(u, mixer.path_name))  # [B, L, K, d or N]
    ways = _ways(paths_of(mixer.path_name, u.shape[1], u.shape[2]), u)
    A, D = (part.unflatten(0, (len(ways), -1)) for part in (mixer.A, mixer.D))  # [K, d, ...]
    u = u.flatten(1, 2)  # [B, L, d]
    paths = [
        _Path(way, delta[:, :, k], A[k], B[:, :, k], C[:, :, k], D[k] if skip else None, mixer.dt_proj_bias[k])
        for k, way in enumerate(ways)
    ]
    return Mixing(u.shape[-1], (_scans(paths, u),))


def _bimamba(mixer: Any, x: Tensor, skip: bool) -> Mixing:
    """Both directions of Vim, each with the values of its own convolution."""
    v, _ = mixer.in_proj(as_sequence(x, mixer.dim, "BiMamba")).chunk(2, dim=-1)
    u, u_b = mixer._convolve(torch.cat((v, v.flip(1)), dim=-1)).chunk(2, dim=-1)  # the second back to front
    ahead = torch.arange(v.shape[1], device=v.device)
    A, A_b = mixer.A.chunk(2)
    terms = []
    for values, way, x_proj, dt_proj, decay, D in (
        (u, ahead, mixer.x_proj, mixer.dt_proj, A, mixer.D),
        (u_b, ahead.flip(0), mixer.x_proj_b, mixer.dt_proj_b, A_b, mixer.D_b),
    ):
        low, B, C = x_proj(values).split([mixer.dt_rank, mixer.d_state, mixer.d_state], dim=-1)
        path = _Path(way, F.linear(low, dt_proj.weight), decay, B, C, D if skip else None, dt_proj.bias)
        terms.append(_scans([path], values[:, way], 0.5 if mixer.divide_out else 1.0))
    return Mixing(u.shape[-1], tuple(terms))


def _mamba2(mixer: Any, x: Tensor, skip: bool) -> Mixing:
    """Mamba-2: decay times C B' in every head (Dao and Gu, arXiv 2405.21060, section 5), and D on the diagonal."""
    _, xBC, dt = mixer._split(mixer.in_proj(as_sequence(x, mixer.dim, "Mamba2")))
    u, delta, A, B, C = mixer._terms(F.silu(causal_conv(xBC, mixer.conv1d, None)[0]), dt)
    B, C = spread_over_heads(u, delta, A, B, C)  # [B, L, heads, N]

    def read(heads: Sequence[int]) -> Tensor:
        chosen = list(heads)
        step = delta[..., chosen].transpose(1, 2)  # [B, heads, L]
        scores = torch.einsum("bthn,bshn->bhts", C[:, :, chosen], B[:, :, chosen])
        M = scores * decay_matrix(step * A[chosen, None]) * step[:, :, None]
        if not skip:
            return M
        return M + torch.diag_embed(mixer.D[chosen, None].to(M.dtype).expand_as(step))

    return Mixing(mixer.heads, ((u.flatten(2), read),))


def _attention(mixer: Any, x: Tensor, _: bool) -> Mixing:
    tokens = x.flatten(1, -2)  # [B, L, C]
    q, k, v = mixer.qkv(tokens).unflatten(-1, (3, mixer.num_heads, -1)).permute(2, 0, 3, 1, 4)  # [B, heads, L, c]
    if isinstance(mixer, TimmAttention):
        q, k = mixer.q_norm(q), mixer.k_norm(k)
    seen = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=x.device)
    if getattr(mixer, "causal", False):
        way = order_of(mixer.order, x.shape[1], x.shape[2], **mixer.options) if x.ndim == 4 else None
        rank = torch.arange(len(seen), device=x.device)  # when each token is read
        if way is not None:
            rank[_ways([way], x)[0]] = rank.clone()
        seen = rank[None, :] <= rank[:, None]
    weights = _softmax(q, k, torch.zeros_like(seen, dtype=q.dtype).masked_fill(~seen, -torch.inf))
    return Mixing(mixer.num_heads, ((v.transpose(1, 2).flatten(2), lambda heads: weights[:, list(heads)]),))


def _window(mixer: Any, x: Tensor, _: bool) -> Mixing:
    """Attention weights of every window, put in the places of its pixels; 0 from window to window."""
    calls: list[Any] = []
    handle = mixer.attn.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append((args[0], kwargs["mask"])), with_kwargs=True
    )
    try:
        mixer(x)
    finally:
        handle.remove()
    windows, mask = calls[0]  # [B n, w w, C], [n, w w, w w] or None; n windows an image
    batch, height, width = as_image(x, mixer.channels, "WindowAttention").shape[:3]
    size = (height, width)
    q, k, v = mixer.attn.qkv(windows).unflatten(-1, (3, mixer.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    bias = mixer.attn._get_rel_pos_bias()  # [1, heads, w w, w w]
    if mask is not None:
        bias = bias + mask.repeat(batch, 1, 1)[:, None]
    weights = _softmax(q, k, bias).unflatten(0, (batch, -1))  # [B, n, heads, w w, w w]
    places, length = _window_places(mixer, size, x.device), size[0] * size[1]

    def read(heads: Sequence[int]) -> Tensor:
        M = weights.new_zeros(batch, len(heads), length + 1, length + 1)  # the last place holds the padding
        for i, pixels in enumerate(places):
            M[..., pixels[:, None], pixels] = weights[:, i, list(heads)]
        return M[..., :length, :length]

    values = v.new_zeros(batch, length + 1, v.shape[1] * v.shape[3])
    values[:, places.flatten()] = v.transpose(1, 2).flatten(2).unflatten(0, (batch, -1)).flatten(1, 2)
    return Mixing(mixer.attn.num_heads, ((values[:, :length], read),))


def _window_places(mixer: Any, size: tuple[int, int], device: torch.device) -> Tensor:
    """Return which pixel stands where in each window [n, w w]; H W for padding."""
    w, length = mixer.window_size, size[0] * size[1]
    pixels = torch.arange(length, device=device).view(1, *size, 1)
    pixels = F.pad(pixels, (0, 0, 0, -size[1] % w, 0, -size[0] % w), value=length)
    shift = [-mixer.shift_size if side > w else 0 for side in size]
    return window_partition(pixels.roll(shift, dims=(1, 2)), (w, w)).flatten(1)


def _softmax(q: Tensor, k: Tensor, bias: Tensor) -> Tensor:
    """Return softmax(q k' / sqrt(c) + bias) [B, heads, L, L] for q, k [B, heads, L, c]."""
    return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + bias).softmax(dim=-1)


def _convolution(mixer: Any, x: Tensor, _: bool) -> Mixing:
    def read(channels: Sequence[int]) -> Tensor:
        impulses = _impulses(x.shape[1], x.shape[2], mixer.weight)[:, None]  # [L, 1, H, W]
        answers = F.conv2d(impulses, mixer.weight[list(channels)], padding=mixer.padding)  # [L, channels, H, W]
        return answers.flatten(2).permute(1, 2, 0).expand(len(x), -1, -1, -1)

    return Mixing(mixer.in_channels, ((x.flatten(1, 2), read),))


def _parameterless(mixer: Any, x: Tensor, _: bool) -> Mixing:
    """Pooling and Identity treat all channels alike, so one channel tells everything."""
    image = as_image(x, mixer.channels, type(mixer).__name__)

    def read(heads: Sequence[int]) -> Tensor:
        impulses = _impulses(image.shape[1], image.shape[2], x)[..., None]  # [L, H, W, 1]
        alone = mixers.Pooling(1, mixer.kernel_size) if isinstance(mixer, mixers.Pooling) else mixers.Identity(1)
        return alone(impulses).flatten(1).T.expand(len(x), len(heads), -1, -1)

    return Mixing(1, ((image.flatten(1, 2), read),))


def _impulses(height: int, width: int, like: Tensor) -> Tensor:
    """Return an image for every pixel, 1 there and 0 elsewhere [L, H, W]."""
    return torch.eye(height * width, dtype=like.dtype, device=like.device).unflatten(1, (height, width))


def _ways(ways: Sequence[Any], like: Tensor) -> list[Tensor]:
    """Return index arrays as tensors; they are copied, because they may be read-only."""
    return [torch.tensor(way, device=like.device) for way in ways]


_READERS: tuple[tuple[type[nn.Module], Callable[[Any, Tensor, bool], Mixing]], ...] = (
    (mixers.Attention, _attention),
    (TimmAttention, _attention),
    (mixers.WindowAttention, _window),
    (mixers.Mamba2, _mamba2),
    (mixers.BiMamba, _bimamba),
    (mixers.SS2D, _ss2d),
    (mixers.ScannedSSM, _scanned),
    (mixers.SelectiveSSM, _selective),  # and Mamba1 and ConvSSM, which are built on it
    (mixers.DepthwiseConv, _convolution),
    (mixers.Pooling, _parameterless),
    (mixers.Identity, _parameterless),
)
