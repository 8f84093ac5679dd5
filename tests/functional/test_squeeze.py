"""bam_fused.squeeze against the float64 reference."""

from __future__ import annotations

import pytest
import torch
from accuracy import assert_no_worse_than_eager
from drawing import DTYPES, FORMATS, SHAPES, feature_map, memory_order

import bam_fused

MORE_SHAPES = ((1, 130, 14, 14), (2, 1024, 7, 7), (1, 64, 13, 30))  # several blocks of channels, several tiles


def weights(outputs: int, channels: int, dtype: torch.dtype):
    weight = torch.randn(outputs, channels, 1, 1, dtype=torch.float64) / channels**0.5
    return weight.to(dtype), torch.randn(outputs, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("format", FORMATS)
def test_values(poisoned, dtype, format):
    for shape in (*SHAPES, *MORE_SHAPES):
        x = feature_map(shape, dtype, format)
        for outputs in (1, 5, 150) if shape in MORE_SHAPES else (7,):
            weight, bias = weights(outputs, shape[1], dtype)
            pooled, reduced = bam_fused.squeeze(x, weight, bias)
            eager = bam_fused.reference.squeeze(x, weight, bias)
            exact = bam_fused.reference.squeeze(x.double(), weight.double(), bias.double())
            assert pooled.dtype == reduced.dtype == dtype and pooled.is_contiguous()
            if shape in MORE_SHAPES and format != "transposed":
                assert memory_order(reduced) == memory_order(eager[1])
            assert_no_worse_than_eager("pooled", pooled, eager[0], exact[0])
            # the float64 that judges float64 rounds as many additions itself
            noise = shape[1] ** 0.5 if dtype == torch.float64 else 0.0
            assert_no_worse_than_eager("reduced", reduced, eager[1], exact[1], noise)


def test_weights_of_either_rank_in_any_layout_and_no_bias():
    x, (weight, bias) = feature_map((2, 24, 6, 7)), weights(5, 24, torch.float32)
    expected = bam_fused.squeeze(x, weight, bias)
    turned = weight.flatten(1).t().contiguous().t()
    for same in (weight.flatten(1), weight.contiguous(memory_format=torch.channels_last), turned):
        assert all(map(torch.equal, bam_fused.squeeze(x, same, bias), expected))
    without = bam_fused.squeeze(x, weight)
    torch.testing.assert_close(without[1] + bias[:, None, None], expected[1])
    assert torch.equal(without[0], expected[0])


def test_gradients_are_eagers():
    x, (weight, bias) = feature_map((2, 24, 6, 7)), weights(5, 24, torch.float32)
    inputs = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    ours, eager = bam_fused.squeeze(*inputs), bam_fused.reference.squeeze(*inputs)
    grads = [torch.randn_like(tensor) for tensor in eager]
    for a, b in zip(torch.autograd.grad(ours, inputs, grads), torch.autograd.grad(eager, inputs, grads), strict=True):
        torch.testing.assert_close(a, b)


def test_empty_and_not_a_number():
    weight, bias = weights(3, 4, torch.float32)
    pooled, reduced = bam_fused.squeeze(torch.randn(0, 4, 3, 3), weight, bias)
    assert pooled.shape == (0, 4) and reduced.shape == (0, 3, 3, 3)
    pooled, reduced = bam_fused.squeeze(torch.randn(2, 4, 0, 3), weight, bias)
    assert pooled.isnan().all() and reduced.shape == (2, 3, 0, 3)
    x = feature_map((2, 4, 6, 6))
    x[1, 2, 3, 3] = float("nan")
    x[0, 0, 0, 0] = float("inf")
    for ours, eager in zip(
        bam_fused.squeeze(x, weight, bias), bam_fused.reference.squeeze(x, weight, bias), strict=True
    ):
        assert torch.equal(ours.isfinite(), eager.isfinite())


@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_same_bits_for_any_number_of_threads_and_in_any_batch(format):
    x, (weight, bias) = feature_map((3, 64, 30, 31), format=format), weights(20, 64, torch.float32)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(bam_fused.squeeze(x, weight, bias))
        alone = bam_fused.squeeze(x[1:2], weight, bias)
    finally:
        torch.set_num_threads(threads)
    for i in range(2):
        assert torch.equal(results[0][i], results[1][i]) and torch.equal(results[0][i], results[2][i])
        assert torch.equal(results[0][i][1:2], alone[i])


def test_compiled_whole():
    x, (weight, bias) = feature_map((2, 24, 6, 7)), weights(5, 24, torch.float32)
    compiled = torch.compile(bam_fused.squeeze, fullgraph=True, backend="aot_eager")
    assert all(map(torch.equal, compiled(x, weight, bias), bam_fused.squeeze(x, weight, bias)))
