"""bam: a whole BAM in inference: squeeze, the channel branch's layers, the convolutions and the gate, one after the other.

x is read twice and F' written once. Norms and ReLUs are applied to a layer's sums, and the last convolution's programs make
the spatial logits of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bam_fused.backends import eager
from bam_fused.backends.triton.dense import dense
from bam_fused.backends.triton.dilated_conv import convolve, ends
from bam_fused.backends.triton.gate import gate
from bam_fused.backends.triton.global_avg_pool import global_avg_pool
from bam_fused.backends.triton.layers import Layer, read
from bam_fused.backends.triton.squeeze import reduce
from bam_fused.ops.widen import compute_dtype


def bam(
    x: Tensor,
    tensors: Sequence[Tensor],
    layers: Sequence[int],
    channel_layers: int,
    dilations: Sequence[int],
    eps: Sequence[float],
    combine: str,
    crops: bool,
) -> Tensor:
    """F' by Triton; arguments and result as of the operator."""
    if x.numel() == 0:
        found: Tensor = eager.kernel("bam")(x, tensors, layers, channel_layers, dilations, eps, combine, crops)
        return found
    n, c, h, w = x.shape
    own = list(read(tensors, layers, eps))
    channel, spatial = own[:channel_layers], own[channel_layers:]
    pooled_width = min(h, w) if crops else w
    wide = compute_dtype(x)
    pooled: Tensor | None = None
    if spatial:
        pooled = x.new_empty((n, c), dtype=wide) if channel else None
        reduced = _features(x, spatial[0])
        reduce(x, spatial[0], reduced, pooled, pooled_width)
        spatial_logits = _spatial_logits(reduced, spatial[1:], dilations)
    else:
        pooled = global_avg_pool(x[..., :pooled_width]).to(wide)
        spatial_logits = _nothing(x, (n, 1, h, w))
    channel_logits = _nothing(x, (n, c)) if pooled is None else pooled
    for one in channel:
        channel_logits = dense(channel_logits, one)
    return gate(x, channel_logits, spatial_logits, combine if channel and spatial else "sum")


def _nothing(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The logits of a branch that is not there."""
    return x.new_zeros(()).expand(shape)


def _features(x: Tensor, own: Layer) -> Tensor:
    """Memory for a layer's features."""
    n, _, h, w = x.shape
    shape = (n, own.weight.shape[0], h, w)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _spatial_logits(features: Tensor, layers: list[Layer], dilations: Sequence[int]) -> Tensor:
    """The layers behind the reduction; the last one goes with the one in front of it, where there is one that it fits."""
    *hidden, final = layers
    n, _, h, w = features.shape
    logits = features.new_empty((n, 1, h, w), dtype=compute_dtype(features))
    for i, (own, dilation) in enumerate(zip(hidden, dilations, strict=True)):
        if i + 1 == len(hidden) and ends(own.weight):
            convolve(features, own, dilation, logits, final)
            return logits
        out = _features(features, own)
        convolve(features, own, dilation, out)
        features = out
    convolve(features, final, 1, logits)
    return logits
