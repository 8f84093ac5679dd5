"""The CUDA operators from PyTorch's side: layouts, views, dtypes and gradients in every form, on the CPU and on a GPU."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import edges
import pytest
import torch
from cuda_host_library import load_operators
from drawing import VIEWS, channel_views, feature_map, gradient, logits, same_view, spatial_views
from torch import Tensor

from bam_fused import backends, reference

pytestmark = pytest.mark.cuda_host

SHAPES = ((2, 16, 7, 7), (1, 8, 14, 14), (2, 3, 5, 6), (3, 24, 1, 1), (2, 1, 4, 9), (1, 32, 56, 2), (2, 5, 1, 40))


@pytest.fixture(params=("host", pytest.param("device", marks=pytest.mark.gpu)))
def ops(request: pytest.FixtureRequest) -> Iterator[torch._ops._OpNamespace]:
    """The operators on the CPU and, where there is a CUDA device, the built library's on that."""
    if request.param == "host":
        load_operators()
        yield torch.ops.bam_fused_cuda_host
        return
    reason = backends.REGISTRY["cuda"].why_not(torch.device("cuda"))
    if reason is not None:
        pytest.skip(reason)
    with torch.device("cuda"):
        yield torch.ops.bam_fused


def same_up_to_rounding(actual: Tensor, expected: Tensor) -> None:
    eps = torch.finfo(actual.dtype).eps
    torch.testing.assert_close(actual.double(), expected, rtol=4 * eps, atol=64 * min(eps, 1e-6) + 1e-13)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", (torch.float64, torch.bfloat16))
def test_gate_and_pool_of_every_view(ops: torch._ops._OpNamespace, view: str, dtype: torch.dtype) -> None:
    for shape in SHAPES:
        x, (channel, spatial) = feature_map(shape, dtype, view), logits(shape, dtype)
        out = ops.gate(x, channel, spatial, "sum")
        assert out.stride() == torch.empty_like(x).stride() and out.dtype == dtype
        same_up_to_rounding(out, reference.gate(x.double(), channel.double(), spatial.double()))
        means = ops.global_avg_pool(x)
        assert means.shape == shape[:2] and means.is_contiguous()
        same_up_to_rounding(means, x.double().mean((2, 3)))


@pytest.mark.parametrize("x_view", VIEWS)
def test_gate_backward_of_every_view_of_x_and_gradient(ops: torch._ops._OpNamespace, x_view: str) -> None:
    shapes, combines = itertools.cycle(SHAPES), itertools.cycle(reference.COMBINES)
    for grad_view in VIEWS:
        shape, combine = next(shapes), next(combines)
        grad, x = gradient(shape, torch.float32, grad_view), feature_map(shape, torch.float32, x_view)
        channel, spatial = logits(shape)
        results = ops.gate_backward(grad, x, channel, spatial, combine)
        expected = reference.gate_backward(*(t.double() for t in (grad, x, channel, spatial)), combine)
        assert results[0].stride() == torch.empty_like(x).stride()
        for actual, exact, like in zip(results, expected, (x, channel, spatial), strict=True):
            assert actual.shape == like.shape and actual.dtype == like.dtype
            torch.testing.assert_close(actual.double(), exact, rtol=1e-5, atol=1e-4)
        assert results[1].is_contiguous() and results[2].is_contiguous()
        for actual, exact in zip(ops.gate_logit_grads(grad, x, channel, spatial, combine), expected[1:], strict=True):
            torch.testing.assert_close(actual.double(), exact, rtol=1e-5, atol=1e-4)


def test_every_view_of_the_logits_and_float32(ops: torch._ops._OpNamespace) -> None:
    n, c, h, w = shape = (2, 16, 7, 6)
    x = feature_map(shape, torch.bfloat16)
    for channel, spatial in itertools.product(channel_views(n, c), spatial_views(n, h, w)):
        for u, v in ((channel, same_view(spatial, x.dtype)), (same_view(channel, x.dtype), spatial)):
            same_up_to_rounding(ops.gate(x, u, v, "max"), reference.gate(x.double(), u.double(), v.double(), "max"))
            results = ops.gate_backward(x, x, u, v, "max")
            assert results[1].dtype == u.dtype and results[2].dtype == v.dtype
            expected = reference.gate_backward(*(t.double() for t in (x, x, u, v)), "max")
            for actual, exact in zip(results, expected, strict=True):
                same_up_to_rounding(actual, exact)


