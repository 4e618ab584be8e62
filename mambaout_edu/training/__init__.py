"""A model learns: one step and the loop around it, whole runs by a recipe, and an honest measure of the result."""

from .augment import random_affine, random_shift
from .baselines import linear_classifier
from .evaluation import Evaluation, evaluate, wilson_interval
from .loop import History, fit, train_step
from .presets import DIGITS
from .recipe import RECIPES, Recipe
from .sources import Source, open_source
from .trainer import Run, launch, resume, train

__all__ = [
    "DIGITS",
    "RECIPES",
    "Evaluation",
    "History",
    "Recipe",
    "Run",
    "Source",
    "evaluate",
    "fit",
    "launch",
    "linear_classifier",
    "open_source",
    "random_affine",
    "random_shift",
    "resume",
    "train",
    "train_step",
    "wilson_interval",
]
