"""The formulas of BAM in plain PyTorch, in any dtype: what every kernel is validated against.

Each function is differentiable and says nothing about speed. Source of the formulas: "BAM: Bottleneck Attention
Module" (Park, Woo, Lee, Kweon, BMVC 2018), equations 1 and 2; the authors' code multiplies the two branches instead of
adding them, and the paper's ablation (table 1b) also takes the maximum.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

COMBINES = ("sum", "product", "max")


def _broadcast(x: Tensor, channel_logits: Tensor, spatial_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Both logits as views that broadcast against x: (N, C, 1, 1) and (N, 1, H, W)."""
    n, c, h, w = x.shape
    return channel_logits.reshape(n, c, 1, 1), spatial_logits.reshape(n, 1, h, w)


def _combine(channel: Tensor, spatial: Tensor, combine: str) -> Tensor:
    if combine == "sum":
        return channel + spatial
    if combine == "product":
        return channel * spatial
    if combine == "max":
        return torch.maximum(channel, spatial)
    raise ValueError(f"combine must be one of {COMBINES}, got {combine!r}")


def gate(x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str = "sum") -> Tensor:
    """F' = F + F * sigmoid(combine(Mc, Ms)), the paper's equations 1 and 2.

    x (N, C, H, W); channel_logits (N, C) or (N, C, 1, 1); spatial_logits (N, H, W) or (N, 1, H, W).
    """
    return x + x * torch.sigmoid(_combine(*_broadcast(x, channel_logits, spatial_logits), combine))


def attention(channel_logits: Tensor, spatial_logits: Tensor, combine: str = "sum") -> Tensor:
    """sigmoid(combine(Mc, Ms)) of channel_logits (N, C, ...) and spatial_logits (N, 1, H, W) or (N, H, W): (N, C, H, W)."""
    n, c, *_ = channel_logits.shape
    spatial = spatial_logits.reshape(n, 1, *spatial_logits.shape[-2:])
    return torch.sigmoid(_combine(channel_logits.reshape(n, c, 1, 1), spatial, combine))


def gate_backward(
    grad: Tensor, x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str = "sum"
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `gate` in x, channel_logits and spatial_logits, written out so that they can be differentiated again.

    With s = sigmoid(z) and t = grad * x * s * (1 - s): dx = grad * (1 + s), and t flows to z, hence to both logits; under
    "max" it goes to the larger one, half to each where they are equal, as `torch.maximum` does.
    """
    channel, spatial = _broadcast(x, channel_logits, spatial_logits)
    s = torch.sigmoid(_combine(channel, spatial, combine))
    t = grad * x * (s * (1 - s))
    if combine == "product":
        to_channel, to_spatial = t * spatial, t * channel
    elif combine == "max":
        share = torch.where(channel == spatial, t / 2, t)
        to_channel, to_spatial = share.masked_fill(channel < spatial, 0), share.masked_fill(channel > spatial, 0)
    else:
        to_channel = to_spatial = t
    return (
        grad * (1 + s),
        to_channel.sum((2, 3)).reshape(channel_logits.shape),
        to_spatial.sum(1).reshape(spatial_logits.shape),
    )


def global_avg_pool(x: Tensor) -> Tensor:
    """The mean over H and W: (N, C, H, W) -> (N, C)."""
    return x.mean((2, 3))


def squeeze(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The mean over H and W (N, C), and the 1x1 convolution (N, R, H, W) with weight (R, C, 1, 1) or (R, C)."""
    return x.mean((2, 3)), functional.conv2d(x, weight.reshape(*weight.shape[:2], 1, 1), bias)


def squeeze_input_grad(weight: Tensor, pooled_grad: Tensor, reduced_grad: Tensor) -> Tensor:
    """The gradient of `squeeze` in x: W^T times the reduction's, and the pooled vector's share of every position."""
    n, c, h, w = *pooled_grad.shape, *reduced_grad.shape[2:]
    products = torch.einsum("rc,nrhw->nchw", weight.reshape(weight.shape[:2]), reduced_grad)
    return products + (pooled_grad / (h * w)).reshape(n, c, 1, 1)


def squeeze_weight_grad(x: Tensor, reduced_grad: Tensor) -> Tensor:
    """The gradient of `squeeze` in the weight as (R, C): over samples and positions, the reduction's times x."""
    return torch.einsum("nrhw,nchw->rc", reduced_grad, x)
