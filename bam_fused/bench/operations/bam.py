"""bam: the whole module with the authors' arithmetic against the fused module, with the same weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import bam_fused
from bam_fused.bench.cases import FORMATS, Case, both_modes
from bam_fused.bench.description import Description
from bam_fused.bench.operations import global_avg_pool
from bam_fused.bench.problem import Problem, feature_map, in_float64, of_module, place
from bam_fused.composition import step, whole
from bam_fused.composition.plan import live, plan_of
from bam_fused.functional.bam import NORM


class AuthorsBAM(nn.Module):
    """What people run today: the arithmetic of the authors' code (the two logits multiplied), on the layers of a `BAM`."""

    def __init__(self, layers: bam_fused.BAM, *, mean: bool) -> None:
        super().__init__()
        self.layers = copy.deepcopy(layers)
        self.mean = mean

    def channel_logits(self, x: Tensor) -> Tensor:
        branch = self.layers.channel
        assert branch is not None
        linear, final = branch.linears
        norm, _ = branch.norms  # the last one is the identity, as in the authors' code
        pooled = x.mean((2, 3)) if self.mean else global_avg_pool.authors(x)
        return final(functional.relu(norm(linear(pooled)))).unsqueeze(2).unsqueeze(3).expand_as(x)

    def spatial_logits(self, x: Tensor) -> Tensor:
        branch = self.layers.spatial
        assert branch is not None
        *convs, final = branch.convs
        *norms, _ = branch.norms
        y = x
        for conv, norm in zip(convs, norms, strict=True):
            y = functional.relu(norm(conv(y)))
        return final(y).expand_as(x)

    def forward(self, x: Tensor) -> Tensor:
        return (1 + torch.sigmoid(self.channel_logits(x) * self.spatial_logits(x))) * x


def samples(x: Tensor) -> Iterator[tuple[Any, ...]]:
    channels = x.shape[1]
    for module in (
        bam_fused.BAM.official(channels, min_hidden=1),
        bam_fused.BAM(channels, channel_layers=2, spatial_layers=1, channel_bias=False, mlp="conv", min_hidden=1),
        bam_fused.BAM(channels, branches="channel", min_hidden=1),
        bam_fused.BAM(channels, branches="spatial", min_hidden=1),
    ):
        module.to(x.device, x.dtype).eval().requires_grad_(False)
        plan = plan_of(module)
        assert plan is not None
        yield whole.arguments(live(module, plan), x)


def branches_samples(x: Tensor) -> Iterator[tuple[Any, ...]]:
    """The branches of a training step on x as the reduction; norms in evaluation, and over a batch of more than one."""
    n, reduced, *_ = x.shape
    for make, training in ((bam_fused.BAM, False), (bam_fused.BAM.official, n > 1)):
        module = make(2 * reduced, 2).to(x.device, x.dtype).train(training).requires_grad_(False)
        plan = plan_of(module)
        assert plan is not None
        tensors, layers = step.described(live(module, plan))
        yield x.new_ones((n, 2 * reduced)).cumsum(0), x, tensors, *layers


def branches_backward_samples(x: Tensor) -> Iterator[tuple[Any, ...]]:
    operator = torch.ops.bam_fused.branches.compiled
    for pooled, reduced, tensors, *layers in branches_samples(x):
        channel, spatial, saved, _ = operator(pooled, reduced, tensors, *layers)
        wanted = [int(not any(has & NORM for has in layers[0]))] * len(tensors)
        yield channel, spatial, pooled, reduced, saved, tensors, *layers, wanted


def problem(case: Case, device: torch.device) -> Problem:
    fused = bam_fused.BAM.official(case.shape[1])
    authors, mean = AuthorsBAM(fused, mean=False), AuthorsBAM(fused, mean=True)
    training = case.mode != "inference"
    reference = in_float64(mean.train(training)).function
    assert isinstance(reference, nn.Module)
    modules = {"eager": authors, "eager (mean)": mean, "fused": fused}
    for module in modules.values():
        module.train(training)
        place(module, case, device)
    return Problem(
        inputs=(feature_map(case, device),),
        reference=of_module(reference.to(device)),
        competitors={name: of_module(module) for name, module in modules.items()},
        to_compile="eager (mean)",
        slack=10,
        # In float32 one ReLU input near 0 that rounds to the other side moves a gradient further than all rounding of sums
        # does, in eager as here; float64, where none does, is compared by the tests.
        by_norm=True,
    )


DESCRIPTION = Description(
    problem,
    competitors=("eager", "eager (mean)", "fused"),
    operators={"bam": samples, "branches": branches_samples, "branches_backward": branches_backward_samples},
    cases={
        "quick": tuple(both_modes("bam", (8, 512, 28, 28))),
        "readme": (
            *(
                case
                for shape in ((8, 256, 56, 56), (8, 512, 28, 28), (8, 1024, 14, 14))
                for case in both_modes("bam", shape)
            ),
            Case("bam", (1, 256, 56, 56)),
            *both_modes("bam", (8, 256, 56, 56), "float32", "NHWC"),
            Case("bam", (8, 256, 56, 56), "bfloat16"),
            *both_modes("bam", (8, 1024, 14, 14), "bfloat16"),
        ),
        "gpu": (
            *(case for name in FORMATS for case in both_modes("bam", (32, 256, 56, 56), "bfloat16", name)),
            *both_modes("bam", (32, 512, 28, 28), "bfloat16", "NHWC"),
            *both_modes("bam", (32, 1024, 14, 14), "bfloat16", "NHWC"),
            *both_modes("bam", (32, 256, 56, 56)),
            Case("bam", (1, 256, 56, 56), "bfloat16", "NHWC"),
        ),
    },
)
