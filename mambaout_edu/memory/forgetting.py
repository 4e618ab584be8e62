"""How a past token is forgotten: its share of a state, its weight in a model's last output, and a task that tells.

A linear state is a sum with one term for every token that came, so it can be unrolled exactly. For any other model, the
derivative of the last output with respect to a token says how much that output would move with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mambaout_edu.data.recall import IGNORED, Drawn, RecallTask
from mambaout_edu.models.sequence_model import SequenceModel

__all__ = ["MixedDials", "hide_needle", "token_weights", "unrolled"]


def unrolled(decay: Tensor, fed: Tensor) -> Tensor:
    """Return what every token has left in the last state of h_t = decay_t h_(t-1) + fed_t, from h_0 = 0.

    The terms add up to the state: it is one number where a bank would keep all of them.

    Parameters
    ----------
    decay, fed
        [L, N]: what is kept of each of N states at every token, and what the token adds.

    Returns
    -------
    Tensor
        [L, N], with fed_s times the product of decay_(s+1) ... decay_L in row s.

    Raises
    ------
    ValueError
        If the shapes are not one [L, N] with L at least 1.

    Examples
    --------
    >>> unrolled(torch.full((3, 1), 0.5), torch.tensor([[8.0], [4.0], [2.0]])).flatten()
    tensor([2., 2., 2.])
    """
    if decay.ndim != 2 or decay.shape != fed.shape or not len(decay):
        raise ValueError(
            f"decay and fed must both be [L, N] with L at least 1; got {tuple(decay.shape)} and {tuple(fed.shape)}"
        )
    from_here = decay.flip(0).cumprod(0).flip(0)  # [L, N]: decay_s ... decay_L
    kept = torch.cat((from_here[1:], torch.ones_like(fed[:1])))  # nothing decays the last token
    return kept * fed


def token_weights(model: SequenceModel, tokens: Tensor, probes: int = 8, seed: int = 0) -> Tensor:
    """Return how much the last output moves with each token: the size of its derivative, for any sequence model.

    For token s it is the Frobenius norm of d scores_L / d embedding_s, as root mean square over the sequences. The norm
    is estimated with random signs: |J|^2 is the mean of |J' v|^2 over vectors v of +1 and -1.

    Parameters
    ----------
    model
        Its weights and its mode are left as they are.
    tokens
        [B, L], whole numbers.
    probes
        How many vectors v; the standard error of the norm is about 1 / sqrt(2 B probes) of it.
    seed
        Of the vectors.

    Returns
    -------
    Tensor
        [L], the first token first.

    Raises
    ------
    ValueError
        If there are no probes, or tokens are not what the model takes.

    Examples
    --------
    A window of two tokens, in one block, sees two:

    >>> model = SequenceModel("window", vocab_size=4, dim=8, depth=1, window=2)
    >>> (token_weights(model, torch.randint(4, (3, 6))) > 0).tolist()
    [False, False, False, False, True, True]
    """
    if probes < 1:
        raise ValueError(f"probes must be at least 1; got {probes}")
    caught: list[Tensor] = []

    def catch(module: torch.nn.Module, given: tuple[Tensor, ...], embedded: Tensor) -> Tensor:
        caught.append(embedded.detach().requires_grad_())
        return caught[0]

    hook = model.embedding.register_forward_hook(catch)
    try:
        with torch.enable_grad():
            last = model(tokens)[:, -1]  # [B, V]
            generator = torch.Generator().manual_seed(seed)
            squares = torch.zeros(tokens.shape, device=last.device)  # [B, L]
            for probe in range(probes):
                signs = 2 * torch.randint(2, last.shape, generator=generator) - 1
                (slope,) = torch.autograd.grad(
                    last, caught[0], signs.to(last), retain_graph=probe < probes - 1
                )  # [B, L, D]
                squares += slope.square().sum(-1)
    finally:
        hook.remove()
    return (squares.mean(0) / probes).sqrt()


def hide_needle(needle: Tensor, hay: Tensor, mark: int, ask: int) -> Drawn:
    """Return sequences of the needle task: mark, needle, hay, question; only the answer at the end is asked.

    In a picture: ! x a b c d e f ?

    Parameters
    ----------
    needle
        [B], the symbols to be remembered.
    hay
        [B, distance], what stands between.
    mark, ask
        The tokens of the mark and of the question.

    Returns
    -------
    Drawn
        Tokens and targets [B, distance + 3]; targets are `IGNORED` everywhere but at the question, whose answer is the
        needle.

    Raises
    ------
    ValueError
        If needle is not [B] or hay not [B, distance].

    Examples
    --------
    >>> hide_needle(torch.tensor([3]), torch.tensor([[1, 2]]), mark=8, ask=9)
    Drawn(tokens=tensor([[8, 3, 1, 2, 9]]), targets=tensor([[-100, -100, -100, -100,    3]]))
    """
    if needle.ndim != 1 or hay.ndim != 2 or len(needle) != len(hay):
        raise ValueError(
            f"needle must be [B] and hay [B, distance]; got shapes {tuple(needle.shape)} and {tuple(hay.shape)}"
        )
    column = needle[:, None]
    tokens = torch.cat((torch.full_like(column, mark), column, hay, torch.full_like(column, ask)), 1)
    targets = torch.full_like(tokens, IGNORED)
    targets[:, -1] = needle
    return Drawn(tokens, targets)


@dataclass(frozen=True)
class MixedDials:
    """A recall task at one of several difficulties, drawn anew for every batch.

    With a single distance a model can learn that distance by heart; short ones also give it a beginning.

    Parameters
    ----------
    task
        Such as `data.recall.Needle()`.
    dials
        Values of its dial.

    Raises
    ------
    ValueError
        If there are no values, or the task refuses one.

    Examples
    --------
    >>> from mambaout_edu.data.recall import Needle
    >>> mixed = MixedDials(Needle(), (1, 5))
    >>> generator = torch.Generator().manual_seed(0)
    >>> sorted({mixed.draw(2, generator).tokens.shape[1] for _ in range(20)})
    [4, 8]
    """

    task: RecallTask
    dials: Sequence[int]

    def __post_init__(self) -> None:
        if not self.dials:
            raise ValueError("expected at least one value of the dial; got none")
        for value in self.dials:
            self.task.with_dial(value)

    def draw(self, batch: int, generator: torch.Generator) -> Drawn:
        """Return tokens and targets [B, L]; L depends on the value that was drawn."""
        value = self.dials[int(torch.randint(len(self.dials), (), generator=generator))]
        return self.task.with_dial(value).draw(batch, generator)
