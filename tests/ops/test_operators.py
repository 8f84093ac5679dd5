"""The dispatcher operators: fake kernels with the true strides, what torch.library.opcheck asks, and meta tensors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from drawing import FORMATS, VIEWS, feature_map
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map_only

from bam_fused import backends, functional
from bam_fused.bench.operations import DESCRIPTIONS
from bam_fused.ops import OPERATORS

SAMPLES = {name: samples for one in DESCRIPTIONS.values() for name, samples in one.operators.items()}
SHAPE = (2, 16, 5, 4)


def _calls(operator: str, x: torch.Tensor) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    for arguments in SAMPLES[operator](x):
        yield getattr(torch.ops.bam_fused, operator).compiled, arguments


def _outlines(result: Any) -> list[tuple[Any, ...]]:
    return [(tensor.shape, tensor.stride(), tensor.dtype) for tensor in tree_leaves(result)]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("operator", SAMPLES)
def test_opcheck(operator, format):
    for overload, arguments in _calls(operator, feature_map(SHAPE, format=format)):
        torch.library.opcheck(overload, arguments)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("operator", SAMPLES)
def test_fake_kernels_have_the_true_strides(operator, view):
    for overload, arguments in _calls(operator, feature_map(SHAPE, format=view)):
        real = overload(*arguments)
        with FakeTensorMode() as mode:
            fake = overload(*tree_map_only(torch.Tensor, mode.from_tensor, arguments))
        assert _outlines(real) == _outlines(fake)


@pytest.mark.parametrize("operator", SAMPLES)
def test_meta_tensors(operator):
    for overload, arguments in _calls(operator, feature_map(SHAPE)):
        real = overload(*arguments)
        meta = overload(*tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), arguments))
        assert all(tensor.is_meta for tensor in tree_leaves(meta))
        assert [one[0] for one in _outlines(meta)] == [one[0] for one in _outlines(real)]


FORWARD = [next(iter(one.operators)) for one in DESCRIPTIONS.values() if one.operators]


@pytest.mark.parametrize(
    "through", [lambda f: f, partial(torch.compile, backend="aot_eager")], ids=["called", "compiled"]
)
@pytest.mark.parametrize("operator", FORWARD)
def test_called_directly_it_differentiates(operator, through):
    """`torch.ops.bam_fused.<operator>` gives the gradients of the plain form, and the backend in force."""
    for _, arguments in _calls(operator, feature_map(SHAPE)):
        leaves = [argument for argument in arguments if isinstance(argument, torch.Tensor)]
        for tensor in leaves:
            tensor.requires_grad_()
        called = through(getattr(torch.ops.bam_fused, operator))
        ours, plain = called(*arguments), OPERATORS[operator].plain(*arguments)
        for one, other in zip(_gradients(ours, leaves), _gradients(plain, leaves), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("operator", functional.__all__)
def test_a_compiled_graph_holds_the_kernel(operator):
    """And not the plain form, as it did where PyTorch said of everything compiled that it is exported (torch 2.11)."""
    if backends.why_only_eager(operator, torch.device("cpu")) is not None:
        pytest.skip("no kernel for it is built")
    called: list[str] = []

    def capture(graph, _):
        called.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    _, arguments = next(_calls(operator, feature_map(SHAPE)))
    with torch.no_grad():
        torch.compile(getattr(functional, operator), backend=capture, fullgraph=True)(*arguments)
    assert f"bam_fused.{operator}.compiled" in called


def _gradients(result: Any, leaves: list[torch.Tensor]) -> tuple[torch.Tensor | None, ...]:
    return torch.autograd.grad([part.sum() for part in tree_leaves(result)], leaves, allow_unused=True)


def test_operators_take_any_stride_order():
    """And say so, or Inductor copies what convolutions hand on into eager mode's order."""
    for operator in OPERATORS:
        packet = getattr(torch.ops.bam_fused, operator)
        for overload in packet.overloads():
            assert torch.Tag.flexible_layout in getattr(packet, overload).tags
            assert torch.Tag.needs_fixed_stride_order not in getattr(packet, overload).tags
