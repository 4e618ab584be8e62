"""Models of equal cost: the width at which a skeleton with another mixer costs what a given model does."""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mambaout_edu.models.mambaout import MambaOut
from mambaout_edu.models.metaformer_like import HEADED, metaformer_like
from mambaout_edu.models.profile import profile

__all__ = ["WidthMatch", "match_width"]

COSTS = {"parameters": "parameters", "multiply_adds": "multiply-adds"}  # names, and how they are printed
STEPS = (32, 16, 8, 4, 2)  # from coarse to fine: widths of round numbers make for quick products
Widths = tuple[int, ...]


@dataclass(frozen=True, repr=False)
class WidthMatch:
    """What `match_width` found: the widths, what they cost, and what they should."""

    dims: Widths
    by: str
    reached: int
    target: int
    mixer: str | Callable[[int], nn.Module]
    arguments: Mapping[str, Any]  # of `metaformer_like`, all but mixer and dims

    @property
    def difference(self) -> float:
        """How much more the found model costs, as a share of the target; negative if less."""
        return self.reached / self.target - 1

    def create(self) -> MambaOut:
        """Build the model."""
        return metaformer_like(self.mixer, dims=self.dims, **self.arguments)

    def __repr__(self) -> str:
        more = f"{abs(self.difference):.2%} {'more' if self.difference > 0 else 'less'} than"
        return f"dims {self.dims}: {self.reached:,} {COSTS[self.by]}, {more} the target's {self.target:,}"


def match_width(
    target: nn.Module | int,
    mixer: str | Callable[[int], nn.Module],
    by: str = "parameters",
    image_size: int | tuple[int, int] = 224,
    *,
    step: int | None = None,
    tolerance: float = 0.01,
    **skeleton: Any,
) -> WidthMatch:
    """Find the widths at which `metaformer_like(mixer, ...)` costs what the target does, all scaled together.

    Every width is a multiple of a step, so the match is not exact; the result says how near it is.

    Parameters
    ----------
    target
        A model, or the cost itself. A model of `metaformer_like` lends its skeleton, all but the mixer.
    mixer, **skeleton
        As in `metaformer_like`; `dims` give the proportions of the stages. A target that lends no skeleton needs
        `depths` and `dims`, and lends `num_classes` and `in_chans`.
    by
        "parameters", or "multiply_adds" as `profile` counts them on an image of `image_size`.
    image_size
        Side in pixels, or (height, width).
    step
        What widths are multiples of. None: the coarsest of 32, 16, 8, 4 and 2 that comes near enough and keeps the
        proportions (with heads: not below 8 but for the narrowest models; where `mixer_args` say how wide or how many
        heads are, that number).
    tolerance
        How far from the target is near enough, as a share of it.

    Raises
    ------
    TypeError
        If the target lends no skeleton and `depths` or `dims` are missing.
    ValueError
        If `by`, step or tolerance is impossible, or no width comes near enough; the nearest is named.

    Examples
    --------
    >>> conv = metaformer_like("conv", depths=(1, 1), dims=(32, 64), num_classes=10)
    >>> found = match_width(conv, "lstm")
    >>> found
    dims (26, 54): 89,650 parameters, 0.45% less than the target's 90,056
    >>> sum(p.numel() for p in found.create().parameters())
    89650
    """
    if by not in COSTS:
        raise ValueError(f"by must be one of {', '.join(COSTS)}; got {by!r}")
    if tolerance < 0 or (step is not None and step < 1):
        raise ValueError(f"tolerance must be at least 0 and step at least 1; got {tolerance} and {step}")
    arguments = _arguments(target, skeleton)
    proportions: Widths = tuple(arguments.pop("dims"))
    wanted = target if isinstance(target, int) else _cost(target, by, image_size)
    if wanted < 1:
        raise ValueError(f"the target must cost something; it has {wanted} {COSTS[by]}")

    costs: dict[Widths, int] = {}

    def cost(dims: Widths) -> int:
        if dims not in costs:
            with torch.device("meta"):
                model = metaformer_like(mixer, dims=dims, **arguments)
            costs[dims] = _cost(model, by, image_size)
        return costs[dims]

    for size in (step,) if step else _steps(mixer, proportions, arguments.get("mixer_args") or {}):
        dims = _nearest(cost, wanted, proportions, size, tolerance)
        if abs(cost(dims) / wanted - 1) <= tolerance:
            return WidthMatch(dims, by, cost(dims), wanted, mixer, arguments)
    nearest = min(costs, key=lambda dims: abs(costs[dims] - wanted))
    found = WidthMatch(nearest, by, costs[nearest], wanted, mixer, arguments)
    raise ValueError(
        f"no width in steps of {size} comes within {tolerance:.1%} of the target. Nearest: {found}. Give a smaller "
        "step, a larger tolerance, or other depths or proportions (dims)."
    )


def _arguments(target: nn.Module | int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `metaformer_like`: those given, and what the target lends."""
    lent: dict[str, Any] = dict(getattr(target, "skeleton", {}))
    if not lent:
        lent = {name: getattr(target, name) for name in ("num_classes", "in_chans") if hasattr(target, name)}
    arguments = {**lent, **given}
    for name in ("depths", "dims"):
        if arguments.get(name) is None:
            raise TypeError(
                f"give {name}= of the skeleton: the target, {type(target).__name__}, was not made by metaformer_like "
                "and lends none"
            )
        if isinstance(arguments[name], int):
            arguments[name] = (arguments[name],)
    return arguments


def _cost(model: nn.Module, by: str, image_size: int | tuple[int, int]) -> int:
    if by == "parameters":
        return sum(p.numel() for p in model.parameters())
    return profile(model, image_size).multiply_adds


def _steps(mixer: Any, dims: Widths, mixer_args: Mapping[str, Any]) -> Widths:
    """Return the steps to try, from coarse to fine."""
    headed = mixer in HEADED if isinstance(mixer, str) else False
    if headed and (size := mixer_args.get("head_dim") or mixer_args.get("num_heads")):
        return (size,)
    coarsest = min(dims) // (2 if headed else 8)  # a coarser one would bend the proportions
    finest = min(8 if headed else 2, max(coarsest, 4 if headed else 2))
    return tuple(s for s in STEPS if finest <= s <= coarsest) or (finest,)


def _nearest(cost: Callable[[Widths], int], wanted: int, proportions: Widths, step: int, near: float) -> Widths:
    """Return the widths, multiples of the step, whose cost is nearest to the wanted one."""
    least = 2 if step == 1 else 1  # the stem halves the first width

    def rounded(scale: float) -> Widths:
        return tuple(max(least, round(dim * scale / step)) * step for dim in proportions)

    low = high = math.sqrt(wanted / cost(rounded(1.0)))  # costs grow about as the square of the widths
    while cost(rounded(low)) > wanted and max(rounded(low)) > least * step:
        low *= 0.8
    while cost(rounded(high)) < wanted:
        high *= 1.25
    while high - low > step / (8 * max(proportions)) and rounded(low) != rounded(high):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(rounded(middle)) <= wanted else (low, middle)
    best = min((rounded(low), rounded(high)), key=lambda dims: abs(cost(dims) - wanted))
    if abs(cost(best) / wanted - 1) <= near:
        return best
    # Rounding each stage by itself, up or down, gives more costs to choose from.
    ways = [{max(least, cut(dim * low / step)) * step for cut in (math.floor, math.ceil)} for dim in proportions]
    return min((best, *itertools.product(*map(sorted, ways))), key=lambda dims: abs(cost(dims) - wanted))
