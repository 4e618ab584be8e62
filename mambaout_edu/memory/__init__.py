"""What a mixer must remember to go on: a bank that grows with every token, or a state that does not.

>>> import torch
>>> reader = decoder(CausalAttention(64, num_heads=4))
>>> _, state = reader.prefill(torch.zeros(1, 1000, 64))
>>> reader.bytes(state)
Bytes(500.00 KiB used, 512.00 KiB reserved)
"""

from mambaout_edu.memory.accounting import Account, accounting, build, crossing, long_sequence, quadratic_share
from mambaout_edu.memory.attention import CausalAttention
from mambaout_edu.memory.cache import KVCache
from mambaout_edu.memory.convolution import GatedConv
from mambaout_edu.memory.decoder import Decoder, decoder
from mambaout_edu.memory.measure import Measured, linear_fit, measure, peak_bytes
from mambaout_edu.memory.sizes import Bytes, check_free, count_bytes, free_memory

__all__ = [
    "Account",
    "Bytes",
    "CausalAttention",
    "Decoder",
    "GatedConv",
    "KVCache",
    "Measured",
    "accounting",
    "build",
    "check_free",
    "count_bytes",
    "crossing",
    "decoder",
    "free_memory",
    "linear_fit",
    "long_sequence",
    "measure",
    "peak_bytes",
    "quadratic_share",
]
