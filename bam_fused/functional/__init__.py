"""The operations as public functions, one file each; `bam_fused` exports this list."""

from bam_fused.functional.gate import gate
from bam_fused.functional.global_avg_pool import global_avg_pool
from bam_fused.functional.squeeze import squeeze

__all__ = ["gate", "global_avg_pool", "squeeze"]
