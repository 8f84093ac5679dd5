"""The training step of a whole BAM as one node of autograd's graph: `two_passes` whose branches are operators, too.

On small maps a training step is mostly the nodes, modules and tensors that PyTorch makes for it. Here its forward is four
operators, squeeze, branches and gate, and so is its backward, in two passes over the feature map.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from bam_fused import backends, reference
from bam_fused.backends import Choice
from bam_fused.functional.branches import logits
from bam_fused.functional.squeeze import squeeze_grads
from bam_fused.ops.widen import compute_dtype


class Layers(NamedTuple):
    """What describes the layers, as in branches.py."""

    layers: list[int]
    channel_layers: int
    dilations: list[int]
    eps: list[float]
    reduction_bias: int | None
    """Its place among the tensors."""


def training_step(
    x: Tensor, weight: Tensor, tensors: list[Tensor], layers: Layers, combine: str
) -> tuple[Tensor, Tensor]:
    """The output of a BAM, and what its norms over the batch measured: means and unbiased variances, [2, channels], float64.

    x (N, C, H, W); weight (R, C, 1, 1) of the reduction; tensors and layers as `branches` takes them. Not for traced or
    transformed code.
    """
    out, statistics = _Step.apply(backends.current(), combine, layers, x, weight, *tensors)
    return out, statistics


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, choice: Choice, combine: str, layers: Layers, x: Tensor, weight: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        bias = None if layers.reduction_bias is None else tensors[layers.reduction_bias]
        pooled, reduced = backends.run("squeeze", x, weight, bias, True, choice=choice)
        channel_logits, spatial_logits, saved, statistics = backends.run(
            "branches", pooled, reduced, tensors, *layers[:4], choice=choice
        )
        out = backends.run("gate", x, channel_logits, spatial_logits, combine, choice=choice)
        ctx.save_for_backward(x, weight, pooled, reduced, channel_logits, spatial_logits, saved, *tensors)
        ctx.choice, ctx.combine, ctx.layers = choice, combine, layers
        ctx.mark_non_differentiable(statistics)
        ctx.set_materialize_grads(False)
        return out, statistics

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, pooled, reduced, channel_logits, spatial_logits, saved, *tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[3:]
        if grad is None:
            return (None,) * (3 + len(wanted))
        if torch.is_grad_enabled():
            ctx.choice.refuse("branches", "a second derivative takes formulas that can be differentiated again")
            return None, None, None, *_differentiable_grads(ctx, grad, wanted, [x, weight, *tensors])
        gate = (grad, channel_logits, spatial_logits, ctx.combine)
        logit_grads = backends.run("gate_logit_grads", grad, x, *gate[1:], choice=ctx.choice)
        pooled_grad, reduced_grad, found = backends.run(
            "branches_backward", *logit_grads, pooled, reduced, saved, tensors, *ctx.layers[:4], wanted[2:],
            choice=ctx.choice,
        )  # fmt: skip
        dx, dweight, _ = squeeze_grads(ctx.choice, (*wanted[:2], False), x, weight, pooled_grad, reduced_grad, *gate)
        gradients = (
            gradient.to(tensor.dtype) if is_wanted else None
            for gradient, tensor, is_wanted in zip(found, tensors, wanted[2:], strict=True)
        )
        return None, None, None, dx, dweight, *gradients


def _differentiable_grads(
    ctx: Any, grad: Tensor, wanted: tuple[bool, ...], given: list[Tensor]
) -> tuple[Tensor | None, ...]:
    """The same by PyTorch's operators, from the beginning, so that autograd can go through them again."""
    x, weight, *tensors = inputs = [t.view_as(t) for t in given]  # one may depend on another: not through these
    wide, layers = compute_dtype(x), ctx.layers
    bias = None if layers.reduction_bias is None else tensors[layers.reduction_bias].to(wide)
    pooled, reduced = reference.squeeze(x.to(wide), weight.to(wide), bias)
    channel, spatial, _ = logits(pooled, reduced, tensors, *layers[:4])
    out = reference.gate(x.to(wide), channel, spatial, ctx.combine).to(x.dtype)
    asked = [t for t, is_wanted in zip(inputs, wanted, strict=True) if is_wanted]
    found = iter(torch.autograd.grad(out, asked, grad, create_graph=True, allow_unused=True))
    return tuple(next(found) if is_wanted else None for is_wanted in wanted)
