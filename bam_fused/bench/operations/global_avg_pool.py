"""global_avg_pool: the authors' `avg_pool2d` over the whole map and the plain mean against the fused operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import bam_fused
from bam_fused.bench.cases import FORMATS, OVERHEAD, Case, both_modes
from bam_fused.bench.description import Description
from bam_fused.bench.problem import Competitor, Problem, feature_map


def authors(x: Tensor) -> Tensor:
    """Pooling as in the authors' code; its window is square there, here it is the map whatever its shape."""
    return functional.avg_pool2d(x, x.shape[2:], stride=x.shape[2:]).flatten(1)


def samples(x: Tensor) -> Iterator[tuple[Any, ...]]:
    yield (x,)


def problem(case: Case, device: torch.device) -> Problem:
    return Problem(
        inputs=(feature_map(case, device),),
        reference=Competitor(bam_fused.reference.global_avg_pool),
        competitors={
            "eager": Competitor(authors),
            "eager (mean)": Competitor(bam_fused.reference.global_avg_pool),
            "fused": Competitor(bam_fused.global_avg_pool),
        },
        to_compile="eager (mean)",
    )


DESCRIPTION = Description(
    problem,
    competitors=("eager", "eager (mean)", "fused"),
    operators={"global_avg_pool": samples},
    floor={"forward": 1, "backward": 0},  # reads x; the gradient is one value per channel, a broadcast view
    cases={
        "quick": (Case("global_avg_pool", (8, 256, 56, 56)),),
        "readme": (
            *(Case("global_avg_pool", (8, 256, 56, 56), "float32", name) for name in FORMATS),
            *both_modes("global_avg_pool", OVERHEAD),
        ),
        "gpu": (
            *(Case("global_avg_pool", (32, 256, 56, 56), "bfloat16", name) for name in FORMATS),
            Case("global_avg_pool", (32, 256, 56, 56)),
        ),
    },
)
