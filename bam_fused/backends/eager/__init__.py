"""The operations in plain PyTorch: what runs where no kernel can, on any device, under any transform of PyTorch."""

from bam_fused.backends.eager.gate import gate, gate_backward
from bam_fused.backends.eager.global_avg_pool import global_avg_pool

__all__ = ["gate", "gate_backward", "global_avg_pool"]
