"""The fixed-order sum of the partial sums that programs leave in a workspace: no atomics, the same bits in every run."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from bam_fused.backends.triton.launch import Launch
from bam_fused.ops.widen import compute_type

BLOCK = 64
UNROLL = 64  # partial sums of an output, at most, that are loaded before the first is added


@triton.jit(do_not_specialize=["splits", "length", "programs", "divisor"])
def sum_partials_kernel(
    partials_ptr,  # (batch, splits, length)
    out_ptr,  # (batch, length)
    splits,
    length,
    programs,  # per sample
    divisor,
    BLOCK: tl.constexpr,
    UNROLL: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    n = program // programs
    at = (program % programs) * BLOCK + tl.arange(0, BLOCK)
    part = tl.arange(0, UNROLL)[:, None]
    sums = tl.zeros([UNROLL, BLOCK], partials_ptr.dtype.element_ty)
    for first in range(0, splits, UNROLL):
        live = (first + part < splits) & (at < length)[None, :]
        sums += tl.load(partials_ptr + (n * splits + first + part) * length + at[None, :], live, 0.0)
    total = tl.sum(sums, 0)
    tl.store(out_ptr + n * length + at, (total / divisor).to(out_ptr.dtype.element_ty), at < length)


class Sums:
    """Where a kernel leaves the `splits` partial sums of each of (batch, length) outputs; with one split, in the outputs.

    The total is divided by `divisor`: here, or by the kernel, through `kernel_divisor`, if there is one split.
    """

    def __init__(
        self, device: torch.device, dtype: torch.dtype, batch: int, splits: int, length: int, divisor: int = 1
    ):
        self.splits = splits
        self.kernel_divisor = divisor if splits == 1 else 1
        self._shape = (batch, splits, length)
        self._dtype = compute_type(dtype)
        programs = triton.cdiv(length, BLOCK)
        self.launch = Launch(
            sum_partials_kernel,
            device,
            grid=batch * programs,
            warps=4,
            splits=splits,
            length=length,
            programs=programs,
            divisor=divisor,
            BLOCK=BLOCK,
            UNROLL=min(UNROLL, triton.next_power_of_2(splits)),
        )

    def target(self, out: Tensor) -> Tensor:
        """The tensor for the kernel to write to."""
        return out if self.splits == 1 else torch.empty(self._shape, dtype=self._dtype, device=out.device)

    def finish(self, target: Tensor, out: Tensor) -> None:
        """Sum what the kernel wrote, unless it wrote the output."""
        if self.splits > 1:
            self.launch(target, out)


class Summed(NamedTuple):
    """A launch that leaves partial sums, and these."""

    launch: Launch
    sums: Sums
