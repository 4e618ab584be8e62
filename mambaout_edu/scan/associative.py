"""One recurrence, five algorithms: h_t = a_t h_(t-1) + b_t along the last axis, each short enough to read at once.

Every algorithm takes a and b [..., L], starts from h = 0, and returns the states h [..., L] with the work that it
did for one sequence. They all work in the dtype they are given and are ordinary torch, so gradients come from
autograd. The fast engines are in `mambaout_edu.scan`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = [
    "ALGORITHMS",
    "Work",
    "blelloch",
    "chunked_two_pass",
    "combine",
    "hillis_steele",
    "log_space",
    "log_space_limit",
    "sequential",
]


@dataclass(frozen=True)
class Work:
    """What a scan of one sequence costs.

    Parameters
    ----------
    multiply_adds
        Multiplications, each with the addition that may follow it.
    depth
        Rounds that must wait for each other: the time on a machine with endlessly many processors.
    """

    multiply_adds: int
    depth: int


def combine(earlier: tuple[Tensor, Tensor], later: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Make one step out of two: first `h -> a1 h + b1`, then `h -> a2 h + b2`, is `h -> a2 a1 h + (a2 b1 + b2)`.

    The operator is associative, so steps can be joined in any grouping, but not commutative: time has an order.
    Source: Blelloch, "Prefix sums and their applications", 1990, section 1.4.1.

    >>> combine((torch.tensor(2.0), torch.tensor(1.0)), (torch.tensor(3.0), torch.tensor(5.0)))
    (tensor(6.), tensor(8.))
    """
    (a1, b1), (a2, b2) = earlier, later
    return a2 * a1, a2 * b1 + b2


def sequential(a: Tensor, b: Tensor) -> tuple[Tensor, Work]:
    """Step through time: L multiply-adds, one after the other. The least work, the greatest depth.

    a, b [..., L] to h [..., L]. Raises ValueError or TypeError if a and b are not floating tensors of one shape.

    >>> sequential(torch.tensor([0.5, 0.5, 0.5]), torch.tensor([1.0, 0.0, 4.0]))
    (tensor([1.0000, 0.5000, 4.2500]), Work(multiply_adds=3, depth=3))
    """
    L = _check(a, b)
    return _loop(a, b, torch.zeros_like(b[..., 0])), Work(multiply_adds=L, depth=L)


