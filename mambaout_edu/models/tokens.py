"""Images as tokens, the way of ViT and Vim: patches in raster order, with class tokens among them.

glossary
    M  patches     T  class tokens     L  tokens, M + T     D  channels
"""

import torch
from torch import Tensor, nn

__all__ = ["CLASS_TOKENS", "PatchEmbed", "insert_class_tokens", "separate_class_tokens"]

CLASS_TOKENS = {"middle": 1, "head": 1, "double": 2, None: 0}  # where they stand, and how many


def insert_class_tokens(patches: Tensor, tokens: Tensor, where: str | None) -> Tensor:
    """Put class tokens [B, T, D] among patches [B, M, D]: before patch M // 2, before all, or one at either end.

    >>> insert_class_tokens(torch.zeros(1, 4, 1), torch.ones(1, 1, 1), "middle").flatten().tolist()
    [0.0, 0.0, 1.0, 0.0, 0.0]
    """
    if where is None:
        return patches
    if where == "double":
        return torch.cat((tokens[:, :1], patches, tokens[:, 1:]), dim=1)
    cut = patches.shape[1] // 2 if where == "middle" else 0
    return torch.cat((patches[:, :cut], tokens, patches[:, cut:]), dim=1)


def separate_class_tokens(x: Tensor, where: str | None) -> tuple[Tensor, Tensor]:
    """Undo `insert_class_tokens`: return patches [B, M, D] and class tokens [B, T, D] of a sequence [B, L, D].

    >>> patches, tokens = separate_class_tokens(torch.arange(5.0).view(1, 5, 1), "middle")
    >>> patches.flatten().tolist(), tokens.flatten().tolist()
    ([0.0, 1.0, 3.0, 4.0], [2.0])
    """
    if where is None:
        return x, x[:, :0]
    if where == "double":
        return x[:, 1:-1], torch.cat((x[:, :1], x[:, -1:]), dim=1)
    cut = (x.shape[1] - 1) // 2 if where == "middle" else 0
    return torch.cat((x[:, :cut], x[:, cut + 1 :]), dim=1), x[:, cut : cut + 1]


class PatchEmbed(nn.Module):
    """Cut an image [B, in_chans, H, W] into windows, `stride` pixels apart, and map each to D channels: [B, h, w, D].

    Pixels at the right and lower edge that fill no window are left out.

    >>> PatchEmbed(3, 8, patch_size=16, stride=8)(torch.zeros(1, 3, 64, 50)).shape
    torch.Size([1, 7, 5, 8])
    """

    part = "stem"

    def __init__(self, in_chans: int, embed_dim: int, patch_size: int, stride: int) -> None:
        super().__init__()
        if min(patch_size, stride) < 1:
            raise ValueError(f"patch_size and stride must be at least 1; got {patch_size} and {stride}")
        self.patch_size, self.stride = patch_size, stride
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, stride=stride)

    def grid_size(self, height: int, width: int) -> tuple[int, int]:
        """Return how many windows an image has downwards and across; ValueError if it is smaller than one."""
        if min(height, width) < self.patch_size:
            raise ValueError(
                f"an image must be at least one patch of {self.patch_size} x {self.patch_size} pixels; got {height} x "
                f"{width}. Enlarge the image, or create the model with a smaller patch_size."
            )
        return (height - self.patch_size) // self.stride + 1, (width - self.patch_size) // self.stride + 1

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, in_chans, H, W] to [B, h, w, D]."""
        self.grid_size(*x.shape[-2:])
        return self.proj(x).permute(0, 2, 3, 1)
