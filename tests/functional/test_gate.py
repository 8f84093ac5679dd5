"""bam_fused.gate against the float64 reference: values, gradients, layouts, determinism."""

from __future__ import annotations

import itertools

import edges
import pytest
import torch
from accuracy import assert_no_worse_than_eager, noise_of_sums, root_mean_square_error
from drawing import (
    COMBINES,
    DTYPES,
    SHAPES,
    VIEWS,
    channel_views,
    feature_map,
    gradient,
    logits,
    memory_order,
    spatial_views,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import bam_fused
from bam_fused import reference


def _with_gradients(function, x: Tensor, channel: Tensor, spatial: Tensor, grad: Tensor, combine: str):
    """The output and the three gradients."""
    leaves = [t.detach().requires_grad_() for t in (x, channel, spatial)]
    out = function(*leaves, combine)
    return out, *torch.autograd.grad(out, leaves, grad)


def check(function, x: Tensor, channel: Tensor, spatial: Tensor, grad: Tensor, combine: str) -> None:
    """Output and gradients of `function` against float64, no worse than eager; the output laid out as x."""
    given_values = [t.clone() for t in (x, channel, spatial, grad)]
    ours = _with_gradients(function, x, channel, spatial, grad, combine)
    eager = _with_gradients(reference.gate, x, channel, spatial, grad, combine)
    exact = _with_gradients(reference.gate, *(t.double() for t in (x, channel, spatial, grad)), combine)
    noise = noise_of_sums(grad, x, channel, spatial, combine)
    for name, a, b, c in zip(("out", "dx", "dchannel", "dspatial"), ours, eager, exact, strict=True):
        assert_no_worse_than_eager(name, a, b, c, noise if name in ("dchannel", "dspatial") else 0.0)
    assert memory_order(ours[0]) == memory_order(torch.empty_like(x))
    assert [t.dtype for t in ours] == [x.dtype, x.dtype, channel.dtype, spatial.dtype]
    for before, after in zip(given_values, (x, channel, spatial, grad), strict=True):
        assert torch.equal(before, after), "an input was written to"


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_values_and_gradients(poisoned, dtype, format, combine, compiled):
    function = torch.compile(bam_fused.gate, fullgraph=True, backend="aot_eager") if compiled else bam_fused.gate
    for shape in SHAPES[:2] if compiled else SHAPES:
        x = feature_map(shape, dtype, format)
        check(function, x, *logits(shape, dtype), gradient(shape, dtype, format), combine)


@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_error_over_many_values(format, combine):
    """Where there are values enough for statistics, no play: the root mean square error is no larger than eager's."""
    shape = (2, 256, 28, 28)
    inputs = (feature_map(shape, format=format), *logits(shape), gradient(shape, format=format))
    ours = _with_gradients(bam_fused.gate, *inputs, combine)
    eager = _with_gradients(reference.gate, *inputs, combine)
    exact = _with_gradients(reference.gate, *(t.double() for t in inputs), combine)
    for name, a, b, c in zip(("out", "dx", "dchannel", "dspatial"), ours, eager, exact, strict=True):
        assert root_mean_square_error(a, c) <= 1.1 * root_mean_square_error(b, c), name


@pytest.mark.slow
def test_compiled_by_inductor():
    """The default compiler, with another pointwise operation on each side of the gate."""

    @torch.compile(fullgraph=True)
    def compiled(x, channel, spatial, combine):
        return bam_fused.gate(x * 2, channel, spatial, combine) / 2

    shape = (2, 16, 7, 7)
    check(compiled, feature_map(shape), *logits(shape), gradient(shape), "sum")


def test_compiles_once_per_shape():
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True, recompile_limit=1):
        compiled = torch.compile(bam_fused.gate, fullgraph=True, backend="aot_eager")
        for _ in range(2):
            x = feature_map((2, 8, 5, 5)).requires_grad_()
            compiled(x, *logits((2, 8, 5, 5))).sum().backward()


@pytest.mark.parametrize("x_view", VIEWS)
def test_every_view_of_x_and_gradient(poisoned, x_view):
    shapes = itertools.cycle(((2, 12, 6, 10), (1, 3, 1, 5), (3, 1, 4, 4), (2, 17, 1, 1), (2, 24, 3, 3)))
    combines = itertools.cycle(COMBINES)
    for grad_view in VIEWS:
        shape = next(shapes)
        x, grad = feature_map(shape, torch.float32, x_view), gradient(shape, torch.float32, grad_view)
        check(bam_fused.gate, x, *logits(shape), grad, next(combines))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_drawn_cases(data):
    shape = tuple(
        data.draw(st.integers(1, top), label=name) for name, top in (("N", 4), ("C", 70), ("H", 40), ("W", 40))
    )
    dtype = data.draw(st.sampled_from(DTYPES))
    logit_dtypes = [data.draw(st.sampled_from((dtype, torch.float32))) for _ in range(2)]
    x = feature_map(shape, dtype, data.draw(st.sampled_from(VIEWS)))
    scale = data.draw(st.sampled_from((1.0, 10.0)))
    channel, spatial = (t.to(d) for t, d in zip(logits(shape, dtype, scale), logit_dtypes, strict=True))
    grad = gradient(shape, dtype, data.draw(st.sampled_from(VIEWS)))
    check(bam_fused.gate, x, channel, spatial, grad, data.draw(st.sampled_from(COMBINES)))


