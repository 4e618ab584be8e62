"""Attention inside windows that shift from block to block (Swin, arXiv 2103.14030, section 3.2)."""

import math

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import WindowAttention as TimmWindowAttention
from timm.models.swin_transformer import window_partition, window_reverse
from torch import Tensor, nn

from mambaout_edu.mixers.attention import head_count
from mambaout_edu.mixers.faces import as_image

__all__ = ["WindowAttention", "window_mask"]


class WindowAttention(nn.Module):
    """Swin's token mixer: attention inside w x w windows, with a learned bias for every distance.

    With shift s the windows begin s pixels further down and right; what is left over at the edges forms smaller
    windows. The work is done in timm's `WindowAttention` (`attn`), so a Swin block's weights fit. Any image size:
    it is padded to whole windows, and no pixel sees the padding. As in Swin, an axis that fits into one window is not
    shifted. A sequence is an image of one row.

    Parameters
    ----------
    channels
        C, of input and output.
    num_heads, head_dim
        As in `Attention`; Swin has head_dim = 32.
    window_size
        Side w of a window in pixels.
    shift_size
        s, from 0 to w - 1; Swin takes 0 and w // 2 in turns.
    qkv_bias, attn_drop, proj_drop
        As in `Attention`.

    Raises
    ------
    ValueError
        If the heads do not divide the channels, a size is out of range, or the input is neither [B, L, C] nor
        [B, H, W, C].

    Examples
    --------
    >>> WindowAttention(96, head_dim=32, shift_size=3)(torch.zeros(1, 9, 16, 96)).shape
    torch.Size([1, 9, 16, 96])
    """

    part = "token mixing"

    def __init__(
        self,
        channels: int,
        num_heads: int | None = None,
        head_dim: int | None = None,
        window_size: int = 7,
        shift_size: int = 0,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        if window_size < 1 or not 0 <= shift_size < window_size:
            raise ValueError(
                f"window_size must be at least 1 and shift_size from 0 to window_size - 1; "
                f"got window_size = {window_size}, shift_size = {shift_size}. Swin shifts by window_size // 2."
            )
        heads = head_count(channels, num_heads, head_dim)
        self.channels, self.window_size, self.shift_size = channels, window_size, shift_size
        self.attn = TimmWindowAttention(
            *(channels, heads),
            window_size=window_size,
            qkv_bias=qkv_bias,
            attn_drop=attn_drop,
            proj_drop=proj_drop,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, L, C] or [B, H, W, C] to the same shape."""
        image = as_image(x, self.channels, "WindowAttention")
        height, width = image.shape[1:3]
        w = self.window_size
        shift = [self.shift_size if side > w else 0 for side in (height, width)]
        down, right = (-side % w for side in (height, width))
        image = F.pad(image, (0, 0, 0, right, 0, down))  # [B, H', W', C], whole windows
        image = image.roll((-shift[0], -shift[1]), dims=(1, 2))
        windows = window_partition(image, (w, w)).flatten(1, 2)  # [B windows, w w, C]
        mask = window_mask(height, width, w, shift, x.device)
        mask = None if mask is None else torch.zeros_like(mask, dtype=x.dtype).masked_fill(~mask, -math.inf)
        windows = self.attn(windows, mask=mask).unflatten(1, (w, w))  # [B windows, w, w, C]
        image = window_reverse(windows, (w, w), height + down, width + right)  # [B, H', W', C]
        image = image.roll((shift[0], shift[1]), dims=(1, 2))
        return image[:, :height, :width].reshape(x.shape)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.channels}, window_size={self.window_size}, shift_size={self.shift_size}"


def window_mask(
    height: int, width: int, window: int, shift: list[int], device: torch.device | None = None
) -> Tensor | None:
    """Return which pixels of a window see each other, [windows, w w, w w] of bool; None where all do.

    The padded image was rolled up and left by the shift, so its last windows may hold pixels from both ends of an
    axis, and padding: three kinds that stay apart. Padding sees padding, so that no row of the softmax is empty.

    >>> window_mask(1, 3, 2, [0, 0])[:, 0].tolist()  # a row of 3 pixels becomes 2 rows of 4
    [[True, True, False, False], [True, False, False, False]]
    """
    if height % window == width % window == 0 and not any(shift):
        return None
    kinds = [
        _kinds(side, window, offset, device) for side, offset in zip((height, width), shift, strict=True)
    ]  # 0 inside, 1 rolled over from the other end, 2 padding
    kind = kinds[0][:, None] * 3 + kinds[1]  # [H', W']
    windows = window_partition(kind[None, :, :, None], (window, window)).flatten(1)  # [windows, w w]
    return windows[:, :, None] == windows[:, None, :]


def _kinds(side: int, window: int, shift: int, device: torch.device | None) -> Tensor:
    """Return the kind of every place along an axis that was padded to whole windows and rolled by the shift."""
    padded = side + -side % window
    place = (torch.arange(padded, device=device) + shift) % padded  # where the pixel stood before
    rolled_over = (place < shift).long()
    return rolled_over.masked_fill(place >= side, 2)
