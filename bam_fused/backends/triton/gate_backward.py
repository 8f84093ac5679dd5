"""gate_backward: one pass over grad and x that writes dx and reduces the gradients of both logits on the way.

A program walks down the rows in tiles. The sum over a tile's columns, the gradient of the row logits, is
complete when the tile spans them and is a partial sum otherwise; the sum over rows builds up in registers, lane by
lane, and is reduced once at the end of the walk. Partial sums go to a workspace and are added in fixed order. The loads
of several tiles are issued before the first is computed on: that many are in flight.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from bam_fused.backends.triton import heuristics
from bam_fused.backends.triton.formulas import (
    as_rows,
    combine_logits,
    of_vectors,
    sigmoid_and_slope,
    split_gradient,
    sum_rows_of_vectors,
    tile_indices,
    tile_offsets,
    vectors_across_rows,
)
from bam_fused.backends.triton.heuristics import TileConfig, check_config
from bam_fused.backends.triton.launch import Description, Launch, check_like_x, describe, stand_in
from bam_fused.backends.triton.partials import Sums
from bam_fused.backends.triton.rows import choose_rows, choose_with_logits, strides_of, vector_width
from bam_fused.checks import check_gate

SIZES = ["rows", "columns", "column_splits", "splits", "walk"]
STRIDES = ["grad_sample", "grad_row", "x_sample", "x_row", "dx_sample", "dx_row", "u_sample", "v_sample"]


def _registers(combine: str, dtype: torch.dtype, dense: bool) -> int:
    """The most for a thread: what leaves room for seven, six or five programs of 128, with 64 bytes under way for each."""
    if combine != "sum" or dtype == torch.float64:
        return 96
    return 72 if dtype == torch.float32 and not dense else 80


@triton.jit(do_not_specialize=SIZES + STRIDES)
def gate_backward_kernel(
    grad_ptr,
    x_ptr,
    u_ptr,
    v_ptr,
    dx_ptr,
    du_ptr,  # (batch, column_splits, rows)
    dv_ptr,  # (batch, splits, columns)
    rows,
    columns,  # this and the strides of x and dx count WIDTH elements; if DENSE, only those over the batch do
    column_splits,  # of columns
    splits,  # of the walk down the rows
    walk,  # steps of one split
    grad_sample,  # grad's strides count GRAD_WIDTH elements likewise
    grad_row,
    x_sample,
    x_row,
    dx_sample,
    dx_row,
    u_sample,
    u_row,
    v_sample,
    v_column,
    COMBINE: tl.constexpr,
    WIDTH: tl.constexpr,
    GRAD_WIDTH: tl.constexpr,
    GRAD_COLUMN: tl.constexpr,  # grad's stride over columns, 1, or 0 where it is broadcast
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
    UNROLL: tl.constexpr,  # tiles of a step, all of which are loaded first
    DENSE: tl.constexpr,
    FAR: tl.constexpr,  # offsets within a tile need 64 bits
    WRITES: tl.constexpr,  # dx
):
    COMPUTE: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    # All results have 16 bits; the logits' gradients have the logits' dtypes.
    SHORT: tl.constexpr = (
        x_ptr.dtype.element_ty.primitive_bitwidth == 16
        and u_ptr.dtype.element_ty.primitive_bitwidth == 16
        and v_ptr.dtype.element_ty.primitive_bitwidth == 16
    )
    UNIT: tl.constexpr = 1 if DENSE else WIDTH
    GRAD_UNIT: tl.constexpr = 1 if DENSE else GRAD_WIDTH
    program = tl.program_id(0).to(tl.int64)
    column_split = program % column_splits
    split = (program // column_splits) % splits
    n = program // column_splits // splits
    length = columns if DENSE else columns.to(tl.int64) * UNIT
    first_column = column_split * TILE_COLUMNS
    columns_left = length - first_column

    if DENSE:  # a run of vectors
        VECTORS: tl.constexpr = TILE_ROWS * TILE_COLUMNS // WIDTH
        slot = tl.arange(0, VECTORS)[:, None]
        row, column, over = vectors_across_rows(slot, length, WIDTH)
        x_at = slot * WIDTH + tl.arange(0, WIDTH)[None, :]
        dx_at = x_at
        grad_at = x_at
    else:
        row, column = tile_indices(length, TILE_ROWS, TILE_COLUMNS, False)
        x_at = tile_offsets(row, column, x_row, UNIT, TILE_ROWS, TILE_COLUMNS, False, FAR)
        dx_at = tile_offsets(row, column, dx_row, UNIT, TILE_ROWS, TILE_COLUMNS, False, FAR)
        grad_at = tile_offsets(row, column * GRAD_COLUMN, grad_row, GRAD_UNIT, TILE_ROWS, TILE_COLUMNS, False, FAR)
    in_column = column < columns_left
    # Not (1, TILE_COLUMNS): loads of a shape share a layout; another one here would have the compiler do everything twice.
    v_at = tl.broadcast_to(n * v_sample + (first_column + column) * v_column, x_at.shape)
    v = tl.load(v_ptr + v_at, tl.broadcast_to(in_column, x_at.shape), 0.0, eviction_policy="evict_last").to(COMPUTE)
    each_row = tl.arange(0, TILE_ROWS) if DENSE else row
    u_at = each_row.to(tl.int64) * u_row if FAR else each_row * u_row
    x_ptr += n * x_sample * WIDTH + first_column
    dx_ptr += n * dx_sample * WIDTH + first_column
    grad_ptr += n * grad_sample * GRAD_WIDTH + first_column * GRAD_COLUMN
    u_ptr += n * u_sample
    dv = tl.zeros(x_at.shape, COMPUTE)

    for step in range(split * walk, tl.minimum((split + 1) * walk, tl.cdiv(rows.to(tl.int64), TILE_ROWS * UNROLL))):
        loaded = ()
        for part in tl.static_range(UNROLL):
            first_row = (step * UNROLL + part) * TILE_ROWS
            rows_left = rows - first_row
            if DENSE:
                live = slot < (tl.minimum(rows_left, TILE_ROWS) * length // WIDTH).to(tl.int32)
            else:
                live = (row < rows_left) & in_column
            # The hints stand on products that the compiler keeps: one by a UNIT of 1 would vanish, and its hint with it.
            x_tile = x_ptr + tl.multiple_of(first_row * UNIT * x_row, WIDTH)
            grad_tile = grad_ptr + tl.multiple_of(first_row * GRAD_UNIT * grad_row, GRAD_WIDTH)
            u = tl.load(u_ptr + first_row * u_row + u_at, each_row < rows_left, 0.0)  # without a hint, as in gate.py
            x = tl.load(x_tile + x_at, live, 0.0, eviction_policy="evict_first")
            grad = tl.load(grad_tile + grad_at, live, 0.0, eviction_policy="evict_first")
            loaded += ((live, u, x, grad),)  # type: ignore[assignment]  # Triton unrolls this
        for part in tl.static_range(UNROLL):
            live, u, x, grad = loaded[part]
            u = of_vectors(u, row, over).to(COMPUTE) if DENSE else u.to(COMPUTE)
            x, grad = x.to(COMPUTE), grad.to(COMPUTE)
            s, slope = sigmoid_and_slope(combine_logits(u, v, COMBINE), SHORT)
            first_row = (step * UNROLL + part) * TILE_ROWS
            dx_tile = dx_ptr + tl.multiple_of(first_row * UNIT * dx_row, WIDTH)
            if WRITES:
                tl.store(dx_tile + dx_at, (grad * (1.0 + s)).to(dx_ptr.dtype.element_ty), live)
            t = tl.where(live, grad * x * slope, 0.0)  # a logit of a lane past the edge may be NaN
            to_u, to_v = split_gradient(t, u, v, COMBINE)
            dv += to_v
            du = sum_rows_of_vectors(to_u, over, length, TILE_ROWS, TILE_COLUMNS // WIDTH) if DENSE else tl.sum(to_u, 1)
            at = first_row + tl.arange(0, TILE_ROWS)
            du_at = (n * column_splits + column_split) * rows + at
            tl.store(du_ptr + du_at, du.to(du_ptr.dtype.element_ty), at < rows)

    if DENSE:
        dv = as_rows(tl.reshape(dv, [TILE_ROWS * TILE_COLUMNS]), length, TILE_ROWS, TILE_COLUMNS, True)
    total = tl.sum(dv, 0)
    at = first_column + tl.arange(0, TILE_COLUMNS)
    dv_at = (n * splits + split) * length + at
    tl.store(dv_ptr + dv_at, total.to(dv_ptr.dtype.element_ty), at < length)


@dataclass(frozen=True)
class Prepared:
    """The launch for tensors of given descriptions."""

    launch: Launch
    config: TileConfig
    rows_are_channels: bool
    row_sums: Sums
    column_sums: Sums


@functools.lru_cache(maxsize=1024)
def prepare(
    grad: Description,
    x: Description,
    channel: Description,
    spatial: Description,
    combine: str,
    config: TileConfig | None = None,
    writes: bool = True,
) -> Prepared | None:
    """The launch for tensors of these descriptions, with this config or the one that the heuristic chooses.

    `writes`: whether dx is written, or the logits' gradients alone.

    None where there is nothing to launch or a tensor must be made contiguous first. Raises as `check_gate` does, and
    ValueError for a config that the kernel cannot run with.
    """
    shape, x_stride, dtype, device = x
    empty_x = stand_in(x)
    check_gate(empty_x, stand_in(channel), stand_in(spatial), combine)
    check_like_x("grad", grad, x)
    dx_stride = torch.empty_like(empty_x).stride()
    seen = choose_with_logits(shape, x_stride, dx_stride, channel[:2], spatial[:2])
    if seen is None:
        return None
    extent, u, v = seen
    rows_are_channels = extent.rows_are_channels
    x_sample, x_row, _ = strides_of(shape, x_stride, rows_are_channels)
    dx_sample, dx_row, _ = strides_of(shape, dx_stride, rows_are_channels)
    grad_sample, grad_row, grad_column = strides_of(shape, grad[1], rows_are_channels)
    if grad_column not in (0, 1):
        return None

    sample_strides = (x_sample, dx_sample, grad_sample)
    dense = grad_column == 1 and x_row == dx_row == grad_row == extent.columns
    if config is None:
        config = heuristics.gate_backward(extent, dtype, device, dense, sample_strides)
    check_config(config, extent, dense)
    if config.dense:
        width = grad_width = min(
            vector_width(dtype, extent.rows * extent.columns, config.tile_rows * extent.columns, *sample_strides),
            1 << (extent.columns.bit_length() - 1),  # a vector meets two rows at most
        )
    else:
        width = vector_width(dtype, extent.columns, x_sample, x_row, dx_sample, dx_row)
        grad_width = vector_width(dtype, grad_sample, grad_row) if grad_column == 1 else 1
    unit, grad_unit = (1, 1) if config.dense else (width, grad_width)
    column_splits = triton.cdiv(extent.columns, config.tile_columns)
    steps = triton.cdiv(extent.rows, config.tile_rows * config.unroll)
    launch = Launch(
        gate_backward_kernel,
        device,
        grid=extent.samples * column_splits * config.splits,
        warps=config.warps,
        registers=_registers(combine, dtype, config.dense),
        rows=extent.rows,
        columns=extent.columns // unit,
        column_splits=column_splits,
        splits=config.splits,
        walk=triton.cdiv(steps, config.splits),
        grad_sample=grad_sample // grad_width,
        grad_row=grad_row // grad_unit,
        x_sample=x_sample // width,
        x_row=x_row // unit,
        dx_sample=dx_sample // width,
        dx_row=dx_row // unit,
        u_sample=u[0],
        u_row=u[1],
        v_sample=v[0],
        v_column=v[1],
        COMBINE=combine,
        WIDTH=width,
        GRAD_WIDTH=grad_width,
        GRAD_COLUMN=grad_column,
        TILE_ROWS=config.tile_rows,
        TILE_COLUMNS=config.tile_columns,
        UNROLL=config.unroll,
        DENSE=config.dense,
        FAR=config.tile_rows * max(x_row, dx_row, grad_row, u[1]) >= 2**31,
        WRITES=writes,
    )
    return Prepared(
        launch,
        config,
        rows_are_channels,
        Sums(device, dtype, extent.samples, column_splits, extent.rows),
        Sums(device, dtype, extent.samples, config.splits, extent.columns),
    )


def gate_backward(
    grad: Tensor,
    x: Tensor,
    channel_logits: Tensor,
    spatial_logits: Tensor,
    combine: str,
    config: TileConfig | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, channel_logits and spatial_logits by Triton, in their shapes and dtypes; dx has x's layout."""
    dx = torch.empty_like(x)
    return dx, *backward(grad, x, channel_logits, spatial_logits, combine, config, dx)


