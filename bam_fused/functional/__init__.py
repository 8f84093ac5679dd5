"""The public functions, one file per operation."""

from bam_fused.functional.gate import gate
from bam_fused.functional.global_avg_pool import global_avg_pool

__all__ = ["gate", "global_avg_pool"]
