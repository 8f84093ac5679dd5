"""Drawn inputs: shapes, memory formats, views and gradients in every layout that reaches a kernel in practice."""

from __future__ import annotations

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
COMBINES = ("sum", "product", "max")

# (N, C, H, W): bottlenecks, odd and prime sizes, tails of every vector width, sizes of 1, non-square
SHAPES = (
    (2, 64, 14, 14),
    (3, 16, 7, 7),
    (2, 8, 56, 56),
    (1, 5, 3, 3),
    (2, 17, 1, 1),
    (2, 1, 5, 7),
    (1, 1, 1, 1),
    (4, 33, 1, 13),
    (2, 320, 2, 9),
    (1, 3, 67, 71),
)


def _strided(x: Tensor, format: str) -> Tensor:
    n, c, h, w = x.shape
    if format == "contiguous":
        return x.contiguous()
    if format == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if format == "channel_slice":  # rows of adjacent columns, but with strides of their own
        wide = torch.full((n, c + 3, h, w), float("nan"), dtype=x.dtype)
        wide[:, 2 : c + 2] = x
        return wide[:, 2 : c + 2]
    if format == "channels_last_slice":
        wide = torch.full((n, c + 3, h, w), float("nan"), dtype=x.dtype).contiguous(memory_format=torch.channels_last)
        wide[:, 1 : c + 1] = x
        return wide[:, 1 : c + 1]
    if format == "transposed":  # no matrix with adjacent columns either way, unless H or W is 1
        return x.transpose(2, 3).contiguous().transpose(2, 3)
    if format == "every_other_column":
        wide = torch.full((n, c, h, 2 * w), float("nan"), dtype=x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    raise ValueError(format)


FORMATS = (
    "contiguous",
    "channels_last",
    "channel_slice",
    "channels_last_slice",
    "transposed",
    "every_other_column",
)


def feature_map(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, format: str = "contiguous") -> Tensor:
    """A normal (N, C, H, W) tensor with these strides; the memory around a view holds NaN."""
    return _strided(torch.randn(shape, dtype=torch.float64).to(dtype), format)


def logits(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Channel logits (N, C) and spatial logits (N, 1, H, W)."""
    n, c, h, w = shape
    channel = torch.randn(n, c, dtype=torch.float64) * scale
    spatial = torch.randn(n, 1, h, w, dtype=torch.float64) * scale
    return channel.to(dtype), spatial.to(dtype)


GRADIENTS = (*FORMATS, "one_number", "per_channel")


def gradient(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, format: str = "contiguous") -> Tensor:
    """A gradient as its consumer may leave it: any of FORMATS, or expanded as `sum()` and a pooling layer do."""
    n, c, _, _ = shape
    if format == "one_number":
        return torch.randn(1, 1, 1, 1, dtype=torch.float64).to(dtype).expand(shape)
    if format == "per_channel":
        return torch.randn(n, c, 1, 1, dtype=torch.float64).to(dtype).expand(shape)
    return feature_map(shape, dtype, format)


def memory_order(x: Tensor) -> tuple[int, ...]:
    """The strides of the dimensions larger than 1: those of the others mean nothing, and PyTorch sets them freely."""
    return tuple(stride for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1)
