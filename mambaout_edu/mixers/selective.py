"""The selective SSM as a module: steps, B and C computed from the input, and a scan over the sequence.

Mamba's mixer (`mamba1.py`) and the image mixer of MambaOut's eq. 11 (`conv_ssm.py`) are built on it.

glossary
    B, L, D   batch, length, channels        N   states of a channel (`d_state`)
    R         rank of the steps (`dt_rank`)  H, W   height and width of an image
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambaout_edu.scan import selective_scan, selective_state_update

__all__ = ["MixerState", "Projection", "SelectiveSSM", "as_sequence", "no_weight_decay", "start_steps"]

UNDECAYED = ("A_log", "D")  # weight decay would pull all decays to one value, and the skip to nothing


class MixerState(NamedTuple):
    """What a mixer remembers of all tokens before: its size does not grow with their number.

    `conv` [B, channels, k] holds the last k inputs of the convolution, oldest first; `ssm` the state of the scan,
    [B, D, N] in Mamba-1 and [B, heads, P, N] in Mamba-2.
    """

    conv: Tensor
    ssm: Tensor


class Projection(nn.Module):
    """A linear map with the keys of `nn.Linear`, whose start values a model's own initialisation leaves alone.

    Vision models draw the weights of every `nn.Linear` anew and set its bias to zero. For the steps of an SSM that
    would be wrong: their start values decide how long it remembers. So this is not an `nn.Linear`.

    >>> Projection(3, 2, bias=True)(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """

    bias: Tensor  # None without a bias

    def __init__(self, in_features: int, out_features: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.register_parameter("bias", nn.Parameter(torch.zeros(out_features)) if bias else None)
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as nn.Linear does

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in_features] to [..., out_features]."""
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Return the sizes, as `nn.Linear` tells them."""
        out_features, in_features = self.weight.shape
        return f"in_features={in_features}, out_features={out_features}, bias={self.bias is not None}"


class SelectiveSSM(nn.Module):
    """A selective state space model over a sequence: delta, B and C come from the input, A and D are learned.

    y = SSM(A, B(x), C(x), delta(x))(x) + D x, with delta = softplus(dt_proj(low(x))). It is causal: a position sees
    those before it, in an image read row by row. Source: Mamba, arXiv 2312.00752, algorithm 2. Parameters have
    the names, shapes and start values of mamba-ssm: A = -1 ... -N for every channel, D = 1.

    Parameters
    ----------
    channels
        D, of input and output.
    d_state
        States N of a channel.
    dt_rank
        R, through which the steps are computed; "auto" is channels / 16, rounded up.
    dt_min, dt_max
        The steps start between these, spread evenly in their logarithm.
    dt_init, dt_scale
        Weights of dt_proj start in ("random") or at ("constant") +-dt_scale / sqrt(R).
    dt_init_floor
        No step starts below this.
    engine
        Which engine runs the scan, see `mambaout_edu.scan.engines`.

    Raises
    ------
    ValueError
        If a size is below 1, the steps' range is empty, or the input is not [B, L, D] or [B, H, W, D].

    Examples
    --------
    >>> ssm = SelectiveSSM(8, d_state=4)
    >>> ssm(torch.zeros(2, 5, 8)).shape, ssm(torch.zeros(2, 3, 7, 8)).shape
    (torch.Size([2, 5, 8]), torch.Size([2, 3, 7, 8]))
    """

    part = "token mixing"

    def __init__(
        self,
        channels: int,
        d_state: int = 16,
        dt_rank: int | str = "auto",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init: str = "random",
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        engine: str = "auto",
    ) -> None:
        super().__init__()
        rank = check_rank(dt_rank, channels)
        check_sizes(channels=channels, d_state=d_state)
        if dt_init not in ("random", "constant"):
            raise ValueError(f"dt_init must be 'random' or 'constant'; got {dt_init!r}")
        self.channels, self.d_state, self.dt_rank, self.engine = channels, d_state, rank, engine
        self.x_proj = Projection(channels, rank + 2 * d_state)
        self.dt_proj = Projection(rank, channels, bias=True)
        scale = dt_scale / math.sqrt(rank)
        with torch.no_grad():
            self.dt_proj.weight.uniform_(-scale, scale) if dt_init == "random" else self.dt_proj.weight.fill_(scale)
            self.dt_proj.bias.copy_(start_steps(channels, dt_min, dt_max, dt_init_floor))
        poles = torch.arange(1, d_state + 1, dtype=torch.float32)  # S4D-real
        self.A_log = nn.Parameter(poles.log().repeat(channels, 1))  # [D, N]
        self.D = nn.Parameter(torch.ones(channels))
        mark(self)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that an optimiser must not decay (timm's way to tell)."""
        return set(UNDECAYED)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, L, D] to the same shape, or an image [B, H, W, D] read row by row."""
        y, _ = self.scan(as_sequence(x, self.channels, type(self).__name__))
        return y.reshape(x.shape)

    def scan(self, x: Tensor, z: Tensor | None = None, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run over x and its gate z [B, L, D], from a state [B, D, N]; return y [B, L, D] and the last state."""
        delta, B, C = self._select(x)  # [B, L, D], [B, L, N], [B, L, N]
        y, last_state = selective_scan(
            *(x, delta, self.A, B, C, self.D, z, self.dt_proj.bias),
            delta_softplus=True,
            return_last_state=True,
            initial_state=state,
            layout="bld",
            engine=self.engine,
        )
        return y, last_state

    def scan_step(self, x: Tensor, z: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor]:
        """Do one token of `scan`: x, z [B, D] and the state [B, D, N]; return y [B, D] and the new state."""
        delta, B, C = self._select(x)
        state = state.clone()  # the caller's stays as it is, so one state can be continued twice
        y = selective_state_update(state, x, delta, self.A, B, C, self.D, z, self.dt_proj.bias, dt_softplus=True)
        return y, state

    @property
    def A(self) -> Tensor:
        """The decay of every state, -exp(A_log) [D, N], in float32 or more: it is sensitive to rounding."""
        log = self.A_log if self.A_log.dtype == torch.float64 else self.A_log.float()
        return -log.exp()

    def _select(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return delta before bias and softplus [..., D], B [..., N] and C [..., N]: all that depends on the input."""
        low, B, C = self.x_proj(x).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        return F.linear(low, self.dt_proj.weight), B, C


def no_weight_decay(model: nn.Module) -> set[str]:
    """Return the full names of all parameters inside a model that an optimiser must not decay.

    Give it to `timm.optim.create_optimizer_v2`'s parameter groups, or return it from a model's own
    `no_weight_decay`, as timm asks.

    >>> sorted(no_weight_decay(nn.Sequential(nn.Linear(8, 8), SelectiveSSM(8))))
    ['1.A_log', '1.D']
    """
    names = set()
    for path, module in model.named_modules():
        if hasattr(module, "no_weight_decay") and isinstance(getattr(module, "A_log", None), nn.Parameter):
            names |= {f"{path}.{name}" if path else name for name in module.no_weight_decay()}
    return names


def as_sequence(x: Tensor, channels: int, name: str) -> Tensor:
    """Return a sequence [B, L, C] as it is, and an image [B, H, W, C] read row by row, [B, H W, C].

    Raises ValueError for another shape.

    >>> as_sequence(torch.arange(6).view(1, 2, 3, 1), 1, "mixer").flatten().tolist()
    [0, 1, 2, 3, 4, 5]
    """
    if x.ndim not in (3, 4) or x.shape[-1] != channels or 0 in x.shape:
        raise ValueError(
            f"{name} expects a sequence [B, L, C] or an image [B, H, W, C] with C = {channels} last and no side 0; "
            f"got shape {tuple(x.shape)}. A torch image [B, C, H, W] becomes one with x.permute(0, 2, 3, 1)."
        )
    return x.flatten(1, 2) if x.ndim == 4 else x


def start_steps(count: int, dt_min: float = 0.001, dt_max: float = 0.1, dt_init_floor: float = 1e-4) -> Tensor:
    """Return biases [count] with softplus(bias) spread between dt_min and dt_max, evenly in the logarithm.

    Raises ValueError if the range is empty or not positive.

    >>> bool((F.softplus(start_steps(100)) >= 0.00099).all())
    True
    """
    if not 0 < dt_min <= dt_max:
        raise ValueError(f"the steps start between dt_min and dt_max, 0 < dt_min <= dt_max; got {dt_min} and {dt_max}")
    dt = torch.exp(math.log(dt_min) + torch.rand(count) * (math.log(dt_max) - math.log(dt_min)))
    dt = dt.clamp(min=dt_init_floor)
    return dt + torch.log(-torch.expm1(-dt))  # the inverse of softplus


def check_rank(dt_rank: int | str, channels: int) -> int:
    """Return R: the number, or a sixteenth of the channels, rounded up, for "auto"."""
    rank = math.ceil(channels / 16) if dt_rank == "auto" else dt_rank
    if isinstance(rank, str) or rank < 1:
        raise ValueError(f"dt_rank must be 'auto' or at least 1; got {dt_rank!r}")
    return rank


def check_sizes(**sizes: int) -> None:
    """Raise ValueError that names the first size below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1; got {size}")


def mark(module: nn.Module) -> None:
    """Set the marks that training code for mamba-ssm looks for."""
    for name in UNDECAYED:
        getattr(module, name)._no_weight_decay = True
