"""global_avg_pool: the mean of every channel over H and W, one read of x.

In NCHW the channels are the rows and a program walks along them, in NHWC they are the columns and it walks
down them. Sums build up in registers, lane by lane, and are reduced once at the end of the walk. The loads of several
tiles are issued before the first is added: that many are in flight. They leave x in the cache: it is read again.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from bam_fused.backends import eager
from bam_fused.backends.triton import heuristics
from bam_fused.backends.triton.formulas import as_rows, tile_indices, tile_mask, tile_offsets
from bam_fused.backends.triton.heuristics import TileConfig, check_config
from bam_fused.backends.triton.launch import Description, Launch, describe, stand_in
from bam_fused.backends.triton.partials import Sums
from bam_fused.backends.triton.rows import choose_rows, extent_of, strides_of, vector_width
from bam_fused.checks import check_feature_map

REGISTERS = 64  # eight programs of 128 threads on a multiprocessor


@triton.jit(
    do_not_specialize=["rows", "columns", "channel_tiles", "tiles", "splits", "walk", "x_sample", "x_row", "divisor"]
)
def global_avg_pool_kernel(
    x_ptr,
    out_ptr,  # (batch, splits, channels)
    rows,
    columns,  # this and the strides of x count WIDTH elements; if DENSE, only the one over the batch does
    channel_tiles,  # of channels
    tiles,  # of the walk over H and W
    splits,  # of this walk
    walk,  # steps of one split
    x_sample,
    x_row,
    divisor,
    ALONG_ROWS: tl.constexpr,  # the rows are the channels
    WIDTH: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
    UNROLL: tl.constexpr,  # tiles of a step, all of which are loaded first
    DENSE: tl.constexpr,
    FAR: tl.constexpr,  # offsets within a tile need 64 bits
):
    COMPUTE: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    UNIT: tl.constexpr = 1 if DENSE else WIDTH
    program = tl.program_id(0).to(tl.int64)
    channel_tile = program % channel_tiles
    split = (program // channel_tiles) % splits
    n = program // channel_tiles // splits
    length = columns if DENSE else columns.to(tl.int64) * UNIT

    row, column = tile_indices(length, TILE_ROWS, TILE_COLUMNS, DENSE)
    x_at = tile_offsets(row, column, x_row, UNIT, TILE_ROWS, TILE_COLUMNS, DENSE, FAR)
    x_ptr += n * x_sample * WIDTH
    sums = tl.zeros(x_at.shape, COMPUTE)
    for step in range(split * walk, tl.minimum((split + 1) * walk, tl.cdiv(tiles, UNROLL))):
        loaded = ()
        for part in tl.static_range(UNROLL):
            tile = step * UNROLL + part
            first_row = (channel_tile if ALONG_ROWS else tile) * TILE_ROWS
            first_column = (tile if ALONG_ROWS else channel_tile) * TILE_COLUMNS
            rows_left, columns_left = rows - first_row, length - first_column
            live = tile_mask(row, column, rows_left, columns_left, WIDTH, TILE_ROWS, TILE_COLUMNS, DENSE)
            x_tile = x_ptr + tl.multiple_of(first_row * UNIT * x_row, WIDTH) + first_column
            loaded += (tl.load(x_tile + x_at, live, 0.0),)  # type: ignore[assignment]  # Triton unrolls this
        for part in tl.static_range(UNROLL):
            sums += loaded[part].to(COMPUTE)

    CHANNELS: tl.constexpr = TILE_ROWS if ALONG_ROWS else TILE_COLUMNS
    total = tl.sum(as_rows(sums, length, TILE_ROWS, TILE_COLUMNS, DENSE), 1 if ALONG_ROWS else 0)
    channels = rows if ALONG_ROWS else length
    at = channel_tile * CHANNELS + tl.arange(0, CHANNELS)
    mean = (total / divisor).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + (n * splits + split) * channels + at, mean, at < channels)


@dataclass(frozen=True)
class Prepared:
    """The launch for a tensor of a given description, and its partial sums."""

    launch: Launch
    config: TileConfig
    sums: Sums


@functools.lru_cache(maxsize=1024)
def prepare(x: Description, config: TileConfig | None = None) -> Prepared | None:
    """The launch for a tensor of this description, with this config or the one that the heuristic chooses.

    None where there is nothing to launch or x must be made contiguous first. Raises as `check_feature_map` does, and
    ValueError for a config that the kernel cannot run with.
    """
    shape, stride, dtype, device = x
    check_feature_map("x", stand_in(x))
    rows_are_channels = choose_rows(shape, stride)
    if 0 in shape or rows_are_channels is None:
        return None
    extent = extent_of(shape, rows_are_channels)
    sample, row, _ = strides_of(shape, stride, rows_are_channels)
    dense = row == extent.columns
    if config is None:
        config = heuristics.global_avg_pool(extent, dtype, device, dense, (sample,))
    check_config(config, extent, dense)
    if config.dense:
        width = vector_width(dtype, extent.rows * extent.columns, config.tile_rows * extent.columns, sample)
    else:
        width = vector_width(dtype, extent.columns, row, sample)
    unit = 1 if config.dense else width
    down, along = triton.cdiv(extent.rows, config.tile_rows), triton.cdiv(extent.columns, config.tile_columns)
    channel_tiles, tiles = (down, along) if rows_are_channels else (along, down)
    positions = shape[2] * shape[3]
    sums = Sums(device, dtype, extent.samples, config.splits, shape[1], divisor=positions)
    launch = Launch(
        global_avg_pool_kernel,
        device,
        grid=extent.samples * channel_tiles * config.splits,
        warps=config.warps,
        registers=REGISTERS,
        rows=extent.rows,
        columns=extent.columns // unit,
        channel_tiles=channel_tiles,
        tiles=tiles,
        splits=config.splits,
        walk=triton.cdiv(triton.cdiv(tiles, config.unroll), config.splits),
        x_sample=sample // width,
        x_row=row // unit,
        divisor=sums.kernel_divisor,
        ALONG_ROWS=rows_are_channels,
        WIDTH=width,
        TILE_ROWS=config.tile_rows,
        TILE_COLUMNS=config.tile_columns,
        UNROLL=config.unroll,
        DENSE=config.dense,
        FAR=config.tile_rows * row >= 2**31,
    )
    return Prepared(launch, config, sums)


def global_avg_pool(x: Tensor, config: TileConfig | None = None) -> Tensor:
    """The mean over H and W by Triton: (N, C, H, W) -> (N, C) in x's dtype; `config` as for `prepare`."""
    prepared = prepare(describe(x), config)
    if prepared is None:
        return eager.kernel("global_avg_pool")(x) if x.numel() == 0 else global_avg_pool(x.contiguous(), config)
    out = x.new_empty(x.shape[:2])
    target = prepared.sums.target(out)
    prepared.launch(x, target)
    prepared.sums.finish(target, out)
    return out
