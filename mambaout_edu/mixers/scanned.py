"""A selective SSM along any scan order, or along several paths at once: what makes Mamba see both ways.

    u_k = x read along path k
    y_k = SSM_k(u_k)
    y   = sum of the y_k, each put back in its place

The K paths run as K groups of one scan, over K C channels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambaout_edu.flatten import flatten, flatten_paths, unflatten
from mambaout_edu.flatten import merge as put_back
from mambaout_edu.flatten import paths as paths_of
from mambaout_edu.mixers.convolution import DepthwiseConv
from mambaout_edu.mixers.selective import SelectiveSSM, as_sequence, check_sizes
from mambaout_edu.scan import selective_scan

__all__ = ["ScannedSSM", "atrous_phases", "per_path"]

MERGES = ("sum", "mean")


class ScannedSSM(nn.Module):
    """Read an image along one or several paths, run a selective SSM along each, and add what comes out.

    With `paths="raster"` it is `SelectiveSSM`; "bidirectional" reads as Vim does (arXiv 2401.09417), "cross" as
    VMamba's SS2D (2401.10166), "plainmamba" and "atrous" as PlainMamba (2403.17695) and EfficientVMamba (2403.09977).
    A sequence is taken as it comes: forward along a single path, from both ends for "bidirectional".

    Parameters
    ----------
    channels
        C, of input and output.
    paths
        A strategy in `flatten.PATHS` or an order in `flatten.ORDERS`.
    d_state, dt_rank, **ssm
        As in `SelectiveSSM`, and its start values and `engine`.
    shared
        Whether all paths have the same parameters; by default each has its own.
    conv
        Side of a depthwise convolution on the image before the scans, in pixels; 0 for none.
    merge
        "sum", or "mean" over the paths that visit a pixel.
    act_layer
        Constructor of an activation before the scans. None: SiLU after a convolution, nothing without one.
    order, window, skip, seed
        Options of the strategy, as in `flatten.paths`.

    Raises
    ------
    ValueError
        If a size is below 1, a strategy or an option of it is unknown, or the input is neither [B, H, W, C] nor a
        sequence [B, L, C] that these paths can read.

    Examples
    --------
    >>> mixer = ScannedSSM(8, paths="cross", conv=3)
    >>> mixer(torch.zeros(2, 5, 3, 8)).shape
    torch.Size([2, 5, 3, 8])
    >>> len(mixer.ssms)
    4
    """

    part = "token mixing"

    def __init__(
        self,
        channels: int,
        paths: str = "raster",
        d_state: int = 16,
        dt_rank: int | str = "auto",
        shared: bool = False,
        conv: int = 0,
        merge: str = "sum",
        act_layer: Callable[[], nn.Module] | None = None,
        *,
        order: str = "raster",
        window: int = 2,
        skip: int = 2,
        seed: int = 0,
        **ssm: Any,
    ) -> None:
        super().__init__()
        check_sizes(channels=channels)
        if merge not in MERGES:
            raise ValueError(f"merge must be one of {', '.join(MERGES)}; got {merge!r}")
        self.options: dict[str, Any] = {"order": order, "window": window, "skip": skip, "seed": seed}
        side = skip if isinstance(skip, int) and skip > 2 else 2  # of an image on which no path is empty
        count = len(paths_of(paths, side, side, **self.options))
        self.channels, self.paths, self.shared, self.merge, self.count = channels, paths, shared, merge, count
        sets = 1 if shared else count
        self.ssms = nn.ModuleList(SelectiveSSM(channels, d_state, dt_rank, **ssm) for _ in range(sets))
        self.conv = DepthwiseConv(channels, conv) if conv else nn.Identity()
        self.act = (act_layer or (nn.SiLU if conv else nn.Identity))()

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, H, W, C] to the same shape; sequences [B, L, C] where the paths can read them."""
        as_sequence(x, self.channels, type(self).__name__)
        if x.ndim == 3:
            return self._sequence(x)
        image = self.act(self.conv(x))
        if self.paths == "atrous":
            return self._phases(image)
        return self._merged(image, self.paths, **self.options)

    def _sequence(self, x: Tensor) -> Tensor:
        """Read a sequence as it comes: from its start, or from both ends."""
        if not isinstance(self.conv, nn.Identity):
            reason = "its depthwise convolution needs rows and columns"
        elif self.count > 1 and self.paths != "bidirectional":
            reason = f"paths = {self.paths!r} need rows and columns"
        else:
            row = self.act(x).unsqueeze(1)  # [B, 1, L, C]
            return self._merged(row, "raster" if self.count == 1 else "bidirectional").squeeze(1)
        raise ValueError(
            f"this ScannedSSM takes images [B, H, W, {self.channels}] alone, because {reason}; got a sequence of "
            f"shape {tuple(x.shape)}. Give x.unflatten(1, (H, W)), or take paths='bidirectional' and conv=0."
        )

    def _merged(self, image: Tensor, paths: str, **options: Any) -> Tensor:
        """Scan paths that each visit every pixel, and add what they say of a pixel."""
        u = flatten_paths(image, paths, **options)  # [B, L, K, C]
        y = self._scan(u, range(self.count))
        y = put_back(y, paths, (image.shape[1], image.shape[2]), **options)  # [B, H, W, C]
        return y / self.count if self.merge == "mean" else y

    def _phases(self, image: Tensor) -> Tensor:
        """Scan the atrous paths: they share the pixels among them; those of one length run as one scan."""
        size, skip = (image.shape[1], image.shape[2]), self.options["skip"]
        numbers, lengths = zip(*atrous_phases(*size, skip), strict=True)
        pieces = flatten(image, "atrous", skip=skip).split(lengths, dim=1)  # [B, L_k, C] each
        outputs = list(pieces)
        for length in sorted(set(lengths)):
            members = [k for k, steps in enumerate(lengths) if steps == length]
            u = torch.stack([pieces[k] for k in members], dim=2)  # [B, L, K, C]
            for k, y in zip(members, self._scan(u, [numbers[k] for k in members]).unbind(2), strict=True):
                outputs[k] = y
        return unflatten(torch.cat(outputs, dim=1), "atrous", size, skip=skip)

    def _scan(self, u: Tensor, numbers: Sequence[int]) -> Tensor:
        """Run K paths [B, L, K, C] as one scan in K groups; `numbers` tells whose parameters each path has."""
        ssms: list[Any] = [self.ssms[0 if self.shared else number] for number in numbers]
        ranks = [ssms[0].dt_rank, ssms[0].d_state, ssms[0].d_state]
        low, B, C = per_path(u, [ssm.x_proj.weight for ssm in ssms]).split(ranks, dim=-1)  # [B, L, K, R or N]
        delta = per_path(low, [ssm.dt_proj.weight for ssm in ssms])  # [B, L, K, C]
        y: Any = selective_scan(
            *(u.flatten(2), delta.flatten(2), torch.cat([ssm.A for ssm in ssms]), B, C),
            D=torch.cat([ssm.D for ssm in ssms]),
            delta_bias=torch.cat([ssm.dt_proj.bias for ssm in ssms]),
            delta_softplus=True,
            layout="bld",
            engine=ssms[0].engine,
        )
        return y.unflatten(2, (len(ssms), self.channels))

    def extra_repr(self) -> str:
        """Return what tells this mixer from another."""
        return f"{self.channels}, paths={self.paths!r}, shared={self.shared}, merge={self.merge!r}"


def per_path(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Map [B, L, K, in] to [B, L, K, out], path k with weights[k] [out, in].

    >>> per_path(torch.ones(1, 1, 2, 1), [torch.ones(1, 1), torch.full((1, 1), 5.0)]).flatten().tolist()
    [1.0, 5.0]
    """
    if all(weight is weights[0] for weight in weights):
        return F.linear(x, weights[0])
    return torch.einsum("blki,koi->blko", x, torch.stack(list(weights)))


def atrous_phases(height: int, width: int, skip: int) -> list[tuple[int, int]]:
    """Return (number, pixels) of each phase of a skip that has pixels, in the order of `flatten.paths("atrous", ...)`.

    A small image lacks some phases; the number tells which of skip * skip a phase is, and so whose parameters it has.

    >>> atrous_phases(1, 5, 2)
    [(0, 3), (2, 2)]
    """
    sizes = [len(range(i, height, skip)) * len(range(j, width, skip)) for j in range(skip) for i in range(skip)]
    return [(number, size) for number, size in enumerate(sizes) if size]
