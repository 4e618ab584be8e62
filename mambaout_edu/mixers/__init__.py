"""Token mixers: the one part of a block that lets positions see each other.

The image face of a mixer maps [B, H, W, C] to the same shape; a mixer of sequences also takes [B, L, C], and reads
an image row by row.
"""

from mambaout_edu.mixers.conv_ssm import ConvSSM
from mambaout_edu.mixers.convolution import DepthwiseConv
from mambaout_edu.mixers.mamba1 import Mamba1
from mambaout_edu.mixers.mamba2 import Mamba2
from mambaout_edu.mixers.selective import MixerState, SelectiveSSM, no_weight_decay

__all__ = ["ConvSSM", "DepthwiseConv", "Mamba1", "Mamba2", "MixerState", "SelectiveSSM", "no_weight_decay"]
