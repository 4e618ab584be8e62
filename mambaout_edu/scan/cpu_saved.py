"""What the engine "cpu" keeps for its backward pass: apart from the kernels, since tracing asks without Numba."""

__all__ = ["TILE", "saved_shape"]

TILE = 32  # steps from one saved state to the next


def saved_shape(batch: int, length: int, channels: int, state: int) -> tuple[int, ...]:
    """Return the shape of what the forward pass keeps: the states before every TILE-th step, [tiles, B, N, D].

    >>> saved_shape(2, 33, 384, 16)
    (2, 2, 16, 384)
    """
    return ((length + TILE - 1) // TILE, batch, state, channels)
