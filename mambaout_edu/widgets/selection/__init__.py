"""What selection adds: a step size for every token, and what it leaves of each token in the state."""

from typing import Any

import numpy as np
import traitlets
from numpy.typing import ArrayLike

from mambaout_edu.widgets._base import Widget

__all__ = ["Selection", "state_weights"]

LONGEST = 5.0  # a step that leaves 0.7 % of the state for A = -1
MOST = 12


class Selection(Widget):
    """Open and close the state for each token of a sequence, beside one step size for all of them.

    One state with decay A reads one token a step, h_t = exp(delta_t A) h_(t-1) + b_t x_t, with
    b_t = (exp(delta_t A) - 1) / A (the exact hold) or b_t = delta_t (first order, as released
    Mambas compute it). Token s has the weight b_s exp(A (delta_(s+1) + ... + delta_t)) in the state
    after token t. A long step lets the token in and the past go; a short one lets the token pass by.
    On the left every token has a step of its own, on the right all have the same.

    Parameters
    ----------
    tokens : list of str
        The sequence, 2 to 12 tokens; an example from the strings where it is left out.
    deltas : list of float
        One step for each token, 0 to 5.
    constant : float
        The step that all tokens have on the right, 0 to 5.
    A : float
        The decay, below 0.
    first_order : bool
        Whether b is the first-order one.

    Raises
    ------
    TypeError
        For an unknown name.
    traitlets.TraitError
        For a step out of range, as many steps as there are not tokens, or a decay of 0 and more.

    References
    ----------
    Gu and Dao, "Mamba", arXiv 2312.00752, section 3.5.2: delta as a gate that keeps or resets.

    Examples
    --------
    >>> from mambaout_edu.widgets.selection import Selection
    >>> widget = Selection(tokens=["I", "um", "eat"], deltas=[1.0, 0.0, 1.0], constant=0.5)
    >>> widget
    Selection(tokens=['I', 'um', 'eat'], deltas=[1.0, 0.0, 1.0], constant=0.5)
    >>> widget.weights()[-1].round(3)  # what is left of each token at the end
    array([0.233, 0.   , 0.632])
    """

    strings_part = "selection"
    repr_traits = ("tokens", "deltas", "constant")

    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    deltas = traitlets.List(traitlets.Float()).tag(sync=True)
    constant = traitlets.Float(0.5, min=0, max=LONGEST).tag(sync=True)
    A = traitlets.Float(-1.0).tag(sync=True)
    first_order = traitlets.Bool(False).tag(sync=True)

    def __init__(self, **kwargs: Any) -> None:
        first = self._own_strings()["examples"][0]
        if "tokens" not in kwargs:
            kwargs = {"tokens": first["tokens"], "deltas": first["deltas"], **kwargs}
        elif "deltas" not in kwargs:
            kwargs["deltas"] = [0.5] * len(kwargs["tokens"])
        super().__init__(**kwargs)

    def weights(self, constant: bool = False) -> np.ndarray:
        """Return the weight of token s in the state after token t, [T, T]; for the constant step if asked."""
        deltas = [self.constant] * len(self.tokens) if constant else self.deltas
        return state_weights(deltas, self.A, self.first_order)

    @traitlets.validate("A")
    def _decays(self, proposal: dict[str, Any]) -> float:
        if not proposal["value"] < 0 or not np.isfinite(proposal["value"]):
            raise traitlets.TraitError(f"A must be negative, so that the state forgets; got {proposal['value']}")
        return float(proposal["value"])

    @traitlets.validate("tokens", "deltas")
    def _fit(self, proposal: dict[str, Any]) -> list[Any]:
        both = {"tokens": self.tokens, "deltas": self.deltas, proposal["trait"].name: proposal["value"]}
        tokens, deltas = both["tokens"], both["deltas"]
        if not 2 <= len(tokens) <= MOST:
            raise traitlets.TraitError(f"a sequence has 2 to {MOST} tokens here; got {len(tokens)}")
        if len(deltas) != len(tokens):
            raise traitlets.TraitError(
                f"every token needs one step: got {len(tokens)} tokens and {len(deltas)} deltas. Set both at once, "
                "in hold_trait_notifications(), or make a new widget."
            )
        wrong = [delta for delta in deltas if not 0 <= delta <= LONGEST]
        if wrong:
            raise traitlets.TraitError(f"a step is from 0 to {LONGEST:g}; got {wrong[0]}")
        return list(proposal["value"])


def state_weights(deltas: ArrayLike, A: float = -1.0, first_order: bool = False) -> np.ndarray:
    """Return the weight of token s in the state after token t, [T, T], zero for s > t.

    weight[t, s] = b_s exp(A (delta_(s+1) + ... + delta_t)), with b_s = (exp(delta_s A) - 1) / A, or delta_s to
    first order. Raises ValueError if deltas are not one-dimensional.

    >>> state_weights([1.0, 1.0]).round(3)
    array([[0.632, 0.   ],
           [0.233, 0.632]])
    """
    steps = np.asarray(deltas, dtype=float)
    if steps.ndim != 1:
        raise ValueError(f"deltas must be one step a token [T]; got shape {steps.shape}")
    elapsed = np.tril(np.cumsum(np.tril(np.tile(steps[:, None], len(steps)), -1), axis=0))  # [T, T]: time from s to t
    entered = steps if first_order else np.expm1(A * steps) / A
    return np.tril(np.exp(A * elapsed) * entered)
