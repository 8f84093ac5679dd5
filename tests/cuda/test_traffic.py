"""What the CUDA kernels read and write, counted on the CPU: 1 u is one pass over the feature map."""

from __future__ import annotations

import pytest
import torch
from cuda_host_library import HostKernels, Problem, traffic

pytestmark = pytest.mark.cuda_host

# (samples, rows, columns): stages of ResNet in NCHW and NHWC, 7 x 7 and 14 x 14 maps among them, and odd widths.
NCHW = ((1, 256, 3136), (2, 512, 784), (2, 1024, 196), (4, 512, 49), (2, 256, 169))
NHWC = ((1, 3136, 256), (2, 784, 512), (2, 196, 1024), (4, 49, 512))
DTYPES = (torch.bfloat16, torch.float32)


def problem(shape: tuple[int, int, int], dtype: torch.dtype) -> Problem:
    return Problem(*shape, dtype, multiprocessors=132, bandwidth=36000, threads=256)  # H200


def feature_bytes(p: Problem) -> int:
    return p.samples * p.rows * p.columns * p.dtype.itemsize


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", NCHW + NHWC, ids=str)
def test_gate_makes_two_passes_by_16_bytes(
    host_kernels: HostKernels, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    p = problem(shape, dtype)
    x, out = torch.randn(shape).to(dtype), torch.empty(shape, dtype=dtype)
    host_kernels.accesses()
    host_kernels.gate(p, x, torch.randn(shape[0], shape[1]).to(dtype), torch.randn(shape[0], shape[2]).to(dtype), out)
    accesses = host_kernels.accesses()
    vectors = feature_bytes(p) // 16
    assert accesses["ldcs"] == {16: vectors} and accesses["plain"] == {16: vectors}
    assert not accesses["ldcg"] and not accesses["stcg"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", NCHW + NHWC, ids=str)
def test_gate_backward_makes_three_passes_and_at_most_15_percent_of_partial_sums(
    host_kernels: HostKernels, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    p = problem(shape, dtype)
    grad, x = (torch.randn(shape).to(dtype) for _ in range(2))
    row, column = torch.randn(shape[0], shape[1]).to(dtype), torch.randn(shape[0], shape[2]).to(dtype)
    results = torch.empty(shape, dtype=dtype), torch.empty_like(row), torch.empty_like(column)
    host_kernels.accesses()
    host_kernels.gate_backward(p, (grad, x, row, column), *results)
    accesses = host_kernels.accesses()
    vectors = feature_bytes(p) // 16
    assert accesses["ldcs"] == {16: 2 * vectors} and accesses["plain"][16] == vectors
    moved = traffic(accesses)
    gradients = moved["plain"] - 16 * vectors
    assert gradients == (row.numel() + column.numel()) * dtype.itemsize
    assert moved["ldcg"] + moved["stcg"] <= 0.15 * 3 * feature_bytes(p)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", NCHW + NHWC, ids=str)
def test_pool_makes_one_pass_by_16_bytes(
    host_kernels: HostKernels, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    p = problem(shape, dtype)
    x, of_rows = torch.randn(shape).to(dtype), shape in NCHW
    means = torch.empty(shape[0], shape[1] if of_rows else shape[2], dtype=dtype)
    host_kernels.accesses()
    host_kernels.global_avg_pool(p, of_rows, x, means)
    accesses = host_kernels.accesses()
    moved = traffic(accesses)
    assert accesses["ldg"] == {16: feature_bytes(p) // 16} and not accesses["ldcs"]  # x is read again by what follows
    assert moved["plain"] == means.numel() * dtype.itemsize
    assert moved["ldcg"] + moved["stcg"] <= 0.25 * feature_bytes(p)


@pytest.mark.parametrize("columns", (49, 196, 512))
def test_a_gradient_of_one_number_is_read_by_16_bytes(host_kernels: HostKernels, columns: int) -> None:
    """As from `sum()`: in rows that begin off 16 bytes, too, all 16 bytes of it are those of one vector."""
    p = problem((2, 64, columns), torch.bfloat16)
    shape = (p.samples, p.rows, p.columns)
    number = torch.full((8,), 1.5, dtype=p.dtype)
    x, row, column = (torch.randn(s).to(p.dtype) for s in (shape, shape[:2], shape[::2]))
    found = torch.empty(shape, dtype=p.dtype), torch.empty_like(row), torch.empty_like(column)
    host_kernels.accesses()
    host_kernels.gate_backward(p, (number[0].expand(shape), x, row, column), *found)
    accesses = host_kernels.accesses()
    assert accesses["ldcs"] == {16: 2 * feature_bytes(p) // 16}
    expected = torch.empty(shape, dtype=p.dtype), torch.empty_like(row), torch.empty_like(column)
    host_kernels.gate_backward(p, (number[0].expand(shape).contiguous(), x, row, column), *expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_what_cannot_be_aligned_goes_by_elements(host_kernels: HostKernels) -> None:
    shape = (2, 12, 49)  # 588 elements: the second sample begins 8 bytes off
    p = problem(shape, torch.bfloat16)
    x, out = torch.randn(shape).bfloat16(), torch.empty(shape, dtype=torch.bfloat16)
    host_kernels.accesses()
    host_kernels.gate(p, x, torch.randn(2, 12).bfloat16(), torch.randn(2, 49).bfloat16(), out)
    assert host_kernels.accesses()["ldcs"] == {2: x.numel()}
