"""Figures in one style: large type, colours that colour-blind readers can tell apart, words for every picture.

Every function takes data and returns a matplotlib Figure; `show` displays it with its alternative text.
Nothing here uses pyplot or changes matplotlib's settings (but `use_style`, on request), so figures can
be drawn from several threads.
"""

from .style import COLOURS, LINE_STYLES, MARKERS, STYLE, Picture, picture, show, use_style  # isort: skip
from .charts import accuracies, cost, loss_curves
from .evidence import published_accuracy, reaches
from .pictures import feature_maps, mistakes, patches, photo_grid

__all__ = [
    "COLOURS",
    "LINE_STYLES",
    "MARKERS",
    "STYLE",
    "Picture",
    "accuracies",
    "cost",
    "feature_maps",
    "loss_curves",
    "mistakes",
    "patches",
    "photo_grid",
    "picture",
    "published_accuracy",
    "reaches",
    "show",
    "use_style",
]
