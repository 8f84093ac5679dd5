"""squeeze_input_grad: x's gradient behind a squeeze, and behind the gate where that has left its part, in one write.

A program has a tile of channels and positions and takes the product over the reduction's channels.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from bam_fused.backends import eager
from bam_fused.backends.triton.formulas import combine_logits, sigmoid
from bam_fused.backends.triton.launch import Description, Launch, describe
from bam_fused.backends.triton.layers import block, factors, multiply
from bam_fused.backends.triton.rows import choose_rows, extent_of, strides_of, vector_width
from bam_fused.checks import check_gate, check_reduced_grad, check_squeeze

TILE = 64, 64  # rows and columns
WARPS = 4


@triton.jit(do_not_specialize=["rows", "columns", "sample", "row"])
def squeeze_input_grad_kernel(
    weight_ptr,  # (OUTPUTS, channels)
    pooled_grad_ptr,  # (batch, channels)
    reduced_grad_ptr,  # (batch, positions, OUTPUTS)
    grad_ptr,
    channel_ptr,  # (batch, channels)
    spatial_ptr,  # (batch, positions)
    dx_ptr,
    rows,
    columns,  # this and the strides count WIDTH elements
    sample,  # strides of grad and dx
    row,
    weight_output,
    weight_channel,
    ALONG_ROWS: tl.constexpr,  # the rows are the channels
    WIDTH: tl.constexpr,
    OUTPUTS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    OUTPUT_BLOCK: tl.constexpr,
    GATED: tl.constexpr,
    COMBINE: tl.constexpr,
    WIDENS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    COMPUTE: tl.constexpr = tl.float64 if dx_ptr.dtype.element_ty == tl.float64 else tl.float32
    columns *= WIDTH
    row_tiles, column_tiles = tl.cdiv(rows, ROWS), tl.cdiv(columns, COLUMNS)
    program = tl.program_id(0)
    n = (program // (row_tiles * column_tiles)).to(tl.int64)
    at_row = program // column_tiles % row_tiles * ROWS + tl.arange(0, ROWS)
    at_column = program % column_tiles * COLUMNS + tl.arange(0, COLUMNS)
    live_row, live_column = at_row < rows, at_column < columns
    channels, positions = (rows, columns) if ALONG_ROWS else (columns, rows)
    channel, position = (at_row, at_column) if ALONG_ROWS else (at_column, at_row)
    live_channel, live_position = (live_row, live_column) if ALONG_ROWS else (live_column, live_row)

    live = live_row[:, None] & live_column[None, :]
    at = n * sample * WIDTH + at_row.to(tl.int64)[:, None] * row * WIDTH + at_column[None, :]
    if GATED:  # the longest way first
        grad = tl.load(grad_ptr + at, live, 0.0, eviction_policy="evict_first").to(COMPUTE)
    sums = tl.zeros([ROWS, COLUMNS], COMPUTE)
    for first in range(0, OUTPUTS, OUTPUT_BLOCK):
        output = first + tl.arange(0, OUTPUT_BLOCK)
        known = output < OUTPUTS
        at_weight = channel[:, None] * weight_channel + output[None, :] * weight_output
        weight = tl.load(weight_ptr + at_weight, live_channel[:, None] & known[None, :], 0.0)
        at_reduced = (n * positions + position)[:, None] * OUTPUTS + output[None, :]
        reduced = tl.load(reduced_grad_ptr + at_reduced, live_position[:, None] & known[None, :], 0.0).to(weight.dtype)
        if ALONG_ROWS:
            sums = multiply(weight, tl.trans(reduced), sums, WIDENS, PRECISION)
        else:
            sums = multiply(reduced, tl.trans(weight), sums, WIDENS, PRECISION)

    pooled = tl.load(pooled_grad_ptr + n * channels + channel, live_channel, 0.0).to(COMPUTE) / positions
    sums += pooled[:, None] if ALONG_ROWS else pooled[None, :]
    if GATED:
        u = tl.load(channel_ptr + n * channels + channel, live_channel, 0.0).to(COMPUTE)
        v = tl.load(spatial_ptr + n * positions + position, live_position, 0.0).to(COMPUTE)
        u, v = (u[:, None], v[None, :]) if ALONG_ROWS else (u[None, :], v[:, None])
        short: tl.constexpr = dx_ptr.dtype.element_ty.primitive_bitwidth == 16
        sums += grad + grad * sigmoid(combine_logits(u, v, COMBINE), short)
    tl.store(dx_ptr + at, sums.to(dx_ptr.dtype.element_ty), live)


@functools.lru_cache(maxsize=1024)
def settle(dx: Description, weight: Description, dtypes: tuple[torch.dtype, ...], combine: str | None) -> Launch | None:
    """The launch for x's gradient in these strides; None where they are neither format's. `combine`: None without a gate.

    `dtypes`: of the pooled vector's gradient, the reduction's and both logits'.
    """
    shape, stride, dtype, device = dx
    rows_are_channels = choose_rows(shape, stride)
    if rows_are_channels is None:
        return None
    extent = extent_of(shape, rows_are_channels)
    sample, row, _ = strides_of(shape, stride, rows_are_channels)
    width = vector_width(dtype, extent.columns, row, sample)
    outputs = weight[0][0]
    return Launch(
        squeeze_input_grad_kernel,
        device,
        grid=extent.samples * triton.cdiv(extent.rows, TILE[0]) * triton.cdiv(extent.columns, TILE[1]),
        warps=WARPS,
        rows=extent.rows,
        columns=extent.columns // width,
        sample=sample // width,
        row=row // width,
        weight_output=weight[1][0],
        weight_channel=weight[1][1],
        ALONG_ROWS=rows_are_channels,
        WIDTH=width,
        OUTPUTS=outputs,
        ROWS=TILE[0],
        COLUMNS=TILE[1],
        OUTPUT_BLOCK=block(outputs, dtype),
        GATED=combine is not None,
        COMBINE=combine,
        **factors(dtype),
    )


def squeeze_input_grad(
    x: Tensor,
    weight: Tensor,
    pooled_grad: Tensor,
    reduced_grad: Tensor,
    grad: Tensor | None,
    channel_logits: Tensor | None,
    spatial_logits: Tensor | None,
    combine: str,
) -> Tensor:
    """x's gradient by Triton; arguments and result as of the operator."""
    check_squeeze(x, weight, None)
    check_reduced_grad(x, reduced_grad)
    n, c, *_ = x.shape
    gated = grad is not None and channel_logits is not None and spatial_logits is not None
    if gated:
        check_gate(x, channel_logits, spatial_logits, combine)
    if x.numel() == 0:
        arguments = (x, weight, pooled_grad, reduced_grad, grad, channel_logits, spatial_logits, combine)
        found: Tensor = eager.kernel("squeeze_input_grad")(*arguments)
        return found
    dx = torch.empty_like(x)
    pooled_grad, reduced_grad = pooled_grad.contiguous(), reduced_grad.contiguous(memory_format=torch.channels_last)
    channel_logits = channel_logits.reshape(n, c).contiguous() if channel_logits is not None else pooled_grad
    spatial_logits = spatial_logits.contiguous() if spatial_logits is not None else pooled_grad
    small = pooled_grad, reduced_grad, channel_logits, spatial_logits
    dtypes = tuple([tensor.dtype for tensor in small])
    launch = settle(describe(dx), describe(weight), dtypes, combine if gated else None)
    if launch is None:
        dense = squeeze_input_grad(
            x.contiguous(), weight, pooled_grad, reduced_grad, grad, channel_logits, spatial_logits, combine
        )
        return dx.copy_(dense)
    if grad is None:
        grad = dx
    elif grad.stride() != dx.stride():
        grad = torch.empty_like(dx).copy_(grad)
    launch(weight, pooled_grad, reduced_grad, grad, channel_logits, spatial_logits, dx)
    return dx
