"""How often each kernel moves the feature map, counted from its loads and stores as Triton's interpreter executes them.

One unit is one pass over one tensor of x's size. The kernels run on one sample with the tiling of a batch of 32, which has
the same traffic per sample.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawing import feature_map, gradient, logits
from interpreter_accesses import watched

from bam_fused.backends.triton import heuristics

pytestmark = [
    pytest.mark.triton_interpret,
    pytest.mark.skipif(
        torch.cuda.is_available(), reason="counted in Triton's interpreter; a GPU runs compiled kernels"
    ),
]

BATCH = 32
SHAPES = ((1, 256, 56, 56), (1, 512, 28, 28), (1, 1024, 14, 14), (1, 2048, 7, 7))
LAYOUTS = ("contiguous", "channels_last")


class Traffic:
    """The bytes that loads and stores move, by address."""

    def __init__(self) -> None:
        self.moved: list[tuple[int, int]] = []  # lowest address, bytes

    def count(self, _kind: str, addresses: np.ndarray, size: int) -> None:
        self.moved.append((int(addresses.min()), addresses.size * size))

    def units(self, x: torch.Tensor, *tensors: torch.Tensor) -> float:
        """Bytes moved in these tensors, in units of x."""
        ranges = [(t.data_ptr(), t.data_ptr() + t.numel() * t.itemsize) for t in tensors]
        inside = sum(size for at, size in self.moved if any(low <= at < high for low, high in ranges))
        return inside / (x.numel() * x.itemsize)

    def all_units(self, x: torch.Tensor) -> float:
        return sum(size for _, size in self.moved) / (x.numel() * x.itemsize)


@pytest.fixture
def traffic(device):
    if device.type != "cpu":
        pytest.skip("the kernels are compiled for the CUDA device here, and counting needs the interpreter")
    counted = Traffic()
    with watched(counted.count):
        yield counted


def launched(operation: str, *arguments):
    """The operation with the config that a batch of BATCH such samples would be given."""
    from bam_fused.bench import triton_operations

    x = arguments[1 if operation == "gate_backward" else 0]
    batch = torch.empty_like(x.expand(BATCH, -1, -1, -1), device="meta", memory_format=torch.preserve_format)
    batch = batch.to(memory_format=torch.channels_last) if x.stride(1) == 1 else batch.contiguous()
    config = triton_operations.prepare(operation, triton_operations.sample_arguments(operation, batch)).config
    return getattr(triton_operations.MODULES[operation], operation)(*arguments, config=config)


def _share(x: torch.Tensor) -> float:
    """What partial sums may add: a small batch's stay in the level-2 cache."""
    small = BATCH * x.numel() * x.itemsize < heuristics.SMALL_BYTES
    return heuristics.SMALL_WORKSPACE_SHARE if small else heuristics.WORKSPACE_SHARE


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gate_makes_two_passes(traffic, shape, layout):
    x = feature_map(shape, torch.bfloat16, layout)
    out = launched("gate", x, *logits(shape, torch.bfloat16), "sum")
    assert (traffic.units(x, x), traffic.units(x, out)) == (1.0, 1.0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gate_backward_makes_three_passes(traffic, shape, layout):
    x, grad = feature_map(shape, torch.bfloat16, layout), gradient(shape, torch.bfloat16, layout)
    channel, spatial = logits(shape, torch.bfloat16)
    dx, dchannel, dspatial = launched("gate_backward", grad, x, channel, spatial, "sum")
    assert [traffic.units(x, tensor) for tensor in (x, grad, dx)] == [1.0, 1.0, 1.0]
    partials = traffic.all_units(x) - traffic.units(x, x, grad, dx, channel, spatial, dchannel, dspatial)
    assert partials <= 3 * _share(x)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_global_avg_pool_makes_one_pass(traffic, shape, layout):
    x = feature_map(shape, torch.bfloat16, layout)
    out = launched("global_avg_pool", x)
    assert traffic.units(x, x) == 1.0
    assert traffic.all_units(x) - traffic.units(x, x, out) <= _share(x)
