"""The channel branch's layers, each on a vector per sample. There are too few products in them for tensor cores to pay."""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from bam_fused.backends.triton.launch import Launch
from bam_fused.backends.triton.layers import Described, Layer, finish, power_of_two

SAMPLES = 4  # of a program's block
INPUTS = 512  # at most
PRODUCTS = 2048  # for each sample


@triton.jit(do_not_specialize=["samples", "inputs", "outputs"])
def dense_kernel(
    x_ptr,  # (samples, inputs)
    weight_ptr,
    bias_ptr,
    mean_ptr,
    variance_ptr,
    gain_ptr,
    offset_ptr,
    out_ptr,  # (samples, outputs)
    samples,
    inputs,
    outputs,
    weight_output,
    weight_input,
    HAS: tl.constexpr,
    EPS: tl.constexpr,
    SAMPLE_BLOCK: tl.constexpr,
    OUTPUT_BLOCK: tl.constexpr,
    INPUT_BLOCK: tl.constexpr,
):
    blocks = tl.cdiv(outputs, OUTPUT_BLOCK)
    program = tl.program_id(0).to(tl.int64)
    n = program // blocks * SAMPLE_BLOCK + tl.arange(0, SAMPLE_BLOCK)
    output = program % blocks * OUTPUT_BLOCK + tl.arange(0, OUTPUT_BLOCK)
    products = tl.zeros([SAMPLE_BLOCK, OUTPUT_BLOCK, INPUT_BLOCK], x_ptr.dtype.element_ty)
    for first in range(0, inputs, INPUT_BLOCK):
        i = first + tl.arange(0, INPUT_BLOCK)
        inside = (i < inputs)[None, :]
        x = tl.load(x_ptr + n[:, None] * inputs + i[None, :], (n < samples)[:, None] & inside, 0.0)
        weight_at = output[:, None] * weight_output + i[None, :] * weight_input
        weight = tl.load(weight_ptr + weight_at, (output < outputs)[:, None] & inside, 0.0).to(x.dtype)
        products += x[:, None, :] * weight[None, :, :]

    live = (output < outputs)[None, :]
    out = finish(
        tl.sum(products, 2), output[None, :], live, bias_ptr, mean_ptr, variance_ptr, gain_ptr, offset_ptr, HAS, EPS
    )
    tl.store(out_ptr + n[:, None] * outputs + output[None, :], out, live & (n < samples)[:, None])


@functools.lru_cache(maxsize=1024)
def settle(
    samples: int,
    own: Described,
    dtype: torch.dtype,
    device: torch.device,
) -> Launch:
    """The launch for so many samples in this dtype."""
    (outputs, inputs, *_), strides, _, has, eps = own
    input_block = min(INPUTS, power_of_two(inputs))
    output_block = min(PRODUCTS // input_block, power_of_two(outputs))
    return Launch(
        dense_kernel,
        device,
        grid=triton.cdiv(samples, SAMPLES) * triton.cdiv(outputs, output_block),
        warps=4,
        samples=samples,
        inputs=inputs,
        outputs=outputs,
        weight_output=strides[0],
        weight_input=strides[1],
        HAS=has,
        EPS=eps,
        SAMPLE_BLOCK=SAMPLES,
        OUTPUT_BLOCK=output_block,
        INPUT_BLOCK=input_block,
    )


def dense(x: Tensor, own: Layer, out: Tensor | None = None) -> Tensor:
    """A layer's result (N, O) for x (N, I), contiguous, both in the compute type; written to `out`, if that is given."""
    launch = settle(x.shape[0], own.described(), x.dtype, x.device)
    out = x.new_empty((x.shape[0], own.weight.shape[0])) if out is None else out
    launch(x, *own.tensors, out)
    return out
