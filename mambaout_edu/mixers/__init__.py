"""Token mixers: the one part of a block that lets positions see each other.

The image face of a mixer maps [B, H, W, C] to the same shape; a mixer of sequences also takes [B, L, C], and reads
an image row by row, or along another order of `mambaout_edu.flatten` where it has an argument for it.
"""

from mambaout_edu.mixers.attention import Attention
from mambaout_edu.mixers.bimamba import BiMamba
from mambaout_edu.mixers.conv_ssm import ConvSSM
from mambaout_edu.mixers.convolution import DepthwiseConv
from mambaout_edu.mixers.faces import OrderedMixer
from mambaout_edu.mixers.mamba1 import Mamba1
from mambaout_edu.mixers.mamba2 import Mamba2
from mambaout_edu.mixers.pooling import Identity, Pooling
from mambaout_edu.mixers.recurrent import Recurrent
from mambaout_edu.mixers.s4d import S4D
from mambaout_edu.mixers.scanned import ScannedSSM
from mambaout_edu.mixers.selective import MixerState, SelectiveSSM, no_weight_decay
from mambaout_edu.mixers.ss2d import SS2D
from mambaout_edu.mixers.window import WindowAttention

__all__ = [
    "S4D",
    "SS2D",
    "Attention",
    "BiMamba",
    "ConvSSM",
    "DepthwiseConv",
    "Identity",
    "Mamba1",
    "Mamba2",
    "MixerState",
    "OrderedMixer",
    "Pooling",
    "Recurrent",
    "ScannedSSM",
    "SelectiveSSM",
    "WindowAttention",
    "no_weight_decay",
]
