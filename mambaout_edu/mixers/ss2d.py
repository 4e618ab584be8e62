"""VMamba's mixer: one selective scan along several paths of the image at once (SS2D, arXiv 2401.10166).

    x, z = in_proj(u)                                         (no z in the newer versions, "noz")
    y    = merge(SSM_k(path_k(silu(conv2d(x)))) for all k)    one scan, path k is group k
    out  = out_proj(norm(y) * silu(z))

It holds neither the block's norm nor its shortcut: those are the block's.

glossary
    C      channels of the image (`dim`)     d   channels inside, int(expand * C)
    H, W   height and width; L = H W         K   paths, each with weights of its own; 4 in VMamba
    N      states of a channel (`d_state`)   R   rank of the steps (`dt_rank`)
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mambaout_edu.flatten import PATHS, flatten_paths, merge, paths
from mambaout_edu.mixers.convolution import DepthwiseConv
from mambaout_edu.mixers.selective import UNDECAYED, check_rank, check_sizes, mark, start_steps
from mambaout_edu.scan import selective_scan

__all__ = ["SS2D"]


class SS2D(nn.Module):
    """Mix an image [B, H, W, C] of any size by selective scans along K paths, whose results are added.

    With the cross-scan (rows, columns, and both backwards) every position sees all others, each over the shortest
    of four ways. Path k reads the same image with its own steps, B, C, decay and skip. Source: VMamba, section 4.

    Parameters
    ----------
    dim
        Channels C of input and output.
    d_state
        States N of a channel: 16 in VMamba's first version, 1 in the later ones.
    expand
        The scan works on int(expand * C) channels.
    dt_rank
        Rank R of the steps; "auto" is C / 16, rounded up.
    kernel_size, conv_bias
        Side of the depthwise convolution's window in pixels, odd; whether it has a bias.
    gate
        Whether the normed sum is multiplied with a gate: in the first version, not in the later ones.
    scan
        The paths, a name that `mambaout_edu.flatten.paths` knows; all must visit the whole image.
    act_layer
        Constructor of the activation of convolution and gate.
    dt_min, dt_max, dt_init_floor, engine
        As in `SelectiveSSM`.

    Raises
    ------
    ValueError
        If a size is impossible, the paths are unknown or do not visit all pixels, or the input is not [B, H, W, C].

    Examples
    --------
    >>> SS2D(8)(torch.zeros(2, 5, 3, 8)).shape
    torch.Size([2, 5, 3, 8])
    """

    part = "token mixing"

    def __init__(
        self,
        dim: int,
        d_state: int = 16,
        expand: float = 2.0,
        dt_rank: int | str = "auto",
        kernel_size: int = 3,
        conv_bias: bool = True,
        gate: bool = True,
        scan: str = "cross",
        act_layer: Callable[[], nn.Module] = nn.SiLU,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        engine: str = "auto",
    ) -> None:
        super().__init__()
        inner = int(expand * dim)
        check_sizes(dim=dim, inner=inner, d_state=d_state)
        rank, count = check_rank(dt_rank, dim), _count_paths(scan)
        self.dim, self.inner, self.d_state, self.dt_rank = dim, inner, d_state, rank
        self.gate, self.path_name, self.engine = gate, scan, engine

        self.in_proj = nn.Linear(dim, 2 * inner if gate else inner, bias=False)
        self.conv2d = DepthwiseConv(inner, kernel_size)
        if not conv_bias:
            self.conv2d.register_parameter("bias", None)
        self.act = act_layer()
        # Weights of all paths in one tensor, and no `nn.Linear`, whose start values a model would draw anew.
        self.x_proj_weight = nn.Parameter(torch.empty(count, rank + 2 * d_state, inner))
        self.dt_proj_weight = nn.Parameter(torch.empty(count, inner, rank))
        nn.init.uniform_(self.x_proj_weight, -1 / math.sqrt(inner), 1 / math.sqrt(inner))
        nn.init.uniform_(self.dt_proj_weight, -1 / math.sqrt(rank), 1 / math.sqrt(rank))
        self.dt_proj_bias = nn.Parameter(start_steps(count * inner, dt_min, dt_max, dt_init_floor).view(count, inner))
        poles = torch.arange(1, d_state + 1, dtype=torch.float32)  # S4D-real
        self.A_log = nn.Parameter(poles.log().repeat(count * inner, 1))  # [K d, N]
        self.D = nn.Parameter(torch.ones(count * inner))
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, dim, bias=False)
        mark(self)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that an optimiser must not decay (timm's way to tell)."""
        return {*UNDECAYED, "dt_proj_bias"}  # a bias, which timm does not see in [K, d]

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, H, W, C] to the same shape."""
        if x.ndim != 4 or x.shape[-1] != self.dim or 0 in x.shape:
            raise ValueError(
                f"SS2D({self.dim}) expects images [B, H, W, C] with C = {self.dim} last and no side 0; got shape "
                f"{tuple(x.shape)}. A torch image [B, C, H, W] becomes one with x.permute(0, 2, 3, 1)."
            )
        x, z = self.in_proj(x), None  # [B, H, W, d], with a gate [B, H, W, 2 d]
        if self.gate:
            x, z = x.chunk(2, dim=-1)
        x = self.act(self.conv2d(x))
        y = self.out_norm(self.scan(x))  # [B, H, W, d]
        if z is not None:
            y = y * self.act(z)
        return self.out_proj(y)  # [B, H, W, C]

    def scan(self, x: Tensor) -> Tensor:
        """Run the SSMs of all paths over x [B, H, W, d] in one scan; return their sum in the same shape."""
        u = flatten_paths(x, self.path_name)  # [B, L, K, d]
        delta, B, C = self._select(u)  # [B, L, K, d], [B, L, K, N], [B, L, K, N]
        y, _ = selective_scan(
            *(u.flatten(2), delta.flatten(2), self.A, B, C, self.D, None, self.dt_proj_bias.flatten()),
            delta_softplus=True,
            return_last_state=True,
            layout="bld",
            engine=self.engine,
        )  # [B, L, K d]
        return merge(y.unflatten(2, (-1, self.inner)), self.path_name, (x.shape[1], x.shape[2]))

    @property
    def A(self) -> Tensor:
        """The decay of every state, -exp(A_log) [K d, N], in float32 or more: it is sensitive to rounding."""
        log = self.A_log if self.A_log.dtype == torch.float64 else self.A_log.float()
        return -log.exp()

    def _select(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return delta before bias and softplus [B, L, K, d], B and C [B, L, K, N], by the weights of each path."""
        x = torch.einsum("blkd,kcd->blkc", u, self.x_proj_weight)
        low, B, C = x.split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        return torch.einsum("blkr,kdr->blkd", low, self.dt_proj_weight), B, C


def _count_paths(scan: str) -> int:
    ways = paths(scan, 3, 3)
    if any(len(way) != 9 for way in ways):
        raise ValueError(
            f"the paths of an SS2D must each visit the whole image; those of {scan!r} share it among them. Use one of "
            f"{', '.join(repr(name) for name in PATHS if name != scan)}, or an order."
        )
    return len(ways)
