"""Which models of a table are worth choosing: those that no other beats in cost and score alike."""

from collections.abc import Sequence

__all__ = ["frontier"]


def frontier(costs: Sequence[float], scores: Sequence[float]) -> list[int]:
    """Return the places of the models that no other dominates, in the order of the table.

    One model dominates another if it costs no more, scores no less, and is better in at least one of the two.

    Parameters
    ----------
    costs
        Of each model, such as multiply-adds; less is better.
    scores
        Of each model, such as an accuracy; more is better.

    Raises
    ------
    ValueError
        If there are not as many scores as costs.

    Examples
    --------
    >>> frontier([4.5, 5.7, 4.0, 4.9], [82.7, 82.7, 81.8, 82.6])
    [0, 2]
    """
    if len(costs) != len(scores):
        raise ValueError(f"expected one score for every cost; got {len(costs)} costs and {len(scores)} scores")
    kept = []
    for i, (cost, score) in enumerate(zip(costs, scores, strict=True)):
        rivals = zip(costs, scores, strict=True)
        if not any(c <= cost and s >= score and (c < cost or s > score) for c, s in rivals):
            kept.append(i)
    return kept
