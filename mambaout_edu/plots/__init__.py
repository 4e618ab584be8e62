"""Figures in one style: large type, colours that colour-blind readers can tell apart, words for every picture.

Every function takes data and returns a matplotlib Figure; `show` displays it with its alternative text.
Nothing here uses pyplot or changes matplotlib's settings (but `use_style`, on request), so figures can
be drawn from several threads.
"""

from .style import COLOURS, LINE_STYLES, MARKERS, STYLE, Picture, picture, show, use_style  # isort: skip
from .charts import accuracies, cost, loss_curves
from .evidence import published_accuracy, reaches
from .gpu_scans import gpu_speedups
from .order_animation import save_order_animation
from .orders import autocorrelation_curves, locality_bars, neighbour_map_pictures, order_pictures, reach_crosses
from .pictures import feature_maps, mistakes, patches, photo_grid
from .scan_benchmark import scan_ratios
from .scan_diagrams import scan_diagrams, scan_joins
from .scans import hold_error, kept_tokens, mixing_matrices, roofline, scan_costs, scan_errors
from .seen import receptive_fields, seen_matrices
from .state_maps import state_maps
from .systems import discretisations, memory_curves, portraits, recollections, responses
from .zoo import accuracy_chart, run_cost_curves, stage_plan

__all__ = [
    "COLOURS",
    "LINE_STYLES",
    "MARKERS",
    "STYLE",
    "Picture",
    "accuracies",
    "accuracy_chart",
    "autocorrelation_curves",
    "cost",
    "discretisations",
    "feature_maps",
    "gpu_speedups",
    "hold_error",
    "kept_tokens",
    "locality_bars",
    "loss_curves",
    "memory_curves",
    "mistakes",
    "mixing_matrices",
    "neighbour_map_pictures",
    "order_pictures",
    "patches",
    "photo_grid",
    "picture",
    "portraits",
    "published_accuracy",
    "reach_crosses",
    "reaches",
    "receptive_fields",
    "recollections",
    "responses",
    "roofline",
    "run_cost_curves",
    "save_order_animation",
    "scan_costs",
    "scan_diagrams",
    "scan_errors",
    "scan_joins",
    "scan_ratios",
    "seen_matrices",
    "show",
    "stage_plan",
    "state_maps",
    "use_style",
]
