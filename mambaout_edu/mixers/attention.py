"""Attention as a token mixer: every token weighs all others, or all before it (Vaswani et al., arXiv 1706.03762).

    q, k, v = qkv(x), in heads
    y       = softmax(q k' / sqrt(channels of a head)) v
    out     = proj(y)

It holds neither norm nor shortcut: those are the block's.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mambaout_edu.mixers.faces import OrderedMixer

__all__ = ["Attention", "head_count"]


class Attention(OrderedMixer):
    """Multi-head self-attention: fully visible as in ViT, or causal as in GPT, along any order of an image.

    It knows no positions: a model adds them to the tokens, or puts a convolution before it. Parameters have the names
    and shapes of timm's `Attention`. Source: arXiv 1706.03762, section 3.2; MambaOut, figure 3, for the two kinds.

    Parameters
    ----------
    channels
        C, of input and output.
    num_heads
        Heads; they share the channels evenly. 8 by default.
    head_dim
        Channels of a head, in place of `num_heads`: the heads are then C / head_dim.
    causal
        Whether a token sees only itself and those before it.
    order, **options
        Along which order of an image "before" is meant, as in `flatten.order`; for causal attention alone.
    qkv_bias
        Whether q, k and v have a bias.
    attn_drop, proj_drop
        Share of the attention weights and of the outputs that training drops.

    Raises
    ------
    ValueError
        If the heads do not divide the channels, the order is unknown or has no effect, or the input is neither
        [B, L, C] nor [B, H, W, C].

    Examples
    --------
    >>> import torch
    >>> Attention(16, causal=True, order="hilbert")(torch.zeros(2, 5, 3, 16)).shape
    torch.Size([2, 5, 3, 16])
    """

    def __init__(
        self,
        channels: int,
        num_heads: int | None = None,
        head_dim: int | None = None,
        causal: bool = False,
        order: str = "raster",
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(channels, order, **options)
        if not causal and (order != "raster" or options):
            raise ValueError(
                f"order = {order!r} {options or ''} has no effect on attention that sees all tokens at once; "
                "give causal=True, or leave the order out"
            )
        self.num_heads, self.causal, self.attn_drop = head_count(channels, num_heads, head_dim), causal, attn_drop
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        self.proj_drop = nn.Dropout(proj_drop)

    def mix(self, x: Tensor) -> Tensor:
        """Map a sequence [B, L, C] to the same shape."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # [B, L, 3, heads, c]
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # [B, heads, L, c] each
        dropped = self.attn_drop if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropped, is_causal=self.causal)
        return self.proj_drop(self.proj(y.transpose(1, 2).flatten(2)))


def head_count(channels: int, num_heads: int | None = None, head_dim: int | None = None) -> int:
    """Return the number of heads that share the channels evenly: given, or from the channels of one, or 8.

    Raises ValueError if they do not divide the channels, or both are given and disagree.

    >>> head_count(96), head_count(96, head_dim=32)
    (8, 3)
    """
    heads = num_heads or (channels // head_dim if head_dim and head_dim > 0 else 8)
    size = head_dim or channels // heads if heads > 0 else 0
    if heads < 1 or size < 1 or heads * size != channels:
        given = ", ".join(f"{n} = {v}" for n, v in (("num_heads", num_heads), ("head_dim", head_dim)) if v is not None)
        fitting = ", ".join(str(n) for n in range(1, channels + 1) if channels % n == 0)
        raise ValueError(
            f"channels = {channels} must be num_heads * head_dim; got {given or 'neither, so num_heads = 8'}. "
            f"num_heads may be {fitting}."
        )
    return heads
