"""Token mixers: the one part of a block that lets positions see each other.

The image face of a mixer maps [B, H, W, C] to the same shape.
"""

from mambaout_edu.mixers.convolution import DepthwiseConv

__all__ = ["DepthwiseConv"]