def _loop(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """Run the recurrence from the state h [...]."""
    states = []
    for a_t, b_t in zip(a.unbind(-1), b.unbind(-1), strict=True):
        h = a_t * h + b_t
        states.append(h)
    return torch.stack(states, dim=-1)


def hillis_steele(a: Tensor, b: Tensor) -> tuple[Tensor, Work]:
    """Join every step with the one 1, 2, 4, ... places before it: log2(L) rounds, about 2 L log2(L) multiply-adds.

    After the round with distance d, place t holds the joined steps t - 2d + 1 ... t. a, b [..., L] to h [..., L].
    Source: Hillis and Steele, "Data parallel algorithms", Commun. ACM 29 (1986).

    Raises ValueError or TypeError if a and b are not floating tensors of one shape.

    >>> hillis_steele(torch.tensor([0.5, 0.5, 0.5]), torch.tensor([1.0, 0.0, 4.0]))
    (tensor([1.0000, 0.5000, 4.2500]), Work(multiply_adds=6, depth=2))
    """
    L = _check(a, b)
    multiply_adds, depth, distance = 0, 0, 1
    while distance < L:
        joined = combine((a[..., :-distance], b[..., :-distance]), (a[..., distance:], b[..., distance:]))
        a, b = (torch.cat([old[..., :distance], new], -1) for old, new in zip((a, b), joined, strict=True))
        multiply_adds += 2 * (L - distance)
        depth += 1
        distance *= 2
    return b, Work(multiply_adds, depth)


def blelloch(a: Tensor, b: Tensor) -> tuple[Tensor, Work]:
    """Join pairs up a tree, then hand states down it: about 4 L multiply-adds in 2 log2(L) + 1 rounds.

    On the way up every node joins the steps below it. On the way down every node is told the state before its first
    step, and hands it to its left child as it is, to its right child after the left child's steps. a, b [..., L] to
    h [..., L]; a length that is not a power of two is filled up with steps that do nothing (a = 1, b = 0).
    Source: Blelloch, "Prefix sums and their applications", 1990.

    Raises ValueError or TypeError if a and b are not floating tensors of one shape.

    >>> blelloch(torch.tensor([0.5, 0.5, 0.5]), torch.tensor([1.0, 0.0, 4.0]))
    (tensor([1.0000, 0.5000, 4.2500]), Work(multiply_adds=13, depth=5))
    """
    L = _check(a, b)
    leaves = 1 << (L - 1).bit_length()
    a, b = pad(a, (0, leaves - L), value=1.0), pad(b, (0, leaves - L))
    levels, multiply_adds, depth = [(a, b)], 0, 0
    while levels[-1][0].shape[-1] > 1:  # up: half as many nodes each round
        a_node, b_node = levels[-1]
        levels.append(combine((a_node[..., ::2], b_node[..., ::2]), (a_node[..., 1::2], b_node[..., 1::2])))
        multiply_adds += a_node.shape[-1]  # two for each pair
        depth += 1
    before = torch.zeros_like(b[..., :1])  # the state before the first step of the root
    for a_node, b_node in reversed(levels[:-1]):  # down: twice as many nodes each round
        after_left = a_node[..., ::2] * before + b_node[..., ::2]
        before = torch.stack([before, after_left], dim=-1).flatten(-2)
        multiply_adds += after_left.shape[-1]
        depth += 1
    return (a * before + b)[..., :L], Work(multiply_adds + leaves, depth + 1)


def chunked_two_pass(a: Tensor, b: Tensor, chunk: int = 16) -> tuple[Tensor, Work]:
    """Run all chunks at once from 0, carry the ends from chunk to chunk, run all chunks again from the right state.

    About 3 L multiply-adds in L / chunk + 2 chunk rounds, least with chunk near sqrt(L / 2). This is how the
    fast engines share one long sequence among processors. a, b [..., L] to h [..., L]; the last chunk is filled up
    with steps that do nothing.

    Raises ValueError or TypeError if a and b are not floating tensors of one shape, or chunk is not positive.

    >>> chunked_two_pass(torch.tensor([0.5, 0.5, 0.5]), torch.tensor([1.0, 0.0, 4.0]), chunk=2)
    (tensor([1.0000, 0.5000, 4.2500]), Work(multiply_adds=14, depth=6))
    """
    L = _check(a, b)
    if chunk < 1:
        raise ValueError(f"chunk, the steps in a chunk, must be at least 1; got {chunk}")
    chunks = -(-L // chunk)
    fill = (0, chunks * chunk - L)
    a = pad(a, fill, value=1.0).unflatten(-1, (chunks, chunk))  # [..., chunks, chunk]
    b = pad(b, fill).unflatten(-1, (chunks, chunk))
    rest = torch.zeros_like(b[..., 0])  # [..., chunks]
    ends, decays = _loop(a, b, rest)[..., -1], _loop(a, torch.zeros_like(b), rest + 1)[..., -1]
    carried = _loop(decays, ends, rest[..., 0])  # [..., chunks]: the state after each chunk
    starts = pad(carried[..., :-1], (1, 0))
    h = _loop(a, b, starts).flatten(-2)
    return h[..., :L], Work(multiply_adds=chunks * (3 * chunk + 1), depth=chunks + 2 * chunk)


def log_space(a: Tensor, b: Tensor) -> tuple[Tensor, Work]:
    """Divide by the running product, sum, multiply back: h_t = exp(S_t) sum over s <= t of b_s exp(-S_s).

    S is the running sum of log(a), so two running sums replace the scan: the shortest code, and wrong for long
    sequences. exp(-S) overflows, and from `log_space_limit` steps on the result holds infinities and NaN. Before
    that, the rounding error of S grows with its size. a, b [..., L] to h [..., L]. Exponentials are not counted as
    multiply-adds, running sums are counted as parallel ones of L additions.

    Raises ValueError or TypeError if a and b are not real floating tensors of one shape, or a is not positive.

    >>> log_space(torch.tensor([0.5, 0.5, 0.5]), torch.tensor([1.0, 0.0, 4.0]))[0]
    tensor([1.0000, 0.5000, 4.2500])
    >>> log_space(torch.full((200,), 0.5), torch.ones(200))[0][-1]
    tensor(nan)
    """
    L = _check(a, b)
    if a.is_complex() or not bool((a > 0).all()):
        raise ValueError("log_space takes the logarithm of a, so a must be real and positive; use another algorithm")
    S = a.log().cumsum(dim=-1)
    h = S.exp() * (b * (-S).exp()).cumsum(dim=-1)
    return h, Work(multiply_adds=4 * L, depth=2 * math.ceil(math.log2(L)) + 2)


def log_space_limit(decay: float, dtype: torch.dtype = torch.float32) -> int:
    """Return how many steps with a_t = decay and b_t = 1 `log_space` can take in a dtype.

    Two things end it: the running product decay ** t leaves the range of normal numbers, and the running sum of
    decay ** -t, about decay ** -t / (1 - decay), overflows. In float32 both happen near exp(-87) and exp(87).

    Raises ValueError if decay is not between 0 and 1.

    >>> log_space_limit(0.5), log_space_limit(0.9), log_space_limit(0.5, torch.float64)
    (126, 820, 1022)
    """
    if not 0 < decay < 1:
        raise ValueError(f"decay must lie between 0 and 1, both excluded; got {decay}")
    numbers = torch.finfo(dtype)
    product, total = -math.log(numbers.tiny), math.log(numbers.max) + math.log1p(-decay)
    # A rounding error must not take away a step that just fits, such as 0.5 to the 126th.
    return math.floor(min(product, total) / -math.log(decay) * (1 + 1e-12))


ALGORITHMS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Work]]] = {
    "sequential": sequential,
    "hillis_steele": hillis_steele,
    "blelloch": blelloch,
    "chunked_two_pass": chunked_two_pass,
    "log_space": log_space,
}


def _check(a: Tensor, b: Tensor) -> int:
    """Return L."""
    for name, x in (("a", a), ("b", b)):
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor; got {type(x).__name__}")
        if not (x.is_floating_point() or x.is_complex()):
            raise TypeError(f"{name} must be floating point; got {x.dtype}. Convert it with {name}.float().")
    if a.shape != b.shape or a.ndim == 0 or a.shape[-1] == 0:
        raise ValueError(
            f"a and b must have one shape [..., L] with L at least 1; got {tuple(a.shape)} and {tuple(b.shape)}. "
            "torch.broadcast_tensors(a, b) spreads one over the other."
        )
    return a.shape[-1]
