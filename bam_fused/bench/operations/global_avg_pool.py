"""global_avg_pool: the authors' `avg_pool2d` over the whole map and the plain mean against the fused operator."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

import bam_fused
from bam_fused.bench.cases import Case
from bam_fused.bench.problem import Competitor, Problem, feature_map


def authors(x: Tensor) -> Tensor:
    """Pooling as in the authors' code; its window is square there, here it is the map whatever its shape."""
    return functional.avg_pool2d(x, x.shape[2:], stride=x.shape[2:]).flatten(1)


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
        floor={"inference": 1, "forward": 1, "forward+backward": 1},  # the gradient is a broadcast view
    )
