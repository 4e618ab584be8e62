"""A small model of sequences: embedding, blocks, head; whole sequences to learn from, one token at a time to write.

    x    = embedding(tokens)                     [B, L] -> [B, L, D]
    x    = x + mixer(norm(x))                    in every block
    x    = x + mlp(norm(x))                      where the mixer has no gate of its own (`mlp_ratio`)
    out  = head(norm(x))                         [B, L, V]

glossary
    B, L   batch, length     D   channels     V   symbols of the vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambaout_edu.memory.accounting import build
from mambaout_edu.memory.decoder import decoder
from mambaout_edu.memory.sizes import Bytes, count_bytes

__all__ = ["GATED", "SequenceModel", "sequence_model", "width_of_size"]

GATED = ("mamba1", "mamba2", "conv")
"""Mixers that widen, gate and narrow the channels themselves: they get no MLP, as in Mamba."""

SMALL: dict[str, dict[str, Any]] = {
    "attention": {"num_heads": 4},
    "window": {"num_heads": 4},
    "mamba2": {"headdim": 8, "d_state": 32},
    "s4d": {"d_state": 32},
}
"""Sizes of mixers for models this small, where `mixer_args` say nothing else."""

STEPS = {"attention": 8, "window": 8, "mamba2": 4}
"""What the widths of a mixer with heads are multiples of; those of the others, of 2."""

State = list[Any]  # one state a block, as `memory.Decoder` has it


class SequenceModel(nn.Module):
    """Predict what follows every token from what came before it.

    Parameters
    ----------
    mixer
        A name in `memory.accounting.MIXERS`: "attention", "window", "rnn", "gru", "lstm", "s4d", "mamba1", "mamba2" or
        "conv" (the causal gated CNN).
    vocab_size
        V.
    dim, depth
        Channels D, and blocks.
    mlp_ratio
        Hidden channels of the MLP over D, 0 for none; None: 0 for the mixers in `GATED`, 2 for the others.
    embed_std
        Standard deviation of the first embedding. At the usual 0.02 the first mixers' outputs drown the symbols, and
        attention does not learn associative recall in thousands of steps; at 1 it takes some hundred.
    **mixer_args
        Of the mixer's class, such as `d_state` or `num_heads`; `SMALL` has what is taken otherwise.

    Raises
    ------
    ValueError
        If the mixer is unknown, a size is below 1, or tokens are not whole numbers from 0 to V - 1 in [B, L].

    Examples
    --------
    >>> model = SequenceModel("gru", vocab_size=10, dim=16)
    >>> tokens = torch.randint(10, (2, 7))
    >>> model(tokens).shape
    torch.Size([2, 7, 10])
    >>> _, state = model.prefill(tokens[:, :6])
    >>> scores, state = model.step(tokens[:, 6], state)
    >>> torch.allclose(scores, model(tokens)[:, 6], atol=1e-5)
    True
    """

    def __init__(
        self,
        mixer: str,
        vocab_size: int,
        dim: int = 64,
        depth: int = 2,
        mlp_ratio: float | None = None,
        embed_std: float = 1.0,
        **mixer_args: Any,
    ) -> None:
        super().__init__()
        for name, size in (("vocab_size", vocab_size), ("dim", dim), ("depth", depth)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1; got {size}")
        ratio = (0.0 if mixer in GATED else 2.0) if mlp_ratio is None else mlp_ratio
        sizes = {**SMALL.get(mixer, {}), **mixer_args}
        self.mixer, self.vocab_size, self.dim = mixer, vocab_size, dim
        self.embedding = nn.Embedding(vocab_size, dim)
        self.blocks = nn.ModuleList(_Block(build(mixer, dim, **sizes), dim, ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocab_size, bias=False)
        nn.init.normal_(self.embedding.weight, std=embed_std)
        nn.init.normal_(self.head.weight, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that an optimiser must not decay: the embedding, and those of SSMs."""
        names = {"embedding.weight"}
        for path, module in self.named_modules():
            if module is not self and hasattr(module, "no_weight_decay"):
                names |= {f"{path}.{name}" for name in module.no_weight_decay()}
        return names

    @property
    def _layers(self) -> list[_Block]:
        return cast("list[_Block]", list(self.blocks))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the scores of what follows each token: int [B, L] to [B, L, V]."""
        x = self.embedding(self._checked(tokens, 2))
        for block in self._layers:
            x = block(x)
        return self.head(self.norm(x))

    def start(self, batch: int, capacity: int = 0) -> State:
        """Return the state before the first token; caches reserve room for `capacity` tokens at once."""
        return [decoder(block.mixer).start(batch, capacity) for block in self._layers]

    @torch.no_grad()
    def prefill(self, tokens: Tensor, state: State | None = None, capacity: int = 0) -> tuple[Tensor, State]:
        """Read tokens [B, L] at once after a state (the first if None); return scores [B, L, V] and the state after."""
        x = self.embedding(self._checked(tokens, 2))
        before = self.start(len(tokens), capacity) if state is None else state
        after = []
        for block, memory in zip(self._layers, before, strict=True):
            y, memory = decoder(block.mixer).prefill(block.norm(x), memory)
            x = block.after(x, y)
            after.append(memory)
        return self.head(self.norm(x)), after

    @torch.no_grad()
    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one token of every sequence, [B]; return scores [B, V] and the state after it."""
        x = self.embedding(self._checked(tokens, 1))  # [B, D]
        after = []
        for block, memory in zip(self._layers, state, strict=True):
            y, memory = decoder(block.mixer).step(block.norm(x), memory)
            x = block.after(x, y)
            after.append(memory)
        return self.head(self.norm(x)), after

    def bytes(self, state: State) -> Bytes:
        """Return the bytes of the states of all blocks, used and reserved."""
        return count_bytes(state)

    @torch.no_grad()
    def generate(
        self,
        prompt: Tensor,
        length: int,
        temperature: float = 0.0,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Continue prompts [B, L], L at least 1, by so many tokens, one at a time; return them [B, length].

        Parameters
        ----------
        prompt
            The beginning, int [B, L].
        length
            Tokens to write.
        temperature
            0 takes the likeliest token (greedy); above, tokens are drawn, the more evenly the higher it is.
        top_k
            Draw among so many of the likeliest alone.
        generator
            Where the draws come from; needed where the temperature is above 0.

        Raises
        ------
        ValueError
            If there is no prompt, a number is out of range, or tokens are to be drawn without a generator.

        Examples
        --------
        >>> model = SequenceModel("conv", vocab_size=5, dim=8)
        >>> model.generate(torch.tensor([[1, 2]]), length=3).shape
        torch.Size([1, 3])
        """
        if prompt.ndim != 2 or prompt.shape[1] < 1 or length < 0:
            raise ValueError(
                f"expected a prompt [B, L] of one token or more, and a length of 0 or more; got {tuple(prompt.shape)} "
                f"and {length}"
            )
        if temperature < 0 or (top_k is not None and top_k < 1):
            raise ValueError(f"temperature is 0 or more and top_k 1 or more; got {temperature} and {top_k}")
        if temperature > 0 and generator is None:
            raise ValueError("give generator=torch.Generator().manual_seed(...), so that the draws can be repeated")
        scores, state = self.prefill(prompt, capacity=prompt.shape[1] + length)
        scores, written = scores[:, -1], prompt.new_empty(len(prompt), length)
        for place in range(length):
            written[:, place] = _choose(scores, temperature, top_k, generator)
            if place < length - 1:
                scores, state = self.step(written[:, place], state)
        return written

    def _checked(self, tokens: Tensor, axes: int) -> Tensor:
        if tokens.ndim != axes or tokens.is_floating_point() or tokens.is_complex():
            shape = "[B, L]" if axes == 2 else "[B]"
            raise ValueError(f"tokens are whole numbers {shape}; got {tokens.dtype} of shape {tuple(tokens.shape)}")
        if tokens.device.type == "cpu" and tokens.numel() and not 0 <= tokens.min() <= tokens.max() < self.vocab_size:
            raise ValueError(
                f"tokens lie from 0 to {self.vocab_size - 1} here; got {int(tokens.min())} to {int(tokens.max())}"
            )
        return tokens


class _Block(nn.Module):
    """Norm, mix, add; norm, MLP, add."""

    def __init__(self, mixer: nn.Module, dim: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = int(mlp_ratio * dim)
        self.norm, self.mixer = nn.LayerNorm(dim), mixer
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)
        ) if hidden else None  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.after(x, self.mixer(self.norm(x)))

    def after(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Return what the block gives for its input and the mixer's output."""
        x = x + mixed
        return x if self.mlp is None else x + self.mlp(x)


def _choose(scores: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None) -> Tensor:
    """Return a token [B] for scores [B, V]."""
    if temperature == 0:
        return scores.argmax(-1)
    if top_k is not None and top_k < scores.shape[-1]:
        least = scores.topk(top_k).values[:, -1:]
        scores = scores.masked_fill(scores < least, float("-inf"))
    return torch.multinomial(F.softmax(scores / temperature, -1), 1, generator=generator)[:, 0]


def sequence_model(
    mixer: str,
    vocab_size: int,
    dim: int | None = None,
    depth: int = 2,
    parameters: int | None = None,
    seed: int | None = None,
    **arguments: Any,
) -> SequenceModel:
    """Build a `SequenceModel` of a width, or of a number of parameters: then mixers can be compared.

    Parameters
    ----------
    mixer, vocab_size, depth
        As in `SequenceModel`.
    dim
        Channels; 64 if neither this nor `parameters` is given.
    parameters
        In place of `dim`: the width whose model comes nearest to this many, as `width_of_size` finds it.
    seed
        Of the first weights; torch's own generator is then left as it was. None draws from it.
    **arguments
        `mlp_ratio` and the mixer's own, as in `SequenceModel`.

    Raises
    ------
    ValueError
        If both dim and parameters are given, or what `SequenceModel` raises.

    Examples
    --------
    >>> for name in ("attention", "lstm", "mamba1", "conv"):
    ...     model = sequence_model(name, vocab_size=20, parameters=60_000)
    ...     print(name, model.dim, sum(p.numel() for p in model.parameters()))
    attention 56 53312
    lstm 48 58752
    mamba1 60 61080
    conv 68 59976
    """
    if parameters is not None:
        if dim is not None:
            raise ValueError(f"give dim or parameters, not both; got {dim} and {parameters}")
        dim = width_of_size(mixer, vocab_size, parameters, depth, **arguments)
    with torch.random.fork_rng([], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        return SequenceModel(mixer, vocab_size, dim or 64, depth, **arguments)


def width_of_size(mixer: str, vocab_size: int, parameters: int, depth: int = 2, **arguments: Any) -> int:
    """Return the width, a multiple of what `STEPS` says, whose `SequenceModel` comes nearest to so many parameters.

    Raises ValueError if the smallest width already has more than twice as many.

    >>> width_of_size("gru", 20, 50_000)
    48
    """

    def count(dim: int) -> int:
        with torch.device("meta"):
            model = SequenceModel(mixer, vocab_size, dim, depth, **arguments)
        return sum(p.numel() for p in model.parameters())

    step = STEPS.get(mixer, 2)
    widths: Sequence[int] = range(step, 4097, step)
    if count(widths[0]) > 2 * parameters:
        raise ValueError(
            f"{parameters:,} parameters are too few: {step} channels have {count(widths[0]):,} already. "
            "Take fewer blocks or a smaller vocabulary."
        )
    low, high = 0, len(widths) - 1
    while high - low > 1:  # the number of parameters grows with the width
        middle = (low + high) // 2
        low, high = (middle, high) if count(widths[middle]) <= parameters else (low, middle)
    return min(widths[low], widths[high], key=lambda dim: abs(count(dim) - parameters))
