"""bam_fused.squeeze against the float64 reference: values, gradients, layouts, determinism, memory."""

from __future__ import annotations

import pytest
import torch
from accuracy import assert_no_worse_than_eager
from drawing import DTYPES, FORMATS, VIEWS, feature_map, gradient, memory_order
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import bam_fused
from bam_fused import reference

NAMES = ("pooled", "reduced", "dx", "dweight", "dbias")
# (N, C, H, W) and R: bottlenecks, tails of every vector width and block, sizes of 1, more outputs than inputs
SHAPES = (
    ((2, 64, 14, 14), 4),
    ((3, 48, 7, 7), 3),
    ((2, 256, 28, 28), 16),
    ((1, 5, 3, 3), 2),
    ((2, 17, 1, 1), 7),
    ((1, 1, 1, 1), 1),
    ((2, 320, 2, 9), 20),
    ((1, 130, 67, 3), 33),
    ((2, 3, 5, 7), 530),
)


def weights(channels: int, reduced: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    weight = torch.randn(reduced, channels, 1, 1, dtype=torch.float64) / channels**0.5
    return weight.to(dtype), torch.randn(reduced, dtype=torch.float64).to(dtype)


def _with_gradients(function, x: Tensor, weight: Tensor, bias: Tensor | None, grads: tuple[Tensor, Tensor]):
    """Both outputs and the gradients of x, weight and bias."""
    leaves = [t.detach().requires_grad_() for t in (x, weight, bias) if t is not None]
    outs = function(*leaves)
    return *outs, *torch.autograd.grad(outs, leaves, grads)


def check(function, x: Tensor, weight: Tensor, bias: Tensor | None, grads: tuple[Tensor, Tensor]) -> None:
    """Outputs and gradients of `function` against float64, no worse than eager; the reduced map laid out as x."""
    given_values = [t.clone() for t in (x, weight, *grads)]
    ours = _with_gradients(function, x, weight, bias, grads)
    eager = _with_gradients(reference.squeeze, x, weight, bias, grads)
    wide = [None if t is None else t.double() for t in (x, weight, bias)]
    exact = _with_gradients(reference.squeeze, *wide, tuple(t.double() for t in grads))
    positions = x.shape[0] * x.shape[2] * x.shape[3]
    sums = 10.0 if x.dtype == torch.float64 else 2.0  # the float64 that judges float64 rounds as much itself
    noise = {"pooled": 1.0, "reduced": sums, "dx": 4 * weight.shape[0] ** 0.5, "dweight": 20 * positions**0.5}
    noise["dbias"] = noise["dweight"]
    for name, a, b, c in zip(NAMES, ours, eager, exact, strict=False):
        assert_no_worse_than_eager(name, a, b, c, noise.get(name, 0.0))
    assert [t.dtype for t in ours] == [t.dtype for t in eager]
    assert memory_order(ours[2]) == memory_order(torch.empty_like(x))
    for before, after in zip(given_values, (x, weight, *grads), strict=True):
        assert torch.equal(before, after), "an input was written to"


def _grads(shape: tuple[int, ...], reduced: int, dtype: torch.dtype, format: str) -> tuple[Tensor, Tensor]:
    n, c, h, w = shape
    return torch.randn(n, c).to(dtype), gradient((n, reduced, h, w), dtype, format)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_values_and_gradients(poisoned, dtype, format, compiled):
    function = torch.compile(bam_fused.squeeze, fullgraph=True, backend="aot_eager") if compiled else bam_fused.squeeze
    for shape, reduced in SHAPES[:2] if compiled else SHAPES:
        weight, bias = weights(shape[1], reduced, dtype)
        check(function, feature_map(shape, dtype, format), weight, bias, _grads(shape, reduced, dtype, format))


@pytest.mark.parametrize("x_format", VIEWS)
def test_every_view_of_x_and_gradient(poisoned, x_format):
    shapes = ((2, 12, 6, 10), 5), ((1, 3, 1, 5), 2), ((3, 1, 4, 4), 1)
    for i, grad_format in enumerate(VIEWS, start=VIEWS.index(x_format)):  # the views of a pair see one of the shapes
        shape, reduced = shapes[i % len(shapes)]
        weight, bias = weights(shape[1], reduced)
        x = feature_map(shape, torch.float32, x_format)
        check(bam_fused.squeeze, x, weight, bias, _grads(shape, reduced, torch.float32, grad_format))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_drawn_cases(data):
    channels = data.draw(st.one_of(st.integers(1, 140), st.just(320), st.integers(16, 1024)), label="C")
    side = min(70, int((60000 / channels) ** 0.5))
    n, h, w = (data.draw(st.integers(1, top), label=name) for name, top in (("N", 3), ("H", side), ("W", side)))
    shape = (n, channels, h, w)
    reduced, dtype = data.draw(st.integers(1, 70)), data.draw(st.sampled_from(DTYPES))
    weight, bias = weights(shape[1], reduced, dtype)
    x = feature_map(shape, dtype, data.draw(st.sampled_from(VIEWS)))
    grads = _grads(shape, reduced, dtype, data.draw(st.sampled_from(FORMATS)))
    check(bam_fused.squeeze, x, weight, bias if data.draw(st.booleans()) else None, grads)


@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_gradcheck(format):
    x = feature_map((2, 5, 3, 4), torch.float64, format).requires_grad_()
    weight, bias = (t.requires_grad_() for t in weights(5, 3, torch.float64))
    torch.autograd.gradcheck(bam_fused.squeeze, (x, weight, bias))
    torch.autograd.gradgradcheck(bam_fused.squeeze, (x, weight, bias))


def test_weights_in_every_shape_and_stride():
    shape = (2, 6, 5, 4)
    x, grads = feature_map(shape), _grads(shape, 3, torch.float32, "contiguous")
    weight, bias = weights(6, 3)
    for each in (weight, weight.flatten(1), weight.flatten(1).t().contiguous().t(), torch.randn(3, 12)[:, ::2]):
        check(bam_fused.squeeze, x, each, bias, grads)


def test_gradients_of_a_subset():
    shape = (2, 8, 3, 5)
    x, (weight, bias), grads = feature_map(shape), weights(8, 3), _grads(shape, 3, torch.float32, "contiguous")
    everything = _with_gradients(bam_fused.squeeze, x, weight, bias, grads)[2:]
    for index in range(3):
        leaves = [t.detach().clone().requires_grad_(i == index) for i, t in enumerate((x, weight, bias))]
        torch.autograd.backward(bam_fused.squeeze(*leaves), grads)
        assert torch.equal(leaves[index].grad, everything[index])
        assert all(leaf.grad is None for i, leaf in enumerate(leaves) if i != index)
    leaves = [t.detach().clone().requires_grad_() for t in (x, weight, bias)]
    bam_fused.squeeze(*leaves)[0].backward(grads[0])  # the reduced map is not used
    torch.testing.assert_close(leaves[0].grad, (grads[0] / 15)[..., None, None].expand(shape))


@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_same_bits_for_any_number_of_threads(format):
    shape = (3, 300, 30, 30)
    x, (weight, bias), grads = (
        feature_map(shape, format=format),
        weights(300, 19),
        _grads(shape, 19, torch.float32, format),
    )
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 5, 1, 2):
            torch.set_num_threads(count)
            results.append(_with_gradients(bam_fused.squeeze, x, weight, bias, grads))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


