"""A plan run layer by layer: the module's own children, this package's pool and gate."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bam_fused.composition.plan import ATTENDED, RELU, Layer, Plan, child
from bam_fused.functional.attend import attend, left_crop
from bam_fused.functional.global_avg_pool import global_avg_pool


def run(module: nn.Module, plan: Plan, x: Tensor) -> Any:
    """The forward of a BAM by its plan: x (N, C, H, W) in, F' out, or what else `plan.returns` names."""
    channel, spatial = logits(module, plan, x)
    out = tuple(
        finish(module, plan, x if what == ATTENDED else torch.ones_like(x), channel, spatial) for what in plan.returns
    )
    return out[0] if len(out) == 1 else out


def logits(module: nn.Module, plan: Plan, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Channel logits (N, C) and spatial logits (N, 1, H, W); None for a branch that is not there."""
    channel = channel_logits(module, plan, x) if plan.channel else None
    return channel, spatial_logits(module, plan, x) if plan.spatial else None


def channel_logits(module: nn.Module, plan: Plan, x: Tensor) -> Tensor:
    """The channel branch: pool, then its layers; (N, C)."""
    pooled = global_avg_pool(left_crop(x) if plan.crops else x)
    return _through(module, plan.channel, pooled[:, :, None, None] if plan.convolves else pooled).flatten(1)


def spatial_logits(module: nn.Module, plan: Plan, x: Tensor) -> Tensor:
    """The spatial branch's layers; (N, 1, H, W), smaller where the padding is below the dilation and nothing resizes."""
    out = _through(module, plan.spatial, x)
    return F.interpolate(out, x.shape[2:], mode="bilinear") if plan.resizes else out


def finish(module: nn.Module, plan: Plan, x: Tensor, channel: Tensor | None, spatial: Tensor | None) -> Tensor:
    """F' from x and the logits of both branches; one that is not there adds nothing."""
    n, c, h, w = x.shape
    combine = "sum" if channel is None or spatial is None else plan.combine
    zero = x.new_zeros(()) if channel is None or spatial is None else x
    out = attend(
        x,
        zero.expand(n, c) if channel is None else channel,
        zero.expand(n, 1, h, w) if spatial is None else spatial,
        combine,
    )
    if plan.scales:
        out = torch.lerp(x, out, module._parameters["residual_scale"].to(x.dtype))  # type: ignore[union-attr]
    return out


def _through(module: nn.Module, layers: tuple[Layer, ...], features: Tensor) -> Tensor:
    for weight, norm, activation in layers:
        features = child(module, weight)(features)
        if norm is not None:
            features = child(module, norm)(features)
        if activation == RELU:
            features = F.relu(features)
        elif activation is not None:
            features = child(module, activation)(features)
    return features
