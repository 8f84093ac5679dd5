"""The backward in two passes gives what squeeze, branches and gate give by themselves, wherever autograd may take it.

Both ways of it: with branches of PyTorch's nodes, and with branches that are operators and one node with the gate.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from accuracy import assert_no_worse_than_eager, noise_of_rounding, nudged
from drawing import COMBINES, DTYPES, VIEWS, feature_map, gradient
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import bam_fused
from bam_fused import reference
from bam_fused.functional.attend import attend
from bam_fused.functional.bam import RELU
from bam_fused.functional.training_step import Layers, training_step
from bam_fused.functional.two_passes import two_passes

NAMES = ("out", "x", "weight", "bias", "first", "second", "last")


def _branches(first: Tensor, second: Tensor, last: Tensor):
    """A small BAM: one hidden layer in each branch."""

    def branches(pooled: Tensor, reduced: Tensor) -> tuple[Tensor, Tensor]:
        return F.relu(pooled @ first) @ second, F.conv2d(F.relu(reduced), last)

    return branches


def _with_branches(combine: str, x: Tensor, weight: Tensor, bias: Tensor, *layers: Tensor) -> Tensor:
    return two_passes(x, weight, bias, _branches(*layers), combine)


def _with_operators(combine: str, x: Tensor, weight: Tensor, bias: Tensor, *layers: Tensor) -> Tensor:
    first, second, last = layers
    described = Layers([RELU, 0, RELU, 0], 2, [], [0.0] * 4)
    return training_step(x, weight, bias, [first.t(), second.t(), last], described, combine)[0]


WAYS = (_with_branches, _with_operators)


@pytest.fixture(params=WAYS, ids=["branches", "operators"])
def fused(request):
    return request.param


def composed(combine: str, x: Tensor, weight: Tensor, bias: Tensor, *layers: Tensor) -> Tensor:
    return attend(x, *_branches(*layers)(*reference.squeeze(x, weight, bias)), combine)


def plain(combine: str, x: Tensor, weight: Tensor, bias: Tensor, *layers: Tensor) -> Tensor:
    return reference.gate(x, *_branches(*layers)(*reference.squeeze(x, weight, bias)), combine)


def _leaves(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, format: str = "contiguous") -> list[Tensor]:
    c, reduced = shape[1], 3
    x = feature_map(shape, dtype, format)
    sizes = ((reduced, c, 1, 1), (reduced,), (c, reduced), (reduced, c), (1, reduced, 1, 1))
    layers = [torch.randn(size, dtype=torch.float64) / max(size[0], size[-1]) ** 0.5 for size in sizes]
    return [x.requires_grad_(), *(t.to(dtype).requires_grad_() for t in layers)]


def _gradients(function, combine: str, leaves: list[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    leaves = [t.detach().requires_grad_() for t in leaves]
    out = function(combine, *leaves)
    return out.detach(), *torch.autograd.grad(out, leaves, grad)


def _same(ours: tuple[Tensor | None, ...], theirs: tuple[Tensor | None, ...]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


SHAPE = (2, 10, 6, 7)


@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
def test_values_and_gradients(poisoned, fused, dtype, format, combine):
    for shape in (SHAPE, (1, 40, 15, 9), (3, 7, 1, 1), (2, 96, 14, 14)):
        leaves, grad = _leaves(shape, dtype, format), gradient(shape, dtype, format)
        ours = _gradients(fused, combine, leaves, grad)
        eager = _gradients(plain, combine, leaves, grad)
        wide, wide_grad = [t.double() for t in leaves], grad.double()
        exact = _gradients(plain, combine, wide, wide_grad)
        moved = (
            _gradients(plain, combine, [nudged(t, dtype) for t in wide], nudged(wide_grad, dtype)) for _ in range(3)
        )
        noises = noise_of_rounding(exact, moved, dtype)
        for result in zip(NAMES, ours, eager, exact, noises, strict=True):
            assert_no_worse_than_eager(*result)


@pytest.mark.parametrize("x_view", VIEWS)
def test_every_view_of_x_and_gradient(poisoned, x_view):
    leaves = _leaves(SHAPE, format=x_view)
    for i, grad_view in enumerate(VIEWS):
        grad, fused = gradient(SHAPE, torch.float64, grad_view), WAYS[i % 2]
        _same(_gradients(fused, "sum", leaves, grad), _gradients(composed, "sum", leaves, grad))


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (3,), (5,), (1, 2), (0, 4), (1, 2, 3, 4, 5), (0, 3, 4, 5)])
def test_frozen_parameters_and_inputs(fused, wanted):
    """Leaves that need no gradient, and gradients of which only some are asked for."""
    grad, leaves = gradient(SHAPE, torch.float64), _leaves(SHAPE)
    everything = _gradients(composed, "sum", leaves, grad)
    some = [t.detach().requires_grad_(i in wanted) for i, t in enumerate(leaves)]
    _same(
        torch.autograd.grad(fused("sum", *some), [some[i] for i in wanted], grad), [everything[1 + i] for i in wanted]
    )
    _same(
        torch.autograd.grad(fused("sum", *leaves), [leaves[i] for i in wanted], grad),
        [everything[1 + i] for i in wanted],
    )


def test_where_only_the_branches_learn_the_squeeze_is_no_node(fused):
    leaves = [t.detach().requires_grad_(i > 2) for i, t in enumerate(_leaves(SHAPE))]
    nodes, found = [fused("sum", *leaves).grad_fn], set()
    while nodes:
        node = nodes.pop()
        found.add(node.name())
        nodes += [before for before, _ in node.next_functions if before is not None]
    assert any("Accumulate" in name for name in found) and not any("Squeeze" in name for name in found)


def test_x_is_used_elsewhere_too(fused):
    grad, leaves = gradient(SHAPE, torch.float64), _leaves(SHAPE)

    def gradients(function):
        middle = leaves[0] * 3  # not a leaf
        out = function("sum", middle, *leaves[1:]) + middle.sin() + function("product", middle, *leaves[1:])
        return torch.autograd.grad(out, [*leaves, middle], grad)

    _same(gradients(fused), gradients(composed))


def test_backward_twice_over_a_kept_graph(fused):
    grad, leaves = gradient(SHAPE, torch.float64), _leaves(SHAPE)
    out = fused("sum", *leaves)
    first = torch.autograd.grad(out, leaves, grad, retain_graph=True)
    second = torch.autograd.grad(out, leaves, 2 * grad, retain_graph=True)
    some = torch.autograd.grad(out, leaves[:1], grad)
    _same(second, [2 * t for t in first])
    _same(some, first[:1])
    _same(first, _gradients(composed, "sum", leaves, grad)[1:])


@pytest.mark.parametrize("combine", ["sum", "product"])
def test_gradcheck(fused, combine):
    leaves = _leaves((2, 4, 2, 3))
    torch.autograd.gradcheck(lambda *leaves: fused(combine, *leaves), leaves)
    torch.autograd.gradgradcheck(lambda *leaves: fused(combine, *leaves), leaves)


def test_a_penalty_on_the_gradient_and_the_loss_itself_in_one_backward(fused):
    grad, leaves = gradient(SHAPE, torch.float64), _leaves(SHAPE)

    def gradients(function):
        out = function("sum", *leaves)
        inner = torch.autograd.grad(out, leaves, grad, create_graph=True)
        loss = (out * grad).sum() + sum(t.square().sum() for t in inner)
        return torch.autograd.grad(loss, leaves)

    _same(gradients(fused), gradients(composed))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed(fused, reentrant):
    grad, leaves = gradient(SHAPE, torch.float64), _leaves(SHAPE)
    out = checkpoint(lambda *leaves: fused("sum", *leaves), *leaves, use_reentrant=reentrant)
    for leaf in leaves:
        leaf.grad = None
    out.backward(grad)
    _same([leaf.grad for leaf in leaves], _gradients(composed, "sum", leaves, grad)[1:])


def test_hooks_on_tensors_and_nodes(fused):
    """What they change is what goes on."""
    grad, leaves = gradient(SHAPE, torch.float64), _leaves(SHAPE)

    def gradients(function):
        middle = leaves[0] * 1
        middle.register_hook(lambda g: 2 * g)
        out = function("sum", middle, *leaves[1:])
        out.register_hook(lambda g: g + 1)
        return torch.autograd.grad(out, leaves, grad)

    _same(gradients(fused), gradients(composed))


def test_inputs_changed_after_the_forward_are_noticed(fused):
    leaves = _leaves(SHAPE)
    middle = leaves[0] * 1
    out = fused("sum", middle, *leaves[1:])
    middle.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_nothing_of_full_size_is_saved_but_x(fused):
    leaves = _leaves((2, 64, 16, 16), torch.float32)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        fused("sum", *leaves)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in saved}
    assert sum(storages.values()) < 1.3 * leaves[0].nbytes


def test_branches_that_leave_one_of_their_inputs_alone():
    grad, leaves = gradient(SHAPE, torch.float64), _leaves(SHAPE)
    free = torch.randn(2, 10, dtype=torch.float64, requires_grad=True)
    map_alone = torch.randn(2, 1, 6, 7, dtype=torch.float64, requires_grad=True)
    for branches in (
        lambda pooled, reduced: (free, reduced.sum(1, keepdim=True)),
        lambda pooled, reduced: (pooled, map_alone),
        lambda pooled, reduced: (free, map_alone),
    ):
        ours = two_passes(*leaves[:3], branches, "sum")
        theirs = attend(leaves[0], *branches(*reference.squeeze(*leaves[:3])), "sum")
        wanted = [leaves[0], free, map_alone]
        _same(*(torch.autograd.grad(out, wanted, grad, allow_unused=True) for out in (ours, theirs)))


def test_on_the_eager_backend(fused):
    grad, leaves = gradient(SHAPE, torch.float64), _leaves(SHAPE)
    with bam_fused.use_backend("eager"):
        _same(_gradients(fused, "max", leaves, grad), _gradients(composed, "max", leaves, grad))


def test_same_bits_for_any_number_of_threads():
    shape = (3, 200, 24, 24)
    leaves, grad = _leaves(shape, torch.float32), gradient(shape)
    x, weight = leaves[:2]
    pooled_grad, reduced_grad = torch.randn(3, 200), torch.randn(3, 3, 24, 24)
    logits = torch.randn(3, 200), torch.randn(3, 1, 24, 24)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 5):
            torch.set_num_threads(count)
            ops = torch.ops.bam_fused
            dx = ops.squeeze_input_grad(x, weight, pooled_grad, reduced_grad, grad, *logits, "sum")
            results.append((dx, *ops.gate_logit_grads(grad, x, *logits, "sum")))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))
