"""How local an order is: how far apart it puts neighbours, and how far a decaying state carries. NumPy only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mambaout_edu.flatten.checks import as_index, check_order, check_size, check_whole
from mambaout_edu.flatten.orders import ORDERS, inverse
from mambaout_edu.flatten.orders import order as order_of
from mambaout_edu.flatten.strategies import paths as paths_of

__all__ = [
    "Locality",
    "Reach",
    "autocorrelation",
    "locality",
    "memory_map",
    "neighbour_distances",
    "neighbour_map",
    "reach",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Locality:
    """How far apart an order puts pixels that touch, in steps; and how far its steps jump, in pixels.

    Attributes
    ----------
    mean, median, p95
        Of the distance in steps, over all pairs of pixels that share an edge (p95: the 95th percentile, interpolated
        linearly). All 0 where there is no pair.
    unit_steps
        Share of the steps that go to a pixel that shares an edge, 0 to 1; 1 for a single pixel.
    longest_jump
        Largest Euclidean distance of a step, in pixels; 0 for a single pixel.
    """

    mean: float
    median: float
    p95: float
    unit_steps: float
    longest_jump: float


@dataclass(frozen=True)
class Reach:
    """How many pixels a state carries to the right, left, up and down."""

    right: int
    left: int
    up: int
    down: int


def locality(order: str | ArrayLike, height: int, width: int) -> Locality:
    """Return how local an order is on a grid.

    Parameters
    ----------
    order
        A name of `ORDERS`, or row-major indices [H*W].
    height, width
        Of the grid.

    Raises
    ------
    ValueError
        If the name is not known, or an index is outside, repeated or missing.

    Examples
    --------
    >>> locality("raster", 8, 8)
    Locality(mean=4.5, median=4.5, p95=8.0, unit_steps=0.8888888888888888, longest_jump=7.0710678118654755)
    """
    index = _whole(order, height, width)
    distances = neighbour_distances(index, height, width)
    mean, median, p95 = 0.0, 0.0, 0.0
    if distances.size:
        mean, median, p95 = float(distances.mean()), float(np.median(distances)), float(np.percentile(distances, 95))
    rows, columns = np.divmod(index, width)
    squared = np.diff(rows) ** 2 + np.diff(columns) ** 2
    if not squared.size:
        return Locality(mean, median, p95, unit_steps=1.0, longest_jump=0.0)
    return Locality(mean, median, p95, float((squared == 1).mean()), float(np.sqrt(squared.max())))


def neighbour_distances(order: str | ArrayLike, height: int, width: int) -> NDArray[np.int64]:
    """Return how many steps apart the two pixels of every pair stand, int64 [H*(W - 1) + (H - 1)*W].

    Pairs share an edge; first come those beside each other, row by row, then those above each other. Arguments and
    errors are those of `locality`.

    >>> neighbour_distances("raster", 2, 3)
    array([1, 1, 1, 1, 3, 3, 3])
    """
    steps = _steps(order, height, width)
    return np.concatenate([np.abs(np.diff(steps, axis=axis)).ravel() for axis in (1, 0)])


def neighbour_map(order: str | ArrayLike, height: int, width: int) -> NDArray[np.int64]:
    """Return for every pixel how many steps away the farthest of its neighbours stands, int64 [H, W].

    Arguments and errors are those of `locality`.

    >>> neighbour_map("serpentine", 2, 3)
    array([[5, 3, 1],
           [5, 3, 1]])
    """
    steps = _steps(order, height, width)
    farthest = np.zeros_like(steps)
    across, down = np.abs(np.diff(steps, axis=1)), np.abs(np.diff(steps, axis=0))
    for cells, distances in (
        (farthest[:, 1:], across), (farthest[:, :-1], across), (farthest[1:], down), (farthest[:-1], down)
    ):  # fmt: skip
        np.maximum(cells, distances, out=cells)
    return farthest


def memory_map(order: str | ArrayLike, height: int, width: int, step: int, decay: float) -> Floats:
    """Return the weight with which every pixel stands in a state that decays, once a step is done, float64 [H, W].

    The state is h = decay * h + x, so a pixel read n steps ago weighs decay**n, and one not read yet 0. For an SSM,
    decay = exp(delta * A).

    Parameters
    ----------
    order, height, width
        As in `locality`.
    step
        The step that was done last, 0 to H*W - 1.
    decay
        Share of the state that is left after one step, above 0 and up to 1.

    Raises
    ------
    ValueError
        As `locality` does, or if the step or the decay is out of range.

    Examples
    --------
    >>> memory_map("raster", 2, 2, step=2, decay=0.5)
    array([[0.25, 0.5 ],
           [1.  , 0.  ]])
    """
    steps = _steps(order, height, width)
    step = check_whole("step", step, 0, steps.size - 1)
    ago = step - steps
    return np.where(ago >= 0, _check_share("decay", decay) ** np.maximum(ago, 0).astype(np.float64), 0.0)


def autocorrelation(image: ArrayLike, order: str | ArrayLike, max_lag: int) -> Floats:
    """Return how alike the pixels of a picture are that an order reads so many steps apart, float64 [max_lag + 1].

    With the mean taken off, entry k is the average product of all pairs k steps apart, divided by the variance: 1 at
    lag 0, near 0 where pixels have nothing to do with each other.

    Parameters
    ----------
    image
        A grey picture [H, W].
    order
        As in `locality`.
    max_lag
        In steps, 0 to H*W - 1.

    Raises
    ------
    ValueError
        As `locality` does; if the picture has other axes, no contrast, or numbers that are not finite; or if the lag
        is out of range.

    Examples
    --------
    >>> stripes = np.tile([0.0, 1.0], (2, 2))
    >>> autocorrelation(stripes, "raster", 2)
    array([ 1., -1.,  1.])
    """
    grey = np.asarray(image, dtype=np.float64)
    if grey.ndim != 2 or grey.size == 0:
        raise ValueError(f"image must be a grey picture [H, W]; got shape {grey.shape}. Average its colours first")
    if not np.isfinite(grey).all():
        raise ValueError("image must be finite; it holds NaN or infinity")
    max_lag = check_whole("max_lag", max_lag, 0, grey.size - 1)
    sequence = grey.ravel()[_whole(order, *grey.shape)]
    sequence = sequence - sequence.mean()
    variance = float(np.mean(sequence**2))
    if variance <= 1e-24 * max(1.0, float(np.max(np.abs(grey))) ** 2):
        raise ValueError(
            "image has one grey value throughout, so there is nothing to correlate; give one with contrast"
        )
    length = len(sequence)
    products = [sequence[: length - lag] @ sequence[lag:] / (length - lag) for lag in range(max_lag + 1)]
    return np.array(products) / variance


def reach(
    order: str | ArrayLike | Sequence[ArrayLike],
    height: int,
    width: int,
    decay: float,
    threshold: float = float(np.exp(-1)),
) -> Reach:
    """Return how many pixels to the right, left, up and down a decaying state carries.

    Take all pixels p that have a pixel q so many (k) pixels away in a direction. When q is visited, p stands in the
    state with the weight decay**(steps from p to q), or 0 if it is visited later. The reach in that direction is the
    largest k at which the average of these weights is at least the threshold; 0 if there is none. Along several
    paths, each pair counts with its best path. 'To the right' means that p is remembered at a q to its right.

    Parameters
    ----------
    order
        As in `locality`; or a name of `PATHS`, or a list of paths, of which each may leave pixels out.
    height, width
        Of the grid.
    decay
        Share of the state that is left after one step, above 0 and up to 1.
    threshold
        Above 0 and up to 1.

    Raises
    ------
    ValueError
        As `locality` does, or if the decay or the threshold is out of range.

    Examples
    --------
    >>> reach("raster", 16, 16, decay=0.9)
    Reach(right=9, left=0, up=0, down=0)
    >>> reach("cross", 16, 16, decay=0.9)
    Reach(right=9, left=9, up=9, down=9)
    """
    decay, threshold = _check_share("decay", decay), _check_share("threshold", threshold)
    maps = _step_maps(order, height, width)  # [K, H, W], -1 where a path does not go
    across, down = [np.swapaxes(maps, 1, 2), maps]
    return Reach(
        right=_farthest(across, decay, threshold),
        left=_farthest(across[:, ::-1], decay, threshold),
        up=_farthest(down[:, ::-1], decay, threshold),
        down=_farthest(down, decay, threshold),
    )


def _farthest(maps: NDArray[np.int64], decay: float, threshold: float) -> int:
    """Return the largest distance along axis 1 of maps [K, H, W] that the average weight reaches, going down."""
    for distance in range(maps.shape[1] - 1, 0, -1):
        here, there = maps[:, :-distance], maps[:, distance:]
        known = (here >= 0) & (there > here)
        weights = np.where(known, decay ** np.where(known, there - here, 0).astype(np.float64), 0.0)
        if weights.max(axis=0).mean() >= threshold * (1 - 1e-12):  # rounding must not decide a tie
            return distance
    return 0


def _step_maps(order: str | ArrayLike | Sequence[ArrayLike], height: int, width: int) -> NDArray[np.int64]:
    height, width = check_size(height, width)
    if isinstance(order, str):
        several = [order_of(order, height, width)] if order in ORDERS else paths_of(order, height, width)
    else:
        given = cast(Any, order)
        one = len(given) == 0 or np.ndim(given[0]) == 0
        several = [check_order(given, height * width)] if one else [as_index(path) for path in given]
    maps = np.full((len(several), height * width), -1)
    for steps, path in zip(maps, several, strict=True):
        if path.min() < 0 or path.max() >= height * width:
            raise ValueError(f"a path leaves the grid; expected indices 0 to {height * width - 1}")
        steps[path] = np.arange(len(path))
    return maps.reshape(-1, height, width)


def _whole(order: str | ArrayLike, height: int, width: int) -> NDArray[np.int64]:
    height, width = check_size(height, width)
    if isinstance(order, str):
        return order_of(order, height, width)
    return check_order(order, height * width)


def _steps(order: str | ArrayLike, height: int, width: int) -> NDArray[np.int64]:
    """Return the step at which every pixel is visited, [H, W]."""
    return inverse(_whole(order, height, width)).reshape(height, width)


def _check_share(name: str, value: float) -> float:
    if not 0 < value <= 1:
        raise ValueError(f"{name} is {value}; expected a number above 0 and up to 1")
    return float(value)
