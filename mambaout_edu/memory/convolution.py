"""The causal gated convolution: Mamba's mixer with the SSM taken out, which remembers a window of k tokens.

x, z = in_proj(u)
y    = conv1d(x) * silu(z)
out  = out_proj(y)
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from mambaout_edu.mixers.mamba1 import causal_conv
from mambaout_edu.mixers.selective import as_sequence, check_sizes
from mambaout_edu.scan import causal_conv1d_update

__all__ = ["ConvState", "GatedConv"]


class ConvState(NamedTuple):
    """The last k inputs of a causal convolution, oldest first: conv [B, d, k]."""

    conv: Tensor


class GatedConv(nn.Module):
    """A gated CNN's mixer on sequences [B, L, D] that sees the past alone: MambaOut's eq. 10 in one dimension.

    Its memory has a size, as Mamba's has, but it also has an end: what came more than k - 1 tokens ago is gone.

    Parameters
    ----------
    dim
        Channels D of input and output.
    d_conv
        Window k of the convolution, in tokens.
    expand
        The mixer works on int(expand * D) channels.
    conv_bias, bias
        Whether the convolution and the two outer projections have a bias.

    Raises
    ------
    ValueError
        If a size is below 1, or the input is not [B, L, D] or [B, H, W, D].

    Examples
    --------
    >>> import torch
    >>> mixer = GatedConv(8)
    >>> mixer(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    part = "token mixing"

    def __init__(
        self, dim: int, d_conv: int = 4, expand: float = 2, conv_bias: bool = True, bias: bool = False
    ) -> None:
        super().__init__()
        inner = int(expand * dim)
        check_sizes(dim=dim, d_conv=d_conv, inner=inner)
        self.dim, self.inner, self.d_conv = dim, inner, d_conv
        self.in_proj = nn.Linear(dim, 2 * inner, bias=bias)
        self.conv1d = nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1, bias=conv_bias)
        self.out_proj = nn.Linear(inner, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, L, D] to the same shape, or an image [B, H, W, D] read row by row."""
        y, _ = self.run(as_sequence(x, self.dim, "GatedConv"))
        return y.reshape(x.shape)

    def run(self, x: Tensor, state: ConvState | None = None) -> tuple[Tensor, ConvState]:
        """Run over a sequence [B, L, D] from a state (the empty one for None); return [B, L, D] and the state after."""
        x, z = self.in_proj(x).chunk(2, dim=-1)  # [B, L, d] each
        y, conv_state = causal_conv(x, self.conv1d, None if state is None else state.conv)
        return self.out_proj(y * F.silu(z)), ConvState(conv_state)

    def step(self, token: Tensor, state: ConvState) -> tuple[Tensor, ConvState]:
        """Take one token [B, D]; return its output [B, D] and the state after it. Costs the same at every position."""
        x, z = self.in_proj(token).chunk(2, dim=-1)  # [B, d] each
        conv_state = state.conv.clone()
        y = causal_conv1d_update(x, conv_state, self.conv1d.weight[:, 0], self.conv1d.bias)
        return self.out_proj(y * F.silu(z)), ConvState(conv_state)

    def initial_state(self, batch: int) -> ConvState:
        """Return the state before the first token: zeros [B, d, k]."""
        return ConvState(self.in_proj.weight.new_zeros(batch, self.inner, self.d_conv))
