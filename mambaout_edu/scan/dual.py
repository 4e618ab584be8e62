"""The scan seen as a matrix: the hidden attention of a selective SSM, and Mamba-2's chunks of matrix products (SSD).

glossary
    B, L, D, N   batch, length, channels, states       H, P, G   heads, channels of a head, groups of B and C
    Q            steps in a chunk

All of it is ordinary torch in the dtype of the inputs, so gradients come from autograd.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from mambaout_edu.scan.reference import discretise

__all__ = [
    "decay_matrix",
    "mixing_matrix",
    "segment_sum",
    "spread_over_heads",
    "ssd_chunked",
    "ssd_chunks",
    "ssd_masked_attention",
    "ssd_recurrence",
]


def segment_sum(a: Tensor) -> Tensor:
    """Return the sums of all segments of a [..., L]: entry (t, s) is a_(s+1) + ... + a_t, [..., L, L].

    Entries with s >= t are 0. Each segment is summed on its own: the difference of two running sums would lose the
    digits of a short segment far down a long sequence.

    >>> segment_sum(torch.tensor([1.0, 2.0, 4.0]))
    tensor([[0., 0., 0.],
            [2., 0., 0.],
            [6., 4., 0.]])
    """
    L = a.shape[-1]
    terms = a[..., :, None].expand(*a.shape, L)  # [..., r, s] = a_r
    return terms.tril(-1).cumsum(dim=-2)  # for each s, the sum over s < r <= t


def decay_matrix(a: Tensor) -> Tensor:
    """Return what is left at step t of a state of step s: exp(a_(s+1) + ... + a_t) for s <= t, else 0, [..., L, L].

    a [..., L] is the logarithm of the decay of every step, delta * A. It is the mask L of Mamba-2
    (arXiv 2405.21060, section 3: a 1-semiseparable matrix).

    >>> decay_matrix(torch.tensor([0.5, 0.5, 0.25]).log())
    tensor([[1.0000, 0.0000, 0.0000],
            [0.5000, 1.0000, 0.0000],
            [0.1250, 0.2500, 1.0000]])
    """
    return segment_sum(a).exp().tril()


def mixing_matrix(
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Return the matrix M [B, D, L, L] of a selective scan without gate: y = M u for every channel.

    M[t, s] = sum over n of C[n, t] B[n, s] exp(A[n] (delta_(s+1) + ... + delta_t)) delta_s for s <= t, plus D on the
    diagonal. Like causal attention it is lower triangular and depends on the input, through delta, B and C. Source:
    Ali et al., "The hidden attention of Mamba models", arXiv 2403.01590.

    Parameters
    ----------
    delta
        Steps [B, D, L], before bias and softplus.
    A
        Decays [D, N], real.
    B, C
        [B, N, L], [B, G, N, L], or [D, N] where they are fixed.
    D
        Weight of the input that passes by [D].
    delta_bias, delta_softplus
        As in `selective_scan`.

    Raises
    ------
    ValueError
        If a shape does not fit.
    TypeError
        If A, B or C is complex.

    Examples
    --------
    >>> delta, ones = torch.ones(1, 1, 3), torch.ones(1, 1, 3)
    >>> mixing_matrix(delta, -torch.ones(1, 1) * 0.6931472, ones, ones)[0, 0]
    tensor([[1.0000, 0.0000, 0.0000],
            [0.5000, 1.0000, 0.0000],
            [0.2500, 0.5000, 1.0000]])
    """
    B, C = _check_selective(delta, A, B, C)  # [B or 1, D, N, L or 1]
    for name, per_channel in (("D", D), ("delta_bias", delta_bias)):
        if per_channel is not None and per_channel.shape != A.shape[:1]:
            raise ValueError(f"{name} must be [D] = ({len(A)},); got shape {tuple(per_channel.shape)}")
    bias = None if delta_bias is None else delta_bias[:, None]
    delta = discretise(delta, bias, delta_softplus)
    elapsed = segment_sum(delta)  # [B, D, L, L]: time from s to t
    M = torch.zeros_like(elapsed)
    for n in range(A.shape[1]):  # a state at a time: N matrices of L x L would be too many
        decay = (A[:, n, None, None] * elapsed).exp().tril()
        M = M + C[:, :, n, :, None] * decay * (B[:, :, n] * delta)[:, :, None, :]
    return M if D is None else M + torch.diag_embed(D[:, None].expand_as(delta))