def backward(
    grad: Tensor,
    x: Tensor,
    channel_logits: Tensor,
    spatial_logits: Tensor,
    combine: str,
    config: TileConfig | None,
    dx: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Gradients of channel_logits and spatial_logits; x's is written to dx, which is like x, unless that is None."""
    descriptions = describe(grad), describe(x), describe(channel_logits), describe(spatial_logits)
    prepared = prepare(*descriptions, combine, config, dx is not None)
    if prepared is None:
        return _conform(grad, x, channel_logits, spatial_logits, combine, config, dx)
    dchannel = channel_logits.new_empty(channel_logits.shape)
    dspatial = spatial_logits.new_empty(spatial_logits.shape)
    if prepared.rows_are_channels:
        u, v, du, dv = channel_logits, spatial_logits, dchannel, dspatial
    else:
        u, v, du, dv = spatial_logits, channel_logits, dspatial, dchannel
    du_target, dv_target = prepared.row_sums.target(du), prepared.column_sums.target(dv)
    prepared.launch(grad, x, u, v, x if dx is None else dx, du_target, dv_target)
    prepared.row_sums.finish(du_target, du)
    prepared.column_sums.finish(dv_target, dv)
    return dchannel, dspatial


def _conform(
    grad: Tensor,
    x: Tensor,
    channel_logits: Tensor,
    spatial_logits: Tensor,
    combine: str,
    config: TileConfig | None,
    dx: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The same for what `prepare` cannot launch: no elements, or a tensor that can not be seen as rows."""
    if x.numel() == 0:
        return torch.zeros_like(channel_logits), torch.zeros_like(spatial_logits)
    rows_are_channels = choose_rows(x.shape, x.stride(), torch.empty_like(x, device="meta").stride())
    if rows_are_channels is not None:
        layout = torch.contiguous_format if rows_are_channels else torch.channels_last
        grad, spatial_logits = grad.contiguous(memory_format=layout), spatial_logits.contiguous()
        return backward(grad, x, channel_logits, spatial_logits, combine, config, dx)
    dense = None if dx is None else torch.empty_like(x, memory_format=torch.contiguous_format)
    found = backward(grad, x.contiguous(), channel_logits, spatial_logits, combine, config, dense)
    if dx is not None and dense is not None:
        dx.copy_(dense)
    return found
