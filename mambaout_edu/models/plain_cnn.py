"""An ordinary convolutional network, for comparison at equal size."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["PlainCNN", "plain_cnn_of_size"]

_TOLERANCE = 0.03  # how far `plain_cnn_of_size` may miss, as a share of what was asked


class PlainCNN(nn.Module):
    """Stages of 3x3 convolution, batch norm and ReLU; each new stage halves the resolution and doubles the width.

    Parameters
    ----------
    in_chans, num_classes
        Channels of the image, and scores to return.
    width
        Channels of the first stage; stage `s` (from 0) has `round(width * 2**s)`, so a
        fraction still counts in the later ones.
    depth
        Convolutions in each stage.
    stages
        How many stages.

    Raises
    ------
    ValueError
        If an argument is below 1, or the input has the wrong shape.

    Examples
    --------
    >>> import torch
    >>> PlainCNN(in_chans=1, num_classes=10, width=16)(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, in_chans: int = 3, num_classes: int = 10, width: float = 32, depth: int = 2, stages: int = 3
    ) -> None:
        super().__init__()
        given = {"in_chans": in_chans, "num_classes": num_classes, "width": width, "depth": depth, "stages": stages}
        for name, value in given.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        self.in_chans, self.num_classes, self.width = in_chans, num_classes, width
        layers: list[nn.Module] = []
        channels = in_chans
        for stage in range(stages):
            out = round(width * 2**stage)
            for position in range(depth):
                layers.append(_unit(channels, out, stride=2 if stage > 0 and position == 0 else 1))
                channels = out
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Score images: [B, in_chans, H, W] to [B, num_classes]."""
        if x.ndim != 4 or x.shape[1] != self.in_chans:
            raise ValueError(f"the images have shape {tuple(x.shape)}; expected [B, {self.in_chans}, H, W]")
        x = self.features(x)  # [B, C, H / 2**(stages-1), W / 2**(stages-1)]
        return self.head(x.mean(dim=(2, 3)))  # [B, num_classes]


def _unit(in_chans: int, out_chans: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_chans, out_chans, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_chans),
        nn.ReLU(),
    )


def _count(in_chans: int, num_classes: int, width: float, depth: int, stages: int) -> int:
    total, channels = 0, in_chans
    for stage in range(stages):
        out = round(width * 2**stage)
        total += 9 * (channels + (depth - 1) * out) * out + 2 * depth * out
        channels = out
    return total + channels * num_classes + num_classes


def plain_cnn_of_size(
    parameters: int, *, in_chans: int = 3, num_classes: int = 10, depth: int = 2, stages: int = 3
) -> PlainCNN:
    """Return the `PlainCNN` whose number of parameters is nearest to `parameters`, within 3 %.

    Parameters
    ----------
    parameters
        How many parameters to aim at, such as those of the model it is compared with.
    in_chans, num_classes, depth, stages
        As for `PlainCNN`.

    Raises
    ------
    ValueError
        If no width comes within 3 %.

    Examples
    --------
    >>> model = plain_cnn_of_size(200_000, in_chans=1)
    >>> model.width, sum(p.numel() for p in model.parameters())
    (26.5, 197497)
    """
    step = 0.5 ** (stages - 1)  # one channel of the last stage

    def size(steps: int) -> int:
        return _count(in_chans, num_classes, steps * step, depth, stages)

    most = round(1 / step)
    while size(most) < parameters:
        most += 1
    best = min((max(most - 1, round(1 / step)), most), key=lambda steps: abs(size(steps) - parameters))
    if abs(size(best) - parameters) > _TOLERANCE * parameters:
        raise ValueError(
            f"no width gives {parameters} parameters within 3 %; the nearest, width {best * step}, has {size(best)}. "
            f"Change depth ({depth}) or stages ({stages}), or aim at more"
        )
    return PlainCNN(in_chans, num_classes, best * step, depth, stages)
