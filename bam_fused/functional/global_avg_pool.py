"""global_avg_pool: the squeeze of BAM's channel branch, the mean over H and W.

Its backward needs no kernel: the gradient of every pixel is grad / (H * W), so it is handed on as a broadcast view that
whoever consumes it reads at no cost, where a kernel would write and the consumer read one full feature map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bam_fused import reference
from bam_fused.backends import Choice
from bam_fused.checks import check_feature_map
from bam_fused.functional.recorded import Proxy, recorded
from bam_fused.ops import define


class _GlobalAvgPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel: Callable[..., Any], choice: Choice, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return kernel(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor]:
        n, c, h, w = ctx.shape
        return None, None, (grad / (h * w)).reshape(n, c, 1, 1).expand(n, c, h, w)


_global_avg_pool = define(
    "global_avg_pool",
    "(Tensor x) -> Tensor",
    check=lambda x: check_feature_map("x", x),
    fake=lambda x: x.new_empty(x.shape[:2]),
    plain=reference.global_avg_pool,  # `mean` already accumulates in at least float32
    autograd=_GlobalAvgPool,
)


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
    if isinstance(x, Proxy):
        return recorded(global_avg_pool, x)
    return _global_avg_pool(x)
