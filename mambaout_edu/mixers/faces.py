"""The two faces of a token mixer: a sequence [B, L, C], and an image [B, H, W, C] that is read along a scan order."""

from typing import Any

from torch import Tensor, nn

from mambaout_edu.flatten import flatten, unflatten
from mambaout_edu.flatten import order as order_of
from mambaout_edu.mixers.selective import as_sequence, check_sizes

__all__ = ["OrderedMixer", "as_image"]


class OrderedMixer(nn.Module):
    """A mixer of sequences that reads an image along an order of `mambaout_edu.flatten` and puts the result back.

    A subclass says in `mix` what happens to a sequence [B, L, C]; a sequence that is given as such is taken as it
    comes, in no other order.

    Parameters
    ----------
    channels
        C, of input and output.
    order, **options
        A name in `flatten.ORDERS`, and its options (`reverse`, `window`, `skip`, `seed`) as in `flatten.order`.

    Raises
    ------
    ValueError
        If `channels` is below 1, the order or an option of it is unknown, or the input is neither [B, L, C] nor
        [B, H, W, C].

    Examples
    --------
    >>> class Running(OrderedMixer):
    ...     def mix(self, x):
    ...         return x.cumsum(1)
    >>> import torch
    >>> Running(1, order="serpentine")(torch.ones(1, 2, 3, 1)).squeeze().tolist()
    [[1.0, 2.0, 3.0], [6.0, 5.0, 4.0]]
    """

    part = "token mixing"  # what models.profile books its parameters and multiply-adds under

    def __init__(self, channels: int, order: str = "raster", **options: Any) -> None:
        super().__init__()
        check_sizes(channels=channels)
        order_of(order, 2, 2, **options)  # refuses what it does not know, before any image is there
        self.channels, self.order, self.options = channels, order, options

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, L, C] to the same shape, or an image [B, H, W, C] read along the order."""
        tokens = as_sequence(x, self.channels, type(self).__name__)
        if x.ndim == 3 or (self.order == "raster" and not self.options):  # as the pixels lie in memory
            return self.mix(tokens).reshape(x.shape)
        tokens = flatten(x, self.order, **self.options)  # [B, H W, C]
        return unflatten(self.mix(tokens), self.order, (x.shape[1], x.shape[2]), **self.options)

    def mix(self, x: Tensor) -> Tensor:
        """Map a sequence [B, L, C] to the same shape."""
        raise NotImplementedError(f"{type(self).__name__} must say in mix(x) how a sequence [B, L, C] is mixed")


def as_image(x: Tensor, channels: int, name: str) -> Tensor:
    """Return an image [B, H, W, C] as it is, and a sequence [B, L, C] as an image of one row, [B, 1, L, C].

    Raises ValueError for another shape.

    >>> import torch
    >>> as_image(torch.zeros(2, 5, 3), 3, "mixer").shape
    torch.Size([2, 1, 5, 3])
    """
    as_sequence(x, channels, name)
    return x.unsqueeze(1) if x.ndim == 3 else x
