"""The dispatcher operators `torch.ops.bam_fused.*`: schema, fake kernel and autograd, one file per operation.

The kernels are registered by the backends; here is what they share. Autograd is an `autograd.Function` around the plain
operator, which costs less per call than registering a formula with the operator.
"""

from bam_fused.ops.gate import gate
from bam_fused.ops.global_avg_pool import global_avg_pool

__all__ = ["gate", "global_avg_pool"]
