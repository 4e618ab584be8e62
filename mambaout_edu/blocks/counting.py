"""How many parameters and multiply-adds a gated CNN block has, in closed form and without torch."""

__all__ = ["block_multiply_adds", "block_parameters", "hidden_channels", "mixed_channels"]


def hidden_channels(dim: int, expansion_ratio: float = 8 / 3) -> int:
    """Return h, the channels of gate and value: `int(expansion_ratio * dim)`, cut off as in the published code.

    Raises ValueError if dim is not positive or no hidden channel is left.

    >>> hidden_channels(128)
    341
    """
    hidden = int(expansion_ratio * dim)
    if dim < 1 or hidden < 1:
        raise ValueError(
            f"dim = {dim} with expansion_ratio = {expansion_ratio:g} leaves {hidden} hidden channels; "
            "both dim and int(expansion_ratio * dim) must be at least 1"
        )
    return hidden


def mixed_channels(dim: int, expansion_ratio: float = 8 / 3, conv_ratio: float | None = 1.0) -> int:
    """Return cc, the channels that the token mixer acts on: `int(conv_ratio * dim)`, or all h for None.

    Raises ValueError if that is none, or more than there are hidden channels.

    >>> mixed_channels(96), mixed_channels(96, conv_ratio=None)
    (96, 256)
    """
    hidden = hidden_channels(dim, expansion_ratio)
    mixed = hidden if conv_ratio is None else int(conv_ratio * dim)
    if not 1 <= mixed <= hidden:
        raise ValueError(
            f"conv_ratio = {conv_ratio} asks for {mixed} mixed channels, but dim = {dim} with expansion_ratio = "
            f"{expansion_ratio:g} has {hidden} hidden ones; use a conv_ratio from {1 / dim:g} to {hidden / dim:g}, "
            "or None for all"
        )
    return mixed


def block_parameters(
    dim: int, expansion_ratio: float = 8 / 3, conv_ratio: float | None = 1.0, kernel_size: int = 7
) -> int:
    """Return the number of parameters of a gated CNN block (no LayerScale).

    Norm 2D, fc1 2Dh + 2h, depthwise convolution (k^2 + 1) cc, fc2 hD + D.

    Raises ValueError for sizes that no block can have.

    >>> block_parameters(96)
    79328
    """
    h, cc = hidden_channels(dim, expansion_ratio), mixed_channels(dim, expansion_ratio, conv_ratio)
    norm = 2 * dim
    fc1 = dim * 2 * h + 2 * h
    conv = (kernel_size**2 + 1) * cc
    fc2 = h * dim + dim
    return norm + fc1 + conv + fc2


def block_multiply_adds(
    height: int,
    width: int,
    dim: int,
    expansion_ratio: float = 8 / 3,
    conv_ratio: float | None = 1.0,
    kernel_size: int = 7,
) -> int:
    """Return the multiply-adds of a gated CNN block on one image of height x width positions.

    Matrix products and convolutions only: HW (2Dh + k^2 cc + hD).

    Raises ValueError for sizes that no block can have.

    >>> block_multiply_adds(56, 56, 96)
    245962752
    """
    h, cc = hidden_channels(dim, expansion_ratio), mixed_channels(dim, expansion_ratio, conv_ratio)
    return height * width * (2 * dim * h + kernel_size**2 * cc + h * dim)
