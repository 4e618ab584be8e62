"""Mamba's mixer: expand, convolve, select, scan, gate, contract (Gu and Dao, arXiv 2312.00752, figure 3).

    x, z = in_proj(u)
    y    = SSM(silu(conv1d(x))) * silu(z)
    out  = out_proj(y)

It holds neither norm nor shortcut: those are the block's.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambaout_edu.mixers.selective import MixerState, SelectiveSSM, as_sequence, check_rank, check_sizes
from mambaout_edu.scan import causal_conv1d_update

__all__ = ["Mamba1", "causal_conv"]


class Mamba1(SelectiveSSM):
    """The Mamba mixer (S6) on sequences [B, L, D], with the parameters of mamba-ssm's `Mamba`.

    Parameters
    ----------
    dim
        Channels D of input and output.
    d_state
        States N of a channel.
    d_conv
        Window k of the causal convolution, in tokens.
    expand
        The mixer works on int(expand * D) channels.
    dt_rank
        Rank R of the steps; "auto" is D / 16, rounded up.
    conv_bias, bias
        Whether the convolution and the two outer projections have a bias.
    **ssm
        Start values of the steps and `engine`, as in `SelectiveSSM`.

    Raises
    ------
    ValueError
        If a size is below 1, or the input is not [B, L, D] or [B, H, W, D].

    Examples
    --------
    >>> mixer = Mamba1(32)
    >>> x = torch.randn(1, 6, 32)
    >>> state = mixer.initial_state(batch=1)
    >>> outputs = []
    >>> for token in x.unbind(1):
    ...     y, state = mixer.step(token, state)
    ...     outputs.append(y)
    >>> torch.allclose(torch.stack(outputs, 1), mixer(x), atol=1e-5)
    True
    """

    def __init__(
        self,
        dim: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        dt_rank: int | str = "auto",
        conv_bias: bool = True,
        bias: bool = False,
        **ssm: Any,
    ) -> None:
        inner = int(expand * dim)
        check_sizes(dim=dim, d_conv=d_conv, inner=inner)
        super().__init__(inner, d_state, check_rank(dt_rank, dim), **ssm)
        self.dim, self.d_conv = dim, d_conv
        self.in_proj = nn.Linear(dim, 2 * inner, bias=bias)
        self.conv1d = nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1, bias=conv_bias)
        self.out_proj = nn.Linear(inner, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, L, D] to the same shape, or an image [B, H, W, D] read row by row."""
        y, _ = self.run(as_sequence(x, self.dim, "Mamba1"))
        return y.reshape(x.shape)

    def run(self, x: Tensor, state: MixerState | None = None) -> tuple[Tensor, MixerState]:
        """Run over a sequence [B, L, D] from a state (the empty one for None); return [B, L, D] and the state after."""
        x, z = self.in_proj(x).chunk(2, dim=-1)  # [B, L, d] each
        x, conv_state = causal_conv(x, self.conv1d, None if state is None else state.conv)
        y, ssm_state = self.scan(F.silu(x), z, None if state is None else state.ssm)
        return self.out_proj(y), MixerState(conv_state, ssm_state)

    def step(self, token: Tensor, state: MixerState) -> tuple[Tensor, MixerState]:
        """Take one token [B, D]; return its output [B, D] and the state after it. Costs the same at every position."""
        x, z = self.in_proj(token).chunk(2, dim=-1)  # [B, d] each
        conv_state = state.conv.clone()
        x = causal_conv1d_update(x, conv_state, self.conv1d.weight[:, 0], self.conv1d.bias, activation="silu")
        y, ssm_state = self.scan_step(x, z, state.ssm)
        return self.out_proj(y), MixerState(conv_state, ssm_state)

    def initial_state(self, batch: int) -> MixerState:
        """Return the state before the first token: zeros, conv [B, d, k] and ssm [B, d, N]."""
        like = self.in_proj.weight
        conv = like.new_zeros(batch, self.channels, self.d_conv)
        return MixerState(conv, torch.zeros(batch, *self.A.shape, dtype=self.A.dtype, device=like.device))


def causal_conv(x: Tensor, conv: nn.Conv1d, past: Tensor | None) -> tuple[Tensor, Tensor]:
    """Convolve every channel of [B, L, d] with its past alone; return [B, L, d] and the last k inputs [B, d, k].

    `past` [B, d, k] are the k inputs before the sequence, zeros for None.

    >>> conv = nn.Conv1d(1, 1, 2, bias=False)
    >>> conv.weight.data[:] = torch.tensor([10.0, 1.0])
    >>> causal_conv(torch.tensor([[[1.0], [2.0]]]), conv, None)[0].flatten().tolist()
    [1.0, 12.0]
    """
    (window,) = conv.kernel_size
    x = x.transpose(1, 2)  # [B, d, L]
    x = F.pad(x, (window, 0)) if past is None else torch.cat((past.to(x.dtype), x), dim=-1)  # [B, d, k + L]
    y = F.conv1d(x[..., 1:], conv.weight, conv.bias, groups=conv.groups)  # [B, d, L]
    return y.transpose(1, 2), x[..., -window:]
