"""Figures of the models side by side: their stages, what they cost as images grow, what papers report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import LogLocator

from ..published import frontier
from ..strings import text
from .style import COLOURS, HATCHES, INK, LINE_STYLES, MARKERS, MUTED, PAPER, POINTS, finish, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..models.measure import RunCost
    from ..published import ImageNetRow

__all__ = ["accuracy_chart", "run_cost_curves", "stage_plan"]

MIXERS = ("convolution", "windows", "attention", "scan4", "scan2")
_ROW = 1.35  # of a model, in units of the largest map's side
_WIDEST = 0.86  # of the space between two columns


def stage_plan(
    plans: Mapping[str, tuple[str, Sequence[tuple[int, int, int]]]], image: tuple[int, int] = (224, 224)
) -> Figure:
    r"""Draw the feature maps of models, a row a model: side of the map as height, channels as width of a box.

    Maps stand in columns by how many pixels one position speaks for, so that equal resolutions stand below each other.

    Parameters
    ----------
    plans
        {model: (mixer, [(H, W, C), ...])}; the mixer is one of "convolution", "windows", "attention", "scan4", "scan2",
        the shapes are what `models.measure.feature_shapes` returns.
    image
        (height, width) of the image that the shapes are of.

    Raises
    ------
    ValueError
        If there are no plans, or a mixer is unknown.

    Examples
    --------
    >>> fig = stage_plan({"ViT": ("attention", [(14, 14, 384)])})
    >>> [label.get_text() for label in fig.axes[0].texts]
    ['14 × 14\n384 channels']
    """
    unknown = [mixer for mixer, _ in plans.values() if mixer not in MIXERS]
    if not plans or unknown:
        raise ValueError(f"expected plans with mixers of {', '.join(MIXERS)}; got {', '.join(unknown) or 'no plans'}")
    shapes = [shape for _, maps in plans.values() for shape in maps]
    strides = sorted({_stride(shape, image) for shape in shapes})
    tallest, widest = max(shape[0] for shape in shapes), max(shape[2] for shape in shapes)
    fig, axes = new_figure(3.2 * len(strides) + 3, 1.15 * len(plans) + 1.9)
    ax = axes[0, 0]
    for row, (mixer, maps) in enumerate(plans.values()):
        look: Any = {"facecolor": COLOURS[MIXERS.index(mixer)], "hatch": HATCHES[MIXERS.index(mixer)], "edgecolor": INK}
        for height, width, channels in maps:
            x = strides.index(_stride((height, width, channels), image))
            box, tall = 0.42 * channels / widest, height / tallest
            ax.add_patch(Rectangle((x, row * _ROW - tall / 2), box, tall, alpha=0.85, **look))
            said = text("zoo", "stage", height=height, width=width, channels=channels)
            ax.text(x + box + 0.03, row * _ROW, said, va="center")
    ax.set_xticks(range(len(strides)), [str(stride) for stride in strides])
    ax.set_yticks([row * _ROW for row in range(len(plans))], list(plans))
    ax.set(xlim=(-0.1, len(strides) - 0.15), ylim=(len(plans) * _ROW - 0.6, -0.75))
    ax.set_xlabel(f"{text('zoo', 'stride')}\n{text('zoo', 'plan_key')}")
    used = [mixer for mixer in MIXERS if mixer in {m for m, _ in plans.values()}]
    _explain(fig, used)
    return finish(fig)


def run_cost_curves(measured: Mapping[str, Sequence[RunCost]]) -> Figure:
    """Draw time and memory of a forward pass against the side of the image, both on logarithmic scales.

    Parameters
    ----------
    measured
        What `models.measure.run_costs` returns.

    Raises
    ------
    ValueError
        If a model was measured at no size.

    Examples
    --------
    >>> from mambaout_edu.models.measure import RunCost
    >>> fig = run_cost_curves({"a": [RunCost(64, 0.01, 2**20), RunCost(128, 0.04, 2**22)]})
    >>> [float(y) for y in fig.axes[1].lines[0].get_ydata()]
    [1.0, 4.0]
    """
    if not measured or not all(measured.values()):
        raise ValueError("expected models with at least one size each; pass what models.measure.run_costs returns")
    fig, axes = new_figure(14, 6.2, columns=2)
    for i, (name, costs) in enumerate(measured.items()):
        look = {"color": COLOURS[i % 7], "linestyle": LINE_STYLES[i % 7], "marker": MARKERS[i % 7], "linewidth": 2.5}
        sides = [cost.size for cost in costs]
        axes[0, 0].plot(sides, [1e3 * cost.seconds for cost in costs], label=name, markersize=9, **look)
        axes[0, 1].plot(sides, [cost.peak_bytes / 2**20 for cost in costs], label=name, markersize=9, **look)
    sides = sorted({cost.size for costs in measured.values() for cost in costs})
    for ax, label in zip(axes[0], ("milliseconds", "mebibytes"), strict=True):
        ax.set(xscale="log", yscale="log", xlabel=text("zoo", "side"), title=text("zoo", label))
        ax.set_xticks(sides, [str(side) for side in sides])
        ax.minorticks_off()
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.grid(color=MUTED, alpha=0.3)
    legend(axes[0, 0], loc="upper left")
    return finish(fig)


def accuracy_chart(rows: Sequence[ImageNetRow], cost: str = "macs_g") -> Figure:
    """Draw published accuracies against a cost, by mixer, and the line of models that none beats in both.

    Models on that line, MambaOut and those with an SSM are named. Rows without the cost are left out.

    Parameters
    ----------
    rows
        What `published.imagenet` returns, or some of it.
    cost
        "macs_g", multiply-adds, or "params_m", parameters.

    Raises
    ------
    ValueError
        If the cost is another, or no row has it.

    Examples
    --------
    >>> from mambaout_edu.published import imagenet
    >>> accuracy_chart(imagenet("base"), cost="params_m").axes[0].get_xlabel()
    'parameters (10⁶)'
    """
    if cost not in ("macs_g", "params_m"):
        raise ValueError(f"cost must be 'macs_g' or 'params_m'; got {cost!r}")
    drawn = [row for row in rows if getattr(row, cost) is not None]
    if not drawn:
        raise ValueError("there is no row with that cost to draw; pass what published.imagenet(...) returns")
    fig, axes = new_figure(13, 8)
    ax = axes[0, 0]
    for place, mixer in enumerate(dict.fromkeys(row.mixer for row in drawn)):
        of_mixer = [row for row in drawn if row.mixer == mixer]
        ax.plot(
            [getattr(row, cost) for row in of_mixer], [row.top1 for row in of_mixer], linestyle="", linewidth=0,
            marker=MARKERS[place], color=COLOURS[place], markersize=12, label=text("zoo", f"mixer_row.{mixer}"),
        )  # fmt: skip
    best = [drawn[i] for i in frontier([getattr(row, cost) for row in drawn], [row.top1 for row in drawn])]
    best.sort(key=lambda row: (getattr(row, cost), row.top1))
    ax.step(
        [getattr(row, cost) for row in best], [row.top1 for row in best], where="post",
        color=INK, linestyle="--", linewidth=2, marker="", label=text("zoo", "frontier"), zorder=1,
    )  # fmt: skip
    _name_points(ax, drawn, {row.model for row in best}, cost)
    ax.set(xlabel=text("zoo", cost), ylabel=text("zoo", "top1"))
    ax.margins(x=0.2, y=0.08)
    ax.grid(color=MUTED, alpha=0.3)
    legend(ax, loc="lower right")
    return finish(fig)


def _stride(shape: tuple[int, int, int], image: tuple[int, int]) -> int:
    return round(image[0] / shape[0])


def _explain(fig: Figure, used: Sequence[str]) -> None:
    """Explain colour and hatch of the mixers, above the boxes."""
    keys = [
        Patch(facecolor=COLOURS[i], hatch=HATCHES[i], edgecolor=INK, alpha=0.85, label=text("zoo", f"mixer.{mixer}"))
        for i, mixer in enumerate(MIXERS)
        if mixer in used
    ]
    fig.legend(
        handles=keys,
        loc="outside upper center",
        ncols=3,
        fontsize=POINTS,
        facecolor=PAPER,
        edgecolor=MUTED,
        handleheight=1.2,
    )


def _name_points(ax: Axes, drawn: Sequence[ImageNetRow], best: set[str], cost: str) -> None:
    """Name the points that the lesson speaks of, each where the fewest other names stand."""
    values = [[getattr(row, cost) for row in drawn], [row.top1 for row in drawn]]
    across, up = (max(v) - min(v) or 1 for v in values)
    taken = [(x / across, y / up) for x, y in zip(*values, strict=True)]  # no name on a point, either
    for row in sorted(drawn, key=lambda row: (-row.top1, row.model)):
        if row.model not in best and row.mixer != "convolution + SSM" and "MambaOut" not in row.model:
            continue
        x, y = getattr(row, cost) / across, row.top1 / up
        others = [each for each in taken if each != (x, y)]
        places = ((14, 0), (-14, 0), (14, -15), (-14, -15), (14, 15), (-14, 15))  # points, of the name's near end
        middles = {at: (x + at[0] / 170, y + at[1] / 420) for at in places}  # of the name, in shares of the figure
        at = max(places, key=lambda place: _room(middles[place], others))
        taken.append(middles[at])
        side = "left" if at[0] > 0 else "right"
        ax.annotate(row.model, (getattr(row, cost), row.top1), at, textcoords="offset points", ha=side, va="center")


def _room(middle: tuple[float, float], others: Sequence[tuple[float, float]]) -> float:
    """Return how far the nearest name or point is; a name is wide, so less counts across than up."""
    return min((max(abs(middle[0] - x) / 3, abs(middle[1] - y)) for x, y in others), default=1.0)
