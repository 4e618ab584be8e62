"""The style that all figures share, and `show`, which displays a figure with its alternative text."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from typing import Any

from ..strings import text

try:
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text
except ModuleNotFoundError as error:
    raise ImportError(
        'figures need matplotlib, which is not installed; install it with: pip install "mambaout-edu[lab]"'
    ) from error

__all__ = ["COLOURS", "LINE_STYLES", "MARKERS", "STYLE", "Picture", "picture", "show", "use_style"]

# Okabe and Ito's palette, ordered so that neighbours differ in lightness too; yellow is too pale for lines.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (7, 2)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "//", "..", "\\\\", "xx", "--", "++")
POINTS = 14.0  # the smallest type, for a lecture hall
PAPER, INK, MUTED = "#ffffff", "#1a1a1a", "#8c8c8c"
_HEAVY = 300_000  # bytes; photographs make PNGs that weigh a notebook down
_LEAST_ALT = 20  # characters; shorter texts name a figure but do not say what it shows

STYLE: Mapping[str, Any] = {
    "font.size": POINTS,
    "axes.titlesize": POINTS + 2,
    "axes.labelsize": POINTS,
    "xtick.labelsize": POINTS,
    "ytick.labelsize": POINTS,
    "legend.fontsize": POINTS,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=LINE_STYLES) + cycler(marker=MARKERS),
    "lines.linewidth": 2.5,
    "image.cmap": "viridis",
}
"""Settings for the reader's own figures: `with matplotlib.rc_context(STYLE): ...`"""


def use_style() -> None:
    """Give the reader's own pyplot figures the course's style, from now on.

    >>> use_style()
    >>> mpl.rcParams["font.size"]
    14.0
    >>> mpl.rcdefaults()
    """
    mpl.rcParams.update(STYLE)


class Picture:
    """A drawn figure inside HTML, so that its alternative text survives JupyterLab and nbconvert.

    Attributes
    ----------
    data, media_type
        The picture's bytes, "image/png" or "image/jpeg"; equal figures give equal bytes.
    alt
        What the figure shows, in words.
    width
        In CSS pixels; a narrower page shrinks it.
    """

    def __init__(self, data: bytes, media_type: str, alt: str, width: int) -> None:
        self.data, self.media_type, self.alt, self.width = data, media_type, alt, width

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.data).decode("ascii")
        return (
            f'<img alt="{html.escape(self.alt)}" width="{self.width}" '
            f'style="max-width: 100%; height: auto; background: {PAPER}" src="data:{self.media_type};base64,{data}">'
        )

    def __repr__(self) -> str:
        return text("plots", "picture_alt", alt=self.alt)


def show(fig: Figure, alt: str, *, dpi: int = 100) -> None:
    """Display a figure in the notebook with its alternative text, and let go of it.

    Parameters
    ----------
    fig
        Any matplotlib figure, of this module or the reader's own.
    alt
        One or two sentences that say what the figure shows, for those who cannot see it.
    dpi
        Pixels per inch.

    Raises
    ------
    TypeError
        If `fig` is not a Figure.
    ValueError
        If the text is shorter than 20 characters.

    Examples
    --------
    >>> from mambaout_edu.plots import photo_grid
    >>> import numpy as np
    >>> show(photo_grid({"flat grey": np.full((8, 8, 3), 128, np.uint8)}), alt="A square in one shade of grey.")
    Picture: A square in one shade of grey.
    """
    from IPython.display import display

    drawn = picture(fig, alt, dpi=dpi)
    if hasattr(fig, "number"):  # made by pyplot, which would draw it a second time below the cell
        from matplotlib import pyplot

        pyplot.close(fig)
    display(drawn)


def picture(fig: Figure, alt: str, *, dpi: int = 100) -> Picture:
    """Draw a figure to a `Picture`, which displays itself; arguments and errors are those of `show`.

    It is a PNG, or a JPEG where the PNG would be heavy (photographs).

    >>> from mambaout_edu.plots import photo_grid
    >>> import numpy as np
    >>> picture(photo_grid({"flat grey": np.full((8, 8, 3), 128, np.uint8)}), alt="A square in one shade of grey.")
    Picture: A square in one shade of grey.
    """
    if not isinstance(fig, Figure):
        raise TypeError(f"fig is a {type(fig).__name__}; expected a matplotlib Figure, such as photo_grid returns")
    if len(alt.strip()) < _LEAST_ALT:
        raise ValueError(
            f"the alternative text {alt!r} has {len(alt.strip())} characters; expected {_LEAST_ALT} or more. "
            "Say what the figure shows, not what it is called"
        )
    FigureCanvasAgg(fig)
    # Without the name and version of the program, equal figures are equal files.
    data, media_type = _rendered(fig, dpi, format="png", metadata={"Software": None}), "image/png"
    if len(data) > _HEAVY:
        data, media_type = _rendered(fig, dpi, format="jpeg", pil_kwargs={"quality": 85}), "image/jpeg"
    return Picture(data, media_type, alt.strip(), round(fig.get_figwidth() * dpi))


def _rendered(fig: Figure, dpi: int, **options: Any) -> bytes:
    buffer = io.BytesIO()
    fig.savefig(buffer, dpi=dpi, **options)
    return buffer.getvalue()


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """Return a figure of so many inches, and its axes [rows, columns]."""
    fig = Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)
    axes = fig.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_facecolor(PAPER)
        ax.spines[:].set_color(INK)
        ax.spines[["top", "right"]].set_visible(False)
    return fig, axes


def legend(ax: Axes, loc: str = "best") -> None:
    """Explain lines or bars; matplotlib derives the legend's spacing from its type size."""
    ax.legend(loc=loc, fontsize=POINTS, facecolor=PAPER, edgecolor=MUTED)


def finish(fig: Figure) -> Figure:
    """Set the type's size and colour throughout, and return the figure."""
    # Sizes and colours are set on the figure itself: matplotlib's settings are shared by all threads.
    for ax in fig.axes:
        ax.tick_params(labelsize=POINTS, colors=INK)
    for label in fig.findobj(Text):
        label.set_fontsize(POINTS)
        label.set_color(INK)
    return fig
