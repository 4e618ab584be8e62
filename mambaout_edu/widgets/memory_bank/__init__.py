"""A bank that grows with every token beside one state that does not: their bytes, and what a token costs."""

from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets
from numpy.typing import NDArray

from mambaout_edu.widgets._base import Widget
from mambaout_edu.widgets.memory_bank._places import PLACES, known_places, machine_places

if TYPE_CHECKING:
    from mambaout_edu.memory import Account

__all__ = ["PLACES", "MemoryBank", "known_places", "machine_places"]

MOST = 1_000_000
CHANNELS = 24
DTYPES = ("float64", "float32", "bfloat16", "float16")
COSTS = ("multiply_adds", "moved", "used")
VOCABULARY = 64
SENTENCE = 5
FASTEST, SLOWEST = 0.1, 0.001  # steps delta of the channels, the range in which Mamba's begin


class MemoryBank(Widget):
    """Let tokens arrive, and watch a KV bank grow beside a state of fixed size that changes in place.

    On the left is causal attention, which keeps a key and a value of every token; on the right Mamba-1, which keeps
    a state and the window of its convolution. Layers and channels are the same; counted are the mixers alone. All
    numbers are those of `mambaout_edu.memory.accounting`, computed in the page, also where there is no kernel.

    The cells on the right are a recurrence that really runs, h = exp(delta A) h + delta B x, over seeded random
    embeddings: 24 channels with steps delta from 0.001 to 0.1 and A_n = -n for n = 1 ... d_state, as Mamba begins.

    Parameters
    ----------
    tokens : int
        Tokens that have arrived, 0 to 1,000,000.
    playing : bool
        Whether the page plays. Where the reader asked for less motion it does not start by itself.
    layers, dim, heads, kv_heads : int
        Of attention; layers and dim also of Mamba. kv_heads divides heads, and heads divides dim.
    d_state : int
        Numbers of the state for each inner channel of Mamba, 1 to 256.
    dtype : str
        "float64", "float32", "bfloat16" or "float16", of weights, keys and values. The state is in float32 at least.
    batch : int
        Sequences that are read side by side, 1 to 256.
    seed : int
        Of the embeddings.
    places : list of dict
        Memories to compare with, each with a "name", "bytes" and its "source"; `machine_places()` for your own.

    Raises
    ------
    TypeError
        For an unknown argument.
    traitlets.TraitError
        For a number out of range, an unknown dtype, heads that do not divide, or a place that is none.

    References
    ----------
    Gu and Dao, "Mamba", arXiv 2312.00752, section 3.6 (the beginning of A and delta); Yu and Wang, "MambaOut", arXiv
    2405.07992, eq. 6-7 (a sequence is long from 6 D tokens).

    Examples
    --------
    >>> from mambaout_edu.widgets import MemoryBank
    >>> bank = MemoryBank(tokens=4096, kv_heads=4)
    >>> bank
    MemoryBank(tokens=4096, layers=12, dim=768, heads=12, kv_heads=4, d_state=16, dtype='bfloat16', batch=1)
    >>> attention, mamba = bank.accounts()
    >>> attention.used / 2**20, mamba.used / 2**20  # MiB
    (48.0, 1.265625)
    >>> bank.crossing(), bank.long_sequence
    (1485, 4608)
    """

    strings_part = "memory_bank"
    repr_traits = ("tokens", "layers", "dim", "heads", "kv_heads", "d_state", "dtype", "batch")
    modules = ("count.js", "state.js", "pictures.js", "charts.js")

    tokens = traitlets.Int(0, min=0, max=MOST).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    layers = traitlets.Int(12, min=1, max=128).tag(sync=True)
    dim = traitlets.Int(768, min=8, max=8192).tag(sync=True)
    heads = traitlets.Int(12, min=1, max=256).tag(sync=True)
    kv_heads = traitlets.Int(12, min=1, max=256).tag(sync=True)
    d_state = traitlets.Int(16, min=1, max=256).tag(sync=True)
    dtype = traitlets.Enum(DTYPES, "bfloat16").tag(sync=True)
    batch = traitlets.Int(1, min=1, max=256).tag(sync=True)
    seed = traitlets.Int(0, min=0, max=2**32 - 1).tag(sync=True)
    places = traitlets.List(traitlets.Dict()).tag(sync=True)

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("places", known_places())
        if "heads" in kwargs:
            kwargs.setdefault("kv_heads", kwargs["heads"])
        super().__init__(**kwargs)

    def accounts(self) -> "tuple[Account, Account]":
        """Return what attention and Mamba-1 remember now, and what their next token costs."""
        from mambaout_edu.memory import accounting

        shared: dict[str, Any] = {"depth": self.layers, "batch": self.batch, "dtype": self.dtype}
        attention = accounting(
            "attention", self.dim, self.tokens, num_heads=self.heads, num_kv_heads=self.kv_heads, **shared
        )
        return attention, accounting("mamba1", self.dim, self.tokens, d_state=self.d_state, **shared)

    def crossing(self, by: str = "multiply_adds") -> int | None:
        """Return the first position at which a token costs more with attention than with Mamba-1.

        `by` is "multiply_adds", "moved" (bytes for the next token) or "used" (bytes remembered); ValueError else.
        """
        from mambaout_edu.memory import crossing

        return crossing(
            "attention", "mamba1", self.dim, by,
            sizes={"num_heads": self.heads, "num_kv_heads": self.kv_heads}, other_sizes={"d_state": self.d_state},
            depth=self.layers, batch=self.batch, dtype=self.dtype,
        )  # fmt: skip

    @property
    def long_sequence(self) -> int:
        """The length from which a sequence is long for these channels, 6 D."""
        from mambaout_edu.memory import long_sequence

        return long_sequence(self.dim)

    def state(self) -> NDArray[np.float64]:
        """Return the cells after `tokens` tokens, [channels, d_state], by running over every token.

        >>> MemoryBank(tokens=1, d_state=4).state().shape
        (24, 4)
        """
        n = np.arange(1, self.d_state + 1)
        delta = SLOWEST * (FASTEST / SLOWEST) ** (np.arange(CHANNELS) / (CHANNELS - 1))
        decay = np.exp(-delta[:, None] * n)  # [channels, N]
        words = np.arange(VOCABULARY)[:, None]
        x = _uniform(self.seed, words, np.arange(CHANNELS))  # [words, channels]
        B = _uniform(self.seed, words, CHANNELS + n - 1)  # [words, N]
        h = np.zeros((CHANNELS, self.d_state))
        for word in _words(self.seed, self.tokens):
            h = decay * h + (delta * x[word])[:, None] * B[word]
        return h

    @traitlets.validate("heads", "kv_heads", "dim")
    def _divide(self, proposal: dict[str, Any]) -> int:
        sizes = {"dim": self.dim, "heads": self.heads, "kv_heads": self.kv_heads}
        sizes[proposal["trait"].name] = proposal["value"]
        if sizes["dim"] % sizes["heads"] or sizes["heads"] % sizes["kv_heads"]:
            raise traitlets.TraitError(
                f"kv_heads must divide heads, and heads must divide dim; got dim = {sizes['dim']}, heads = "
                f"{sizes['heads']}, kv_heads = {sizes['kv_heads']}. Set them together, in hold_trait_notifications()."
            )
        return int(proposal["value"])

    @traitlets.validate("places")
    def _are_places(self, proposal: dict[str, Any]) -> list[dict[str, Any]]:
        for place in proposal["value"]:
            size = place.get("bytes")
            named = all(isinstance(place.get(key), str) and place[key] for key in ("name", "source"))
            if not named or not isinstance(size, int) or not 1 <= size <= 2**53:
                raise traitlets.TraitError(
                    f'a place has a "name", a whole number of "bytes" and the "source" of it; got {place!r}'
                )
        return sorted((dict(place) for place in proposal["value"]), key=lambda place: int(place["bytes"]))


def _mixed(number: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return well mixed bits of whole numbers: the last steps of MurmurHash3, which the page computes alike."""
    mixed = number.copy()
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed ^= mixed >> np.uint32(shift)
        mixed *= np.uint32(factor)
    return mixed ^ (mixed >> np.uint32(16))


def _uniform(seed: int, word: NDArray[np.int64], entry: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return an entry of a word's embedding, uniform from -1 to 1."""
    base = _mixed(np.array([seed], dtype=np.uint32))
    bits = _mixed(base ^ (word * 4096 + entry + 1).astype(np.uint32))
    return bits / 2.0**31 - 1


def _words(seed: int, tokens: int) -> NDArray[np.int64]:
    """Return the words that arrive: first those of the sentence, then random ones of the rest of the vocabulary."""
    at = np.arange(tokens)
    bits = _mixed(_mixed(np.array([seed], dtype=np.uint32)) ^ (at + 2**24).astype(np.uint32))
    return np.where(at < SENTENCE, at, SENTENCE + bits % (VOCABULARY - SENTENCE))
