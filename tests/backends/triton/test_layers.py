"""The kernels of BAM's layers in Triton, against float64: squeeze, the convolutions, their gradients, and a whole BAM."""

from __future__ import annotations

import pytest
import torch
from accuracy import assert_no_worse_than_eager, noise_of_rounding, nudged
from drawing import DTYPES, feature_map, with_gaps
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from bam_fused import backends
from bam_fused.backends import triton
from bam_fused.bench.operations import DESCRIPTIONS
from bam_fused.ops import OPERATORS

pytestmark = [pytest.mark.triton_interpret, pytest.mark.usefixtures("triton_backend")]

NAMES = (
    "squeeze",
    "squeeze_input_grad",
    "squeeze_weight_grad",
    "dilated_conv",
    "dilated_conv_weight_grad",
    "bam",
)
SAMPLES = {name: samples for one in DESCRIPTIONS.values() for name, samples in one.operators.items() if name in NAMES}
SHAPES = ((2, 64, 9, 15), (3, 17, 7, 7), (1, 40, 1, 1), (2, 16, 1, 23))


def check(name: str, device: torch.device, arguments: tuple) -> None:
    def moved(function):
        return tree_map_only(Tensor, function, arguments)

    plain = OPERATORS[name].plain
    ours = triton.kernel(name)(*moved(lambda tensor: tensor.to(device)))
    exact = tree_leaves(plain(*moved(lambda tensor: tensor.double())))
    eager = tree_leaves(plain(*arguments))
    dtype = arguments[0].dtype
    noises = noise_of_rounding(
        exact, (tree_leaves(plain(*moved(lambda tensor: nudged(tensor.double(), dtype)))) for _ in range(2)), dtype
    )
    results = tree_leaves(backends.RESULTS[name](*arguments))
    for mine, like, theirs, right, noise in zip(tree_leaves(ours), results, eager, exact, noises, strict=True):
        assert mine.dtype == like.dtype and mine.stride() == like.stride()
        assert_no_worse_than_eager(name, mine.cpu(), theirs, right, noise)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("name", NAMES)
def test_values(poisoned, device, name, format, dtype):
    for shape in SHAPES:
        for arguments in SAMPLES[name](feature_map(shape, dtype, format)):
            check(name, device, arguments)


@pytest.mark.parametrize("name", ["squeeze", "dilated_conv", "bam"])
def test_tensors_of_layers_in_any_strides(device, name):
    for x, *rest in SAMPLES[name](feature_map((2, 32, 5, 6)).to(device)):
        kernel = triton.kernel(name)
        expected = tree_leaves(kernel(x, *rest))
        found = tree_leaves(kernel(x, *tree_map_only(Tensor, with_gaps, rest)))
        assert all(map(torch.equal, found, expected))
