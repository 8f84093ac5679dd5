"""The training step of a whole BAM as two nodes of autograd's graph: `two_passes` whose branches are operators, too.

On small maps a training step is mostly the nodes, modules and tensors that PyTorch makes for it. Here its forward is three
operators, squeeze, branches and gate, and its backward goes over the feature map twice. The squeeze is a node by itself, so
that by the time it writes x's gradient autograd has let go of all that the branches kept.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor

from bam_fused import backends, reference
from bam_fused.backends import Choice
from bam_fused.functional.branches import logits
from bam_fused.functional.two_passes import CarryingSqueeze
from bam_fused.ops.widen import compute_dtype


class Layers(NamedTuple):
    """What describes the layers, as in branches.py."""

    layers: list[int]
    channel_layers: int
    dilations: list[int]
    eps: list[float]


def training_step(
    x: Tensor, weight: Tensor, bias: Tensor | None, tensors: list[Tensor], layers: Layers, combine: str
) -> tuple[Tensor, Tensor]:
    """The output of a BAM, and what its norms over the batch measured: means and unbiased variances, [2, channels], float64.

    x (N, C, H, W); weight (R, C, 1, 1) and bias (R,) of the reduction; tensors and layers as `branches` takes them. Not for
    traced or transformed code.
    """
    choice = backends.current()
    squeezed = CarryingSqueeze.apply(choice, x, weight, bias, combine, True)
    out, statistics = _BranchesAndGate.apply(choice, combine, layers, x, *squeezed, *tensors)
    return out, statistics


class _BranchesAndGate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, choice: Choice, combine: str, layers: Layers, x: Tensor, pooled: Tensor, reduced: Tensor,
        carrier_of_x: Tensor, carrier_of_channel: Tensor, carrier_of_spatial: Tensor, *tensors: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        channel_logits, spatial_logits, saved, statistics = backends.run(
            "branches", pooled, reduced, tensors, *layers, choice=choice
        )
        out = backends.run("gate", x, channel_logits, spatial_logits, combine, choice=choice)
        ctx.save_for_backward(x, pooled, reduced, channel_logits, spatial_logits, saved, *tensors)
        ctx.choice, ctx.combine, ctx.layers = choice, combine, layers
        ctx.mark_non_differentiable(statistics)
        ctx.set_materialize_grads(False)
        return out, statistics

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
        x, pooled, reduced, channel_logits, spatial_logits, saved, *tensors = ctx.saved_tensors
        _, _, _, of_x, of_pooled, of_reduced, carries, _, _, *of_tensors = ctx.needs_input_grad
        if grad is None:
            return (None,) * len(ctx.needs_input_grad)
        if torch.is_grad_enabled() or is_legacy_batchedtensor(grad):
            why = "a second derivative and gradients in a batch take formulas that can be differentiated again"
            ctx.choice.refuse("branches", why)
            wanted = (of_x, of_pooled, of_reduced, *of_tensors)
            dx, dpooled, dreduced, *found = _differentiable_grads(ctx, grad, wanted, [x, pooled, reduced, *tensors])
            return None, None, None, dx, dpooled, dreduced, None, None, None, *found
        logit_grads = backends.run(
            "gate_logit_grads", grad, x, channel_logits, spatial_logits, ctx.combine, choice=ctx.choice
        )
        dpooled, dreduced, found = backends.run(
            "branches_backward", *logit_grads, pooled, reduced, saved, tensors, *ctx.layers, of_tensors,
            choice=ctx.choice,
        )  # fmt: skip
        gradients = (
            gradient.to(tensor.dtype) if is_wanted else None
            for gradient, tensor, is_wanted in zip(found, tensors, of_tensors, strict=True)
        )
        carried = (grad, channel_logits, spatial_logits) if of_x and carries else (None, None, None)
        return None, None, None, None, dpooled, dreduced, *carried, *gradients


def _differentiable_grads(
    ctx: Any, grad: Tensor, wanted: tuple[bool, ...], given: list[Tensor]
) -> tuple[Tensor | None, ...]:
    """The same by PyTorch's operators, from the beginning; autograd can go through them again where it is to."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = [t.view_as(t) for t in given]  # one may depend on another: not through these
        x, pooled, reduced, *tensors = inputs
        channel, spatial, _ = logits(pooled, reduced, tensors, *ctx.layers)
        out = reference.gate(x.to(compute_dtype(x)), channel, spatial, ctx.combine).to(x.dtype)
        asked = [t for t, is_wanted in zip(inputs, wanted, strict=True) if is_wanted]
        found = iter(torch.autograd.grad(out, asked, grad, create_graph=again, allow_unused=True))
    return tuple(next(found) if is_wanted else None for is_wanted in wanted)
