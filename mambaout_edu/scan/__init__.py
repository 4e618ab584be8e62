"""The selective scan: one operation, several engines, and one token at a time."""

from mambaout_edu.scan.engines import EngineStatus, engines
from mambaout_edu.scan.op import explain, selective_scan
from mambaout_edu.scan.operator import flops
from mambaout_edu.scan.step import causal_conv1d_update, recurrence_step, selective_state_update

__all__ = [
    "EngineStatus",
    "causal_conv1d_update",
    "engines",
    "explain",
    "flops",
    "recurrence_step",
    "selective_scan",
    "selective_state_update",
]
