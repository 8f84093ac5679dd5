"""What every operation needs of PyTorch's dispatcher: its operators, and the way from a public function to a kernel.

The operations themselves are in bam_fused/functional, one file each.
"""

from bam_fused.ops.define import define
from bam_fused.ops.library import OPERATORS, Operator
from bam_fused.ops.operation import Operation, run_backward

__all__ = ["OPERATORS", "Operation", "Operator", "define", "run_backward"]
