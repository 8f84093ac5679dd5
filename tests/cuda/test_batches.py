"""A sample's results from the CUDA kernels are the same bits whatever batch it is in: executed on the CPU."""

from __future__ import annotations

import pytest
import torch
from cuda_host_library import HostKernels, Problem

pytestmark = pytest.mark.cuda_host

SAMPLES = 5
# (rows, columns) by whole vectors, across rows, across rows in several slabs, and by elements
SHAPES = ((96, 784), (784, 64), (128, 196), (256, 49), (24, 361), (9, 35))


def problem(samples: int, shape: tuple[int, int], dtype: torch.dtype) -> Problem:
    """On so few multiprocessors that one sample spreads over more blocks than one of several."""
    return Problem(samples, *shape, dtype, multiprocessors=8, threads=64)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_sample_alone_and_among_others(host_kernels: HostKernels, shape: tuple[int, int], dtype: torch.dtype) -> None:
    grad, x = (torch.randn(SAMPLES, *shape).to(dtype) for _ in range(2))
    row, column = (torch.randn(SAMPLES, n).to(dtype) for n in shape)

    def results(first: int, last: int) -> list[torch.Tensor]:
        inputs = [t[first:last].contiguous().clone() for t in (grad, x, row, column)]
        p = problem(last - first, shape, dtype)
        dx, drow, dcolumn = (torch.empty_like(t) for t in inputs[1:])
        host_kernels.gate_backward(p, tuple(inputs), dx, drow, dcolumn)
        means = [torch.empty_like(t) for t in inputs[2:]]
        for of_rows, to in zip((True, False), means, strict=True):
            host_kernels.global_avg_pool(p, of_rows, inputs[1], to)
        return [dx, drow, dcolumn, *means]

    together = results(0, SAMPLES)
    for i in range(SAMPLES):
        for alone, among in zip(results(i, i + 1), together, strict=True):
            assert torch.equal(alone[0], among[i])
