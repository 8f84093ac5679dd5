"""squeeze: the pooled vector and the 1x1 reduction in one read of x, the products by tensor cores.

A program has a tile of a sample's positions and walks over the channels: the block of x that it has loaded is multiplied
with the weight's and summed over the tile, which gives each channel a partial sum for every tile. The whole BAM (bam.py) has
the reduction's norm and ReLU applied here, too.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from bam_fused.backends import eager
from bam_fused.backends.triton.launch import Description, Launch, describe
from bam_fused.backends.triton.layers import (
    SMALLEST,
    WIDEST,
    Described,
    Layer,
    block,
    factors,
    finish,
    layer,
    multiply,
    power_of_two,
    stages,
)
from bam_fused.backends.triton.partials import Summed, Sums
from bam_fused.backends.triton.rows import choose_rows, extent_of, strides_of, vector_width
from bam_fused.checks import check_squeeze
from bam_fused.functional.squeeze import memory_format_of
from bam_fused.ops.widen import compute_dtype

TILE = 64  # positions: the same for every batch, so that a sample's sums are, too


@triton.jit(do_not_specialize=["rows", "columns", "x_sample", "x_row", "width", "pooled_width"])
def squeeze_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,
    mean_ptr,
    variance_ptr,
    gain_ptr,
    offset_ptr,
    sums_ptr,  # (batch, tiles, CHANNELS)
    out_ptr,
    rows,
    columns,  # this and the strides of x count WIDTH elements
    x_sample,
    x_row,
    width,  # of the map, and
    pooled_width,  # of what is pooled of it
    divisor,
    weight_output,
    weight_channel,
    out_sample,
    out_output,
    out_position,
    ALONG_ROWS: tl.constexpr,  # the rows are the channels
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    TILE: tl.constexpr,  # positions
    CHANNEL_BLOCK: tl.constexpr,
    OUTPUT_BLOCK: tl.constexpr,
    POOLS: tl.constexpr,
    COPIES: tl.constexpr,  # of a tile's sums, as rows of a product with ones; 0 where they are added up
    CROPS: tl.constexpr,
    HAS: tl.constexpr,
    EPS: tl.constexpr,
    WIDENS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    COMPUTE: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    OUTPUT_BLOCKS: tl.constexpr = (OUTPUTS + OUTPUT_BLOCK - 1) // OUTPUT_BLOCK
    positions = columns * WIDTH if ALONG_ROWS else rows
    tiles = tl.cdiv(positions, TILE)
    program = tl.program_id(0)
    output_block, tile, n = program % OUTPUT_BLOCKS, program // OUTPUT_BLOCKS % tiles, program // OUTPUT_BLOCKS // tiles
    position = tile * TILE + tl.arange(0, TILE)
    output = output_block * OUTPUT_BLOCK + tl.arange(0, OUTPUT_BLOCK)[None, :]
    x_ptr += n.to(tl.int64) * x_sample * WIDTH
    row = x_row.to(tl.int64) * WIDTH
    sums = tl.zeros([TILE, OUTPUT_BLOCK], COMPUTE)
    for first in range(0, CHANNELS, CHANNEL_BLOCK):
        channel = first + tl.arange(0, CHANNEL_BLOCK)
        if ALONG_ROWS:
            at = channel[:, None] * row + position[None, :]
            x = tl.load(x_ptr + at, (channel < CHANNELS)[:, None] & (position < positions)[None, :], 0.0)
            along = tl.trans(x)
        else:
            at = position[:, None] * row + channel[None, :]
            x = tl.load(x_ptr + at, (position < positions)[:, None] & (channel < CHANNELS)[None, :], 0.0)
            along = x
        weight_at = output * weight_output + channel[:, None] * weight_channel
        weight = tl.load(weight_ptr + weight_at, (channel < CHANNELS)[:, None] & (output < OUTPUTS), 0.0)
        sums = multiply(along, weight, sums, WIDENS, PRECISION)
        if POOLS:
            if CROPS:
                pooled = position % width < pooled_width
                x = tl.where(pooled[None, :] if ALONG_ROWS else pooled[:, None], x, 0.0)
            at = sums_ptr + (n.to(tl.int64) * tiles + tile) * CHANNELS + channel
            stored = (channel < CHANNELS) & (output_block == 0)
            if COPIES > 0:
                ones, nothing = tl.full([COPIES, TILE], 1.0, COMPUTE), tl.zeros([COPIES, CHANNEL_BLOCK], COMPUTE)
                copies = multiply(ones.to(x.dtype), tl.trans(x) if ALONG_ROWS else x, nothing, WIDENS, PRECISION)
                at = tl.broadcast_to(at[None, :], [COPIES, CHANNEL_BLOCK])
                stored = stored[None, :] & (tl.arange(0, COPIES)[:, None] == 0)
                tl.store(at, (copies / divisor).to(sums_ptr.dtype.element_ty), stored)
            else:
                partial = tl.sum(x.to(COMPUTE), 1 if ALONG_ROWS else 0) / divisor
                tl.store(at, partial.to(sums_ptr.dtype.element_ty), stored)

    live = output < OUTPUTS
    out = finish(sums, output, live, bias_ptr, mean_ptr, variance_ptr, gain_ptr, offset_ptr, HAS, EPS)
    out_at = (
        n.to(tl.int64) * out_sample + output.to(tl.int64) * out_output + position.to(tl.int64)[:, None] * out_position
    )
    tl.store(out_ptr + out_at, out.to(out_ptr.dtype.element_ty), live & (position < positions)[:, None])


def copies_of(dtype: torch.dtype, rows_are_channels: bool) -> int:
    """Rows of the product that sums over positions; 0 where a thread has positions next to each other to add up."""
    return SMALLEST if dtype.itemsize == 2 and not rows_are_channels else 0


@functools.lru_cache(maxsize=1024)
def settle(
    x: Description,
    reduction: Described,
    reduced: Description,
    pooled: torch.dtype | None,
    pooled_width: int,
) -> Summed | None:
    """The launch for tensors of these descriptions; None where x must be made contiguous first.

    `pooled`: the dtype of the pooled vector, None where nobody wants it; `pooled_width`: the columns that are pooled.
    """
    shape, stride, dtype, device = x
    (outputs, *_), weight_strides, _, has, eps = reduction
    rows_are_channels = choose_rows(shape, stride)
    if rows_are_channels is None:
        return None
    extent = extent_of(shape, rows_are_channels)
    sample, row, _ = strides_of(shape, stride, rows_are_channels)
    width = vector_width(dtype, extent.columns, row, sample)
    positions = shape[2] * shape[3]
    adjacent = reduced[1][1] == 1 and positions > 1  # the outputs of a position
    tiles, output_block = triton.cdiv(positions, TILE), min(WIDEST, power_of_two(outputs))
    programs = extent.samples * tiles * triton.cdiv(outputs, output_block)
    sums = Sums(device, pooled or dtype, extent.samples, tiles, shape[1], divisor=shape[2] * pooled_width)
    launch = Launch(
        squeeze_kernel,
        device,
        grid=programs,
        warps=4,
        stages=stages(programs),
        rows=extent.rows,
        columns=extent.columns // width,
        x_sample=sample // width,
        x_row=row // width,
        width=shape[3],
        pooled_width=pooled_width,
        divisor=sums.kernel_divisor,
        weight_output=weight_strides[0],
        weight_channel=weight_strides[1],
        out_sample=outputs * positions,
        out_output=1 if adjacent else positions,
        out_position=outputs if adjacent else 1,
        ALONG_ROWS=rows_are_channels,
        WIDTH=width,
        CHANNELS=shape[1],
        OUTPUTS=outputs,
        TILE=TILE,
        CHANNEL_BLOCK=block(shape[1], dtype),
        OUTPUT_BLOCK=output_block,
        POOLS=pooled is not None,
        COPIES=copies_of(dtype, rows_are_channels),
        CROPS=pooled_width < shape[3],
        HAS=has,
        EPS=eps,
        **factors(dtype),
    )
    return Summed(launch, sums)


def reduce(
    x: Tensor, reduction: Layer, reduced: Tensor, pooled: Tensor | None, pooled_width: int | None = None
) -> None:
    """Write the reduction of x and, unless it is None, the mean over H and the columns that are pooled (N, C).

    x is not empty; `reduced` is (N, R, H, W), contiguous or channels_last.
    """
    dtype = None if pooled is None else pooled.dtype
    settled = settle(describe(x), reduction.described(), describe(reduced), dtype, pooled_width or x.shape[3])
    if settled is None:
        return reduce(x.contiguous(), reduction, reduced, pooled, pooled_width)
    target = reduced if pooled is None else settled.sums.target(pooled)
    settled.launch(x, *reduction.tensors, target, reduced)
    if pooled is not None:
        settled.sums.finish(target, pooled)


def squeeze(x: Tensor, weight: Tensor, bias: Tensor | None, features: bool = False) -> tuple[Tensor, Tensor]:
    """The pooled vector and the reduction by Triton; arguments and results as of the operator."""
    check_squeeze(x, weight, bias)
    if x.numel() == 0:
        found: tuple[Tensor, Tensor] = eager.kernel("squeeze")(x, weight, bias, features)
        return found
    n, c, h, w = x.shape
    dtype = compute_dtype(x) if features else x.dtype
    memory_format = torch.channels_last if features else memory_format_of(x)
    pooled = x.new_empty((n, c), dtype=dtype)
    reduced = torch.empty((n, weight.shape[0], h, w), dtype=dtype, device=x.device, memory_format=memory_format)
    reduce(x, layer(weight, bias), reduced, pooled)
    return pooled, reduced