def test_empty_inputs():
    weight, bias = (t.requires_grad_() for t in weights(4, 2))
    for shape in ((0, 4, 3, 3), (2, 4, 0, 3)):
        x = torch.randn(shape, requires_grad=True)
        pooled, reduced = bam_fused.squeeze(x, weight, bias)
        assert pooled.shape == (shape[0], 4) and reduced.shape == (shape[0], 2, *shape[2:])
        reduced.sum().backward()
        assert not weight.grad.any() and not bias.grad.any()


def test_nothing_of_full_size_is_saved_but_x():
    x = feature_map((2, 16, 8, 8)).requires_grad_()
    weight, bias = (t.requires_grad_() for t in weights(16, 2))
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        bam_fused.squeeze(x, weight, bias)
    assert sum({t.untyped_storage().data_ptr(): t.nbytes for t in saved}.values()) == x.nbytes + weight.nbytes


def test_bad_input():
    x, weight = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 1, 1)
    for error, argument, arguments in (
        (TypeError, "weight", (x, weight.double())),
        (ValueError, "weight", (x, torch.randn(2, 5))),
        (ValueError, "weight", (x, torch.randn(2, 4, 3, 3))),
        (ValueError, "bias", (x, weight, torch.randn(3))),
        (TypeError, "bias", (x, weight, torch.randn(2).half())),
        (ValueError, "x", (x[0], weight)),
    ):
        with pytest.raises(error, match=argument):
            bam_fused.squeeze(*arguments)


def test_transforms_of_torch_func():
    x, (weight, bias) = torch.randn(3, 1, 4, 5, 5), weights(4, 2)
    pooled, reduced = torch.func.vmap(lambda each: bam_fused.squeeze(each, weight, bias))(x)
    expected = [bam_fused.squeeze(each, weight, bias) for each in x]
    torch.testing.assert_close(pooled, torch.stack([each[0] for each in expected]))
    torch.testing.assert_close(reduced, torch.stack([each[1] for each in expected]))
