"""The dilated convolution of the spatial branch against float64 and the library: values, gradients, determinism."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from accuracy import assert_no_worse_than_eager, root_mean_square_error
from drawing import DTYPES, FORMATS, VIEWS, feature_map, gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bam_fused.functional.dilated_conv import dilated_conv

NAMES = ("out", "dx", "dweight", "dbias")


def library(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int, relu: bool) -> Tensor:
    out = F.conv2d(x, weight, bias, padding=dilation, dilation=dilation)
    return out.relu() if relu else out


def _drawn(inputs: int, outputs: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    weight = torch.randn(outputs, inputs, 3, 3, dtype=torch.float64) / (3 * inputs**0.5)
    return weight.to(dtype), torch.randn(outputs, dtype=torch.float64).to(dtype)


def _with_gradients(function, x: Tensor, weight: Tensor, bias: Tensor | None, grad: Tensor, *options):
    leaves = [t.detach().requires_grad_() for t in (x, weight, bias) if t is not None]
    out = function(*leaves, *(() if bias is not None else (None,)), *options)
    return out, *torch.autograd.grad(out, leaves, grad)


def check(x: Tensor, weight: Tensor, bias: Tensor | None, grad: Tensor, dilation: int, relu: bool) -> None:
    ours = _with_gradients(dilated_conv, x, weight, bias, grad, dilation, False)
    eager = _with_gradients(library, x, weight, bias, grad, dilation, False)
    wide = [None if t is None else t.double() for t in (x, weight, bias, grad)]
    exact = _with_gradients(library, *wide, dilation, False)
    positions = x.shape[0] * x.shape[2] * x.shape[3]
    noise = {"out": 12.0, "dx": 12.0, "dweight": 20 * positions**0.5, "dbias": 20 * positions**0.5}
    for name, a, b, c in zip(NAMES, ours, eager, exact, strict=False):
        assert_no_worse_than_eager(name, a, b, c, noise[name])
    assert [t.dtype for t in ours] == [t.dtype for t in eager]
    if relu:  # the mask is that of the values, which are the same
        rectified = _with_gradients(dilated_conv, x, weight, bias, grad, dilation, True)
        masked = grad * (ours[0] > 0)
        assert torch.equal(rectified[0], ours[0].relu())
        for a, b in zip(
            rectified[1:], _with_gradients(dilated_conv, x, weight, bias, masked, dilation, False)[1:], strict=True
        ):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_values_and_gradients(poisoned, dtype, format):
    for shape, outputs, dilation in (
        ((2, 16, 14, 14), 16, 4),
        ((1, 32, 28, 9), 32, 4),
        ((2, 70, 3, 300), 20, 2),
        ((2, 1, 5, 7), 1, 2),
        ((3, 5, 3, 3), 12, 4),
        ((1, 64, 1, 1), 64, 1),
        ((2, 20, 9, 1), 3, 1),
        ((1, 128, 6, 6), 130, 2),
    ):
        weight, bias = _drawn(shape[1], outputs, dtype)
        n, _, h, w = shape
        grad = gradient((n, outputs, h, w), dtype, format)
        check(feature_map(shape, dtype, format), weight, bias, grad, dilation, relu=dtype == torch.float32)


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_of_x_and_gradient(poisoned, view):
    weight, bias = _drawn(8, 8, torch.float32)
    for grad_view in FORMATS:
        check(feature_map((2, 8, 5, 6), format=view), weight, bias, gradient((2, 8, 5, 6), format=grad_view), 2, True)
        check(feature_map((2, 8, 5, 6), format=grad_view), weight, None, gradient((2, 8, 5, 6), format=view), 3, False)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_drawn_cases(data):
    n, inputs, outputs, h, w, dilation = (data.draw(st.integers(1, top)) for top in (3, 128, 128, 20, 20, 24))
    dtype = data.draw(st.sampled_from(DTYPES))
    weight, bias = _drawn(inputs, outputs, dtype)
    x = feature_map((n, inputs, h, w), dtype, data.draw(st.sampled_from(FORMATS)))
    grad = gradient((n, outputs, h, w), dtype, data.draw(st.sampled_from(FORMATS)))
    check(x, weight, bias if data.draw(st.booleans()) else None, grad, dilation, False)


def test_error_over_many_values():
    """The order in which 9 * I products are added decides on some tens of percent, either way."""
    shape = (4, 16, 56, 56)
    x, grad, (weight, bias) = feature_map(shape), gradient(shape), _drawn(16, 16, torch.float32)
    ours = _with_gradients(dilated_conv, x, weight, bias, grad, 4, False)
    eager = _with_gradients(library, x, weight, bias, grad, 4, False)
    exact = _with_gradients(library, *(t.double() for t in (x, weight, bias, grad)), 4, False)
    for name, a, b, c in zip(NAMES, ours, eager, exact, strict=True):
        assert root_mean_square_error(a, c) <= 1.5 * root_mean_square_error(b, c), name


@pytest.mark.parametrize("relu", [False, True])
def test_gradcheck(relu):
    x = feature_map((2, 3, 4, 5), torch.float64).requires_grad_()
    weight, bias = (t.requires_grad_() for t in _drawn(3, 2, torch.float64))

    def function(*inputs):
        return dilated_conv(*inputs, 2, relu)

    torch.autograd.gradcheck(function, (x, weight, bias))
    torch.autograd.gradgradcheck(function, (x, weight, bias))


def test_same_bits_for_any_number_of_threads():
    shape = (3, 24, 40, 41)
    x, grad, (weight, bias) = feature_map(shape), gradient(shape), _drawn(24, 24, torch.float32)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 5):
            torch.set_num_threads(count)
            results.append(_with_gradients(dilated_conv, x, weight, bias, grad, 4, True))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0][:3], result[:3], strict=True))
