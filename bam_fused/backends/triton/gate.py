"""gate: x + x * sigmoid(combine(channel_logits, spatial_logits)), one pass: x is read once, the output written once.

Rows are taken in groups, each one run of vectors of 16 bytes; a program holds a tile of such a run and walks from group to
group. A lane then meets the same columns in every group: their logits are loaded and converted once, and only row logits
come with each vector, one, or two where rows do not begin at a multiple of the vector and it may run across the end of one.
The loads of several groups are issued before the first is computed on: that many are in flight.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from bam_fused.backends.triton import heuristics
from bam_fused.backends.triton.formulas import combine_logits, sigmoid, vectors_across_rows
from bam_fused.backends.triton.heuristics import PointwiseConfig, check_config
from bam_fused.backends.triton.launch import Description, Launch, describe, stand_in
from bam_fused.backends.triton.rows import choose_with_logits, strides_of, vector_width
from bam_fused.checks import check_gate

SIZES = ["rows", "columns", "group_vectors", "tiles", "splits", "walk"]
STRIDES = ["x_sample", "x_row", "out_sample", "out_row", "u_sample", "v_sample"]


def _registers(combine: str, dtype: torch.dtype, crossing: bool) -> int:
    """The most for a thread: what leaves room for eight, seven or six programs of 128, with 64 bytes under way for each.

    By Triton 3.6 (not 3.8) the gate across rows of 7 x 7 spills one word on sm_90, read once in the 388 instructions of a
    step. With 72 registers it does not, and one program of eight has no room.
    """
    if combine == "max":
        return 80
    return 72 if crossing and dtype == torch.float32 else 64


@triton.jit(do_not_specialize=SIZES + STRIDES)
def gate_kernel(
    x_ptr,
    u_ptr,
    v_ptr,
    out_ptr,
    rows,
    columns,  # this and the strides of x and out count vectors of WIDTH elements, v_sample those of V_WIDTH
    group_vectors,
    tiles,  # of a group
    splits,  # of the walk over the groups
    walk,  # steps of one split
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
    V_WIDTH: tl.constexpr,
    VECTORS: tl.constexpr,  # of a tile
    GROUP_ROWS: tl.constexpr,
    UNROLL: tl.constexpr,  # groups of a step, all of which are loaded first
    CROSSING: tl.constexpr,  # vectors run across rows; x and out are dense; columns, x_row and out_row count elements
    FAR: tl.constexpr,  # offsets within a group need 64 bits
):
    COMPUTE: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    UNIT: tl.constexpr = 1 if CROSSING else WIDTH
    program = tl.program_id(0)
    tile = program % tiles
    split = ((program // tiles) % splits).to(tl.int64)
    n = (program // tiles // splits).to(tl.int64)

    slot = tile * VECTORS + tl.arange(0, VECTORS)[:, None]  # of the group's vectors
    slot = slot.to(tl.int64) if FAR else slot
    lane = tl.arange(0, WIDTH)[None, :]
    if CROSSING:
        row, v_at, over = vectors_across_rows(slot, columns, WIDTH)
        x_at = slot * WIDTH + lane
        out_at = x_at
    else:
        row = slot // columns
        v_at = (slot - row * columns) * WIDTH + lane
        x_at = row * x_row * WIDTH + v_at
        out_at = row * out_row * WIDTH + v_at
    inside = slot < group_vectors
    v_at = n * v_sample * V_WIDTH + v_at * v_column
    v = tl.load(v_ptr + v_at, inside, 0.0, eviction_policy="evict_last").to(COMPUTE)
    u_at = row * u_row
    x_ptr += n * x_sample * WIDTH
    out_ptr += n * out_sample * WIDTH
    u_ptr += n * u_sample

    for step in range(split * walk, tl.minimum((split + 1) * walk, tl.cdiv(rows, GROUP_ROWS * UNROLL))):
        loaded = ()
        for part in tl.static_range(UNROLL):
            first_row = (step * UNROLL + part) * GROUP_ROWS
            rows_left = tl.minimum(rows - first_row, GROUP_ROWS).to(tl.int32)
            live = inside & (row < rows_left)
            # Row logits without a hint: the code for one is five instructions a load, and they stay in the cache without.
            u_group = u_ptr + first_row * u_row
            u = tl.load(u_group + u_at, live, 0.0)
            next_u = tl.load(u_group + u_row + u_at, live & (row + 1 < rows_left), 0.0) if CROSSING else u
            # The hint of a multiple stands on a product that the compiler keeps.
            x_group = x_ptr + tl.multiple_of(first_row * UNIT * x_row, WIDTH)
            x = tl.load(x_group + x_at, live, 0.0, eviction_policy="evict_first")
            loaded += ((live, u, next_u, x),)  # type: ignore[assignment]  # Triton unrolls this
        for part in tl.static_range(UNROLL):
            live, u, next_u, x = loaded[part]
            u = tl.where(over, next_u, u).to(COMPUTE) if CROSSING else u.to(COMPUTE)
            x = x.to(COMPUTE)
            out = x + x * sigmoid(combine_logits(u, v, COMBINE), x_ptr.dtype.element_ty.primitive_bitwidth == 16)
            first_row = (step * UNROLL + part) * GROUP_ROWS
            out_group = out_ptr + tl.multiple_of(first_row * UNIT * out_row, WIDTH)
            tl.store(out_group + out_at, out.to(out_ptr.dtype.element_ty), live)


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
    seen = choose_with_logits(shape, x_stride, out_stride, channel[:2], spatial[:2])
    if seen is None:
        return None
    extent, u, v = seen
    rows_are_channels = extent.rows_are_channels
    x_sample, x_row = strides_of(shape, x_stride, rows_are_channels)[:2]
    out_sample, out_row = strides_of(shape, out_stride, rows_are_channels)[:2]

    width = vector_width(dtype, extent.columns, x_sample, x_row, out_sample, out_row)
    crossing_width = vector_width(dtype, extent.rows * extent.columns, x_sample, out_sample)
    crossing = x_row == out_row == extent.columns and width < crossing_width <= extent.columns
    width = crossing_width if crossing else width
    v_width = vector_width(dtype, v[0]) if v[1] == 1 else 1
    unit = 1 if crossing else width
    # Every so many rows a vector begins at the beginning of a row.
    row_step = width // math.gcd(width, extent.columns) if crossing else 1
    if config is None:
        config = heuristics.gate(extent, dtype, device, width, row_step)
    check_config(config, extent)
    group_rows = triton.cdiv(config.group_rows, row_step) * row_step
    group_vectors = group_rows * extent.columns // width
    tiles, steps = triton.cdiv(group_vectors, config.vectors), triton.cdiv(extent.rows, group_rows * config.unroll)
    launch = Launch(
        gate_kernel,
        device,
        grid=extent.samples * tiles * config.splits,
        warps=config.warps,
        registers=_registers(combine, dtype, crossing),
        rows=extent.rows,
        columns=extent.columns // unit,
        group_vectors=group_vectors,
        tiles=tiles,
        splits=config.splits,
        walk=triton.cdiv(steps, config.splits),
        x_sample=x_sample // width,
        x_row=x_row // unit,
        out_sample=out_sample // width,
        out_row=out_row // unit,
        u_sample=u[0],
        u_row=u[1],
        v_sample=v[0] // v_width,
        v_column=v[1],
        COMBINE=combine,
        WIDTH=width,
        V_WIDTH=v_width,
        VECTORS=config.vectors,
        GROUP_ROWS=group_rows,
        UNROLL=config.unroll,
        CROSSING=crossing,
        FAR=max(tiles * config.vectors * width * max(1, v[1]), group_rows * max(x_row, out_row, u[1])) >= 2**31,
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
