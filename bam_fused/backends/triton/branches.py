"""branches: both branches of a training step, layer by layer, their features in front of each norm kept for the backward.

Products are taken in the weights' dtype, all else in the compute type.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bam_fused.backends import eager
from bam_fused.backends.triton.dense import dense
from bam_fused.backends.triton.dilated_conv import convolve
from bam_fused.backends.triton.layers import Layer, layer
from bam_fused.backends.triton.norms import Norm, measure, normalise
from bam_fused.functional.bam import AFFINE, NORM, RELU
from bam_fused.functional.branches import BATCH, places_kept, places_of
from bam_fused.ops.widen import compute_dtype


@dataclass
class Branch:
    """One layer of a branch: its tensors, what follows it, and what is kept of it."""

    weight: Tensor | None
    """None of the reduction, which has been done."""
    bias: Tensor | None
    norm: Norm
    eps: float
    dilation: int
    places: dict[str, int]
    """Where weight, bias, gain and offset are among all tensors."""
    running: tuple[Tensor, Tensor] | None
    """Mean and variance of a norm that does not take the batch's."""
    before: Tensor | None
    """(rows, outputs), in front of the norm and ReLU; None of the last layer of a branch that ends in a product."""

    @property
    def product(self) -> Layer:
        """The layer without what follows it."""
        assert self.weight is not None
        return layer(self.weight, self.bias)


PARTS = 5  # of what is kept of a layer: features, a gap, mean, deviation, what Triton does not use


class Settled(NamedTuple):
    """What is the same of a layer in every call with tensors of the same shapes."""

    has: int
    eps: float
    dilation: int
    places: dict[str, int]
    outputs: int
    rows: int
    """Of its features where they are kept, else 0."""


@functools.lru_cache(maxsize=1024)
def settle(
    pooled: torch.Size,
    reduced: torch.Size,
    shapes: tuple[torch.Size, ...],
    wide: torch.dtype,
    layers: tuple[int, ...],
    channel_layers: int,
    dilations: tuple[int, ...],
    eps: tuple[float, ...],
) -> tuple[list[Settled], list[int]]:
    """The layers for tensors of these shapes in this compute type, and how what is kept is cut, `PARTS` for each of them."""
    like = [torch.empty(shape, dtype=wide, device="meta") for shape in (pooled, reduced, *shapes)]
    kept, total = places_kept(like[0], like[1], like[2:], layers, channel_layers)
    n, reductions, h, w = reduced
    found, cuts = [], []
    for i, (has, places) in enumerate(zip(layers, places_of(layers, channel_layers), strict=True)):
        outputs = shapes[places["weight"]][0] if "weight" in places else reductions
        features, vectors = kept[i]
        rows = (n if i < channel_layers else n * h * w) if vectors > features else 0
        hidden = channel_layers < i < len(layers) - 1
        dilation = dilations[i - channel_layers - 1] if hidden else 1
        found.append(Settled(has, eps[i], dilation, places, outputs, rows))
        cuts += [features, features + rows * outputs, *(vectors + k * outputs for k in range(3))]
    return found, [end - begin for begin, end in itertools.pairwise([*cuts, total])]


def settled_for(
    pooled: Tensor,
    reduced: Tensor,
    tensors: Sequence[Tensor],
    layers: Sequence[int],
    channel_layers: int,
    dilations: Sequence[int],
    eps: Sequence[float],
) -> tuple[list[Settled], list[int]]:
    """What is settled for the arguments of the operator, pooled vector and reduction in the compute type."""
    shapes = tuple([tensor.shape for tensor in tensors])
    description = tuple(layers), channel_layers, tuple(dilations), tuple(eps)
    return settle(pooled.shape, reduced.shape, shapes, pooled.dtype, *description)


