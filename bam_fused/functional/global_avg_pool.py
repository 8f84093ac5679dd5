"""global_avg_pool: the squeeze of BAM's channel branch."""

from __future__ import annotations

import torch
from torch import Tensor

from bam_fused import ops
from bam_fused.backends import eager
from bam_fused.checks import check_feature_map
from bam_fused.functional.tracing import wants_standard_operators


def global_avg_pool(x: Tensor) -> Tensor:
    """The mean of every channel over H and W.

    Args:
        x: the feature map (N, C, H, W), float32, bfloat16, float16 or float64, in any layout; contiguous and
            channels_last run at full speed.

    Returns:
        (N, C) in x's dtype, accumulated in at least float32.

    Raises:
        TypeError, ValueError: x is not a dense floating-point tensor of four dimensions.
        BackendUnavailable: the backend chosen with `use_backend` cannot run on x's device.

    The gradient is handed on as a broadcast view (stride 0 over H and W), so the backward moves no feature map. Source:
    the average pooling of Park et al., "BAM: Bottleneck Attention Module", BMVC 2018, section 3.1.
    """
    if torch.compiler.is_compiling():
        check_feature_map("x", x)
    if wants_standard_operators():
        return eager.global_avg_pool(x)
    try:
        return ops.global_avg_pool(x)
    except Exception:
        check_feature_map("x", x)
        raise
