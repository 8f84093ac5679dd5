"""The end of a BAM in the words that TorchScript knows: a scripted module is made of standard operators alone.

`torch.jit.script` can read neither a plan nor our operators, so `BAM` and its branches say for it what run.py does.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gate(x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str) -> Tensor:
    """The formula of `bam_fused.gate`, computed in at least float32; a spatial map of 1 x 1 is broadcast."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    wide, channel, spatial = x.to(dtype), channel_logits.to(dtype)[:, :, None, None], spatial_logits.to(dtype)
    if combine == "sum":
        logits = channel + spatial
    elif combine == "product":
        logits = channel * spatial
    else:
        logits = torch.maximum(channel, spatial)
    return (wide + wide * torch.sigmoid(logits)).to(x.dtype)


def left_crop(x: Tensor) -> Tensor:
    """What `functional.attend.left_crop` returns."""
    h, w = x.shape[2], x.shape[3]
    if w < h or w >= 2 * h:
        raise ValueError("x must have H <= W < 2H for legacy_pool")
    return x[:, :, :, :h]
