"""Drawn inputs: shapes, memory formats, views and gradients in every layout that reaches a kernel in practice."""

from __future__ import annotations

import itertools
from collections.abc import Callable

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
    if format in EXPANDED:
        return _expanded(x, *EXPANDED[format])
    if format in OVERLAPPING:
        return _as_strided(x, OVERLAPPING[format](w))
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
    if format == "transposed":  # no rows of adjacent columns either way, unless H or W is 1
        return x.transpose(2, 3).contiguous().transpose(2, 3)
    if format == "every_other_column":
        wide = torch.full((n, c, h, 2 * w), float("nan"), dtype=x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if format == "every_other_sample":
        return torch.stack([x, torch.full_like(x, float("nan"))], 1).flatten(0, 1)[::2]
    if format == "offset":  # begins at no multiple of a vector
        return torch.cat([torch.full((1,), float("nan"), dtype=x.dtype), x.flatten()])[1:].view(x.shape)
    if format == "flipped":
        return x.flip(0, 1, 2, 3)
    if format == "samples_and_channels_transposed":
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    if format == "reversed_dimensions":  # W is the slowest
        return x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    if format == "strides_of_ones":  # the stride of a single position means nothing, and may be any
        strides = [7 if size == 1 else stride for size, stride in zip(x.shape, x.stride(), strict=True)]
        return x.as_strided(x.shape, strides)
    raise ValueError(format)


def _expanded(x: Tensor, dimensions: tuple[int, ...], memory_format: torch.memory_format) -> Tensor:
    """x with its first slice repeated along some dimensions, at stride 0."""
    shape = x.shape
    for d in dimensions:
        x = x.narrow(d, 0, 1)
    return x.contiguous(memory_format=memory_format).expand(shape)


def _as_strided(x: Tensor, strides: tuple[int, ...]) -> Tensor:
    """A view with these strides of memory that holds x's numbers again and again."""
    reach = sum(stride * (size - 1) for size, stride in zip(x.shape, strides, strict=True)) + 1
    return x.flatten().repeat(-(-reach // x.numel()))[:reach].as_strided(x.shape, strides)


# Every subset of the dimensions, in both orders of memory.
EXPANDED = {
    f"expanded_{''.join('nchw'[d] for d in dimensions)}{suffix}": (dimensions, memory_format)
    for length in range(1, 5)
    for dimensions in itertools.combinations(range(4), length)
    for suffix, memory_format in (("", torch.contiguous_format), ("_channels_last", torch.channels_last))
}

# Elements that share memory otherwise: the strides, given W.
OVERLAPPING: dict[str, Callable[[int], tuple[int, ...]]] = {
    "overlapping_channels": lambda w: (5, 3, w, 1),
    "overlapping_positions": lambda w: (4, 1, 2 * w, 2),
    "overlapping_samples": lambda w: (0, 2 * w, w, 1),
    "overlapping_windows": lambda w: (w, w, 1, 1),
    "overlapping_everywhere": lambda w: (1, 1, 1, 1),
}

FORMATS = (
    "contiguous",
    "channels_last",
    "channel_slice",
    "channels_last_slice",
    "transposed",
    "every_other_column",
)
# Every kind of view that a tensor can be.
VIEWS = (
    *FORMATS,
    "every_other_sample",
    "offset",
    "flipped",
    "samples_and_channels_transposed",
    "reversed_dimensions",
    "strides_of_ones",
    *EXPANDED,
    *OVERLAPPING,
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


def gradient(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, format: str = "contiguous") -> Tensor:
    """A gradient as its consumer may leave it; `sum()` leaves one expanded over nchw, a pooling layer one over hw."""
    return feature_map(shape, dtype, format)


def channel_views(n: int, c: int) -> tuple[Tensor, ...]:
    """Channel logits (N, C) and (N, C, 1, 1) in every kind of view."""
    return (
        torch.randn(n, c),
        torch.randn(n, c, 1, 1),
        torch.randn(n, 2 * c)[:, ::2],
        torch.randn(n, c + 3)[:, 2 : c + 2],
        torch.randn(c, n).t(),
        torch.randn(1, c).expand(n, c),
        torch.randn(n, 1, 1, 1).expand(n, c, 1, 1),
        torch.randn(1, 1).expand(n, c),
        torch.randn(n + c).as_strided((n, c), (1, 1)),
        torch.randn(n * c).as_strided((n, c, 1, 1), (c, 1, 7, 0)),
    )


def spatial_views(n: int, h: int, w: int) -> tuple[Tensor, ...]:
    """Spatial logits (N, H, W) and (N, 1, H, W) in every kind of view."""
    return (
        torch.randn(n, h, w),
        torch.randn(n, 1, h, w),
        torch.randn(n, w, h).transpose(1, 2),
        torch.randn(n, h, w, 3)[..., 1],
        torch.randn(n, 3, h, w)[:, 1:2],
        torch.randn(n, h, 2 * w)[..., ::2],
        torch.randn(h, w, n).permute(2, 0, 1),
        torch.randn(1, h, w).expand(n, h, w),
        torch.randn(n, 1, w).expand(n, h, w),
        torch.randn(n, 1, h, 1).expand(n, 1, h, w),
        torch.randn(1, 1, 1, 1).expand(n, 1, h, w),
        torch.randn(n + h + w).as_strided((n, h, w), (1, 1, 1)),
        torch.randn(n * h * w).as_strided((n, 1, h, w), (h * w, 0, w, 1)),
    )


def with_gaps(tensor: Tensor) -> Tensor:
    """Its numbers, with NaN between any two of them in memory."""
    return torch.stack([tensor, torch.full_like(tensor, float("nan"))], -1)[..., 0]


def same_view(view: Tensor, to: torch.dtype | torch.device) -> Tensor:
    """The same view of the same memory in another dtype or on another device, where `Tensor.to` would make it dense."""
    reach = sum(stride * (size - 1) for size, stride in zip(view.shape, view.stride(), strict=True)) + 1
    memory = view.as_strided((reach if view.numel() else 0,), (1,)).to(to)
    return memory.as_strided(view.shape, view.stride(), 0)


def memory_order(x: Tensor) -> tuple[int, ...]:
    """The strides of the dimensions larger than 1: those of the others mean nothing, and PyTorch sets them freely."""
    return tuple(stride for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1)
