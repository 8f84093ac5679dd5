"""gate: x + x * sigmoid(combine(channel_logits, spatial_logits)), one pass: x is read once, the output written once.

A sample is one run of elements, row after row, cut into vectors of 16 bytes; a program takes a fixed number of them. A
vector needs one row logit, or two where rows do not begin at a multiple of the vector and it may run across the end of one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from bam_fused.backends.triton import heuristics
from bam_fused.backends.triton.formulas import combine_logits, sigmoid
from bam_fused.backends.triton.heuristics import PointwiseConfig, check_config
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

STRIDES = ["rows", "columns", "programs", "x_sample", "x_row", "out_sample", "out_row", "u_sample", "v_sample"]


@triton.jit(do_not_specialize=STRIDES)
def gate_kernel(
    x_ptr,
    u_ptr,
    v_ptr,
    out_ptr,
    rows,
    columns,  # this and the strides of x and out count vectors of WIDTH elements, v_sample those of V_WIDTH
    programs,  # per sample
    x_sample,
    x_row,
    out_sample,
    out_row,
    u_sample,
    u_row,
    v_sample,
    v_column,
    COMBINE: tl.constexpr,
    WIDTH: tl.constexpr,  # elements of a vector
    VECTORS: tl.constexpr,  # of a program
    V_WIDTH: tl.constexpr,
    CROSSING: tl.constexpr,  # vectors run across rows; x and out are then dense and `columns` counts elements
    SHORT_ROWS: tl.constexpr,  # a program's elements may reach over several rows
):
    COMPUTE: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
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

    u = tl.load(u_ptr + (n * u_sample + row * u_row), live, 0.0, eviction_policy="evict_last").to(COMPUTE)
    if CROSSING:
        next_u = tl.load(u_ptr + (n * u_sample + (row + 1) * u_row), row + 1 < rows, 0.0).to(COMPUTE)
        over = column >= length
        u = tl.where(over, next_u, u)
        v_at = tl.where(over, column - length, column)
        x_at = first + vector + lane
        out_at = x_at
    else:
        v_at = column
        x_at = row * x_row * WIDTH + column
        out_at = row * out_row * WIDTH + column
    v_at = n * v_sample * V_WIDTH + v_at * v_column
    v = tl.load(v_ptr + v_at, live, 0.0, eviction_policy="evict_last").to(COMPUTE)
    x = tl.load(x_ptr + n * x_sample * WIDTH + x_at, live, 0.0, eviction_policy="evict_first").to(COMPUTE)

    out = x + x * sigmoid(combine_logits(u, v, COMBINE))
    tl.store(out_ptr + n * out_sample * WIDTH + out_at, out.to(out_ptr.dtype.element_ty), live)


@dataclass(frozen=True)
class Prepared:
    """The launch for tensors of given descriptions."""

    launch: Launch
    config: PointwiseConfig
    rows_are_channels: bool


@functools.lru_cache(maxsize=1024)
def prepare(
    x: Description, channel: Description, spatial: Description, combine: str, config: PointwiseConfig | None = None
) -> Prepared | None:
    """The launch for tensors of these descriptions, with this config or the one that the heuristic chooses.

    None where there is nothing to launch or a tensor must be made contiguous first. Raises as `check_gate` does, and
    ValueError for a config that the kernel cannot run with.
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
    x_sample, x_row = matrix_strides(shape, x_stride, rows_are_channels)[:2]
    out_sample, out_row = matrix_strides(shape, out_stride, rows_are_channels)[:2]

    width = vector_width(dtype, view.columns, x_sample, x_row, out_sample, out_row)
    crossing_width = vector_width(dtype, view.rows * view.columns, x_sample, out_sample)
    crossing = x_row == out_row == view.columns and width < crossing_width <= view.columns
    width = crossing_width if crossing else width
    v_width = vector_width(dtype, v[0]) if v[1] == 1 else 1
    if config is None:
        config = heuristics.gate(view, dtype, device)
    check_config(config, view)
    programs = triton.cdiv(view.rows * view.columns, config.elements)
    launch = Launch(
        gate_kernel,
        device,
        grid=view.batch * programs,
        warps=config.warps,
        rows=view.rows,
        columns=view.columns if crossing else view.columns // width,
        programs=programs,
        x_sample=x_sample // width,
        x_row=x_row // width,
        out_sample=out_sample // width,
        out_row=out_row // width,
        u_sample=u[0],
        u_row=u[1],
        v_sample=v[0] // v_width,
        v_column=v[1],
        COMBINE=combine,
        WIDTH=width,
        VECTORS=config.elements // width,
        V_WIDTH=v_width,
        CROSSING=crossing,
        SHORT_ROWS=view.columns < config.elements,
    )
    return Prepared(launch, config, rows_are_channels)


def gate(
    x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str, config: PointwiseConfig | None = None
) -> Tensor:
    """The gate by Triton; arguments and result as for `bam_fused.gate`, `config` as for `prepare`."""
    prepared = prepare(describe(x), describe(channel_logits), describe(spatial_logits), combine, config)
    if prepared is None:
        if x.numel() == 0:
            return torch.empty_like(x)
        dense = gate(x.contiguous(), channel_logits, spatial_logits.contiguous(), combine, config)
        return torch.empty_like(x).copy_(dense)
    out = torch.empty_like(x)
    if prepared.rows_are_channels:
        prepared.launch(x, channel_logits, spatial_logits, out)
    else:
        prepared.launch(x, spatial_logits, channel_logits, out)
    return out
