"""Vim's mixer: Mamba's, run over the sequence from both ends (Zhu et al., arXiv 2401.09417, algorithm 1).

    x, z = in_proj(u)
    y    = SSM(silu(conv1d(x))) + flip(SSM_b(silu(conv1d_b(flip(x)))))
    out  = out_proj(y / 2 * silu(z))

The projections outside are shared; each direction has a convolution and an SSM of its own ("v2" in the authors' code).
The two scans are two groups of channels in one `selective_scan`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambaout_edu.mixers.selective import SelectiveSSM, as_sequence, check_rank, check_sizes
from mambaout_edu.scan import selective_scan

__all__ = ["BiMamba"]


class BiMamba(nn.Module):
    """Bidirectional Mamba on sequences [B, L, D]: every position sees all others. Parameters have Vim's names.

    All start values are Mamba's, in both directions. The published code starts the bias of `dt_proj_b` at zero instead,
    so its backward steps begin near 0.7, where the forward ones lie between 0.001 and 0.1.

    Parameters
    ----------
    dim
        Channels D of input and output.
    d_state, d_conv, expand, dt_rank, conv_bias, bias
        As in `Mamba1`.
    divide_out
        Whether the sum of the two directions is halved, as in the published models.
    engine
        Which engine runs the scan, see `mambaout_edu.scan.engines`.
    **ssm
        Start values of the steps, as in `SelectiveSSM`.

    Raises
    ------
    ValueError
        If a size is below 1, or the input is not [B, L, D] or [B, H, W, D].

    Examples
    --------
    >>> mixer = BiMamba(32)
    >>> mixer(torch.zeros(2, 5, 32)).shape, mixer(torch.zeros(2, 3, 7, 32)).shape
    (torch.Size([2, 5, 32]), torch.Size([2, 3, 7, 32]))
    """

    part = "token mixing"

    def __init__(
        self,
        dim: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        dt_rank: int | str = "auto",
        conv_bias: bool = True,
        bias: bool = False,
        divide_out: bool = True,
        engine: str = "auto",
        **ssm: Any,
    ) -> None:
        super().__init__()
        inner = int(expand * dim)
        check_sizes(dim=dim, d_conv=d_conv, inner=inner)
        self.dim, self.d_state, self.dt_rank = dim, d_state, check_rank(dt_rank, dim)
        self.divide_out, self.engine = divide_out, engine
        self.in_proj = nn.Linear(dim, 2 * inner, bias=bias)
        ahead, back = (SelectiveSSM(inner, d_state, self.dt_rank, **ssm) for _ in range(2))
        self.conv1d, self.conv1d_b = (nn.Conv1d(inner, inner, d_conv, groups=inner, bias=conv_bias) for _ in range(2))
        self.x_proj, self.x_proj_b = ahead.x_proj, back.x_proj
        self.dt_proj, self.dt_proj_b = ahead.dt_proj, back.dt_proj
        self.A_log, self.A_b_log = ahead.A_log, back.A_log
        self.D, self.D_b = ahead.D, back.D
        self.out_proj = nn.Linear(inner, dim, bias=bias)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that an optimiser must not decay (timm's way to tell)."""
        return {"A_log", "A_b_log", "D", "D_b"}

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, L, D] to the same shape, or an image [B, H, W, D] read row by row and back."""
        u = as_sequence(x, self.dim, "BiMamba")
        v, z = self.in_proj(u).chunk(2, dim=-1)  # [B, L, d] each
        v = self._convolve(torch.cat((v, v.flip(1)), dim=-1))  # [B, L, 2d], the second half back to front
        ahead, back = self._scan(v).chunk(2, dim=-1)
        y = (ahead + back.flip(1)) * F.silu(z)  # the gate is the same for both, so it can wait for the sum
        y = self.out_proj(y / 2 if self.divide_out else y)
        return y.reshape(x.shape)

    @property
    def A(self) -> Tensor:
        """The decays of both directions, one below the other [2d, N], in float32 or more."""
        log = torch.cat((self.A_log, self.A_b_log))
        return -(log if log.dtype == torch.float64 else log.float()).exp()

    def _convolve(self, x: Tensor) -> Tensor:
        """Convolve [B, L, 2d] causally, each half with the kernels of its direction, and activate."""
        weight = torch.cat((self.conv1d.weight, self.conv1d_b.weight))  # [2d, 1, k]
        biases = [b for b in (self.conv1d.bias, self.conv1d_b.bias) if b is not None]
        bias = torch.cat(biases) if biases else None
        x = F.pad(x.transpose(1, 2), (weight.shape[-1] - 1, 0))  # [B, 2d, k - 1 + L]
        return F.silu(F.conv1d(x, weight, bias, groups=len(weight)).transpose(1, 2))

    def _scan(self, x: Tensor) -> Tensor:
        """Scan [B, L, 2d] with delta, B and C computed from each half by the weights of its direction."""
        projections = ((self.x_proj, self.dt_proj), (self.x_proj_b, self.dt_proj_b))
        steps, rows_B, rows_C = [], [], []
        for half, (x_proj, dt_proj) in zip(x.chunk(2, dim=-1), projections, strict=True):
            low, B, C = x_proj(half).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
            steps.append(F.linear(low, dt_proj.weight))  # [B, L, d], before bias and softplus
            rows_B.append(B)
            rows_C.append(C)
        y, _ = selective_scan(
            x,
            torch.cat(steps, dim=-1),
            self.A,
            torch.stack(rows_B, dim=2),  # [B, L, 2, N]: a direction is a group
            torch.stack(rows_C, dim=2),
            torch.cat((self.D, self.D_b)),
            delta_bias=torch.cat((self.dt_proj.bias, self.dt_proj_b.bias)),
            delta_softplus=True,
            return_last_state=True,
            layout="bld",
            engine=self.engine,
        )
        return y
