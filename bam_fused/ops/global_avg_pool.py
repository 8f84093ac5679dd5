"""global_avg_pool: the mean over H and W, as an operator.

Its backward needs no kernel: the gradient of every pixel is grad / (H * W), so it is handed on as a broadcast view that
whoever consumes it reads at no cost, where a kernel would write and the consumer read one full feature map.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bam_fused import backends
from bam_fused.backends import eager
from bam_fused.checks import check_feature_map
from bam_fused.ops.library import define


def _global_avg_pool_fake(x: Tensor) -> Tensor:
    check_feature_map("x", x)
    return x.new_empty(x.shape[:2])


define("global_avg_pool", "(Tensor x) -> Tensor", fake=_global_avg_pool_fake, eager=eager.global_avg_pool)


class GlobalAvgPool(torch.autograd.Function):
    """Autograd around the plain operator."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return backends.run("global_avg_pool", x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        n, c, h, w = ctx.shape
        return (grad / (h * w)).reshape(n, c, 1, 1).expand(n, c, h, w)


def global_avg_pool(x: Tensor) -> Tensor:
    """The pool on the selected backend, with autograd where a gradient is wanted."""
    wanted = torch.is_grad_enabled() and x.requires_grad
    if wanted and backends.select("global_avg_pool", x.device) is not eager.global_avg_pool:
        return GlobalAvgPool.apply(x)
    return backends.run("global_avg_pool", x)
