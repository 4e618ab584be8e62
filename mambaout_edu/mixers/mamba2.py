"""Mamba-2's mixer: heads with one decay each, so that the scan becomes matrix products (arXiv 2405.21060).

    z, x, B, C, dt = in_proj(u)
    x, B, C        = silu(conv1d([x, B, C]))
    y              = SSD(x, softplus(dt + dt_bias), A, B, C) + D x
    out            = out_proj(norm(y * silu(z)))

glossary
    d   inner channels, int(expand * D)      P   channels of a head (`headdim`)      heads   d / P
    N   states (`d_state`)                   G   groups that share B and C (`ngroups`)
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambaout_edu.mixers.mamba1 import causal_conv
from mambaout_edu.mixers.selective import UNDECAYED, MixerState, as_sequence, check_sizes, mark, start_steps
from mambaout_edu.scan import causal_conv1d_update
from mambaout_edu.scan.dual import ssd_chunked, ssd_recurrence

__all__ = ["GatedRMSNorm", "Mamba2"]


class GatedRMSNorm(nn.Module):
    """Bring every group of channels to mean square 1, after (or before) they were multiplied with a gate.

    `norm_before_gate=False`, Mamba-2's default, normalises x silu(z). Arithmetic is in float32 at least.

    >>> norm = GatedRMSNorm(4)
    >>> y = norm(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.full((1, 4), 2.0))
    >>> y.square().mean().round(decimals=3).item()
    1.0
    """

    def __init__(self, dim: int, ngroups: int = 1, eps: float = 1e-5, norm_before_gate: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.ngroups, self.eps, self.norm_before_gate = ngroups, eps, norm_before_gate

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Return [..., d] for x and gate z [..., d]."""
        dtype = x.dtype
        x, gate = (t if t.dtype == torch.float64 else t.float() for t in (x, z))
        gate = F.silu(gate)
        x = x if self.norm_before_gate else x * gate
        grouped = x.unflatten(-1, (self.ngroups, -1))
        x = (grouped * torch.rsqrt(grouped.square().mean(-1, keepdim=True) + self.eps)).flatten(-2)
        x = x * gate if self.norm_before_gate else x
        return x.to(dtype) * self.weight


