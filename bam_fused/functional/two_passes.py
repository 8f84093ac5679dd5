"""The training step of a whole BAM, whose backward passes twice over the feature map.

x is used twice, by the squeeze and by the gate, and its gradient is the sum of what both send back. The first pass, behind
the gate, reads its gradient g and x and only reduces the logits' gradients. Once the branches' own backward is through, the
second writes x's gradient, g * (1 + attention) + W^T d_reduced + d_pooled / (H * W).

What the second pass needs of the first travels as gradients do. The squeeze also returns three *carriers*, stand-ins without
memory for x and for both logits, which the gate takes and does not read. As their "gradients" the gate hands back g and the
logits, and autograd brings them to the squeeze's backward; a carrier has one consumer, so nothing is ever added to it. So
nothing is kept beside the graph, and what holds for saved tensors (checkpoints, hooks on them, a graph kept for another
backward, threads) holds here. A backward that is to be differentiated again sends no carriers: gate and squeeze each compute
the gradient of their own use of x by formulas that can be differentiated, and autograd adds them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bam_fused import backends
from bam_fused.backends import Choice
from bam_fused.functional.attend import mended_logits
from bam_fused.functional.squeeze import squeeze_grads
from bam_fused.ops import run_backward
from bam_fused.ops.widen import compute_dtype

Branches = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""The pooled vector (N, C) and the reduced map (N, R, H, W) in, channel and spatial logits out, as `attend` takes them."""


def two_passes(x: Tensor, weight: Tensor, bias: Tensor | None, branches: Branches, combine: str) -> Tensor:
    """``gate(x, *branches(*squeeze(x, weight, bias)), combine)``, its backward in two passes over the feature map.

    x, weight and bias as `squeeze` takes them. Not for traced or transformed code (torch.export, torch.func, forward mode).
    """
    choice = backends.current()
    pooled, reduced, *carriers = CarryingSqueeze.apply(choice, x, weight, bias, combine, False)
    channel_logits, spatial_logits = mended_logits(x, *branches(pooled, reduced))
    out: Tensor = _Gate.apply(choice, x, channel_logits, spatial_logits, *carriers, combine)
    return out


class CarryingSqueeze(torch.autograd.Function):
    """`squeeze`, with `features` as its operator takes it, and the three carriers."""

    @staticmethod
    def forward(
        ctx: Any, choice: Choice, x: Tensor, weight: Tensor, bias: Tensor | None, combine: str, features: bool
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, weight)
        ctx.choice, ctx.combine = choice, combine
        ctx.set_materialize_grads(False)
        pooled, reduced = backends.run("squeeze", x, weight, bias, features, choice=choice)
        n, c, h, w = x.shape
        wide = x.new_empty((), dtype=compute_dtype(x))  # nobody reads it, and a device takes its time to fill it
        return pooled, reduced, x.new_empty(()).expand(n, c, h, w), wide.expand(n, c), wide.expand(n, 1, h, w)

    @staticmethod
    def backward(ctx: Any, pooled: Tensor | None, reduced: Tensor | None, *carried: Tensor | None) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        n, c, h, w = x.shape
        pooled = x.new_zeros((n, c)) if pooled is None else pooled
        reduced = x.new_zeros((n, weight.shape[0], h, w)) if reduced is None else reduced
        wanted = ctx.needs_input_grad[1:4]
        return None, *squeeze_grads(ctx.choice, wanted, x, weight, pooled, reduced, *carried, ctx.combine), None, None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, choice: Choice, x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, carrier_of_x: Tensor,
        carrier_of_channel: Tensor, carrier_of_spatial: Tensor, combine: str,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, channel_logits, spatial_logits)
        ctx.choice, ctx.combine = choice, combine
        out: Tensor = backends.run("gate", x, channel_logits, spatial_logits, combine, choice=choice)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, channel_logits, spatial_logits = ctx.saved_tensors
        arguments = (grad, x, channel_logits, spatial_logits, ctx.combine)
        if torch.is_grad_enabled():
            return None, *run_backward("gate_backward", ctx.choice, *arguments), None, None, None, None
        dchannel, dspatial = run_backward("gate_logit_grads", ctx.choice, *arguments)
        if not (ctx.needs_input_grad[1] and ctx.needs_input_grad[4]):  # nobody asks for x's gradient
            return None, None, dchannel, dspatial, None, None, None, None
        wide, (n, _, h, w) = compute_dtype(x), x.shape
        channel, spatial = channel_logits.to(wide).flatten(1), spatial_logits.to(wide).reshape(n, 1, h, w)
        return None, None, dchannel, dspatial, grad, channel, spatial, None
