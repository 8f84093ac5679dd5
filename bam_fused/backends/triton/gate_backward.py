"""gate_backward: one pass over grad and x that writes dx and reduces the gradients of both logits on the way.

A program walks down the rows of a matrix in tiles. The sum over a tile's columns, the gradient of the row logits, is
complete when the tile spans the matrix and is a partial sum otherwise; the sum over rows builds up in registers, lane by
lane, and is reduced once at the end of the walk. Partial sums go to a workspace and are added in fixed order.
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
    as_matrix,
    combine_logits,
    of_row,
    sigmoid_and_slope,
    split_gradient,
    tile_mask,
    tile_offsets,
    tile_position,
)
from bam_fused.backends.triton.launch import Description, Launch, check_like_x, describe, stand_in
from bam_fused.backends.triton.matrices import (
    channel_strides,
    matrices,
    matrix_strides,
    orientation,
    spatial_strides,
    vector_width,
)
from bam_fused.backends.triton.partials import Sums
from bam_fused.checks import check_gate

SIZES = ["rows", "columns", "slabs", "splits", "walk"]
STRIDES = ["grad_batch", "grad_row", "x_batch", "x_row", "dx_batch", "dx_row", "u_batch", "v_batch"]


@triton.jit(do_not_specialize=SIZES + STRIDES)
def gate_backward_kernel(
    grad_ptr,
    x_ptr,
    u_ptr,
    v_ptr,
    dx_ptr,
    du_ptr,  # (batch, slabs, rows)
    dv_ptr,  # (batch, splits, columns)
    rows,
    columns,  # this and the strides of x and dx count WIDTH elements; if DENSE, only those over the batch do
    slabs,  # of columns
    splits,  # of the walk down the rows
    walk,  # tiles of one split
    grad_batch,  # grad's strides count GRAD_WIDTH elements likewise
    grad_row,
    x_batch,
    x_row,
    dx_batch,
    dx_row,
    u_batch,
    u_row,
    v_batch,
    v_column,
    COMBINE: tl.constexpr,
    WIDTH: tl.constexpr,
    GRAD_WIDTH: tl.constexpr,
    GRAD_COLUMN: tl.constexpr,  # grad's stride over columns, 1, or 0 where it is broadcast
    R_BLOCK: tl.constexpr,
    K_BLOCK: tl.constexpr,
    DENSE: tl.constexpr,
    FAR: tl.constexpr,  # offsets within a tile need 64 bits
):
    WIDE: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    UNIT: tl.constexpr = 1 if DENSE else WIDTH
    GRAD_UNIT: tl.constexpr = 1 if DENSE else GRAD_WIDTH
    program = tl.program_id(0).to(tl.int64)
    slab = program % slabs
    split = (program // slabs) % splits
    n = program // slabs // splits
    length = columns if DENSE else columns.to(tl.int64) * UNIT
    first_column = slab * K_BLOCK
    columns_left = length - first_column

    row, column = tile_position(length, R_BLOCK, K_BLOCK, DENSE)
    in_column = column < columns_left
    x_at = tile_offsets(row, column, x_row, UNIT, R_BLOCK, K_BLOCK, DENSE, FAR)
    # Not (1, K_BLOCK): loads of a shape share a layout, and another one here would have the compiler do everything twice.
    v_at = tl.broadcast_to(n * v_batch + (first_column + column) * v_column, x_at.shape)
    v = tl.load(v_ptr + v_at, tl.broadcast_to(in_column, x_at.shape), 0.0, eviction_policy="evict_last").to(WIDE)
    dx_at = tile_offsets(row, column, dx_row, UNIT, R_BLOCK, K_BLOCK, DENSE, FAR)
    grad_at = tile_offsets(row, column * GRAD_COLUMN, grad_row, GRAD_UNIT, R_BLOCK, K_BLOCK, DENSE, FAR)
    each_row = tl.arange(0, R_BLOCK) if DENSE else row
    u_at = each_row.to(tl.int64) * u_row if FAR else each_row * u_row
    x_ptr += n * x_batch * WIDTH + first_column
    dx_ptr += n * dx_batch * WIDTH + first_column
    grad_ptr += n * grad_batch * GRAD_WIDTH + first_column * GRAD_COLUMN
    u_ptr += n * u_batch
    dv = tl.zeros(x_at.shape, WIDE)

    for step in range(split * walk, tl.minimum((split + 1) * walk, tl.cdiv(rows.to(tl.int64), R_BLOCK))):
        first_row = step * R_BLOCK
        rows_left = rows - first_row
        live = tile_mask(row, column, rows_left, columns_left, WIDTH, R_BLOCK, K_BLOCK, DENSE)
        # The hints stand on products that the compiler keeps: one by a UNIT of 1 would vanish, and its hint with it.
        x_tile = x_ptr + tl.multiple_of(first_row * UNIT * x_row, WIDTH)
        dx_tile = dx_ptr + tl.multiple_of(first_row * UNIT * dx_row, WIDTH)
        grad_tile = grad_ptr + tl.multiple_of(first_row * GRAD_UNIT * grad_row, GRAD_WIDTH)
        u_tile = u_ptr + first_row * u_row
        u = tl.load(u_tile + u_at, each_row < rows_left, 0.0, eviction_policy="evict_last").to(WIDE)
        u = of_row(u, row, R_BLOCK, DENSE)
        x = tl.load(x_tile + x_at, live, 0.0, eviction_policy="evict_first").to(WIDE)
        grad = tl.load(grad_tile + grad_at, live, 0.0, eviction_policy="evict_first").to(WIDE)

        s, slope = sigmoid_and_slope(combine_logits(u, v, COMBINE))
        tl.store(dx_tile + dx_at, (grad * (1.0 + s)).to(dx_ptr.dtype.element_ty), live)
        t = tl.where(live, grad * x * slope, 0.0)  # a logit of a lane past the edge may be NaN
        to_u, to_v = split_gradient(t, u, v, COMBINE)
        dv += to_v
        du = tl.sum(as_matrix(to_u, length, R_BLOCK, K_BLOCK, DENSE), 1)
        at = first_row + tl.arange(0, R_BLOCK)
        du_at = (n * slabs + slab) * rows + at
        tl.store(du_ptr + du_at, du.to(du_ptr.dtype.element_ty), at < rows)

    total = tl.sum(as_matrix(dv, length, R_BLOCK, K_BLOCK, DENSE), 0)
    at = first_column + tl.arange(0, K_BLOCK)
    dv_at = (n * splits + split) * length + at
    tl.store(dv_ptr + dv_at, total.to(dv_ptr.dtype.element_ty), at < length)


@dataclass(frozen=True)
class Plan:
    """The launch for tensors of given descriptions."""

    launch: Launch
    rows_are_channels: bool
    row_sums: Sums
    column_sums: Sums


@functools.lru_cache(maxsize=1024)
def plan(grad: Description, x: Description, channel: Description, spatial: Description, combine: str) -> Plan | None:
    """The launch for tensors of these descriptions.

    None where there is nothing to launch or a tensor must be made contiguous first. Raises as `check_gate` does.
    """
    shape, x_stride, dtype, device = x
    empty_x = stand_in(x)
    check_gate(empty_x, stand_in(channel), stand_in(spatial), combine)
    check_like_x("grad", grad, x)
    dx_stride = torch.empty_like(empty_x).stride()
    rows_are_channels = orientation(shape, x_stride, dx_stride)
    u, v = channel_strides(*channel[:2]), spatial_strides(*spatial[:2])
    if empty_x.numel() == 0 or rows_are_channels is None or v is None:
        return None
    u, v = (u, v) if rows_are_channels else (v, u)
    view = matrices(shape, rows_are_channels)
    x_batch, x_row, _ = matrix_strides(shape, x_stride, rows_are_channels)
    dx_batch, dx_row, _ = matrix_strides(shape, dx_stride, rows_are_channels)
    grad_batch, grad_row, grad_column = matrix_strides(shape, grad[1], rows_are_channels)
    if grad_column not in (0, 1):
        return None

    batches = (x_batch, dx_batch, grad_batch)
    dense = grad_column == 1 and x_row == dx_row == grad_row == view.columns
    config = heuristics.gate_backward(view, dtype, device, dense, batches)
    if config.dense:
        width = grad_width = vector_width(dtype, view.rows * view.columns, config.row_block * view.columns, *batches)
    else:
        width = vector_width(dtype, view.columns, x_batch, x_row, dx_batch, dx_row)
        grad_width = vector_width(dtype, grad_batch, grad_row) if grad_column == 1 else 1
    unit, grad_unit = (1, 1) if config.dense else (width, grad_width)
    slabs, tiles = triton.cdiv(view.columns, config.column_block), triton.cdiv(view.rows, config.row_block)
    launch = Launch(
        gate_backward_kernel,
        device,
        grid=view.batch * slabs * config.splits,
        warps=config.warps,
        rows=view.rows,
        columns=view.columns // unit,
        slabs=slabs,
        splits=config.splits,
        walk=triton.cdiv(tiles, config.splits),
        grad_batch=grad_batch // grad_width,
        grad_row=grad_row // grad_unit,
        x_batch=x_batch // width,
        x_row=x_row // unit,
        dx_batch=dx_batch // width,
        dx_row=dx_row // unit,
        u_batch=u[0],
        u_row=u[1],
        v_batch=v[0],
        v_column=v[1],
        COMBINE=combine,
        WIDTH=width,
        GRAD_WIDTH=grad_width,
        GRAD_COLUMN=grad_column,
        R_BLOCK=config.row_block,
        K_BLOCK=config.column_block,
        DENSE=config.dense,
        FAR=config.row_block * max(x_row, dx_row, grad_row, u[1]) >= 2**31,
    )
    return Plan(
        launch,
        rows_are_channels,
        Sums(device, dtype, view.batch, slabs, view.rows),
        Sums(device, dtype, view.batch, config.splits, view.columns),
    )


def gate_backward(
    grad: Tensor, x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, channel_logits and spatial_logits by Triton, in their shapes and dtypes; dx has x's layout."""
    planned = plan(describe(grad), describe(x), describe(channel_logits), describe(spatial_logits), combine)
    if planned is None:
        return _conform(grad, x, channel_logits, spatial_logits, combine)
    dx = torch.empty_like(x)
    dchannel = channel_logits.new_empty(channel_logits.shape)
    dspatial = spatial_logits.new_empty(spatial_logits.shape)
    if planned.rows_are_channels:
        u, v, du, dv = channel_logits, spatial_logits, dchannel, dspatial
    else:
        u, v, du, dv = spatial_logits, channel_logits, dspatial, dchannel
    du_parts, dv_parts = planned.row_sums.target(du), planned.column_sums.target(dv)
    planned.launch(grad, x, u, v, dx, du_parts, dv_parts)
    planned.row_sums.finish(du_parts, du)
    planned.column_sums.finish(dv_parts, dv)
    return dx, dchannel, dspatial


def _conform(
    grad: Tensor, x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for what has no plan: no elements, or a tensor that no view as matrices fits."""
    if x.numel() == 0:
        return torch.empty_like(x), torch.zeros_like(channel_logits), torch.zeros_like(spatial_logits)
    rows_are_channels = orientation(x.shape, x.stride(), torch.empty_like(x, device="meta").stride())
    if rows_are_channels is not None:
        layout = torch.contiguous_format if rows_are_channels else torch.channels_last
        return gate_backward(
            grad.contiguous(memory_format=layout), x, channel_logits, spatial_logits.contiguous(), combine
        )
    dx, dchannel, dspatial = gate_backward(grad, x.contiguous(), channel_logits, spatial_logits, combine)
    return torch.empty_like(x).copy_(dx), dchannel, dspatial
