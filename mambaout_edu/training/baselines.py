"""What a classifier without any structure reaches: the bar to be above."""

from __future__ import annotations

import torch

from ..data import ImageSet
from ..data.extras import require
from .evaluation import Evaluation

__all__ = ["linear_classifier"]


def linear_classifier(train: ImageSet, test: ImageSet, *, max_iter: int = 1000) -> Evaluation:
    """Fit multinomial logistic regression on the raw pixels and measure it on `test`.

    Parameters
    ----------
    train, test
        Images of one shape and the same classes.
    max_iter
        The most steps its solver may take.

    Returns
    -------
    Evaluation
        As `evaluate` gives for a model.

    Raises
    ------
    ImportError
        If scikit-learn is missing.
    ValueError
        If the two sets differ in shape or classes.

    Examples
    --------
    >>> from mambaout_edu.data import digits
    >>> linear_classifier(*digits(seed=0)).accuracy > 0.95
    True
    """
    if train.images.shape[1:] != test.images.shape[1:] or train.classes != test.classes:
        raise ValueError(f"the sets do not belong together: trained on {train}, tested on {test}")
    model = require("sklearn.linear_model").LogisticRegression(max_iter=max_iter)
    model.fit(train.images.flatten(1).numpy(), train.labels.numpy())
    scores = torch.from_numpy(model.predict_proba(test.images.flatten(1).numpy())).float()
    probabilities = torch.zeros(len(test), len(test.classes))
    probabilities[:, torch.from_numpy(model.classes_)] = scores  # a class may be missing from the training part
    predictions = probabilities.argmax(dim=1)
    correct = int((predictions == test.labels).sum())
    return Evaluation(correct, len(test), predictions, probabilities, test.labels)
