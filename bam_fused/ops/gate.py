"""gate: x + x * sigmoid(combine(channel_logits, spatial_logits)), and its backward, as operators.

The backward makes one pass: it reads grad and x, writes dx, and reduces the gradients of both logits on the way. Nothing
the size of x is kept for it but x itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bam_fused import backends
from bam_fused.backends import eager
from bam_fused.checks import check_gate
from bam_fused.ops.library import define


def _gate_fake(x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str) -> Tensor:
    check_gate(x, channel_logits, spatial_logits, combine)
    return torch.empty_like(x)


def _gate_backward_fake(
    grad: Tensor, x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str
) -> tuple[Tensor, Tensor, Tensor]:
    check_gate(x, channel_logits, spatial_logits, combine)
    dchannel, dspatial = (logits.new_empty(logits.shape) for logits in (channel_logits, spatial_logits))
    return torch.empty_like(x), dchannel, dspatial


define(
    "gate",
    "(Tensor x, Tensor channel_logits, Tensor spatial_logits, str combine) -> Tensor",
    fake=_gate_fake,
    eager=eager.gate,
)
define(
    "gate_backward",
    "(Tensor grad, Tensor x, Tensor channel_logits, Tensor spatial_logits, str combine) -> (Tensor, Tensor, Tensor)",
    fake=_gate_backward_fake,
    eager=eager.gate_backward,
)


class Gate(torch.autograd.Function):
    """Autograd around the plain operators."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str) -> Tensor:
        ctx.save_for_backward(x, channel_logits, spatial_logits)
        ctx.combine = combine
        return backends.run("gate", x, channel_logits, spatial_logits, combine)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        arguments = (grad, *ctx.saved_tensors, ctx.combine)
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return *eager.gate_backward(*arguments), None  # formulas that can be differentiated again
        return *backends.run("gate_backward", *arguments), None


def gate(x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str) -> Tensor:
    """The gate on the selected backend, with autograd where a gradient is wanted."""
    wanted = torch.is_grad_enabled() and (
        x.requires_grad or channel_logits.requires_grad or spatial_logits.requires_grad
    )
    if wanted and backends.select("gate", x.device) is not eager.gate:
        return Gate.apply(x, channel_logits, spatial_logits, combine)
    return backends.run("gate", x, channel_logits, spatial_logits, combine)
