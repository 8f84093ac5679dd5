"""Global average pooling in plain PyTorch; `mean` already accumulates in at least float32."""

from __future__ import annotations

from torch import Tensor

from bam_fused import reference
from bam_fused.checks import check_feature_map


def global_avg_pool(x: Tensor) -> Tensor:
    check_feature_map("x", x)
    return reference.global_avg_pool(x)
