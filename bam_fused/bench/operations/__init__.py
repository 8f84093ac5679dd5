"""What competes in each operation, and what it must compute: one file per operation."""

from collections.abc import Callable

import torch

from bam_fused.bench.cases import Case
from bam_fused.bench.operations import bam, bam_resnet50, gate, global_avg_pool
from bam_fused.bench.problem import Problem

BUILDERS: dict[str, Callable[[Case, torch.device], Problem]] = {
    "gate": gate.problem,
    "global_avg_pool": global_avg_pool.problem,
    "bam": bam.problem,
    "bam_resnet50": bam_resnet50.problem,
}

COMPETITORS: dict[str, tuple[str, ...]] = {
    "gate": ("eager", "eager (paper)", "fused"),
    "global_avg_pool": ("eager", "eager (mean)", "fused"),
    "bam": ("eager", "eager (mean)", "fused"),
    "bam_resnet50": ("eager", "fused"),
}
"""The names that a problem of each operation brings, known without building one."""
