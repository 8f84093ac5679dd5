"""The operators behind a training step's branches against their plain forms in float64, and the bits they give."""

from __future__ import annotations

import pytest
import torch
from accuracy import assert_no_worse_than_eager, noise_of_rounding, nudged
from drawing import DTYPES, FORMATS, feature_map, gradient
from implementations import randomise
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from bam_fused import BAM
from bam_fused.backends import cpu
from bam_fused.composition import step
from bam_fused.composition.plan import live, plan_of
from bam_fused.ops import OPERATORS

FORWARD, BACKWARD = OPERATORS["branches"], OPERATORS["branches_backward"]
MULTIPLIES_PAIRS = cpu.library is not None and cpu.instruction_set() == "avx512_bf16"
KERNEL, KERNEL_BACKWARD = torch.ops.bam_fused.branches.compiled, torch.ops.bam_fused.branches_backward.compiled


def _problem(module: BAM, shape: tuple[int, ...], dtype: torch.dtype, format: str = "channels_last"):
    """What `branches` is called with for a reduction of some shape, and gradients of both logits."""
    module = randomise(module).to(dtype)
    plan = plan_of(module)
    tensors, layers = step.described(live(module, plan))
    n, _, h, w = shape
    grads = gradient((n, plan.channels, 1, 1)).flatten(1), gradient((n, 1, h, w))
    pooled = feature_map((n, plan.channels, 1, 1), dtype).flatten(1)
    return grads, (pooled, feature_map(shape, dtype, format), [t.detach() for t in tensors], *layers)


def _run(forward, backward, grads: tuple[Tensor, Tensor], arguments) -> list[Tensor]:
    """Logits, statistics and all gradients."""
    channel, spatial, saved, statistics = forward(*arguments)
    pooled, reduced, tensors, *layers = arguments
    found = backward(*grads, pooled, reduced, saved, tensors, *layers, [1] * len(tensors))
    return [t for t in tree_leaves((channel, spatial, statistics.to(channel.dtype), found)) if t.numel() > 0]


def _kernels(grads, arguments) -> list[Tensor]:
    return _run(KERNEL, KERNEL_BACKWARD, grads, arguments)


def _plain(grads, arguments) -> list[Tensor]:
    return _run(FORWARD.plain, BACKWARD.plain, grads, arguments)


def _cast(tree, dtype: torch.dtype):
    return tree_map_only(Tensor, lambda t: t.to(dtype), tree)


def _nudged(tree, dtype: torch.dtype):
    return tree_map_only(Tensor, lambda t: nudged(t, dtype), tree)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
def test_values_and_gradients(poisoned, dtype):
    """Without ReLUs, which jump; every kind of norm, layers on layers, sizes that fill no vector and those that do."""
    for shape, channels, options in (
        ((3, 2, 9, 9), 32, {"channel_hidden": "bn", "spatial_hidden": "bn", "spatial_reduce": "bn"}),
        ((2, 16, 8, 12), 64, {"reduction": 4, "channel_hidden": "none", "spatial_hidden": "none", "final": "none"}),
        ((5, 20, 7, 3), 40, {"reduction": 2, "channel_layers": 2, "spatial_layers": 3, "spatial_hidden": "bn"}),
        ((2, 72, 2, 300), 144, {"reduction": 2, "final": "none", "spatial_hidden": "bn", "spatial_reduce": "bn"}),
        ((70, 3, 2, 1), 48, {"spatial_layers": 1, "channel_bias": False, "mlp": "conv"}),
    ):
        for training in (True, False):
            module = BAM(channels, **{"channel_hidden": "none", "spatial_hidden": "none", **options}).train(training)
            grads, arguments = _problem(module, shape, dtype)
            ours, eager = _kernels(grads, arguments), _plain(grads, arguments)
            wide = _cast((grads, arguments), torch.float64)
            exact = _plain(*wide)
            computed = torch.float64 if dtype == torch.float64 else torch.float32
            rounded = dtype if dtype == torch.bfloat16 and MULTIPLIES_PAIRS else computed
            moved = [_plain(*_nudged(wide, rounded)) for _ in range(3)]
            noises = noise_of_rounding(exact, moved, computed)
            for i, (*result, noise) in enumerate(zip(ours, eager, exact, noises, strict=True)):
                # Norms over few values blow roundings up: which of them is unlucky is left open by a factor of four.
                # Gradients are sums whose addends cancel, too.
                length = shape[0] * shape[2] * shape[3]
                assert_no_worse_than_eager(f"{i} of {options}", *result, 4 * noise + 4 * length**0.5)


@pytest.mark.parametrize("make", [BAM, BAM.official])
def test_relus_and_every_layout_of_the_reduction(poisoned, make):
    for format in FORMATS:
        grads, arguments = _problem(make(48), (2, 3, 6, 5), torch.float64, format)
        for ours, plain in zip(_kernels(grads, arguments), _plain(grads, arguments), strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)


def test_what_is_saved_has_no_gaps(poisoned):
    """Nothing is left of what fresh memory held: vectors and rows that fill no cache line, and those that do."""
    for shape, channels in (((2, 16, 7, 5), 256), ((3, 20, 3, 2), 320), ((4, 16, 8, 8), 256)):
        _, arguments = _problem(BAM.official(channels), shape, torch.float32)
        assert torch.isfinite(KERNEL(*arguments)[2]).all()


def test_statistics_of_equal_numbers_are_exact():
    """Of a channel that is dead, a norm over the batch would blow up the rounding of its mean by 1 / sqrt(eps)."""
    _, (pooled, _, *rest) = _problem(BAM.official(64).train(), (3, 4, 7, 5), torch.float32)
    equal = torch.rand(1, 4, 1, 1)
    *_, statistics = KERNEL(pooled, equal.expand(3, 4, 7, 5).contiguous(memory_format=torch.channels_last), *rest)
    mean, variance = statistics[:, 4:8]  # behind the 4 of the channel branch
    assert torch.equal(mean, equal.flatten().double()) and not variance.any()


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
def test_gradients_that_are_not_wanted_are_empty(poisoned, dtype):
    grads, (pooled, reduced, tensors, *layers) = _problem(BAM.official(32), (2, 2, 4, 4), dtype)
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

    grads, (pooled, reduced, tensors, *layers) = _problem(BAM.official(32), (2, 2, 5, 5), torch.float64)
    *_, saved, _ = KERNEL(pooled, reduced, tensors, *layers)
    wanted = [1] * len(tensors)
    there = KERNEL_BACKWARD(*grads, pooled, reduced, saved, tensors, *layers, wanted)
    elsewhere = KERNEL_BACKWARD(
        *map(moved, grads), moved(pooled), moved(reduced), moved(saved), tensors, *layers, wanted
    )
    assert all(torch.equal(a, b) for a, b in zip(tree_leaves(there), tree_leaves(elsewhere), strict=True))


def test_same_bits_for_any_number_of_threads():
    problem = _problem(BAM.official(256), (5, 16, 24, 25), torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 5):
            torch.set_num_threads(count)
            results.append(_kernels(*problem))
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
    _, arguments = _problem(BAM(32), (2, 2, 4, 4), torch.float32)
    with pytest.raises(ValueError, match=said):
        torch.ops.bam_fused.branches(*change(*arguments))
    with pytest.raises(RuntimeError):
        KERNEL(*change(*arguments))
