"""What surrounds the branches of every BAM: the crop that the authors' code pools, and the end in the gate."""

from __future__ import annotations

import torch
from torch import Tensor

from bam_fused.functional.gate import gate
from bam_fused.functional.recorded import Proxy, recorded


def attend(x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str) -> Tensor:
    """`gate`, after `mended_logits`."""
    if isinstance(x, Proxy):
        return recorded(attend, x, channel_logits, spatial_logits, combine)
    return gate(x, *mended_logits(x, channel_logits, spatial_logits), combine)


def mended_logits(x: Tensor, channel_logits: Tensor, spatial_logits: Tensor) -> tuple[Tensor, Tensor]:
    """What a module's branches may produce and the gate refuses, mended.

    Under autocast the logits can be narrower than x: they become float32. A spatial map smaller than x (padding below
    the dilation) is broadcast where one size is 1, as `expand_as` does in the public implementations.

    Raises:
        ValueError: the spatial map can not be broadcast to x's H and W.
    """
    h, w = x.shape[2:]
    if spatial_logits.shape[2:] != x.shape[2:]:
        if spatial_logits.shape[2] not in (1, h) or spatial_logits.shape[3] not in (1, w):
            raise ValueError(
                f"x of size {h} x {w} leaves a spatial map of {tuple(spatial_logits.shape[2:])}, which can not be "
                "broadcast to it: padding must equal dilation, or x be of the one size that leaves 1 x 1"
            )
        spatial_logits = spatial_logits.expand(-1, -1, h, w)
    return _accepted(channel_logits, x), _accepted(spatial_logits, x)


def left_crop(x: Tensor) -> Tensor:
    """The left H x H crop of x: all that `avg_pool2d(x, H, stride=H)`, the pool of the authors' code, looks at.

    Raises:
        ValueError: W < H or W >= 2H, where the authors' code fails too.
    """
    if isinstance(x, Proxy):
        return recorded(left_crop, x)
    h, w = x.shape[2:]
    if not h <= w < 2 * h:
        raise ValueError(f"x must have H <= W < 2H for legacy_pool, got {tuple(x.shape)}")
    if h == w and torch._C._get_tracing_state() is None:
        return x  # a slice of all of it would cost a copy in the backward
    return x[..., :h]


def _accepted(logits: Tensor, x: Tensor) -> Tensor:
    if logits.dtype in (x.dtype, torch.float32):
        return logits
    return logits.to(torch.promote_types(x.dtype, torch.float32))
