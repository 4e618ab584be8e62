"""A model learns: one step, the loop around it, and an honest measure of the result."""

from .augment import random_affine, random_shift
from .baselines import linear_classifier
from .evaluation import Evaluation, evaluate, wilson_interval
from .loop import History, fit, train_step
from .presets import DIGITS

__all__ = [
    "DIGITS",
    "Evaluation",
    "History",
    "evaluate",
    "fit",
    "linear_classifier",
    "random_affine",
    "random_shift",
    "train_step",
    "wilson_interval",
]
