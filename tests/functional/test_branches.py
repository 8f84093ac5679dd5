"""The operators behind a training step's branches against their plain forms in float64, and the bits they give."""

from __future__ import annotations

import pytest
import torch
from branch_problems import check, plain, problem, run
from drawing import DTYPES, FORMATS
from torch import Tensor
from torch.utils._pytree import tree_leaves

from bam_fused import BAM
from bam_fused.backends import cpu

MULTIPLIES_PAIRS = cpu.library is not None and cpu.instruction_set() == "avx512_bf16"
KERNEL, KERNEL_BACKWARD = torch.ops.bam_fused.branches.compiled, torch.ops.bam_fused.branches_backward.compiled


def _kernels(grads, arguments) -> list[Tensor]:
    return run(KERNEL, KERNEL_BACKWARD, grads, arguments)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
def test_values_and_gradients(poisoned, dtype):
    computed = torch.float64 if dtype == torch.float64 else torch.float32
    check(_kernels, dtype, dtype if dtype == torch.bfloat16 and MULTIPLIES_PAIRS else computed)


@pytest.mark.parametrize("make", [BAM, BAM.official])
def test_relus_and_every_layout_of_the_reduction(poisoned, make):
    for format in FORMATS:
        grads, arguments = problem(make(48), (2, 3, 6, 5), torch.float64, format)
        for ours, expected in zip(_kernels(grads, arguments), plain(grads, arguments), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


def test_what_is_saved_has_no_gaps(poisoned):
    """Nothing is left of what fresh memory held: vectors and rows that fill no cache line, and those that do."""
    for shape, channels in (((2, 16, 7, 5), 256), ((3, 20, 3, 2), 320), ((4, 16, 8, 8), 256)):
        _, arguments = problem(BAM.official(channels), shape, torch.float32)
        assert torch.isfinite(KERNEL(*arguments)[2]).all()


def test_statistics_of_equal_numbers_are_exact():
    """Of a channel that is dead, a norm over the batch would blow up the rounding of its mean by 1 / sqrt(eps)."""
    _, (pooled, _, *rest) = problem(BAM.official(64).train(), (3, 4, 7, 5), torch.float32)
    equal = torch.rand(1, 4, 1, 1)
    *_, statistics = KERNEL(pooled, equal.expand(3, 4, 7, 5).contiguous(memory_format=torch.channels_last), *rest)
    mean, variance = statistics[:, 4:8]  # behind the 4 of the channel branch
    assert torch.equal(mean, equal.flatten().double()) and not variance.any()


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
def test_gradients_that_are_not_wanted_are_empty(poisoned, dtype):
    grads, (pooled, reduced, tensors, *layers) = problem(BAM.official(32), (2, 2, 4, 4), dtype)
    *_, saved, _ = KERNEL(pooled, reduced, tensors, *layers)
    _, all_reduced_grad, all_found = KERNEL_BACKWARD(
        *grads, pooled, reduced, saved, tensors, *layers, [1] * len(tensors)
    )
    for odd in (0, 1):
        wanted = [(i + odd) % 2 for i in range(len(tensors))]
        _, reduced_grad, found = KERNEL_BACKWARD(*grads, pooled, reduced, saved, tensors, *layers, wanted)
        assert torch.equal(reduced_grad, all_reduced_grad)
        assert [t.shape for t in found] == [t.shape if i else (0,) for t, i in zip(tensors, wanted, strict=True)]
        assert all(torch.equal(a, b) for a, b, i in zip(found, all_found, wanted, strict=True) if i)


def test_memory_that_begins_anywhere():
    """What a hook on saved tensors hands back, or a gradient that is a slice, need not begin a cache line."""

    def moved(t: Tensor) -> Tensor:
        return torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape)

    grads, (pooled, reduced, tensors, *layers) = problem(BAM.official(32), (2, 2, 5, 5), torch.float64)
    *_, saved, _ = KERNEL(pooled, reduced, tensors, *layers)
    wanted = [1] * len(tensors)
    there = KERNEL_BACKWARD(*grads, pooled, reduced, saved, tensors, *layers, wanted)
    elsewhere = KERNEL_BACKWARD(
        *map(moved, grads), moved(pooled), moved(reduced), moved(saved), tensors, *layers, wanted
    )
    assert all(torch.equal(a, b) for a, b in zip(tree_leaves(there), tree_leaves(elsewhere), strict=True))


def test_same_bits_for_any_number_of_threads():
    arguments = problem(BAM.official(256), (5, 16, 24, 25), torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 5):
            torch.set_num_threads(count)
            results.append(_kernels(*arguments))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda pooled, reduced, tensors, *rest: (pooled[:1], reduced, tensors, *rest), "pooled"),
        (lambda pooled, reduced, tensors, *rest: (pooled, reduced[0], tensors, *rest), "reduced"),
        (lambda pooled, reduced, tensors, *rest: (pooled, reduced, tensors[1:], *rest), "tensors"),
        (lambda pooled, reduced, tensors, layers, *rest: (pooled, reduced, tensors, layers[1:], *rest), "layers"),
        (lambda pooled, reduced, *rest: (pooled[:1], reduced[:1], *rest), "more than one value"),
    ],
)
def test_bad_input(change, said):
    _, arguments = problem(BAM(32), (2, 2, 4, 4), torch.float32)
    with pytest.raises(ValueError, match=said):
        torch.ops.bam_fused.branches(*change(*arguments))
    with pytest.raises(RuntimeError):
        KERNEL(*change(*arguments))
