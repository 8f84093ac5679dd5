"""What `branches` and its backward are called with, and how their results are judged; for the tests of every backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from accuracy import assert_no_worse_than_eager, noise_of_rounding, nudged
from drawing import feature_map, gradient
from implementations import randomise
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from bam_fused import BAM
from bam_fused.composition import step
from bam_fused.composition.plan import live, plan_of
from bam_fused.ops import OPERATORS

FORWARD, BACKWARD = OPERATORS["branches"], OPERATORS["branches_backward"]
CASES = (
    ((3, 2, 9, 9), 32, {"channel_hidden": "bn", "spatial_hidden": "bn", "spatial_reduce": "bn"}),
    ((2, 16, 8, 12), 64, {"reduction": 4, "channel_hidden": "none", "spatial_hidden": "none", "final": "none"}),
    ((5, 20, 7, 3), 40, {"reduction": 2, "channel_layers": 2, "spatial_layers": 3, "spatial_hidden": "bn"}),
    ((2, 72, 2, 300), 144, {"reduction": 2, "final": "none", "spatial_hidden": "bn", "spatial_reduce": "bn"}),
    ((70, 3, 2, 1), 48, {"spatial_layers": 1, "channel_bias": False, "mlp": "conv"}),
)
"""Shapes of the reduction, channels and options of a BAM: every kind of norm, layers on layers, sizes that fill no vector
and those that do."""


def problem(module: BAM, shape: tuple[int, ...], dtype: torch.dtype, format: str = "channels_last"):
    """What `branches` is called with for a reduction of some shape, and gradients of both logits."""
    module = randomise(module).to(dtype)
    plan = plan_of(module)
    tensors, layers = step.described(live(module, plan))
    n, _, h, w = shape
    grads = gradient((n, plan.channels, 1, 1)).flatten(1), gradient((n, 1, h, w))
    pooled = feature_map((n, plan.channels, 1, 1), dtype).flatten(1)
    return grads, (pooled, feature_map(shape, dtype, format), [t.detach() for t in tensors], *layers)


def run(forward: Callable, backward: Callable, grads: tuple[Tensor, Tensor], arguments: tuple) -> list[Tensor]:
    """Logits, statistics and all gradients."""
    channel, spatial, saved, statistics = forward(*arguments)
    pooled, reduced, tensors, *layers = arguments
    found = backward(*grads, pooled, reduced, saved, tensors, *layers, [1] * len(tensors))
    return [t for t in tree_leaves((channel, spatial, statistics.to(channel.dtype), found)) if t.numel() > 0]


def plain(grads: tuple[Tensor, Tensor], arguments: tuple) -> list[Tensor]:
    """The same by the plain forms."""
    return run(FORWARD.plain, BACKWARD.plain, grads, arguments)


def moved(tree, function: Callable[[Tensor], Tensor]):
    """The arguments with a function applied to every tensor."""
    return tree_map_only(Tensor, function, tree)


def check(kernels: Callable, dtype: torch.dtype, rounded: torch.dtype, cases: Sequence[tuple] = CASES) -> None:
    """Compare with float64, without ReLUs, which jump; `rounded`: what the kernels round to on their way."""
    for shape, channels, options in cases:
        for training in (True, False):
            module = BAM(channels, **{"channel_hidden": "none", "spatial_hidden": "none", **options}).train(training)
            grads, arguments = problem(module, shape, dtype)
            ours, eager = kernels(grads, arguments), plain(grads, arguments)
            wide = moved((grads, arguments), lambda t: t.to(torch.float64))
            exact = plain(*wide)
            computed = torch.float64 if dtype == torch.float64 else torch.float32
            runs = [plain(*moved(wide, lambda t: nudged(t, rounded))) for _ in range(3)]
            noises = noise_of_rounding(exact, runs, computed)
            for i, (*result, noise) in enumerate(zip(ours, eager, exact, noises, strict=True)):
                # Norms over few values blow roundings up: which of them is unlucky is left open by a factor of four.
                # Gradients are sums whose addends cancel, too.
                length = shape[0] * shape[2] * shape[3]
                assert_no_worse_than_eager(f"{i} of {options}", *result, 4 * noise + 4 * length**0.5)