@pytest.mark.parametrize("shape", ((0, 3, 4, 4), (2, 0, 4, 4), (2, 3, 0, 4), (2, 3, 4, 0)))
def test_empty(ops: torch._ops._OpNamespace, shape: tuple[int, ...]) -> None:
    n, c, h, w = shape
    x, channel, spatial = torch.empty(shape), torch.empty(n, c), torch.empty(n, 1, h, w)
    assert ops.gate(x, channel, spatial, "sum").shape == shape
    dx, dchannel, dspatial = ops.gate_backward(x, x, channel, spatial, "sum")
    assert dx.shape == shape
    for gradients in ((dchannel, dspatial), ops.gate_logit_grads(x, x, channel, spatial, "sum")):
        assert torch.equal(gradients[0], torch.zeros(n, c)) and torch.equal(gradients[1], torch.zeros(n, 1, h, w))
    torch.testing.assert_close(ops.global_avg_pool(x), x.mean((2, 3)), equal_nan=True)


@pytest.mark.parametrize("combine", reference.COMBINES)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_infinities_and_nan_go_where_the_reference_sends_them(
    ops: torch._ops._OpNamespace, combine: str, dtype: torch.dtype
) -> None:
    special = torch.tensor([float("nan"), float("inf"), float("-inf"), 0.0, 1.0, -2.0], dtype=dtype)
    grid = torch.cartesian_prod(*[torch.arange(6)] * 3)
    x = special[grid[:, 0]].reshape(1, 6, 6, 6)
    channel, spatial = special.reshape(1, 6), special[grid[:36, 2]].reshape(1, 6, 6)
    out = ops.gate(x, channel, spatial, combine)
    expected = reference.gate(x.double(), channel.double(), spatial.double(), combine)
    torch.testing.assert_close(out.double(), expected, rtol=1e-2, atol=1e-3, equal_nan=True)
    grad = special[grid[:, 1]].reshape(1, 6, 6, 6)
    results = ops.gate_backward(grad, x, channel, spatial, combine)
    expected_gradients = reference.gate_backward(*(t.double() for t in (grad, x, channel, spatial)), combine)
    for actual, exact in zip(results, expected_gradients, strict=True):
        torch.testing.assert_close(actual.double(), exact, rtol=1e-2, atol=1e-3, equal_nan=True)


@pytest.mark.parametrize("case", edges.EDGES)
def test_gradients_at_the_edge_of_the_numbers(ops: torch._ops._OpNamespace, case: str) -> None:
    *inputs, combine = edges.inputs(case)
    x, channel, spatial = (t.to(torch.get_default_device()) for t in inputs)
    _, *gradients = ops.gate_backward(torch.ones_like(x), x, channel, spatial, combine)
    edges.check(case, *gradients)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16), ids=str)
@pytest.mark.parametrize(
    ("combine", "one", "other"),
    (
        *(("sum", one, other) for one, other in ((-3e38, 3e38), (3e38, 3e38), (1e5, 1 - 1e5), (-999.5, 1001.0))),
        *(("product", one, other) for one, other in ((3e38, 1e-38), (-3e38, 1e-38), (1e20, 1e20))),
        ("max", -3e38, 0.5),
    ),
)
def test_huge_logits_in_float32_meet(
    ops: torch._ops._OpNamespace, combine: str, one: float, other: float, dtype: torch.dtype
) -> None:
    """What they have been multiplied by must not overflow, and goes out again where they cancel."""
    x = torch.ones(1, 8, 4, 4, dtype=dtype)
    for of_channels, of_positions in ((one, other), (other, one)):
        channel, spatial = torch.full((1, 8), of_channels), torch.full((1, 4, 4), of_positions)
        wide = (x.double(), channel.double(), spatial.double())
        same_up_to_rounding(ops.gate(x, channel, spatial, combine), reference.gate(*wide, combine))
        dx, *gradients = ops.gate_backward(x, x, channel, spatial, combine)
        expected = reference.gate_backward(wide[0], *wide, combine)
        same_up_to_rounding(dx, expected[0])
        for actual, exact in zip(gradients, expected[1:], strict=True):
            torch.testing.assert_close(actual.double(), exact, rtol=2**-7, atol=1e-30)


def test_bad_arguments_are_refused(ops: torch._ops._OpNamespace) -> None:
    in_python = (TypeError, ValueError) if torch.get_default_device().type == "cuda" else ()  # the public operators'
    refusals = (RuntimeError, *in_python)
    x, channel, spatial = torch.ones(2, 3, 4, 5), torch.ones(2, 3), torch.ones(2, 4, 5)
    for arguments in (
        (x[0], channel, spatial, "sum"),
        (x.int(), channel, spatial, "sum"),
        (x, channel[:1], spatial, "sum"),
        (x, channel, spatial.double(), "sum"),
        (x, channel, spatial, "mean"),
    ):
        with pytest.raises(refusals):
            ops.gate(*arguments)
        with pytest.raises(refusals):
            ops.gate_backward(x, *arguments)
    with pytest.raises(refusals):
        ops.gate_backward(x[:1], x, channel, spatial, "sum")
