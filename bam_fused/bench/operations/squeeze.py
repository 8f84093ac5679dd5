"""squeeze: pool and 1x1 convolution, each reading x, against the fused operator that reads it once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import bam_fused
from bam_fused.bench.cases import OVERHEAD, Case, both_modes
from bam_fused.bench.description import Description
from bam_fused.bench.problem import Competitor, Problem, feature_map
from bam_fused.reference import COMBINES

REDUCTION = 16


def _weights(x: Tensor) -> tuple[Tensor, Tensor]:
    channels = x.shape[1]
    hidden = max(1, channels // REDUCTION)
    weight = torch.randn(hidden, channels, 1, 1, device=x.device, dtype=x.dtype) / channels**0.5
    return weight, torch.randn(hidden, device=x.device, dtype=x.dtype)


def samples(x: Tensor) -> Iterator[tuple[Any, ...]]:
    weight, bias = _weights(x)
    yield x, weight, bias
    yield x, weight.flatten(1), None
    yield x, weight, bias, True


def _joined(function: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    """Both results as one tensor, the same small copy for every competitor."""

    def joined(*arguments: Tensor) -> Tensor:
        return torch.cat([result.flatten() for result in function(*arguments)])

    return joined


def _grads(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    n, c, h, w = x.shape
    pooled = torch.randn((n, c), device=x.device, dtype=x.dtype)
    return pooled, torch.randn((n, weight.shape[0], h, w), device=x.device, dtype=x.dtype)


def input_grad_samples(x: Tensor) -> Iterator[tuple[Any, ...]]:
    weight, _ = _weights(x)
    n, c, h, w = x.shape
    channel, spatial = (torch.randn(shape, device=x.device, dtype=x.dtype) for shape in ((n, c), (n, 1, h, w)))
    yield x, weight, *_grads(x, weight), None, None, None, "sum"
    for combine in COMBINES:
        yield x, weight, *_grads(x, weight), torch.randn_like(x), channel, spatial, combine


def weight_grad_samples(x: Tensor) -> Iterator[tuple[Any, ...]]:
    yield x, _grads(x, _weights(x)[0])[1]


def problem(case: Case, device: torch.device) -> Problem:
    x = feature_map(case, device)
    return Problem(
        inputs=(x, *_weights(x)),
        reference=Competitor(_joined(bam_fused.reference.squeeze)),
        competitors={
            "eager": Competitor(_joined(bam_fused.reference.squeeze)),
            "fused": Competitor(_joined(bam_fused.squeeze)),
        },
        to_compile="eager",
    )


DESCRIPTION = Description(
    problem,
    competitors=("eager", "fused"),
    operators={
        "squeeze": samples,
        "squeeze_input_grad": input_grad_samples,
        "squeeze_weight_grad": weight_grad_samples,
    },
    cases={
        "quick": (Case("squeeze", (8, 256, 56, 56)),),
        "readme": (
            *both_modes("squeeze", (8, 256, 56, 56)),
            *both_modes("squeeze", OVERHEAD),
        ),
    },
)
