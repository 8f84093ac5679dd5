"""branches_backward: the gradients of both branches, from the logits back, over what `branches` has kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bam_fused.backends import eager
from bam_fused.backends.triton.branches import Branch, given, read
from bam_fused.backends.triton.dilated_conv import convolve
from bam_fused.backends.triton.dilated_conv_weight_grad import dilated_conv_weight_grad
from bam_fused.backends.triton.layers import layer
from bam_fused.backends.triton.norms import differentiate
from bam_fused.functional.bam import AFFINE, BIAS, NORM
from bam_fused.functional.branches import BATCH
from bam_fused.ops.widen import compute_dtype

Found = dict[str, Tensor]
"""Gradients of one layer's tensors, by name."""


def branches_backward(
    channel_grad: Tensor,
    spatial_grad: Tensor,
    pooled: Tensor,
    reduced: Tensor,
    saved: Tensor,
    tensors: Sequence[Tensor],
    layers: Sequence[int],
    channel_layers: int,
    dilations: Sequence[int],
    eps: Sequence[float],
    wanted: Sequence[int],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The gradients of pooled vector, reduction and tensors, by Triton; arguments and results as of the operator."""
    description = layers, channel_layers, dilations, eps
    if reduced.numel() == 0:
        arguments = (channel_grad, spatial_grad, pooled, reduced, saved, tensors, *description, wanted)
        plain: tuple[Tensor, Tensor, list[Tensor]] = eager.kernel("branches_backward")(*arguments)
        return plain
    wide = compute_dtype(pooled)
    pooled = pooled.to(wide).contiguous()
    reduced = reduced.to(wide).contiguous(memory_format=torch.channels_last)
    every = read(pooled, reduced, saved, tensors, *description)
    gradients: list[Found] = [{} for _ in every]
    pooled_grad = _through_channel(every[:channel_layers], gradients, channel_grad.to(wide), pooled)
    reduced_grad = torch.empty_like(reduced)
    _through_spatial(every[channel_layers:], gradients[channel_layers:], spatial_grad.to(wide), reduced, reduced_grad)
    found = [pooled.new_empty(0)] * len(tensors)
    for branch, its in zip(every, gradients, strict=True):
        for name, place in branch.places.items():
            if wanted[place] and name in its:
                gradient, shape = its[name], tensors[place].shape
                found[place] = gradient if gradient.shape == shape else gradient.reshape(shape)
    return pooled_grad, reduced_grad, found


def _through_channel(branches: list[Branch], gradients: list[Found], grad: Tensor, pooled: Tensor) -> Tensor:
    """From the channel logits' gradient (N, C) to the pooled vector's. Its products are too small for kernels of our own."""
    for i in reversed(range(len(branches))):
        branch = branches[i]
        if branch.before is None:
            gradients[i]["bias"] = grad.sum(0)
        else:
            out = torch.empty_like(branch.before)
            gradients[i] |= _of_norm(branch, differentiate(grad.contiguous(), None, branch.before, branch.norm, out))
            grad = out
        assert branch.weight is not None
        features = pooled if i == 0 else given(branches[i - 1], pooled.shape, pooled.dtype)
        gradients[i]["weight"] = grad.t() @ features
        grad = grad @ branch.weight.flatten(1).to(grad.dtype)
    return grad


def _through_spatial(
    branches: list[Branch], gradients: list[Found], grad: Tensor, reduced: Tensor, reduced_grad: Tensor
) -> None:
    """From the spatial logits' gradient (N, 1, H, W) to the reduction's, which is written."""
    last = branches[-1].weight
    assert last is not None
    outer: Tensor | None = last.flatten().contiguous()
    features_grad = grad.contiguous()
    if branches[-1].before is not None:
        out = torch.empty_like(branches[-1].before)
        sums = differentiate(features_grad, None, branches[-1].before, branches[-1].norm, out)
        gradients[-1] |= _of_norm(branches[-1], sums)
        features_grad = out
    for i in reversed(range(len(branches) - 1)):
        branch, dtype = branches[i], last.dtype
        assert branch.before is not None
        channels = branch.before.shape[1]
        shape = (reduced.shape[0], channels, *reduced.shape[2:])
        out = reduced_grad
        if i > 0:
            out = torch.empty(shape, dtype=dtype, device=reduced.device, memory_format=torch.channels_last)
        sums = differentiate(features_grad, outer, branch.before, branch.norm, out)
        gradients[i] |= _of_norm(branch, sums)
        if outer is not None:
            gradients[-1]["weight"] = sums[2]
            gradients[-1].setdefault("bias", sums[3, :1])
            outer = None
        if i > 0:
            assert branch.weight is not None
            inner = given(branches[i - 1], reduced.shape, dtype)
            gradients[i]["weight"] = dilated_conv_weight_grad(inner, out, branch.dilation)
            turned = branch.weight.flip(2, 3).transpose(0, 1)
            features_grad = torch.empty_like(inner)
            convolve(out, layer(turned), branch.dilation, features_grad)


def _of_norm(branch: Branch, sums: Tensor) -> Found:
    """The gradients of a norm's gain and offset and of the bias in front of it, by the gradient's sums."""
    has = branch.norm.has
    found = {}
    if has & AFFINE:
        found = {"offset": sums[0], "gain": sums[1]}
    if has & BIAS:
        found["bias"] = sums[0]
        if has & NORM:
            found["bias"] = sums[0] * branch.norm.deviation * (branch.norm.gain if has & AFFINE else 1)
        if has & BATCH:  # the norm takes its mean out again
            found["bias"] = torch.zeros_like(sums[0])
    return found
