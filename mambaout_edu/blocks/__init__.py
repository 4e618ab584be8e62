"""Blocks: a token mixer inside a gate, with norm and shortcut (MambaOut, eq. 8-11)."""

from mambaout_edu.blocks.counting import block_multiply_adds, block_parameters
from mambaout_edu.blocks.gated import GatedBlock, GatedCNNBlock, gated_product, split_gate

__all__ = ["GatedBlock", "GatedCNNBlock", "block_multiply_adds", "block_parameters", "gated_product", "split_gate"]