class Mamba2(nn.Module):
    """The Mamba-2 mixer (SSD) on sequences [B, L, D], with the parameters of mamba-ssm's `Mamba2`.

    Parameters
    ----------
    dim
        Channels D of input and output.
    d_state
        States N of a channel.
    headdim
        Channels P of a head; all of them share a decay and a step.
    expand
        The mixer works on int(expand * D) channels, a multiple of P.
    ngroups
        Groups G of heads that share B and C.
    d_conv
        Window k of the causal convolution, in tokens.
    chunk_size
        Tokens that are mixed in one matrix product.
    A_init_range
        Decay rates -A of the heads start evenly spread between these.
    dt_min, dt_max, dt_init_floor
        As in `SelectiveSSM`.
    dt_limit
        Steps are kept between these.
    norm_before_gate, conv_bias, bias
        Order of norm and gate; whether the convolution and the two outer projections have a bias.

    Raises
    ------
    ValueError
        If a size is below 1 or does not divide, or the input is not [B, L, D] or [B, H, W, D].

    Examples
    --------
    >>> Mamba2(32, d_state=16, headdim=16)(torch.zeros(2, 7, 32)).shape
    torch.Size([2, 7, 32])
    """

    part = "token mixing"

    def __init__(
        self,
        dim: int,
        d_state: int = 128,
        headdim: int = 64,
        expand: float = 2,
        ngroups: int = 1,
        d_conv: int = 4,
        chunk_size: int = 256,
        A_init_range: tuple[float, float] = (1, 16),
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        dt_limit: tuple[float, float] = (0.0, float("inf")),
        norm_before_gate: bool = False,
        conv_bias: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(dim=dim, d_state=d_state, headdim=headdim, ngroups=ngroups, d_conv=d_conv, chunk_size=chunk_size)
        inner = int(expand * dim)
        heads = _check_heads(inner, headdim, ngroups)
        if not 0 < A_init_range[0] <= A_init_range[1]:
            raise ValueError(f"A_init_range must be two positive rates, the smaller first; got {A_init_range}")
        self.dim, self.d_state, self.headdim, self.ngroups = dim, d_state, headdim, ngroups
        self.inner, self.heads, self.d_conv = inner, heads, d_conv
        self.chunk_size, self.dt_limit = chunk_size, dt_limit
        convolved = inner + 2 * ngroups * d_state  # x, B and C go through the convolution together
        self.in_proj = nn.Linear(dim, inner + convolved + heads, bias=bias)  # order: z, x, B, C, dt
        self.conv1d = nn.Conv1d(convolved, convolved, d_conv, groups=convolved, padding=d_conv - 1, bias=conv_bias)
        self.dt_bias = nn.Parameter(start_steps(heads, dt_min, dt_max, dt_init_floor))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(*A_init_range).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = GatedRMSNorm(inner, ngroups, norm_before_gate=norm_before_gate)
        self.out_proj = nn.Linear(inner, dim, bias=bias)
        mark(self)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that an optimiser must not decay (timm's way to tell)."""
        return {*UNDECAYED, "dt_bias"}

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, L, D] to the same shape, or an image [B, H, W, D] read row by row."""
        y, _ = self.run(as_sequence(x, self.dim, "Mamba2"))
        return y.reshape(x.shape)

    def run(self, x: Tensor, state: MixerState | None = None) -> tuple[Tensor, MixerState]:
        """Run over a sequence [B, L, D] from a state (the empty one for None); return [B, L, D] and the state after."""
        z, xBC, dt = self._split(self.in_proj(x))
        xBC, conv_state = causal_conv(xBC, self.conv1d, None if state is None else state.conv)
        terms = self._terms(F.silu(xBC), dt)
        y, ssm_state = ssd_chunked(*terms, chunk=self.chunk_size, initial_state=None if state is None else state.ssm)
        return self._finish(y, terms[0], z), MixerState(conv_state, ssm_state)

    def step(self, token: Tensor, state: MixerState) -> tuple[Tensor, MixerState]:
        """Take one token [B, D]; return its output [B, D] and the state after it. Costs the same at every position."""
        z, xBC, dt = self._split(self.in_proj(token))
        conv_state = state.conv.clone()
        xBC = causal_conv1d_update(xBC, conv_state, self.conv1d.weight[:, 0], self.conv1d.bias, activation="silu")
        terms = self._terms(xBC[:, None], dt[:, None])  # a sequence of one token
        y, ssm_state = ssd_recurrence(*terms, initial_state=state.ssm)
        return self._finish(y, terms[0], z[:, None])[:, 0], MixerState(conv_state, ssm_state)

    def initial_state(self, batch: int) -> MixerState:
        """Return the state before the first token: zeros, conv [B, d + 2 G N, k] and ssm [B, heads, P, N]."""
        like = self.in_proj.weight
        conv = like.new_zeros(batch, self.conv1d.in_channels, self.d_conv)
        ssm = torch.promote_types(like.dtype, torch.float32)
        return MixerState(conv, like.new_zeros(batch, self.heads, self.headdim, self.d_state, dtype=ssm))

    def _split(self, projected: Tensor) -> tuple[Tensor, ...]:
        """Return z [..., d], x with B and C [..., d + 2 G N], and dt [..., heads]."""
        return projected.split([self.inner, self.conv1d.in_channels, self.heads], dim=-1)

    def _terms(self, xBC: Tensor, dt: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return x [B, L, heads, P], delta [B, L, heads], A [heads], B and C [B, L, G, N]; float32 at least."""
        dtype = torch.promote_types(xBC.dtype, torch.float32)
        states = self.ngroups * self.d_state
        x, B, C = xBC.to(dtype).split([self.inner, states, states], dim=-1)
        B, C = (w.unflatten(-1, (self.ngroups, self.d_state)) for w in (B, C))
        delta = F.softplus(dt.to(dtype) + self.dt_bias.to(dtype)).clamp(*self.dt_limit)
        return x.unflatten(-1, (self.heads, self.headdim)), delta, -self.A_log.to(dtype).exp(), B, C

    def _finish(self, y: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """Add the skip, gate, normalise and contract: y, x [B, L, heads, P], z [B, L, d] to [B, L, D]."""
        y = (y + self.D[:, None] * x).flatten(-2)  # [B, L, d]
        return self.out_proj(self.norm(y.to(z.dtype), z))


def _check_heads(inner: int, headdim: int, ngroups: int) -> int:
    """Return the number of heads."""
    heads = inner // headdim
    if heads < 1 or inner % headdim:
        raise ValueError(f"the {inner} inner channels must be a multiple of headdim = {headdim}; choose a divisor")
    if heads % ngroups:
        raise ValueError(f"ngroups = {ngroups} must divide the {heads} heads evenly")
    return heads
