"""squeeze_weight_grad: the reduction's weight's gradient, a product over all positions of all samples.

A program has a block of channels and a part of the positions, and reads its part of x once; the parts' sums are added up
behind it in a fixed order.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from bam_fused.backends import eager
from bam_fused.backends.triton.launch import Description, Launch, describe
from bam_fused.backends.triton.layers import WIDEST, block, factors, multiply, power_of_two
from bam_fused.backends.triton.partials import Summed, Sums
from bam_fused.backends.triton.rows import choose_rows, extent_of, strides_of, vector_width
from bam_fused.checks import check_reduced_grad
from bam_fused.ops.widen import compute_dtype, compute_type

CHANNELS = 64  # of a block
PROGRAMS = 264  # two for each multiprocessor


@triton.jit(do_not_specialize=["rows", "columns", "x_sample", "x_row", "steps", "splits"])
def squeeze_weight_grad_kernel(
    x_ptr,
    reduced_grad_ptr,  # (batch, positions, OUTPUTS)
    sums_ptr,  # (splits, OUTPUTS, channels)
    rows,
    columns,  # this and the strides of x count WIDTH elements
    x_sample,
    x_row,
    steps,  # tiles of positions, of all samples
    splits,
    ALONG_ROWS: tl.constexpr,  # the rows are the channels
    WIDTH: tl.constexpr,
    OUTPUTS: tl.constexpr,
    TILE: tl.constexpr,  # positions
    CHANNEL_BLOCK: tl.constexpr,
    OUTPUT_BLOCK: tl.constexpr,
    WIDENS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    COMPUTE: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    OUTPUT_BLOCKS: tl.constexpr = (OUTPUTS + OUTPUT_BLOCK - 1) // OUTPUT_BLOCK
    columns *= WIDTH
    channels, positions = (rows, columns) if ALONG_ROWS else (columns, rows)
    tiles = tl.cdiv(positions, TILE)
    program = tl.program_id(0)
    output = program % OUTPUT_BLOCKS * OUTPUT_BLOCK + tl.arange(0, OUTPUT_BLOCK)
    split = program // OUTPUT_BLOCKS % splits
    channel = program // OUTPUT_BLOCKS // splits * CHANNEL_BLOCK + tl.arange(0, CHANNEL_BLOCK)
    live_output, live_channel = output < OUTPUTS, channel < channels
    walk = tl.cdiv(steps, splits)
    sums = tl.zeros([OUTPUT_BLOCK, CHANNEL_BLOCK], COMPUTE)
    for step in range(split * walk, tl.minimum((split + 1) * walk, steps)):
        n = (step // tiles).to(tl.int64)
        position = step % tiles * TILE + tl.arange(0, TILE)
        live = position < positions
        at_reduced = (n * positions + position)[:, None] * OUTPUTS + output[None, :]
        reduced = tl.load(reduced_grad_ptr + at_reduced, live[:, None] & live_output[None, :], 0.0)
        if ALONG_ROWS:
            at = channel.to(tl.int64)[:, None] * x_row * WIDTH + position[None, :]
            x = tl.load(x_ptr + n * x_sample * WIDTH + at, live_channel[:, None] & live[None, :], 0.0)
        else:
            at = position.to(tl.int64)[:, None] * x_row * WIDTH + channel[None, :]
            x = tl.load(x_ptr + n * x_sample * WIDTH + at, live[:, None] & live_channel[None, :], 0.0)
        reduced = tl.trans(reduced.to(x.dtype))
        sums = multiply(reduced, tl.trans(x) if ALONG_ROWS else x, sums, WIDENS, PRECISION)

    at = (split.to(tl.int64) * OUTPUTS + output)[:, None] * channels + channel[None, :]
    tl.store(sums_ptr + at, sums, live_output[:, None] & live_channel[None, :])


@functools.lru_cache(maxsize=1024)
def settle(x: Description, outputs: int, reduced_dtype: torch.dtype) -> Summed | None:
    """The launch for a reduction to so many channels; None where x must be made contiguous first."""
    shape, stride, dtype, device = x
    rows_are_channels = choose_rows(shape, stride)
    if rows_are_channels is None:
        return None
    extent = extent_of(shape, rows_are_channels)
    sample, row, _ = strides_of(shape, stride, rows_are_channels)
    width = vector_width(dtype, extent.columns, row, sample)
    tile = block(shape[2] * shape[3], dtype)
    steps = extent.samples * triton.cdiv(shape[2] * shape[3], tile)
    output_block = min(WIDEST, power_of_two(outputs))
    blocks = triton.cdiv(shape[1], CHANNELS) * triton.cdiv(outputs, output_block)
    splits = min(steps, triton.cdiv(PROGRAMS, blocks))
    sums = Sums(device, compute_type(dtype), 1, splits, outputs * shape[1])
    launch = Launch(
        squeeze_weight_grad_kernel,
        device,
        grid=blocks * splits,
        warps=4,
        rows=extent.rows,
        columns=extent.columns // width,
        x_sample=sample // width,
        x_row=row // width,
        steps=steps,
        splits=splits,
        ALONG_ROWS=rows_are_channels,
        WIDTH=width,
        OUTPUTS=outputs,
        TILE=tile,
        CHANNEL_BLOCK=CHANNELS,
        OUTPUT_BLOCK=output_block,
        **factors(dtype),
    )
    return Summed(launch, sums)


def squeeze_weight_grad(x: Tensor, reduced_grad: Tensor) -> Tensor:
    """The weight's gradient (R, C) in the compute type, by Triton."""
    check_reduced_grad(x, reduced_grad)
    if x.numel() == 0:
        found: Tensor = eager.kernel("squeeze_weight_grad")(x, reduced_grad)
        return found
    outputs = reduced_grad.shape[1]
    settled = settle(describe(x), outputs, reduced_grad.dtype)
    if settled is None:
        return squeeze_weight_grad(x.contiguous(), reduced_grad)
    out = x.new_empty((outputs, x.shape[1]), dtype=compute_dtype(x))
    target = settled.sums.target(out)
    settled.launch(x, reduced_grad.contiguous(memory_format=torch.channels_last), target)
    settled.sums.finish(target, out)
    return out
