"""A branch's layers as the kernels take them: their tensors, and what follows their products, applied to the sums.

What a layer has beside its weight is said by the bits of functional/bam.py: bias, norm with running statistics, that norm's
weight and bias, ReLU. A kernel takes a pointer for each, and the weight's where there is nothing to point at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from bam_fused.backends.triton import interpreted
from bam_fused.functional.bam import AFFINE, BIAS, NORM, RELU

PRECISION = "tf32x3" if torch.version.hip is None else "ieee"
"""How float32 is multiplied: as three products of tensor cores, which keep all but its last bits, where Triton can."""

SMALLEST = 16  # side of a product
WIDEST = 128  # the most outputs that a program sums at a time
FEW = 264  # programs: two for each multiprocessor of an H100
BLOCK_BYTES = 128  # of a block of inputs, which is multiplied at a time


@triton.jit
def multiply(a, b, sums, WIDENS: tl.constexpr, PRECISION: tl.constexpr):
    """sums + a b."""
    if WIDENS:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b.to(a.dtype), sums, input_precision=PRECISION, out_dtype=sums.dtype)


@triton.jit
def finish(
    sums,
    output,
    live,
    bias_ptr,
    mean_ptr,
    variance_ptr,
    gain_ptr,
    offset_ptr,
    HAS: tl.constexpr,
    EPS: tl.constexpr,
):
    """What follows a layer's sums, whose last dimension is that of its outputs; what is not live comes out as anything."""
    if HAS & 1:  # BIAS
        sums += tl.load(bias_ptr + output, live, 0.0).to(sums.dtype)
    if HAS & 2:  # NORM
        mean = tl.load(mean_ptr + output, live, 0.0).to(sums.dtype)
        scale = tl.rsqrt(tl.load(variance_ptr + output, live, 1.0).to(sums.dtype) + EPS)
        if HAS & 4:  # AFFINE
            scale *= tl.load(gain_ptr + output, live, 0.0).to(sums.dtype)
        sums = (sums - mean) * scale
        if HAS & 4:  # AFFINE
            sums += tl.load(offset_ptr + output, live, 0.0).to(sums.dtype)
    if HAS & 8:  # RELU
        sums = tl.where(sums < 0, 0.0, sums)  # NaN stays
    return sums


Described = tuple[tuple[int, ...], tuple[int, ...], tuple[torch.dtype, ...], int, float]
"""A layer's weight's shape and strides, the dtypes of its tensors, what it has, its eps."""


class Layer(NamedTuple):
    """One layer: its six tensors, as the kernels take them, all but the weight without gaps, and what it has."""

    tensors: tuple[Tensor, ...]
    has: int
    eps: float

    @property
    def weight(self) -> Tensor:
        """(O, I), (O, I, 1, 1) or (O, I, 3, 3)."""
        return self.tensors[0]

    def described(self) -> Described:
        """What a launch depends on."""
        weight = self.weight
        return weight.shape, weight.stride(), tuple([tensor.dtype for tensor in self.tensors]), self.has, self.eps


def layer(weight: Tensor, bias: Tensor | None = None, *, relu: bool = False) -> Layer:
    """A layer without a norm."""
    has = (0 if bias is None else BIAS) | (RELU if relu else 0)
    return Layer((weight, weight if bias is None else bias.contiguous(), *[weight] * 4), has, 0.0)


def read(tensors: Sequence[Tensor], layers: Sequence[int], eps: Sequence[float]) -> Iterator[Layer]:
    """The layers from the arguments of the operator `bam`."""
    at = 0
    for has, smallest in zip(layers, eps, strict=True):
        weight = tensors[at]
        bias = mean = variance = gain = offset = weight
        at += 1
        if has & BIAS:
            bias = tensors[at].contiguous()
            at += 1
        if has & NORM:
            mean, variance = tensors[at].contiguous(), tensors[at + 1].contiguous()
            at += 2
        if has & AFFINE:
            gain, offset = tensors[at].contiguous(), tensors[at + 1].contiguous()
            at += 2
        yield Layer((weight, bias, mean, variance, gain, offset), has, smallest)


def factors(dtype: torch.dtype) -> dict[str, Any]:
    """How a kernel multiplies features of a dtype: constants of `multiply`.

    Triton's interpreter multiplies bfloat16 as the integers that it keeps it in: there it is widened, which changes nothing.
    """
    return {"WIDENS": interpreted() and dtype == torch.bfloat16, "PRECISION": PRECISION}


def stages(programs: int) -> int:
    """Blocks under way at a time: more where the programs are so few that each multiprocessor has one or two."""
    return 3 if programs > FEW else 5


def block(inputs: int, dtype: torch.dtype) -> int:
    """Inputs of a block."""
    return min(BLOCK_BYTES // dtype.itemsize, power_of_two(inputs))


def power_of_two(size: int) -> int:
    """The smallest block of a product, at least, that holds so many."""
    return max(SMALLEST, triton.next_power_of_2(size))
