"""How concentrated a receptive field is, as one number. NumPy only."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["half_area"]


def half_area(field: npt.ArrayLike, share: float = 0.5) -> int:
    """Return the least number of pixels that hold half of the gradient, or another share of it.

    Parameters
    ----------
    field
        [H, W] (or any shape), no entry below 0; what `receptive_field` returns.
    share
        Above 0, at most 1.

    Raises
    ------
    ValueError
        If the share is out of range, or the field has no entry above 0 or one that is negative or no number.

    Examples
    --------
    >>> half_area([[1, 1, 1], [1, 8, 1], [1, 1, 1]]), half_area([[1, 1, 1], [1, 8, 1], [1, 1, 1]], share=0.75)
    (1, 5)
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1; got {share}. Half of the gradient is share=0.5")
    values: npt.NDArray[Any] = np.sort(np.asarray(field, dtype=np.float64), axis=None)[::-1]
    if not (np.isfinite(values).all() and values.min(initial=0) >= 0 and values.max(initial=0) > 0):
        raise ValueError(
            "a field must be finite, nowhere negative and somewhere above 0; got "
            f"{values.size} values{f' from {values.min():g} to {values.max():g}' if values.size else ''}"
        )
    total = values.cumsum()
    # Rounding may leave the last sum a little below the share of itself; no pixel more than there are.
    return min(int(np.searchsorted(total, share * total[-1] * (1 - 1e-12))) + 1, int(np.count_nonzero(values)))
