"""The branches of a training step in Triton, against float64."""

from __future__ import annotations

import pytest
import torch
from branch_problems import CASES, check, moved, plain, problem, run
from drawing import DTYPES, FORMATS, with_gaps
from torch import Tensor

from bam_fused import BAM
from bam_fused.backends import triton

pytestmark = [pytest.mark.triton_interpret, pytest.mark.usefixtures("triton_backend")]


@pytest.fixture
def kernels(device):
    def kernels(grads, arguments) -> list[Tensor]:
        forward, backward = triton.kernel("branches"), triton.kernel("branches_backward")
        return [t.cpu() for t in run(forward, backward, *moved((grads, arguments), lambda t: t.to(device)))]

    return kernels


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
def test_values_and_gradients(poisoned, device, kernels, dtype):
    """The widest case takes the interpreter a minute: it is for a device, and so are most of the other dtypes'."""
    few = CASES[:3] + CASES[4:] if dtype == torch.float32 else CASES[:2]
    check(kernels, dtype, dtype, CASES if device.type == "cuda" else few)


@pytest.mark.parametrize("make", [BAM, BAM.official])
def test_relus_and_every_layout_of_the_reduction(poisoned, kernels, make):
    for format in FORMATS:
        grads, arguments = problem(make(48), (2, 3, 6, 5), torch.float64, format)
        for ours, expected in zip(kernels(grads, arguments), plain(grads, arguments), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


def test_statistics_of_equal_numbers_are_exact(device):
    """Of a channel that is dead, a norm over the batch would blow up the rounding of its mean by 1 / sqrt(eps)."""
    _, (pooled, _, *rest) = problem(BAM.official(64).train(), (3, 4, 7, 5), torch.float32)
    equal = torch.rand(1, 4, 1, 1)
    reduced = equal.expand(3, 4, 7, 5).contiguous(memory_format=torch.channels_last)
    *_, statistics = triton.kernel("branches")(*moved((pooled, reduced, *rest), lambda t: t.to(device)))
    mean, variance = statistics[:, 4:8].cpu()  # behind the 4 of the channel branch
    assert torch.equal(mean, equal.flatten().double()) and not variance.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_gradients_that_are_not_wanted_are_empty(poisoned, device, dtype):
    grads, arguments = problem(BAM.official(32), (2, 2, 4, 4), dtype)
    (pooled, reduced, tensors, *layers), grads = moved((arguments, grads), lambda t: t.to(device))
    *_, saved, _ = triton.kernel("branches")(pooled, reduced, tensors, *layers)
    wanted = [i % 2 for i in range(len(tensors))]
    _, _, found = triton.kernel("branches_backward")(*grads, pooled, reduced, saved, tensors, *layers, wanted)
    assert [t.shape for t in found] == [t.shape if i else (0,) for t, i in zip(tensors, wanted, strict=True)]


@pytest.mark.parametrize("training", [True, False])
def test_tensors_in_any_strides(kernels, training):
    grads, (pooled, reduced, tensors, *layers) = problem(BAM.official(32).train(training), (2, 2, 4, 5), torch.float32)
    spread = [with_gaps(tensor) for tensor in tensors]
    expected = kernels(grads, (pooled, reduced, tensors, *layers))
    for ours, right in zip(kernels(grads, (pooled, reduced, spread, *layers)), expected, strict=True):
        torch.testing.assert_close(ours, right, rtol=1e-5, atol=1e-5)
