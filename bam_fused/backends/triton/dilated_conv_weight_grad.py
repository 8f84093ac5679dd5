"""dilated_conv_weight_grad: the gradient of a 3x3 convolution's weight, a product over all positions for each tap.

A program has one tap and a part of the positions; the parts' sums are added up behind it in a fixed order.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from bam_fused.backends import eager
from bam_fused.backends.triton.launch import Launch
from bam_fused.backends.triton.layers import BLOCK_BYTES, WIDEST, factors, multiply, power_of_two
from bam_fused.backends.triton.partials import Summed, Sums
from bam_fused.checks import check_feature_map
from bam_fused.ops.widen import compute_dtype, compute_type

PROGRAMS = 1056  # eight for each multiprocessor
SHARE = 0.5  # of what is read, at most, that partial sums may be


@triton.jit(do_not_specialize=["positions", "height", "width", "dilation", "steps", "splits"])
def dilated_conv_weight_grad_kernel(
    x_ptr,  # (positions, INPUTS)
    grad_ptr,  # (positions, OUTPUTS)
    sums_ptr,  # (splits, 9, OUTPUTS, INPUTS)
    positions,  # of all samples
    height,
    width,
    dilation,
    steps,
    splits,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    TILE: tl.constexpr,  # positions
    INPUT_BLOCK: tl.constexpr,
    OUTPUT_BLOCK: tl.constexpr,
    FAR: tl.constexpr,  # offsets need 64 bits
    WIDENS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    COMPUTE: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    INPUT_BLOCKS: tl.constexpr = (INPUTS + INPUT_BLOCK - 1) // INPUT_BLOCK
    OUTPUT_BLOCKS: tl.constexpr = (OUTPUTS + OUTPUT_BLOCK - 1) // OUTPUT_BLOCK
    program = tl.program_id(0)
    i = program % INPUT_BLOCKS * INPUT_BLOCK + tl.arange(0, INPUT_BLOCK)
    o = program // INPUT_BLOCKS % OUTPUT_BLOCKS * OUTPUT_BLOCK + tl.arange(0, OUTPUT_BLOCK)
    tap = program // (INPUT_BLOCKS * OUTPUT_BLOCKS) % 9
    split = program // (INPUT_BLOCKS * OUTPUT_BLOCKS * 9)
    down, right = (tap // 3 - 1) * dilation, (tap % 3 - 1) * dilation
    live_i, live_o = i < INPUTS, o < OUTPUTS
    walk = tl.cdiv(steps, splits)
    sums = tl.zeros([OUTPUT_BLOCK, INPUT_BLOCK], COMPUTE)
    for step in range(split * walk, tl.minimum((split + 1) * walk, steps)):
        first = (step.to(tl.int64) if FAR else step) * TILE  # type: ignore[attr-defined]  # a number of Triton's
        position = first + tl.arange(0, TILE)
        row, column = position // width % height, position % width
        inside = (position < positions) & (row + down >= 0) & (row + down < height)
        inside &= (column + right >= 0) & (column + right < width)
        at_x = (position + (down * width + right))[:, None] * INPUTS + i[None, :]
        x = tl.load(x_ptr + at_x, inside[:, None] & live_i[None, :], 0.0)
        at_grad = position[:, None] * OUTPUTS + o[None, :]
        grad = tl.load(grad_ptr + at_grad, inside[:, None] & live_o[None, :], 0.0)
        sums = multiply(tl.trans(grad.to(x.dtype)), x, sums, WIDENS, PRECISION)

    at = ((split.to(tl.int64) * 9 + tap) * OUTPUTS + o)[:, None] * INPUTS + i[None, :]
    tl.store(sums_ptr + at, sums, live_o[:, None] & live_i[None, :])


@functools.lru_cache(maxsize=1024)
def settle(
    shape: tuple[int, ...], outputs: int, dilation: int, dtypes: tuple[torch.dtype, torch.dtype], device: torch.device
) -> Summed:
    """The launch for channels_last x of this shape and so many outputs; `dtypes`: of x and the gradient."""
    n, inputs, h, w = shape
    dtype = dtypes[0]
    positions, tile = n * h * w, BLOCK_BYTES // dtype.itemsize
    steps = triton.cdiv(positions, tile)
    input_block, output_block = (min(WIDEST // 2, power_of_two(size)) for size in (inputs, outputs))
    blocks = 9 * triton.cdiv(inputs, input_block) * triton.cdiv(outputs, output_block)
    affordable = int(SHARE * positions * (inputs + outputs) / (outputs * inputs))
    splits = max(1, min(steps, triton.cdiv(PROGRAMS, blocks), affordable))
    sums = Sums(device, compute_type(dtype), 1, splits, outputs * inputs * 9)
    launch = Launch(
        dilated_conv_weight_grad_kernel,
        device,
        grid=blocks * splits,
        warps=4,
        positions=positions,
        height=h,
        width=w,
        dilation=dilation,
        steps=steps,
        splits=splits,
        INPUTS=inputs,
        OUTPUTS=outputs,
        TILE=tile,
        INPUT_BLOCK=input_block,
        OUTPUT_BLOCK=output_block,
        FAR=positions * max(inputs, outputs) >= 2**31,
        **factors(dtype),
    )
    return Summed(launch, sums)


def dilated_conv_weight_grad(x: Tensor, grad: Tensor, dilation: int) -> Tensor:
    """The weight's gradient (O, I, 3, 3) in the compute type, by Triton."""
    check_feature_map("x", x)
    check_feature_map("grad", grad)
    if x.numel() == 0 or grad.numel() == 0:
        found: Tensor = eager.kernel("dilated_conv_weight_grad")(x, grad, dilation)
        return found
    settled = settle(x.shape, grad.shape[1], dilation, (x.dtype, grad.dtype), x.device)
    out = x.new_empty((3, 3, grad.shape[1], x.shape[1]), dtype=compute_dtype(x))
    target = settled.sums.target(out)
    settled.launch(*(t.contiguous(memory_format=torch.channels_last) for t in (x, grad)), target)
    settled.sums.finish(target, out)
    return out.permute(2, 3, 0, 1).contiguous()
