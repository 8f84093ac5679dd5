"""dilated_conv: the 3x3 convolution of BAM's spatial branch, on as many channels as x has, against the library's.

No floor is given in bytes: its arithmetic outweighs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bam_fused.bench.cases import Case, both_modes
from bam_fused.bench.description import Description
from bam_fused.bench.problem import Competitor, Problem, feature_map
from bam_fused.functional.dilated_conv import dilated_conv

DILATION = 4
REDUCED = ((8, 16, 56, 56), (8, 32, 28, 28), (8, 64, 14, 14))  # the maps behind the bottlenecks' reductions


def _weights(x: Tensor) -> tuple[Tensor, Tensor]:
    channels = x.shape[1]
    weight = torch.randn(channels, channels, 3, 3, device=x.device, dtype=x.dtype) / (3 * channels**0.5)
    return weight, torch.randn(channels, device=x.device, dtype=x.dtype)


def samples(x: Tensor) -> Iterator[tuple[Any, ...]]:
    weight, bias = _weights(x)
    yield x, weight, bias, DILATION, True
    yield x, weight, None, 1, False


def weight_grad_samples(x: Tensor) -> Iterator[tuple[Any, ...]]:
    for dilation in (1, DILATION):
        yield x, torch.randn_like(x), dilation


def library(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.relu(F.conv2d(x, weight, bias, padding=DILATION, dilation=DILATION))


def fused(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return dilated_conv(x, weight, bias, DILATION, True)


def problem(case: Case, device: torch.device) -> Problem:
    x = feature_map(case, device)
    return Problem(
        inputs=(x, *_weights(x)),
        reference=Competitor(library),
        competitors={"eager": Competitor(library), "fused": Competitor(fused)},
        to_compile="eager",
    )


DESCRIPTION = Description(
    problem,
    competitors=("eager", "fused"),
    operators={"dilated_conv": samples, "dilated_conv_weight_grad": weight_grad_samples},
    cases={
        "quick": (Case("dilated_conv", REDUCED[0]),),
        "readme": tuple(both_modes("dilated_conv", REDUCED[0], "float32", "NHWC")),
    },
)
