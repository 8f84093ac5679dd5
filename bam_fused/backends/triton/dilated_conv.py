"""dilated_conv: a 3x3 convolution of channels_last features that keeps the map's size, as products of tensor cores.

A program has a tile of positions, of whatever samples, and adds up one tap after the other: the features that lie there
times the tap's weight. The whole BAM (bam.py) has the norm and ReLU applied here, and behind the last of these layers the
product that gives the spatial logits.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from bam_fused.backends import eager
from bam_fused.backends.triton.launch import Launch
from bam_fused.backends.triton.layers import (
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
from bam_fused.checks import check_dilated_conv

PACKED = 2**16
"""Elements of a weight from which it is copied to channels_last first, in which a tap's inputs lie next to each other.

On an H200 a copy takes 2.4 us, and a convolution of 64 channels 2.1 us longer without one."""


@triton.jit(do_not_specialize=["positions", "height", "width", "dilation"])
def dilated_conv_kernel(
    x_ptr,  # (positions, INPUTS)
    weight_ptr,
    bias_ptr,
    mean_ptr,
    variance_ptr,
    gain_ptr,
    offset_ptr,
    final_weight_ptr,  # and so on: of the layer behind, which has one output
    final_bias_ptr,
    final_mean_ptr,
    final_variance_ptr,
    final_gain_ptr,
    final_offset_ptr,
    out_ptr,  # (positions, OUTPUTS), with a final layer (positions,)
    positions,  # of all samples
    height,
    width,
    dilation,
    weight_output,
    weight_input,
    weight_row,
    weight_column,
    final_input,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    SIZE: tl.constexpr,  # 3, or 1 for a layer without neighbours
    TILE: tl.constexpr,  # positions
    INPUT_BLOCK: tl.constexpr,
    OUTPUT_BLOCK: tl.constexpr,
    HAS: tl.constexpr,
    EPS: tl.constexpr,
    FINAL: tl.constexpr,
    FINAL_HAS: tl.constexpr,
    FINAL_EPS: tl.constexpr,
    FAR: tl.constexpr,  # offsets need 64 bits
    WIDENS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    COMPUTE: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    OUTPUT_BLOCKS: tl.constexpr = (OUTPUTS + OUTPUT_BLOCK - 1) // OUTPUT_BLOCK
    INPUT_BLOCKS: tl.constexpr = (INPUTS + INPUT_BLOCK - 1) // INPUT_BLOCK
    program = tl.program_id(0)
    tile = program // OUTPUT_BLOCKS
    position = (tile.to(tl.int64) if FAR else tile) * TILE + tl.arange(0, TILE)[:, None]
    row, column = position // width % height, position % width
    output = program % OUTPUT_BLOCKS * OUTPUT_BLOCK + tl.arange(0, OUTPUT_BLOCK)[None, :]
    live = output < OUTPUTS
    sums = tl.zeros([TILE, OUTPUT_BLOCK], COMPUTE)
    for step in range(SIZE * SIZE * INPUT_BLOCKS):
        tap = step // INPUT_BLOCKS
        down, right = (tap // SIZE - SIZE // 2) * dilation, (tap % SIZE - SIZE // 2) * dilation
        inside = (position < positions) & (row + down >= 0) & (row + down < height)
        inside &= (column + right >= 0) & (column + right < width)
        channel = step % INPUT_BLOCKS * INPUT_BLOCK + tl.arange(0, INPUT_BLOCK)
        at = (position + (down * width + right)) * INPUTS + channel[None, :]
        x = tl.load(x_ptr + at, inside & (channel < INPUTS)[None, :], 0.0)
        weight_at = output * weight_output + channel[:, None] * weight_input
        weight_at += tap // SIZE * weight_row + tap % SIZE * weight_column
        weight = tl.load(weight_ptr + weight_at, (channel < INPUTS)[:, None] & live, 0.0)
        sums = multiply(x, weight, sums, WIDENS, PRECISION)

    out = finish(sums, output, live, bias_ptr, mean_ptr, variance_ptr, gain_ptr, offset_ptr, HAS, EPS)
    if FINAL:
        weight = tl.load(final_weight_ptr + output * final_input, live, 0.0).to(COMPUTE)
        logit = tl.sum(tl.where(live, out * weight, 0.0), 1)[:, None]
        only = tl.zeros([1, 1], tl.int32)
        logit = finish(
            logit,
            only,
            only == 0,
            final_bias_ptr,
            final_mean_ptr,
            final_variance_ptr,
            final_gain_ptr,
            final_offset_ptr,
            FINAL_HAS,
            FINAL_EPS,
        )
        tl.store(out_ptr + position, logit.to(out_ptr.dtype.element_ty), position < positions)
    else:
        tl.store(out_ptr + position * OUTPUTS + output, out.to(out_ptr.dtype.element_ty), live & (position < positions))


def tile_of(positions: int) -> int:
    """Positions of a tile: by those of a sample, as in squeeze.py."""
    return 128 if positions >= 1024 else 64


@functools.lru_cache(maxsize=1024)
def settle(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    own: Described,
    dilation: int,
    final: Described | None,
    out: torch.dtype,
) -> Launch:
    """The launch for channels_last features of this shape and dtype, and a result of the dtype `out`."""
    n, inputs, h, w = shape
    (outputs, _, *sides), weight_strides, _, has, eps = own
    tile, output_block = tile_of(h * w), min(WIDEST, power_of_two(outputs))
    _, final_strides, _, final_has, final_eps = final or ((), (0, 0), (), 0, 0.0)
    programs = triton.cdiv(n * h * w, tile) * triton.cdiv(outputs, output_block)
    return Launch(
        dilated_conv_kernel,
        device,
        grid=programs,
        warps=4,
        stages=stages(programs),
        positions=n * h * w,
        height=h,
        width=w,
        dilation=dilation,
        weight_output=weight_strides[0],
        weight_input=weight_strides[1],
        weight_row=weight_strides[2],
        weight_column=weight_strides[3],
        final_input=final_strides[1],
        INPUTS=inputs,
        OUTPUTS=outputs,
        SIZE=sides[0],
        TILE=tile,
        INPUT_BLOCK=block(inputs, dtype),
        OUTPUT_BLOCK=output_block,
        HAS=has,
        EPS=eps,
        FINAL=final is not None,
        FINAL_HAS=final_has,
        FINAL_EPS=final_eps,
        FAR=n * h * w * max(inputs, outputs) >= 2**31,
        **factors(dtype),
    )


def ends(weight: Tensor) -> bool:
    """Whether a layer's program has all its outputs, so that the last layer may follow in it."""
    return weight.shape[0] <= WIDEST


