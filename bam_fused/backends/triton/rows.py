"""Tensors as samples of rows: so seen, one kernel serves NCHW and NHWC.

Every sample of a feature map has R rows of K columns, which lie next to each other in memory. In NCHW
the rows are the channels and the columns the positions (H * W), in NHWC the other way round; the channel and the spatial
logits are then the vector along the rows and the one along the columns, or change places.

PyTorch leaves the strides of dimensions of size 1 arbitrary, so they are replaced: by those of a dense map, and by 0
along a batch of one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

Integers = tuple[int, ...]

VECTOR_BYTES = 16  # the widest load or store of one thread


@dataclass(frozen=True)
class Extent:
    """The size of a feature map seen as rows and columns, and which dimension the rows are."""

    samples: int
    rows: int
    columns: int
    rows_are_channels: bool


def extent_of(shape: Integers, rows_are_channels: bool) -> Extent:
    """That of a feature map of shape (N, C, H, W)."""
    n, c, h, w = shape
    return Extent(n, c, h * w, True) if rows_are_channels else Extent(n, h * w, c, False)


def _position_stride(height: int, width: int, stride_h: int, stride_w: int) -> int | None:
    """The one stride that walks over H and W together; None where there is none."""
    if width == 1:
        return 1 if height == 1 else stride_h
    return stride_w if height == 1 or stride_h == width * stride_w else None


def strides_of(shape: Integers, stride: Integers, rows_are_channels: bool) -> Integers:
    """Strides over (batch, row, column) of an (N, C, H, W) tensor; all -1 where H and W have no common stride."""
    position = _position_stride(*shape[2:], *stride[2:])
    if position is None:
        return -1, -1, -1
    extent = extent_of(shape, rows_are_channels)
    row, column = (stride[1], position) if rows_are_channels else (position, stride[1])
    return (
        0 if extent.samples == 1 else stride[0],
        extent.columns if extent.rows == 1 else row,
        1 if extent.columns == 1 else column,
    )


def choose_rows(shape: Integers, *strides: Integers) -> bool | None:
    """Whether the rows are the channels where that gives each of these tensors columns of unit stride.

    None where neither choice does. Where both do, the one with the longer rows wins.
    """
    fitting = []
    for rows_are_channels in (True, False):
        views = [strides_of(shape, stride, rows_are_channels) for stride in strides]
        if all(view[2] == 1 for view in views):
            fitting.append(rows_are_channels)
    return max(fitting, key=lambda choice: extent_of(shape, choice).columns, default=None)


def choose_with_logits(
    shape: Integers, x: Integers, out: Integers, channel: tuple[Integers, ...], spatial: tuple[Integers, ...]
) -> tuple[Extent, Integers, Integers] | None:
    """How a gate sees its maps as rows, and two strides of its logits: (batch, row) of those that belong to the rows, and
    (batch, column) of the others.

    x and out are strides; channel is the shape and strides of logits (N, C) or (N, C, 1, 1), spatial those of (N, H, W) or
    (N, 1, H, W). None where there are no elements, no choice fits, or H and W have no common stride in the spatial logits.
    """
    rows_are_channels = choose_rows(shape, x, out)
    position = _position_stride(*spatial[0][-2:], *spatial[1][-2:])
    if 0 in shape or rows_are_channels is None or position is None:
        return None
    along_channels = 0 if shape[0] == 1 else channel[1][0], 1 if shape[1] == 1 else channel[1][1]
    along_positions = 0 if shape[0] == 1 else spatial[1][0], position
    u, v = (along_channels, along_positions) if rows_are_channels else (along_positions, along_channels)
    return extent_of(shape, rows_are_channels), u, v


def vector_width(dtype: torch.dtype, *multiples: int) -> int:
    """The elements of the widest vector that is aligned in steps of all these sizes and strides: a power of two."""
    return math.gcd(VECTOR_BYTES // dtype.itemsize, *multiples)