def _check_selective(delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """Return B and C with one row for each channel."""
    if delta.ndim != 3 or 0 in delta.shape:
        raise ValueError(f"delta must be [B, D, L] with no side 0; got shape {tuple(delta.shape)}")
    batch, D, L = delta.shape
    if A.ndim != 2 or A.shape[0] != D:
        raise ValueError(f"A must be [D, N] with D = {D} from delta; got shape {tuple(A.shape)}")
    if A.is_complex() or B.is_complex() or C.is_complex():
        raise TypeError("mixing_matrix takes real A, B and C; for complex poles use the scan itself")
    N = A.shape[1]
    spread = []
    for name, x in (("B", B), ("C", C)):
        shape = tuple(x.shape)
        if shape == (D, N):
            x = x[None, :, :, None]
        else:
            x = x[:, None] if x.ndim == 3 else x
            if x.ndim != 4 or (x.shape[0], *x.shape[2:]) != (batch, N, L) or x.shape[1] == 0 or D % x.shape[1]:
                raise ValueError(
                    f"{name} must be [D, N], [B, N, L] or [B, G, N, L] with B = {batch}, N = {N}, L = {L} and a G that "
                    f"divides D = {D}; got shape {shape}"
                )
            x = x.repeat_interleave(D // x.shape[1], dim=1)
        spread.append(x)
    return spread[0], spread[1]


def ssd_recurrence(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mamba-2 step by step: h_t = exp(delta_t A) h_(t-1) + delta_t x_t B_t^T, y_t = h_t C_t.

    It is the selective scan with one decay for all states and channels of a head. Source: Dao and Gu, "Transformers
    are SSMs", arXiv 2405.21060, section 2.

    Parameters
    ----------
    x
        Inputs [B, L, H, P].
    delta
        Steps [B, L, H], after bias and softplus.
    A
        Decays [H], negative; or [B, L, H] where they depend on the input, as in Mamba-3.
    B, C
        [B, L, G, N]; group g serves the heads g H / G ... (g + 1) H / G - 1.
    initial_state
        The state before the first step [B, H, P, N]; zero when left out.

    Returns
    -------
    y
        Outputs [B, L, H, P].
    last_state
        The state after the last step [B, H, P, N].

    Raises
    ------
    ValueError
        If a shape does not fit.

    Examples
    --------
    >>> one = torch.ones(1, 3, 1, 1)
    >>> y, last_state = ssd_recurrence(one, torch.ones(1, 3, 1), torch.tensor([0.5]).log(), one, one)
    >>> y.flatten(), last_state.shape
    (tensor([1.0000, 1.5000, 1.7500]), torch.Size([1, 1, 1, 1]))
    """
    v, a, B, C = _prepare(x, delta, A, B, C)
    h = _first_state(v, B, initial_state)
    outputs = []
    for t in range(x.shape[1]):
        h = a[:, t, :, None, None].exp() * h + v[:, t, :, :, None] * B[:, t, :, None, :]  # [B, H, P, N]
        outputs.append(torch.einsum("bhpn,bhn->bhp", h, C[:, t]))
    return torch.stack(outputs, dim=1), h


def ssd_masked_attention(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Mamba-2 as attention: y = (decay o C B^T) (delta x), with C the queries, B the keys, x the values.

    No softmax, and the decay in the place of the causal mask. Work and memory grow with L^2. Arguments and errors as
    for `ssd_recurrence`; returns [B, L, H, P]. Source: arXiv 2405.21060, section 5.

    >>> one = torch.ones(1, 3, 1, 1)
    >>> ssd_masked_attention(one, torch.ones(1, 3, 1), torch.tensor([0.5]).log(), one, one).flatten()
    tensor([1.0000, 1.5000, 1.7500])
    """
    v, a, B, C = _prepare(x, delta, A, B, C)
    scores = torch.einsum("blhn,bshn->bhls", C, B)
    return torch.einsum("bhls,bshp->blhp", decay_matrix(a.transpose(1, 2)) * scores, v)


def ssd_chunked(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk: int = 64,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mamba-2 in chunks of Q steps: attention inside a chunk, a recurrence from chunk to chunk.

    Work grows with L Q, and nearly all of it is matrix products. Arguments, results and errors as for
    `ssd_recurrence`; `chunk` is Q. Source: arXiv 2405.21060, section 6.

    >>> one = torch.ones(1, 3, 1, 1)
    >>> y, last_state = ssd_chunked(one, torch.ones(1, 3, 1), torch.tensor([0.5]).log(), one, one, chunk=2)
    >>> y.flatten()
    tensor([1.0000, 1.5000, 1.7500])
    """
    v, a, B, C = _prepare(x, delta, A, B, C)
    return ssd_chunks(v, a, B, C, _first_state(v, B, initial_state), chunk)


def ssd_chunks(v: Tensor, a: Tensor, B: Tensor, C: Tensor, h: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Take the four steps of `ssd_chunked`, for inputs v [B, L, H, P] that delta is already in.

    a [B, L, H] is the logarithm of each step's decay; B, C [B, L, H, N]; h [B, H, P, N] is the state before the first
    step. Returns the outputs [B, L, H, P] and the last state.

    Raises ValueError if chunk is not positive.

    >>> one, a = torch.ones(1, 3, 1, 1), torch.full((1, 3, 1), 0.5).log()
    >>> ssd_chunks(one, a, one, one, torch.zeros(1, 1, 1, 1), chunk=2)[0].flatten()
    tensor([1.0000, 1.5000, 1.7500])
    """
    if chunk < 1:
        raise ValueError(f"chunk, the steps in a chunk, must be at least 1; got {chunk}")
    L = v.shape[1]
    v, a, B, C = (_in_chunks(x, min(chunk, L)) for x in (v, a, B, C))  # [B, chunks, Q, H, ...]
    decay = decay_matrix(a.transpose(2, 3))  # [B, chunks, H, Q, Q]
    # 1. What the steps of a chunk hand to later steps of the same chunk.
    scores = torch.einsum("bclhn,bcshn->bchls", C, B)
    inside = torch.einsum("bchls,bcshp->bclhp", scores * decay, v)
    # 2. What the steps of a chunk leave at its end: the last row of the decay.
    left = torch.einsum("bchs,bcshp,bcshn->bchpn", decay[..., -1, :], v, B)
    # 3. The state before each chunk, carried on from chunk to chunk.
    before = []
    for whole, ending in zip(a.sum(dim=2).exp().unbind(1), left.unbind(1), strict=True):
        before.append(h)
        h = whole[:, :, None, None] * h + ending  # [B, H, P, N]
    # 4. What the steps of a chunk read of that state.
    read = torch.einsum("bclhn,bchpn->bclhp", C, torch.stack(before, dim=1))
    y = inside + a.cumsum(dim=2).exp()[..., None] * read
    return y.flatten(1, 2)[:, :L], h


def _in_chunks(x: Tensor, chunk: int) -> Tensor:
    """Cut [B, L, ...] into [B, chunks, Q, ...]; zeros at the end neither decay the state nor add to it."""
    fill = -x.shape[1] % chunk
    return pad(x, (0, 0) * (x.ndim - 2) + (0, fill)).unflatten(1, (-1, chunk))


def _first_state(v: Tensor, B: Tensor, initial_state: Tensor | None) -> Tensor:
    expected = (v.shape[0], *v.shape[2:], B.shape[-1])
    if initial_state is None:
        return v.new_zeros(expected)
    if initial_state.shape != expected:
        raise ValueError(f"initial_state must be [B, H, P, N] = {expected}; got shape {tuple(initial_state.shape)}")
    return initial_state


def _prepare(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return delta x [B, L, H, P], the log decay delta A [B, L, H], and B, C spread over the heads [B, L, H, N]."""
    B, C = spread_over_heads(x, delta, A, B, C)
    return delta[..., None] * x, delta * A, B, C


def spread_over_heads(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """Check the arguments of `ssd_recurrence` and return B and C with a row for each head, [B, L, H, N].

    Raises ValueError if a shape does not fit.

    >>> B = torch.ones(1, 2, 1, 4)
    >>> spread_over_heads(torch.ones(1, 2, 6, 3), torch.ones(1, 2, 6), -torch.ones(6), B, B)[0].shape
    torch.Size([1, 2, 6, 4])
    """
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"x must be [B, L, H, P] with no side 0; got shape {tuple(x.shape)}")
    heads = x.shape[2]
    if delta.shape != x.shape[:3]:
        raise ValueError(f"delta must be [B, L, H] = {tuple(x.shape[:3])} from x; got shape {tuple(delta.shape)}")
    if A.shape not in ((heads,), x.shape[:3]):
        raise ValueError(f"A must be [H] = ({heads},) or [B, L, H] = {tuple(x.shape[:3])}; got {tuple(A.shape)}")
    for name, weights in (("B", B), ("C", C)):
        if weights.ndim != 4 or weights.shape[:2] != x.shape[:2] or 0 in weights.shape or heads % weights.shape[2]:
            raise ValueError(
                f"{name} must be [B, L, G, N] with B, L = {tuple(x.shape[:2])} and a G that divides H = {heads}; "
                f"got shape {tuple(weights.shape)}"
            )
    if B.shape[-1] != C.shape[-1]:
        raise ValueError(f"B and C must have the same number of states N; got {B.shape[-1]} and {C.shape[-1]}")
    per_head = [weights.repeat_interleave(heads // weights.shape[2], dim=2) for weights in (B, C)]
    return per_head[0], per_head[1]
