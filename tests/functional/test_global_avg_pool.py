"""bam_fused.global_avg_pool against the float64 reference."""

from __future__ import annotations

import pytest
import torch
from accuracy import assert_no_worse_than_eager
from drawing import DTYPES, FORMATS, SHAPES, VIEWS, feature_map

import bam_fused


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("format", FORMATS)
def test_values_and_gradients(poisoned, dtype, format, compiled):
    function = (
        torch.compile(bam_fused.global_avg_pool, fullgraph=True, backend="aot_eager")
        if compiled
        else bam_fused.global_avg_pool
    )
    for shape in SHAPES[:2] if compiled else (*SHAPES, (2, 5, 200, 336)):
        x = feature_map(shape, dtype, format).requires_grad_()
        out = function(x)
        assert out.dtype == dtype and out.is_contiguous()
        # eager's own mean over bfloat16 in NHWC and over views has no better bound than this
        assert_no_worse_than_eager("out", out, x.mean((2, 3)), x.double().mean((2, 3)))
        grad = torch.randn(shape[:2]).to(dtype)
        (ours,) = torch.autograd.grad(out, x, grad)
        (eager,) = torch.autograd.grad(x.mean((2, 3)), x, grad)
        torch.testing.assert_close(ours, eager)


@pytest.mark.parametrize("view", VIEWS)
def test_every_view(poisoned, view):
    for shape in ((2, 12, 6, 10), (1, 3, 1, 5), (3, 1, 4, 4), (2, 17, 1, 1), (2, 70, 3, 3)):
        x = feature_map(shape, torch.float32, view)
        exact, eager = x.double().mean((2, 3)), x.contiguous().mean((2, 3))
        addends = x.abs().mean().item()  # a few numbers, repeated, may cancel where they err together
        assert_no_worse_than_eager("out", bam_fused.global_avg_pool(x), eager, exact, addends)


def test_gradcheck():
    for format in ("contiguous", "channels_last"):
        x = feature_map((2, 3, 4, 5), torch.float64, format).requires_grad_()
        torch.autograd.gradcheck(bam_fused.global_avg_pool, x)
        torch.autograd.gradgradcheck(bam_fused.global_avg_pool, x)


def test_backward_moves_no_feature_map():
    x = feature_map((2, 8, 16, 16)).requires_grad_()
    seen = []
    x.register_hook(lambda grad: seen.append(grad.stride()))
    bam_fused.global_avg_pool(x).sum().backward()
    assert seen[0][2:] == (0, 0)


def test_empty_and_not_a_number():
    assert bam_fused.global_avg_pool(torch.randn(0, 4, 3, 3)).shape == (0, 4)
    assert bam_fused.global_avg_pool(torch.randn(2, 4, 0, 3)).isnan().all()
    x = feature_map((2, 4, 6, 6))
    x[1, 2, 3, 3] = float("nan")
    x[0, 0, 0, 0] = float("inf")
    assert torch.equal(bam_fused.global_avg_pool(x).isfinite(), x.mean((2, 3)).isfinite())


def test_same_bits_for_any_number_of_threads():
    threads = torch.get_num_threads()
    try:
        for format in ("contiguous", "channels_last"):
            x = feature_map((2, 64, 60, 60), format=format)
            results = []
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                results.append(bam_fused.global_avg_pool(x))
            assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_same_bits_for_a_sample_alone_and_in_a_batch(format):
    for shape in ((5, 64, 14, 14), (33, 16, 7, 7), (7, 8, 56, 56), (17, 512, 7, 7), (3, 64, 60, 61)):
        x = feature_map(shape, format=format)
        whole = bam_fused.global_avg_pool(x)
        for i in range(shape[0]):
            assert torch.equal(whole[i : i + 1], bam_fused.global_avg_pool(x[i : i + 1]))
