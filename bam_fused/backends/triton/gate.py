"""gate: x + x * sigmoid(combine(channel_logits, spatial_logits)), one pass: x is read once, the output written once.

A sample is one run of elements, row after row, cut into vectors of 16 bytes; a program takes a fixed number of them. A
vector needs one row logit, or two where rows do not begin at a multiple of the vector and it may run across the end of one.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from bam_fused.backends.triton import heuristics
from bam_fused.backends.triton.formulas import combine_logits, sigmoid
from bam_fused.backends.triton.launch import Description, Launch, describe, stand_in
from bam_fused.backends.triton.matrices import (
    channel_strides,
    matrices,
    matrix_strides,
    orientation,
    spatial_strides,
    vector_width,
)
from bam_fused.checks import check_gate

STRIDES = ["rows", "columns", "programs", "x_batch", "x_row", "out_batch", "out_row", "u_batch", "v_batch"]


@triton.jit(do_not_specialize=STRIDES)
def gate_kernel(
    x_ptr,
    u_ptr,
    v_ptr,
    out_ptr,
    rows,
    columns,  # this and the strides of x and out count vectors of WIDTH elements, v_batch those of V_WIDTH
    programs,  # per sample
    x_batch,
    x_row,
    out_batch,
    out_row,
    u_batch,
    u_row,
    v_batch,
    v_column,
    COMBINE: tl.constexpr,
    WIDTH: tl.constexpr,  # elements of a vector
    VECTORS: tl.constexpr,  # of a program
    V_WIDTH: tl.constexpr,
    CROSSING: tl.constexpr,  # vectors run across rows; x and out are then dense and `columns` counts elements
    SHORT_ROWS: tl.constexpr,  # a program's elements may reach over several rows
):
    WIDE: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    program = tl.program_id(0).to(tl.int64)
    n = program // programs
    first = (program % programs) * (VECTORS * WIDTH)
    length = (columns if SHORT_ROWS else columns.to(tl.int64)) * (1 if CROSSING else WIDTH)
    vector = tl.arange(0, VECTORS)[:, None] * WIDTH
    lane = tl.arange(0, WIDTH)[None, :]

    first_row = first // length
    column = (first - first_row * length) + vector  # counted from the beginning of first_row
    below = column.to(tl.int32) // length if SHORT_ROWS else (column >= length).to(tl.int32)
    row = first_row + below
    column = (column - below * length) + lane
    live = row < rows

    u = tl.load(u_ptr + (n * u_batch + row * u_row), live, 0.0, eviction_policy="evict_last").to(WIDE)
    if CROSSING:
        next_u = tl.load(u_ptr + (n * u_batch + (row + 1) * u_row), row + 1 < rows, 0.0).to(WIDE)
        over = column >= length
        u = tl.where(over, next_u, u)
        v_at = tl.where(over, column - length, column)
        x_at = first + vector + lane
        out_at = x_at
    else:
        v_at = column
        x_at = row * x_row * WIDTH + column
        out_at = row * out_row * WIDTH + column
    v_at = n * v_batch * V_WIDTH + v_at * v_column
    v = tl.load(v_ptr + v_at, live, 0.0, eviction_policy="evict_last").to(WIDE)
    x = tl.load(x_ptr + n * x_batch * WIDTH + x_at, live, 0.0, eviction_policy="evict_first").to(WIDE)

    out = x + x * sigmoid(combine_logits(u, v, COMBINE))
    tl.store(out_ptr + n * out_batch * WIDTH + out_at, out.to(out_ptr.dtype.element_ty), live)


@functools.lru_cache(maxsize=1024)
def plan(x: Description, channel: Description, spatial: Description, combine: str) -> tuple[Launch, bool] | None:
    """The launch for tensors of these descriptions, and whether its rows are the channels.

    None where there is nothing to launch or a tensor must be made contiguous first. Raises as `check_gate` does.
    """
    shape, x_stride, dtype, device = x
    empty_x = stand_in(x)
    check_gate(empty_x, stand_in(channel), stand_in(spatial), combine)
    out_stride = torch.empty_like(empty_x).stride()
    rows_are_channels = orientation(shape, x_stride, out_stride)
    u, v = channel_strides(*channel[:2]), spatial_strides(*spatial[:2])
    if empty_x.numel() == 0 or rows_are_channels is None or v is None:
        return None
    u, v = (u, v) if rows_are_channels else (v, u)
    view = matrices(shape, rows_are_channels)
    x_batch, x_row = matrix_strides(shape, x_stride, rows_are_channels)[:2]
    out_batch, out_row = matrix_strides(shape, out_stride, rows_are_channels)[:2]

    width = vector_width(dtype, view.columns, x_batch, x_row, out_batch, out_row)
    crossing_width = vector_width(dtype, view.rows * view.columns, x_batch, out_batch)
    crossing = x_row == out_row == view.columns and width < crossing_width <= view.columns
    width = crossing_width if crossing else width
    v_width = vector_width(dtype, v[0]) if v[1] == 1 else 1
    config = heuristics.gate(view, dtype, device)
    programs = triton.cdiv(view.rows * view.columns, config.elements)
    launch = Launch(
        gate_kernel,
        device,
        grid=view.batch * programs,
        warps=config.warps,
        rows=view.rows,
        columns=view.columns if crossing else view.columns // width,
        programs=programs,
        x_batch=x_batch // width,
        x_row=x_row // width,
        out_batch=out_batch // width,
        out_row=out_row // width,
        u_batch=u[0],
        u_row=u[1],
        v_batch=v[0] // v_width,
        v_column=v[1],
        COMBINE=combine,
        WIDTH=width,
        VECTORS=config.elements // width,
        V_WIDTH=v_width,
        CROSSING=crossing,
        SHORT_ROWS=view.columns < config.elements,
    )
    return launch, rows_are_channels


def gate(x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str) -> Tensor:
    """The gate by Triton; arguments and result as for `bam_fused.gate`."""
    planned = plan(describe(x), describe(channel_logits), describe(spatial_logits), combine)
    if planned is None:
        if x.numel() == 0:
            return torch.empty_like(x)
        dense = gate(x.contiguous(), channel_logits, spatial_logits.contiguous(), combine)
        return torch.empty_like(x).copy_(dense)
    launch, rows_are_channels = planned
    out = torch.empty_like(x)
    if rows_are_channels:
        launch(x, channel_logits, spatial_logits, out)
    else:
        launch(x, spatial_logits, channel_logits, out)
    return out
