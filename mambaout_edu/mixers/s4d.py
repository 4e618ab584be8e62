"""S4D's mixer: a diagonal linear system for every channel, the same at every step (Gu et al., arXiv 2206.11893).

    h_t = A_bar h_(t-1) + B_bar u_t        A_bar = exp(delta A),  B_bar = (A_bar - 1) / A
    y_t = 2 Re(C h_t) + D u_t
    out = out_proj(gelu(y))

A sequence is a convolution with the kernel 2 Re(C A_bar^k B_bar), computed by FFT; a token is one step of the
recurrence. It selects nothing: how long it remembers does not depend on what it reads.

glossary
    B, L, D   batch, length, channels     N   states of a channel, N / 2 complex ones and their conjugates
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambaout_edu.mixers.selective import as_sequence, check_sizes
from mambaout_edu.systems import s4d_inv, s4d_lin

__all__ = ["S4D", "S4DState"]

STARTS = {"lin": s4d_lin, "inv": s4d_inv}
CHUNK = 1024  # tokens that are convolved at once; from chunk to chunk the state is handed on


class S4DState(NamedTuple):
    """The state of every channel, complex: ssm [B, D, N / 2]."""

    ssm: Tensor


class S4D(nn.Module):
    """The S4D mixer on sequences [B, L, D]: convolution for a sequence, recurrence for a token.

    Poles stay in the left half plane: A = -exp(log_A_real) + i A_imag. The hold is exact (zero-order), with B = 1.

    Parameters
    ----------
    dim
        Channels D of input and output.
    d_state
        States N of a channel, even.
    start
        Initial poles: "lin" (S4D-Lin) or "inv" (S4D-Inv), as in `mambaout_edu.systems`.
    dt_min, dt_max
        The steps delta start between these, spread at random and evenly in their logarithm.

    Raises
    ------
    ValueError
        If a size is impossible, the start is unknown, or the input is not [B, L, D] or [B, H, W, D].

    Examples
    --------
    >>> mixer = S4D(8, d_state=16)
    >>> x = torch.randn(1, 6, 8)
    >>> _, state = mixer.run(x[:, :5])
    >>> y, state = mixer.step(x[:, 5], state)
    >>> torch.allclose(y, mixer(x)[:, 5], atol=1e-5)
    True
    """

    part = "token mixing"

    def __init__(
        self, dim: int, d_state: int = 64, start: str = "lin", dt_min: float = 0.001, dt_max: float = 0.1
    ) -> None:
        super().__init__()
        check_sizes(dim=dim, d_state=d_state)
        if start not in STARTS:
            raise ValueError(f"start must be one of {', '.join(STARTS)}; got {start!r}")
        if not 0 < dt_min <= dt_max:
            raise ValueError(f"steps start between dt_min and dt_max, 0 < dt_min <= dt_max; got {dt_min} and {dt_max}")
        self.dim, self.d_state = dim, d_state
        poles = STARTS[start](d_state)  # [N / 2]; refuses an odd N
        low, high = np.log(dt_min), np.log(dt_max)
        self.log_delta = nn.Parameter(low + (high - low) * torch.rand(dim))
        self.log_A_real = nn.Parameter(torch.tensor(-poles.real, dtype=torch.float32).log().repeat(dim, 1))
        self.A_imag = nn.Parameter(torch.tensor(poles.imag, dtype=torch.float32).repeat(dim, 1))
        self.C = nn.Parameter(torch.randn(dim, d_state // 2, 2) * 0.5**0.5)  # real and imaginary part
        self.D = nn.Parameter(torch.ones(dim))
        self.out_proj = nn.Linear(dim, dim)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that an optimiser must not decay (timm's way to tell)."""
        return {"log_delta", "log_A_real", "A_imag", "C", "D"}

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, L, D] to the same shape, or an image [B, H, W, D] read row by row."""
        y, _ = self.run(as_sequence(x, self.dim, "S4D"))
        return y.reshape(x.shape)

    def run(self, x: Tensor, state: S4DState | None = None) -> tuple[Tensor, S4DState]:
        """Run over a sequence [B, L, D] from a state (the empty one for None); return [B, L, D] and the state after."""
        h = (self.initial_state(len(x)) if state is None else state).ssm
        log_A, B, C = self.system()
        k = torch.arange(min(CHUNK, x.shape[1]) + 1, device=x.device)
        powers = (log_A[..., None] * k).exp()  # A_bar^k, [D, N / 2, k]
        kernel = 2 * torch.einsum("dn,dnk->dk", C * B, powers[..., :-1]).real  # [D, k]
        outputs = []
        for part in x.to(kernel.dtype).split(CHUNK, dim=1):
            y, h = _convolve(part.transpose(1, 2), h, powers, kernel, B, C)
            outputs.append(y.transpose(1, 2))
        return self._finish(torch.cat(outputs, dim=1).to(x.dtype), x), S4DState(h)

    def step(self, token: Tensor, state: S4DState) -> tuple[Tensor, S4DState]:
        """Take one token [B, D]; return its output [B, D] and the state after it. Costs the same at every position."""
        log_A, B, C = self.system()
        h = log_A.exp() * state.ssm + B * token[..., None]  # [B, D, N / 2]
        y = 2 * (C * h).sum(-1).real
        return self._finish(y.to(token.dtype), token), S4DState(h)

    def initial_state(self, batch: int) -> S4DState:
        """Return the state before the first token: zeros, complex [B, D, N / 2]."""
        double = self.log_delta.dtype == torch.float64
        dtype = torch.complex128 if double else torch.complex64
        return S4DState(torch.zeros(batch, *self.A_imag.shape, dtype=dtype, device=self.A_imag.device))

    def system(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return log A_bar = delta A, B_bar and C, complex [D, N / 2] each, in float32 at least."""
        real = torch.promote_types(self.log_delta.dtype, torch.float32)
        delta = self.log_delta.to(real).exp()[:, None]
        A = torch.complex(-self.log_A_real.to(real).exp(), self.A_imag.to(real))
        log_A = delta * A
        return log_A, (log_A.exp() - 1) / A, torch.view_as_complex(self.C.to(real).contiguous())

    def _finish(self, y: Tensor, u: Tensor) -> Tensor:
        """Add the skip, activate and mix the channels: [..., D] to the same shape."""
        return self.out_proj(F.gelu(y + self.D * u))


def _convolve(u: Tensor, h: Tensor, powers: Tensor, kernel: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """Return the outputs [B, D, L] of a chunk of inputs u [B, D, L] from a state h [B, D, N / 2], and the state after.

    `powers` [D, N / 2, > L] are those of A_bar from 0 on, `kernel` [D, >= L] the response to a single input.
    """
    L = u.shape[-1]
    size = 2 * L  # room for the tail, so that the end does not wrap around to the beginning
    y = torch.fft.irfft(torch.fft.rfft(kernel[:, :L], size) * torch.fft.rfft(u, size), size)[..., :L]
    from_before = 2 * torch.einsum("bdn,dnk->bdk", C * h, powers[..., 1 : L + 1]).real
    fed = torch.einsum("dnk,bdk->bdn", powers[..., :L].flip(-1), u.to(powers.dtype)) * B
    return y + from_before, powers[..., L] * h + fed
