"""bam: a whole BAM in inference as one operator, made of tensors alone. `BAM` and replaced modules call it by themselves.

Its arguments describe the layers of the channel branch, then those of the spatial branch (1x1, dilated 3x3 each with as much
padding, 1x1 to one channel); either branch may be missing. `layers` holds one number for each, the sum of what it has beside
its weight: `BIAS`; `NORM`, a BatchNorm's running mean and variance; `AFFINE`, that norm's weight and bias; `RELU`. `tensors`
holds each layer's weight and these, in this order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bam_fused import reference
from bam_fused.checks import check_combine, check_feature_map
from bam_fused.ops import define
from bam_fused.ops.widen import compute_dtype

BIAS, NORM, AFFINE, RELU = 1, 2, 4, 8


class _Call(NamedTuple):
    """The operator's arguments."""

    x: Tensor
    tensors: Sequence[Tensor]
    layers: Sequence[int]
    channel_layers: int
    dilations: Sequence[int]
    eps: Sequence[float]
    combine: str
    crops: bool


def _check(call: _Call) -> None:
    check_feature_map("x", call.x)
    check_combine(call.combine)
    expected = sum(1 + bool(has & BIAS) + 2 * bool(has & NORM) + 2 * bool(has & AFFINE) for has in call.layers)
    if len(call.tensors) != expected:
        raise ValueError(f"tensors must be {expected} for these layers, got {len(call.tensors)}")
    layers, eps, dilations = len(call.layers), len(call.eps), len(call.dilations)
    spatial_layers = layers - call.channel_layers
    if eps != layers or dilations != max(0, spatial_layers - 2) or spatial_layers == 1:
        raise ValueError(
            f"layers, eps and dilations must fit each other, got {layers}, {eps} and {dilations} for "
            f"{call.channel_layers} layers in the channel branch"
        )


def _plain(call: _Call) -> Tensor:
    x, layers, channel_layers, combine = call.x, call.layers, call.channel_layers, call.combine
    wide = x.to(compute_dtype(x))
    n, c, h, w = x.shape
    remaining = iter(tensor.to(wide.dtype) for tensor in call.tensors)
    pooled = wide[..., :h] if call.crops else wide
    channel, spatial = pooled.mean((2, 3), keepdim=True), wide
    for i in range(channel_layers):
        channel = _layer(channel, remaining, layers[i], call.eps[i], 1)
    for i, dilation in enumerate((1, *call.dilations, 1)[: len(layers) - channel_layers], channel_layers):
        spatial = _layer(spatial, remaining, layers[i], call.eps[i], dilation)
    if channel_layers == 0:
        channel, combine = wide.new_zeros((n, c)), "sum"
    if channel_layers == len(layers):
        spatial, combine = wide.new_zeros((n, 1, h, w)), "sum"
    return torch.empty_like(x).copy_(reference.gate(wide, channel, spatial, combine))


def _layer(features: Tensor, tensors: Iterator[Tensor], has: int, eps: float, dilation: int) -> Tensor:
    weight = next(tensors)
    bias = next(tensors) if has & BIAS else None
    weight = weight.reshape(*weight.shape[:2], *(weight.shape[2:] or (1, 1)))
    padding = dilation if weight.shape[-1] > 1 else 0
    features = F.conv2d(features, weight, bias, padding=padding, dilation=dilation)
    if has & NORM:
        mean, variance = next(tensors), next(tensors)
        gain, offset = (next(tensors), next(tensors)) if has & AFFINE else (None, None)
        features = F.batch_norm(features, mean, variance, gain, offset, eps=eps)
    return F.relu(features) if has & RELU else features


bam = define(
    "bam",
    "(Tensor x, Tensor[] tensors, int[] layers, int channel_layers, int[] dilations, float[] eps, str combine, bool crops)"
    " -> Tensor",
    check=lambda *arguments: _check(_Call(*arguments)),
    fake=lambda x, *_: torch.empty_like(x),
    plain=lambda *arguments: _plain(_Call(*arguments)),
    backends=("cpu", "triton"),
)
