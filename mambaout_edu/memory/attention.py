"""Causal attention as decoders have it: keys and values shared by groups of heads, a sliding window, rotary positions.

    q, k, v = qkv(x), in heads; q and k turned by their position
    y       = softmax(q k' / sqrt(c)) v, over the past, or over the last w tokens
    out     = proj(y)

glossary
    B, L, C   batch, length, channels     H, G   heads of q, heads of k and v     c   channels of a head
    S         tokens that are seen        w      window in tokens
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambaout_edu.memory.cache import KVCache
from mambaout_edu.mixers.attention import head_count
from mambaout_edu.mixers.selective import as_sequence

__all__ = ["CausalAttention", "attend", "attend_cached", "rotate"]

QUERIES = 512  # that are masked at a time: a mask of all pairs would grow with the square of the length


class CausalAttention(nn.Module):
    """Multi-head, grouped-query or sliding-window attention on sequences [B, L, C], whole or token by token.

    Sources: grouped queries, Ainslie et al., arXiv 2305.13245; sliding window, Beltagy et al., arXiv 2004.05150;
    rotary positions, Su et al., arXiv 2104.09864.

    Parameters
    ----------
    channels
        C, of input and output.
    num_heads, head_dim
        H, or c: as in `mixers.Attention`.
    num_kv_heads
        G, a divisor of H: so many heads have keys and values, each for H / G heads of queries. None: H.
    window
        A token sees itself and the w - 1 before it; None: all before it.
    rope
        Whether q and k are turned by their position; without it, order shows only in what is seen.
    qkv_bias
        Whether q, k and v have a bias.

    Raises
    ------
    ValueError
        If the heads do not divide, the channels of a head are odd (with `rope`), the window is below 1, or the input
        is not [B, L, C] or [B, H, W, C].

    Examples
    --------
    >>> attention = CausalAttention(32, num_heads=4, num_kv_heads=2)
    >>> x = torch.randn(1, 6, 32)
    >>> y, cache = attention.run(x[:, :5])
    >>> last, cache = attention.step(x[:, 5], cache)
    >>> torch.allclose(last, attention(x)[:, 5], atol=1e-5), cache.position
    (True, 6)
    """

    part = "token mixing"

    def __init__(
        self,
        channels: int,
        num_heads: int | None = None,
        head_dim: int | None = None,
        num_kv_heads: int | None = None,
        window: int | None = None,
        rope: bool = True,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        heads = head_count(channels, num_heads, head_dim)
        kv_heads = heads if num_kv_heads is None else num_kv_heads
        if kv_heads < 1 or heads % kv_heads:
            fitting = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
            raise ValueError(f"num_kv_heads must divide the {heads} heads: one of {fitting}; got {num_kv_heads}")
        if window is not None and window < 1:
            raise ValueError(f"window must be at least 1 token, or None for all of the past; got {window}")
        if rope and (channels // heads) % 2:
            raise ValueError(
                f"rotary positions turn pairs of channels, so a head needs an even number; got {channels // heads}. "
                "Take other heads, or rope=False."
            )
        self.channels, self.num_heads, self.num_kv_heads = channels, heads, kv_heads
        self.head_dim, self.window, self.rope = channels // heads, window, rope
        self.qkv = nn.Linear(channels, channels + 2 * kv_heads * self.head_dim, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels, bias=qkv_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, L, C] to the same shape, or an image [B, H, W, C] read row by row."""
        q, k, v = self.project(as_sequence(x, self.channels, "CausalAttention"))
        return self.proj(attend(q, k, v, self.window)).reshape(x.shape)

    def run(self, x: Tensor, state: KVCache | None = None) -> tuple[Tensor, KVCache]:
        """Run over a sequence [B, L, C] after what a cache holds (nothing for None); return [B, L, C] and the cache."""
        state = self.initial_state(len(x)) if state is None else state
        y, state = attend_cached(*self.project(x, state.position), state)
        return self.proj(y), state

    def step(self, token: Tensor, state: KVCache) -> tuple[Tensor, KVCache]:
        """Take one token [B, C]; return its output [B, C] and the cache after it. Costs more at every position."""
        y, state = self.run(token[:, None], state)
        return y[:, 0], state

    def initial_state(self, batch: int, capacity: int = 0) -> KVCache:
        """Return the empty cache, with room for `capacity` tokens."""
        like = self.qkv.weight
        sizes = (batch, self.num_kv_heads, self.head_dim)
        return KVCache(*sizes, window=self.window, capacity=capacity, dtype=like.dtype, device=like.device)

    def project(self, x: Tensor, position: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Return q [B, H, L, c] and k, v [B, G, L, c] of tokens [B, L, C] from a position on."""
        heads = self.qkv(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # [B, H + 2 G, L, c]
        q, k, v = heads.split([self.num_heads, self.num_kv_heads, self.num_kv_heads], dim=1)
        return (rotate(q, position), rotate(k, position), v) if self.rope else (q, k, v)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"heads={self.num_heads}, kv_heads={self.num_kv_heads}, window={self.window}, rope={self.rope}"


def attend_cached(q: Tensor, k: Tensor, v: Tensor, cache: KVCache) -> tuple[Tensor, KVCache]:
    """Attend from new tokens to those in a cache and to themselves; return [B, L, C] and the cache with them in it.

    >>> q = torch.ones(1, 4, 1, 2)  # four heads of queries on one of keys and values
    >>> y, cache = attend_cached(q, q[:, :1], 3 * q[:, :1], KVCache(1, 1, 2))
    >>> y
    tensor([[[3., 3., 3., 3., 3., 3., 3., 3.]]])
    """
    after = cache.append(k, v)
    if q.shape[2] > 1 and cache.position:  # the first of several may see what the last no longer does
        k, v = (torch.cat(pair, dim=2) for pair in ((cache.keys, k), (cache.values, v)))
    elif q.shape[2] == 1:
        k, v = after.keys, after.values  # views: nothing is copied
    return attend(q, k, v, cache.window), after


def attend(q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> Tensor:
    """Return causal attention [B, L, H c] of the last L of S tokens: q [B, H, L, c] on k, v [B, G, S, c].

    >>> x = torch.tensor([1.0, 2.0, 6.0]).view(1, 1, 3, 1)
    >>> attend(torch.zeros_like(x), x, x).flatten().tolist()  # nothing to choose by: means of the past
    [1.0, 1.5, 3.0]
    >>> attend(torch.zeros_like(x), x, x, window=2).flatten().tolist()
    [1.0, 1.5, 4.0]
    """
    (batch, heads, L, _), (groups, S) = q.shape, k.shape[1:3]
    if L == 1:  # heads that share keys stand as queries beside each other: no copy of the keys for each
        seen = S if window is None else min(S, window)
        y = F.scaled_dot_product_attention(q.reshape(batch, groups, -1, q.shape[-1]), k[:, :, -seen:], v[:, :, -seen:])
        return y.reshape(batch, 1, -1)
    if groups != heads:
        k, v = (t.repeat_interleave(heads // groups, dim=1) for t in (k, v))
    if S == L and window is None:
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    else:
        size = max(QUERIES, window or 0)
        y = torch.cat([_attend_block(q, k, v, first, min(first + size, L), window) for first in range(0, L, size)], 2)
    return y.transpose(1, 2).flatten(2)


def _attend_block(q: Tensor, k: Tensor, v: Tensor, first: int, stop: int, window: int | None) -> Tensor:
    """Attend from the queries first ... stop - 1 of L, which are the last L of S tokens."""
    before = k.shape[2] - q.shape[2]  # tokens before the first query
    low = 0 if window is None else max(0, before + first - window + 1)
    high = before + stop
    query = torch.arange(before + first, high, device=q.device)
    distance = query[:, None] - torch.arange(low, high, device=q.device)  # how long ago a key was, [queries, keys]
    seen = (distance >= 0) & (distance < (window or high))
    return F.scaled_dot_product_attention(q[:, :, first:stop], k[:, :, low:high], v[:, :, low:high], attn_mask=seen)


def rotate(x: Tensor, position: int = 0) -> Tensor:
    """Turn pairs of channels of [B, H, L, c] by angles that grow with the position: rotary positions (RoPE).

    Channel i and i + c / 2 are a pair, turned by position * 10000^(-2 i / c) radians. Of two turned vectors only the
    distance of their positions shows in the inner product. Source: arXiv 2104.09864, eq. 34.

    >>> x = torch.ones(1, 1, 3, 2)
    >>> near, far = rotate(x), rotate(x, position=1000)
    >>> torch.allclose((near[:, :, 0] * near[:, :, 2]).sum(), (far[:, :, 0] * far[:, :, 2]).sum())
    True
    """
    length, half = x.shape[-2], x.shape[-1] // 2
    place = torch.arange(position, position + length, device=x.device, dtype=torch.float32)
    speed = 10000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = place[:, None] * speed  # [L, c / 2]
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    left, right = x[..., :half], x[..., half:]
    return torch.cat((left * cos - right * sin, left * sin + right * cos), dim=-1)
