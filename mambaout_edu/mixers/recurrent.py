"""Recurrent networks as token mixers: what sequences were read with before attention and state space models."""

from typing import Any

from torch import Tensor, nn

from mambaout_edu.mixers.faces import OrderedMixer

__all__ = ["CELLS", "Recurrent"]

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Recurrent(OrderedMixer):
    """An RNN, LSTM or GRU along an order of an image: torch's own, C channels in, in state, and out.

    Read in both directions, each has weights of its own and the two outputs are added. Sources: Elman, Cognitive
    Science 14 (1990); Hochreiter and Schmidhuber, Neural Computation 9 (1997); Cho et al., arXiv 1406.1078.

    Parameters
    ----------
    channels
        C, of input, state and output.
    cell
        "rnn" (tanh), "lstm" or "gru".
    order, **options
        Along which order an image is read, as in `flatten.order`.
    bidirectional
        Whether the sequence is also read from its end.
    num_layers
        Networks on top of each other. With `bidirectional`, a layer reads both directions of the one below.

    Raises
    ------
    ValueError
        If the cell or the order is unknown, a size is below 1, or the input is neither [B, L, C] nor [B, H, W, C].

    Examples
    --------
    >>> import torch
    >>> Recurrent(8, cell="gru", order="spiral", bidirectional=True)(torch.zeros(2, 5, 3, 8)).shape
    torch.Size([2, 5, 3, 8])
    """

    def __init__(
        self,
        channels: int,
        cell: str = "lstm",
        order: str = "raster",
        bidirectional: bool = False,
        num_layers: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(channels, order, **options)
        if cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(CELLS)}; got {cell!r}")
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1; got {num_layers}")
        self.cell = cell
        self.net = CELLS[cell](channels, channels, num_layers, batch_first=True, bidirectional=bidirectional)

    def mix(self, x: Tensor) -> Tensor:
        """Map a sequence [B, L, C] to the same shape."""
        y, _ = self.net(x)  # [B, L, C], or [B, L, 2 C]: forward, backward
        return y.unflatten(-1, (-1, self.channels)).sum(-2)
