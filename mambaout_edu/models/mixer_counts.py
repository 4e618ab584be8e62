"""What token mixers cost, in closed form: tokens of an image, attention over them, VMamba's scan along four paths.

The counts are those of `profile`: matrix products and convolutions; no norms, activations or softmax.
"""

import math

__all__ = ["attention_multiply_adds", "ss2d_multiply_adds", "token_grid"]


def token_grid(height: int, width: int, patch_size: int = 16, stride: int = 16) -> tuple[int, int]:
    """Return (rows, columns) of the patches that ViT or Vim makes of an image; patches overlap if stride < patch_size.

    Pixels at the right and lower edge that fill no patch are left out.

    Raises
    ------
    ValueError
        If the image is smaller than a patch, or a size is below 1.

    Examples
    --------
    >>> token_grid(224, 224), token_grid(224, 224, stride=8)
    ((14, 14), (27, 27))
    """
    if min(patch_size, stride) < 1 or min(height, width) < patch_size:
        raise ValueError(
            f"expected patch_size and stride of at least 1, and an image of at least one patch; got {height} x {width} "
            f"pixels, patch_size = {patch_size}, stride = {stride}"
        )
    return (height - patch_size) // stride + 1, (width - patch_size) // stride + 1


def attention_multiply_adds(tokens: int, dim: int, seen: int | None = None) -> int:
    """Return the multiply-adds of one attention layer: 4 L D^2 for its linear layers, 2 L M D for its two products.

    Half of MambaOut's equation 6, which counts FLOPs, without its MLP (16 L D^2).

    Parameters
    ----------
    tokens, dim
        L and D.
    seen
        M, how many tokens each token attends to: all L for None, 49 in Swin's windows of 7 x 7.

    Examples
    --------
    >>> attention_multiply_adds(196, 384)
    145108992
    >>> attention_multiply_adds(3136, 96, seen=49)
    145108992
    """
    others = tokens if seen is None else seen
    return 4 * tokens * dim * dim + 2 * tokens * others * dim


def ss2d_multiply_adds(
    height: int, width: int, dim: int, d_state: int = 16, expand: float = 2.0, gate: bool = True, paths: int = 4
) -> int:
    """Return what one SS2D of VMamba costs on height x width positions, counted as papers on vision do.

    Layers count a multiply-add as one: `in_proj`, the 3 x 3 depthwise convolution, `x_proj` and `dt_proj` of every
    path, `out_proj`. The scan counts 9 N + 1 operations a position, channel and path.

    Parameters
    ----------
    height, width
        Positions of the feature map.
    dim
        D; the scan works on d = int(expand * D) channels, and the rank of the steps is D / 16, rounded up.
    d_state
        N.
    expand, gate
        Of `SS2D`; a gate doubles what `in_proj` puts out.
    paths
        K.

    Examples
    --------
    >>> ss2d_multiply_adds(56, 56, 96, d_state=1, expand=1.0, gate=False)
    89413632
    """
    inner, rank = int(expand * dim), math.ceil(dim / 16)
    projections = dim * inner * (3 if gate else 2)  # in_proj and out_proj
    convolution = 9 * inner
    selection = paths * inner * (rank + 2 * d_state + rank)  # x_proj and dt_proj
    scan = paths * inner * (9 * d_state + 1)
    return height * width * (projections + convolution + selection + scan)