@pytest.mark.parametrize("format", ["contiguous", "channels_last", "transposed"])
def test_every_view_of_the_logits(format):
    n, c, h, w = shape = (2, 6, 5, 4)
    x, grad = feature_map(shape, format=format), gradient(shape)
    for u, v in itertools.product(channel_views(n, c), spatial_views(n, h, w)):
        check(bam_fused.gate, x, u, v, grad, "sum")


@pytest.mark.parametrize("scale", [30.0, 300.0])
@pytest.mark.parametrize("combine", COMBINES)
def test_large_logits(combine, scale):
    """Beyond the range where the exponential separates, and beyond that where it overflows."""
    for shape in ((2, 24, 9, 9), (1, 300, 3, 3)):
        check(bam_fused.gate, feature_map(shape), *logits(shape, scale=scale), gradient(shape), combine)


@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_nan_and_infinity_go_where_eager_sends_them(dtype, format, combine):
    special = [float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1.0, -1.0, 200.0, -200.0]
    n = len(special)
    values = torch.tensor(special)
    channel, spatial = values.expand(n, n).to(dtype), values.reshape(1, 1, 1, n).expand(n, 1, 1, n).to(dtype)
    x = values.reshape(n, 1, 1, 1).expand(n, n, 1, n).to(dtype).contiguous()
    x = x.contiguous(memory_format=torch.channels_last) if format == "channels_last" else x
    wide = [t.float() for t in (x, channel, spatial)]
    torch.testing.assert_close(
        bam_fused.gate(x, channel, spatial, combine), reference.gate(*wide, combine).to(dtype), equal_nan=True
    )
    grad = torch.ones_like(x)
    ours = _with_gradients(bam_fused.gate, x, channel, spatial, grad, combine)
    eager = _with_gradients(reference.gate, *wide, grad.float(), combine)
    for a, b in zip(ours[1:], eager[1:], strict=True):
        torch.testing.assert_close(a, b.to(dtype), equal_nan=True)


@pytest.mark.parametrize("case", edges.EDGES)
def test_gradients_at_the_edge_of_the_numbers(case):
    x, channel, spatial, combine = edges.inputs(case)
    _, _, *gradients = _with_gradients(bam_fused.gate, x, channel, spatial, torch.ones_like(x), combine)
    edges.check(case, *gradients)


def test_ties_share_the_gradient():
    """Under "max" equal logits get half the gradient each, as torch.maximum gives them; nearly equal ones do not."""
    x, grad = torch.ones(1, 2, 1, 2), torch.ones(1, 2, 1, 2)
    channel = torch.tensor([[3.0, 3.0000002]])
    spatial = torch.full((1, 1, 1, 2), 3.0)
    ours = _with_gradients(bam_fused.gate, x, channel, spatial, grad, "max")
    exact = _with_gradients(reference.gate, *(t.double() for t in (x, channel, spatial, grad)), "max")
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=0)


def test_empty_inputs():
    for shape in ((0, 4, 3, 3), (2, 0, 3, 3), (2, 4, 0, 3)):
        x = torch.randn(shape, requires_grad=True)
        channel, spatial = (t.requires_grad_() for t in logits(shape))
        out = bam_fused.gate(x, channel, spatial)
        assert out.shape == shape
        out.sum().backward()
        assert not channel.grad.any() and not spatial.grad.any()


def test_gradients_of_a_subset():
    shape = (2, 4, 3, 3)
    x, grad = feature_map(shape), gradient(shape)
    everything = _with_gradients(bam_fused.gate, x, *logits(shape), grad, "sum")
    torch.manual_seed(0)
    x, grad = feature_map(shape), gradient(shape)
    channel, spatial = logits(shape)
    channel.requires_grad_()
    bam_fused.gate(x, channel, spatial).backward(grad)
    assert torch.equal(channel.grad, everything[2]) and x.grad is None and spatial.grad is None


@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_same_bits_for_any_number_of_threads(format):
    shape = (3, 40, 60, 60)
    x, grad = feature_map(shape, format=format), gradient(shape, format=format)
    channel, spatial = logits(shape)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 5, 1, 2):
            torch.set_num_threads(count)
            results.append(_with_gradients(bam_fused.gate, x, channel, spatial, grad, "sum"))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_same_bits_for_a_sample_alone_and_in_a_batch(format, combine):
    for shape in ((5, 64, 14, 14), (33, 16, 7, 7), (7, 8, 56, 56), (9, 320, 2, 9), (17, 512, 7, 7), (3, 64, 70, 61)):
        x, grad = feature_map(shape, format=format), gradient(shape, format=format)
        channel, spatial = logits(shape)
        whole = _with_gradients(bam_fused.gate, x, channel, spatial, grad, combine)
        for i in (0, shape[0] // 2, shape[0] - 1):
            alone = _with_gradients(bam_fused.gate, *(t[i : i + 1] for t in (x, channel, spatial, grad)), combine)
            assert all(torch.equal(a[i : i + 1], b) for a, b in zip(whole, alone, strict=True))


def test_under_autocast():
    shape = (2, 8, 6, 6)
    x = feature_map(shape, torch.bfloat16)
    channel, spatial = logits(shape)
    with torch.autocast("cpu", torch.bfloat16):
        out = bam_fused.gate(x, channel, spatial)
    assert out.dtype == torch.bfloat16
    exact = reference.gate(x.double(), channel.double(), spatial.double())
    torch.testing.assert_close(out.double(), exact, rtol=2**-8, atol=1e-6)
