"""The fixed-order sum of the partial sums that programs leave in a workspace: no atomics, the same bits in every run."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from bam_fused.backends.triton.launch import Launch

BLOCK = 256


@triton.jit(do_not_specialize=["parts", "length", "programs", "divisor"])
def sum_partials_kernel(
    partials_ptr,  # (batch, parts, length)
    out_ptr,  # (batch, length)
    parts,
    length,
    programs,  # per sample
    divisor,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    n = program // programs
    at = (program % programs) * BLOCK + tl.arange(0, BLOCK)
    live = at < length
    total = tl.zeros([BLOCK], partials_ptr.dtype.element_ty)
    for part in range(parts):
        total += tl.load(partials_ptr + (n * parts + part) * length + at, live, 0.0)
    tl.store(out_ptr + n * length + at, (total / divisor).to(out_ptr.dtype.element_ty), live)


class Sums:
    """Where a kernel leaves the `parts` partial sums of each of (batch, length) outputs: one part is the output itself.

    The total is divided by `divisor`: here, or by the kernel, through `kernel_divisor`, if there is one part.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, batch: int, parts: int, length: int, divisor: int = 1):
        self.parts = parts
        self.kernel_divisor = divisor if parts == 1 else 1
        self._shape = (batch, parts, length)
        self._dtype = torch.float64 if dtype == torch.float64 else torch.float32
        programs = triton.cdiv(length, BLOCK)
        self.launch = Launch(
            sum_partials_kernel,
            device,
            grid=batch * programs,
            warps=4,
            parts=parts,
            length=length,
            programs=programs,
            divisor=divisor,
            BLOCK=BLOCK,
        )

    def target(self, out: Tensor) -> Tensor:
        """The tensor for the kernel to write to."""
        return out if self.parts == 1 else torch.empty(self._shape, dtype=self._dtype, device=out.device)

    def finish(self, target: Tensor, out: Tensor) -> None:
        """Sum what the kernel wrote, unless it wrote the output."""
        if self.parts > 1:
            self.launch(target, out)
