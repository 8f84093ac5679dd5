"""Every CUDA kernel, executed on the CPU over drawn problems, against the float64 reference.

Blocks run in a drawn order, several at once, their threads in a drawn order too. Buffers are poisoned: what a kernel should
not read is NaN, and what it should not write must stay as it was.
"""

from __future__ import annotations

import os

import pytest
import torch
from cuda_host_library import COMBINES, DTYPES, HostKernels, Problem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bam_fused import reference

pytestmark = pytest.mark.cuda_host

EXAMPLES = int(os.environ.get("BAM_CUDA_HOST_EXAMPLES", "60"))
drawn = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    return Problem(
        samples=draw(st.integers(1, 3)),
        rows=draw(st.one_of(st.integers(1, 40), st.sampled_from((8, 16, 64, 100)))),
        columns=draw(st.one_of(st.integers(1, 80), st.sampled_from((49, 64, 100, 196, 361, 512, 784)))),
        dtype=draw(st.sampled_from(DTYPES)),
        combine=draw(st.sampled_from(COMBINES)),
        multiprocessors=draw(st.sampled_from((1, 2, 8))),
        threads=draw(st.sampled_from((32, 64, 128, 256))),
        seed=draw(st.integers(0, 2**32)),
    )


def drawn_rows(draw: st.DrawFn, problem: Problem, fill: float = float("nan")) -> tuple[Tensor, Tensor]:
    """Rows for every sample inside a buffer filled with `fill`; often aligned and dense, sometimes neither."""
    row = problem.columns + draw(st.sampled_from((0, 0, 0, 1, 8)))
    sample = row * problem.rows + draw(st.sampled_from((0, 0, 0, 3, 16)))
    offset = draw(st.sampled_from((0, 0, 0, 1, 5, 8)))
    buffer = torch.full((offset + sample * problem.samples + 8,), fill, dtype=problem.dtype)
    shape = (problem.samples, problem.rows, problem.columns)
    return buffer, buffer.as_strided(shape, (sample, row, 1), offset)


def logits(draw: st.DrawFn, problem: Problem, length: int, generator: torch.Generator) -> Tensor:
    dtype = draw(st.sampled_from((problem.dtype, torch.float32)))
    step = draw(st.sampled_from((1, 1, 2)))
    buffer = torch.full((problem.samples, length * step), float("nan"), dtype=dtype)
    view = buffer[:, ::step]
    view.copy_(2 * torch.randn(problem.samples, length, generator=generator))
    if draw(st.booleans()):
        view.copy_(view.round())  # ties under "max"
    return view


def filled(pair: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    pair[1].copy_(torch.randn(pair[1].shape, generator=generator))
    return pair[1]


def as_map(rows: Tensor) -> Tensor:
    """(samples, rows, columns) as a float64 feature map whose channels are the rows."""
    return rows.double().unsqueeze(3)


def half_ulp(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps / 2


def compute_eps(dtype: torch.dtype) -> float:
    return torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps


def assert_within(actual: Tensor, expected: Tensor, bound: Tensor) -> None:
    error = (actual.double() - expected).abs()
    assert bool((error <= bound).all()), f"error {(error - bound).max().item():.3g} above its bound"


def assert_untouched(pair: tuple[Tensor, Tensor], sentinel: float) -> None:
    buffer = pair[0].clone()
    buffer.as_strided(pair[1].shape, pair[1].stride(), pair[1].storage_offset()).fill_(sentinel)
    assert bool((buffer == sentinel).all())


@drawn
@given(st.data())
def test_gate(host_kernels: HostKernels, data: st.DataObject) -> None:
    problem = data.draw(problems())
    generator = torch.Generator().manual_seed(problem.seed)
    x = filled(drawn_rows(data.draw, problem), generator)
    row = logits(data.draw, problem, problem.rows, generator)
    column = logits(data.draw, problem, problem.columns, generator)
    out = drawn_rows(data.draw, problem, fill=-77.0)
    host_kernels.gate(problem, x, row, column, out[1])
    expected = reference.gate(as_map(x), row.double(), column.double().unsqueeze(2), problem.combine).squeeze(3)
    bound = (
        expected.abs() * (half_ulp(problem.dtype) + 8 * compute_eps(problem.dtype)) + torch.finfo(problem.dtype).tiny
    )
    assert_within(out[1], expected, bound)
    assert_untouched(out, -77.0)


@drawn
@given(st.data())
def test_gate_backward(host_kernels: HostKernels, data: st.DataObject) -> None:
    problem = data.draw(problems())
    generator = torch.Generator().manual_seed(problem.seed)
    grad = filled(drawn_rows(data.draw, problem), generator)
    x = filled(drawn_rows(data.draw, problem), generator)
    row = logits(data.draw, problem, problem.rows, generator)
    column = logits(data.draw, problem, problem.columns, generator)
    dx = drawn_rows(data.draw, problem, fill=-77.0)
    drow = torch.full(row.shape, float("nan"), dtype=row.dtype)
    dcolumn = torch.full(column.shape, float("nan"), dtype=column.dtype)
    host_kernels.gate_backward(problem, (grad, x, row, column), dx[1], drow, dcolumn)

    wide = (as_map(grad), as_map(x), row.double(), column.double().unsqueeze(2))
    expected = reference.gate_backward(*wide, problem.combine)
    # The sums over absolute values say how much may cancel; the reference itself is no better than s * eps per term.
    logit = reference._combine(wide[2][:, :, None, None], wide[3][:, None], problem.combine)
    terms = wide[0].abs() * wide[1].abs() * torch.sigmoid(logit)
    to_row, to_column = terms, terms
    if problem.combine == "product":
        to_row, to_column = terms * wide[3].abs()[:, None], terms * wide[2].abs()[..., None, None]
    scale = (to_row.sum((2, 3)), to_column.sum(1))
    eps = compute_eps(problem.dtype)
    bound = expected[0].abs() * (half_ulp(problem.dtype) + 8 * eps) + torch.finfo(problem.dtype).tiny
    assert_within(dx[1].unsqueeze(3), expected[0], bound)
    assert_untouched(dx, -77.0)
    for actual, index in ((drow, 1), (dcolumn.unsqueeze(2), 2)):
        bound = 32 * eps * scale[index - 1] + half_ulp(actual.dtype) * expected[index].abs()
        assert_within(actual, expected[index], bound + torch.finfo(actual.dtype).tiny)


@drawn
@given(st.data())
def test_global_avg_pool(host_kernels: HostKernels, data: st.DataObject) -> None:
    problem = data.draw(problems())
    of_rows = data.draw(st.booleans())
    generator = torch.Generator().manual_seed(problem.seed)
    x = filled(drawn_rows(data.draw, problem), generator)
    means = torch.full((problem.samples, problem.rows if of_rows else problem.columns), float("nan"), dtype=x.dtype)
    host_kernels.global_avg_pool(problem, of_rows, x, means)
    axis = 2 if of_rows else 1
    expected = x.double().mean(axis)
    bound = 16 * compute_eps(x.dtype) * x.double().abs().mean(axis) + half_ulp(x.dtype) * expected.abs()
    assert_within(means, expected, bound + torch.finfo(x.dtype).tiny)
