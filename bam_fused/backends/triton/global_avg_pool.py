"""global_avg_pool: the mean of every channel over H and W, one read of x.

In NCHW the channels are the rows of a matrix and a program walks along them, in NHWC they are the columns and it walks
down them. Sums build up in registers, lane by lane, and are reduced once at the end of the walk.
"""

from __future__ import annotations

import functools

import triton
import triton.language as tl
from torch import Tensor

from bam_fused.backends import eager
from bam_fused.backends.triton import heuristics
from bam_fused.backends.triton.formulas import as_matrix, tile_mask, tile_offsets, tile_position
from bam_fused.backends.triton.launch import Description, Launch, describe, stand_in
from bam_fused.backends.triton.matrices import matrices, matrix_strides, orientation, vector_width
from bam_fused.backends.triton.partials import Sums
from bam_fused.checks import check_feature_map


@triton.jit(do_not_specialize=["rows", "columns", "blocks", "tiles", "splits", "walk", "x_batch", "x_row", "divisor"])
def global_avg_pool_kernel(
    x_ptr,
    out_ptr,  # (batch, splits, channels)
    rows,
    columns,  # this and the strides of x count WIDTH elements; if DENSE, only the one over the batch does
    blocks,  # of channels
    tiles,  # of the walk over H and W
    splits,  # of this walk
    walk,  # tiles of one split
    x_batch,
    x_row,
    divisor,
    ALONG_ROWS: tl.constexpr,  # the rows are the channels
    WIDTH: tl.constexpr,
    R_BLOCK: tl.constexpr,
    K_BLOCK: tl.constexpr,
    DENSE: tl.constexpr,
    FAR: tl.constexpr,  # offsets within a tile need 64 bits
):
    WIDE: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    UNIT: tl.constexpr = 1 if DENSE else WIDTH
    program = tl.program_id(0).to(tl.int64)
    block = program % blocks
    split = (program // blocks) % splits
    n = program // blocks // splits
    length = columns if DENSE else columns.to(tl.int64) * UNIT

    row, column = tile_position(length, R_BLOCK, K_BLOCK, DENSE)
    x_at = tile_offsets(row, column, x_row, UNIT, R_BLOCK, K_BLOCK, DENSE, FAR)
    x_ptr += n * x_batch * WIDTH
    sums = tl.zeros(x_at.shape, WIDE)
    for step in range(split * walk, tl.minimum((split + 1) * walk, tiles)):
        first_row = (block if ALONG_ROWS else step) * R_BLOCK
        first_column = (step if ALONG_ROWS else block) * K_BLOCK
        live = tile_mask(row, column, rows - first_row, length - first_column, WIDTH, R_BLOCK, K_BLOCK, DENSE)
        x_tile = x_ptr + tl.multiple_of(first_row * UNIT * x_row, WIDTH) + first_column
        sums += tl.load(x_tile + x_at, live, 0.0, eviction_policy="evict_first").to(WIDE)

    CHANNELS: tl.constexpr = R_BLOCK if ALONG_ROWS else K_BLOCK
    total = tl.sum(as_matrix(sums, length, R_BLOCK, K_BLOCK, DENSE), 1 if ALONG_ROWS else 0)
    channels = rows if ALONG_ROWS else length
    at = block * CHANNELS + tl.arange(0, CHANNELS)
    mean = (total / divisor).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + (n * splits + split) * channels + at, mean, at < channels)


@functools.lru_cache(maxsize=1024)
def plan(x: Description) -> tuple[Launch, Sums] | None:
    """The launch for a tensor of this description, and its partial sums.

    None where there is nothing to launch or x must be made contiguous first. Raises as `check_feature_map` does.
    """
    shape, stride, dtype, device = x
    check_feature_map("x", stand_in(x))
    rows_are_channels = orientation(shape, stride)
    if 0 in shape or rows_are_channels is None:
        return None
    view = matrices(shape, rows_are_channels)
    batch, row, _ = matrix_strides(shape, stride, rows_are_channels)
    config = heuristics.global_avg_pool(view, dtype, device, row == view.columns, (batch,))
    if config.dense:
        width = vector_width(dtype, view.rows * view.columns, config.row_block * view.columns, batch)
    else:
        width = vector_width(dtype, view.columns, row, batch)
    unit = 1 if config.dense else width
    down, along = triton.cdiv(view.rows, config.row_block), triton.cdiv(view.columns, config.column_block)
    blocks, tiles = (down, along) if rows_are_channels else (along, down)
    pixels = shape[2] * shape[3]
    sums = Sums(device, dtype, view.batch, config.splits, shape[1], divisor=pixels)
    launch = Launch(
        global_avg_pool_kernel,
        device,
        grid=view.batch * blocks * config.splits,
        warps=config.warps,
        rows=view.rows,
        columns=view.columns // unit,
        blocks=blocks,
        tiles=tiles,
        splits=config.splits,
        walk=triton.cdiv(tiles, config.splits),
        x_batch=batch // width,
        x_row=row // unit,
        divisor=sums.kernel_divisor,
        ALONG_ROWS=rows_are_channels,
        WIDTH=width,
        R_BLOCK=config.row_block,
        K_BLOCK=config.column_block,
        DENSE=config.dense,
        FAR=config.row_block * row >= 2**31,
    )
    return launch, sums


def global_avg_pool(x: Tensor) -> Tensor:
    """The mean over H and W by Triton: (N, C, H, W) -> (N, C) in x's dtype."""
    planned = plan(describe(x))
    if planned is None:
        return eager.kernel("global_avg_pool")(x) if x.numel() == 0 else global_avg_pool(x.contiguous())
    launch, sums = planned
    out = x.new_empty(x.shape[:2])
    target = sums.target(out)
    launch(x, target)
    sums.finish(target, out)
    return out