def convolve(x: Tensor, own: Layer, dilation: int, out: Tensor, final: Layer | None = None) -> None:
    """Write the result of a layer, or of it and a final one with one output, to `out`.

    x (N, I, H, W) is channels_last and not empty; so is `out` (N, O, H, W), or (N, 1, H, W). They may differ in dtype.
    """
    if own.weight.shape[2] == 3 and own.weight.numel() >= PACKED:
        packed = own.weight.contiguous(memory_format=torch.channels_last)
        own = own._replace(tensors=(packed, *own.tensors[1:]))
    behind = None if final is None else final.described()
    launch = settle(x.shape, x.dtype, x.device, own.described(), dilation, behind, out.dtype)
    launch(x, *own.tensors, *(own if final is None else final).tensors, out)


def dilated_conv(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int, relu: bool) -> Tensor:
    """The convolution by Triton; arguments and result as of the operator."""
    check_dilated_conv(x, weight, bias, dilation, relu)
    if x.numel() == 0:
        found: Tensor = eager.kernel("dilated_conv")(x, weight, bias, dilation, relu)
        return found
    shape = (x.shape[0], weight.shape[0], *x.shape[2:])
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    convolve(x.contiguous(memory_format=torch.channels_last), layer(weight, bias, relu=relu), dilation, out)
    return out