def read(
    pooled: Tensor,
    reduced: Tensor,
    saved: Tensor,
    tensors: Sequence[Tensor],
    layers: Sequence[int],
    channel_layers: int,
    dilations: Sequence[int],
    eps: Sequence[float],
) -> list[Branch]:
    """The layers from the arguments of the operator."""
    settled, sizes = settled_for(pooled, reduced, tensors, layers, channel_layers, dilations, eps)
    parts = torch.split_with_sizes(saved, sizes)
    found = []
    for i, (has, smallest, dilation, places, outputs, rows) in enumerate(settled):
        own = {name: tensors[at] for name, at in places.items()}
        features, _, mean, deviation, _ = parts[i * PARTS : (i + 1) * PARTS]
        gain, offset = (own["gain"].contiguous(), own["offset"].contiguous()) if has & AFFINE else (mean, mean)
        before: Tensor | None = None
        if i == channel_layers:
            before = reduced.permute(0, 2, 3, 1).view(-1, outputs)
        elif rows:
            before = features.view(rows, outputs)
        running = (own["mean"], own["variance"]) if has & NORM else None
        norm = Norm(has, mean, deviation, gain, offset)
        found.append(Branch(own.get("weight"), own.get("bias"), norm, smallest, dilation, places, running, before))
    return found


def given(branch: Branch, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """What the layer behind is given, in this dtype: (rows, outputs) or, seen so, (N, outputs, H, W), channels_last."""
    before = branch.before
    assert before is not None
    if branch.norm.has & (NORM | BATCH | RELU) or before.dtype != dtype:
        before = normalise(before, branch.norm, torch.empty(before.shape, dtype=dtype, device=before.device))
    return as_map(before, shape)


def as_map(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Rows of features as a channels_last map of N, H and W from a shape; as they are where that has no H and W."""
    if len(shape) == 2:
        return rows
    n, _, h, w = shape
    return rows.view(n, h, w, rows.shape[1]).permute(0, 3, 1, 2)


def branches(
    pooled: Tensor,
    reduced: Tensor,
    tensors: Sequence[Tensor],
    layers: Sequence[int],
    channel_layers: int,
    dilations: Sequence[int],
    eps: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, what is kept and the batch's statistics, by Triton; arguments and results as of the operator."""
    description = layers, channel_layers, dilations, eps
    if reduced.numel() == 0:
        found: tuple[Tensor, Tensor, Tensor, Tensor] = eager.kernel("branches")(pooled, reduced, tensors, *description)
        return found
    n, _, h, w = reduced.shape
    wide = compute_dtype(pooled)
    pooled = pooled.to(wide).contiguous()
    reduced = reduced.to(wide).contiguous(memory_format=torch.channels_last)
    saved = pooled.new_empty(sum(settled_for(pooled, reduced, tensors, *description)[1]))
    every = read(pooled, reduced, saved, tensors, *description)
    measured = sum(branch.norm.mean.numel() for branch in every if branch.norm.has & BATCH)
    statistics = pooled.new_empty((2, measured), dtype=torch.float64)
    channel, spatial = every[:channel_layers], every[channel_layers:]

    features, begin = pooled, 0
    for branch in channel:
        out = pooled.new_empty(pooled.shape) if branch.before is None else branch.before
        dense(features, branch.product, out)
        begin = _settle(branch, statistics, begin)
        features = out if branch.before is None else given(branch, out.shape, wide)
    channel_logits, spatial_logits = features, pooled.new_empty((n, 1, h, w))

    begin = _settle(spatial[0], statistics, begin)
    for branch, behind in itertools.pairwise(spatial):
        assert behind.weight is not None
        features = given(branch, reduced.shape, behind.weight.dtype)
        out = spatial_logits if behind.before is None else as_map(behind.before, reduced.shape)
        convolve(features, behind.product, behind.dilation, out)
        begin = _settle(behind, statistics, begin)
    if spatial[-1].before is not None:
        normalise(spatial[-1].before, spatial[-1].norm, spatial_logits)
    return channel_logits, spatial_logits, saved, statistics


def _settle(branch: Branch, statistics: Tensor, begin: int) -> int:
    """Have a norm's vectors written; where the next one's statistics begin."""
    has, mean = branch.norm.has, branch.norm.mean
    if has & BATCH:
        assert branch.before is not None
        end = begin + mean.numel()
        measure(branch.before, branch.norm, branch.eps, statistics[:, begin:end])
        return end
    if branch.running is not None:
        running_mean, variance = branch.running
        mean.copy_(running_mean)
        branch.norm.deviation.copy_((variance.to(mean.dtype) + branch.eps).rsqrt())
    return begin
