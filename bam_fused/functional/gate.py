"""gate: the fused end of BAM."""

from __future__ import annotations

import torch
from torch import Tensor

from bam_fused import ops
from bam_fused.backends import eager
from bam_fused.checks import check_gate
from bam_fused.functional.tracing import wants_standard_operators


def gate(x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str = "sum") -> Tensor:
    """BAM's gate in one pass over x: ``x + x * sigmoid(combine(channel_logits, spatial_logits))``.

    Args:
        x: the feature map (N, C, H, W), float32, bfloat16, float16 or float64. Contiguous and channels_last run at full
            speed; other layouts are correct.
        channel_logits: (N, C) or (N, C, 1, 1), in x's dtype or float32 (what autocast leaves), any strides.
        spatial_logits: (N, H, W) or (N, 1, H, W), likewise.
        combine: "sum" (the paper, equation 2), "product" (the authors' code and their checkpoints) or "max" (the
            paper's ablation, table 1b).

    Returns:
        A tensor of x's shape, dtype and memory format, computed in at least float32 and rounded once.

    Raises:
        TypeError: an argument is not a dense tensor of one of these dtypes, or combine is not a string.
        ValueError: a shape or device does not fit x, or combine is unknown.
        BackendUnavailable: the backend chosen with `use_backend` cannot run on x's device.

    The backward is one pass as well (reads grad and x, writes dx, reduces both logits' gradients), bit-for-bit
    reproducible, and can be differentiated again; of x's size it keeps x alone. Source: Park et al., "BAM: Bottleneck
    Attention Module", BMVC 2018, equations 1 and 2.
    """
    if torch.compiler.is_compiling():
        check_gate(x, channel_logits, spatial_logits, combine)
    if wants_standard_operators():
        return eager.gate(x, channel_logits, spatial_logits, combine)
    try:
        return ops.gate(x, channel_logits, spatial_logits, combine)
    except Exception:
        check_gate(x, channel_logits, spatial_logits, combine)
        raise
