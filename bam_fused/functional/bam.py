"""bam: a whole BAM in inference as one operator, made of tensors alone. `BAM` and replaced modules call it by themselves.

Its arguments describe the layers of the channel branch, then those of the spatial branch (1x1, dilated 3x3 each with as much
padding, 1x1 to one channel); either branch may be missing. `layers` holds one number for each, the sum of what it has beside
its weight: `BIAS`; `NORM`, a BatchNorm's running mean and variance; `AFFINE`, that norm's weight and bias; `RELU`. `tensors`
holds each layer's weight and these, in this order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bam_fused import reference
from bam_fused.checks import check_combine, check_feature_map
from bam_fused.ops import define
from bam_fused.ops.widen import compute_dtype

BIAS, NORM, AFFINE, RELU = 1, 2, 4, 8


def _check(
    x: Tensor,
    tensors: Sequence[Tensor],
    layers: Sequence[int],
    channel_layers: int,
    dilations: Sequence[int],
    eps: Sequence[float],
    combine: str,
    crops: bool,
) -> None:
    check_feature_map("x", x)
    check_combine(combine)
    expected = sum(1 + bool(has & BIAS) + 2 * bool(has & NORM) + 2 * bool(has & AFFINE) for has in layers)
    if len(tensors) != expected:
        raise ValueError(f"tensors must be {expected} for these layers, got {len(tensors)}")
    spatial_layers = len(layers) - channel_layers
    if len(eps) != len(layers) or len(dilations) != max(0, spatial_layers - 2) or spatial_layers == 1:
        raise ValueError(
            f"layers, eps and dilations do not fit each other: {len(layers)}, {len(eps)} and {len(dilations)} for "
            f"{channel_layers} layers in the channel branch"
        )


def _plain(
    x: Tensor,
    tensors: Sequence[Tensor],
    layers: Sequence[int],
    channel_layers: int,
    dilations: Sequence[int],
    eps: Sequence[float],
    combine: str,
    crops: bool,
) -> Tensor:
    wide = x.to(compute_dtype(x))
    n, c, h, w = x.shape
    remaining = iter(tensor.to(wide.dtype) for tensor in tensors)
    channel = wide[..., :h].mean((2, 3), keepdim=True) if crops else wide.mean((2, 3), keepdim=True)
    spatial = wide
    for i in range(channel_layers):
        channel = _layer(channel, remaining, layers[i], eps[i], 1)
    for i, dilation in enumerate((1, *dilations, 1)[: len(layers) - channel_layers], channel_layers):
        spatial = _layer(spatial, remaining, layers[i], eps[i], dilation)
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
    check=_check,
    fake=lambda x, *_: torch.empty_like(x),
    plain=_plain,
    backends=("cpu",),
)
