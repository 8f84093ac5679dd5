"""gate: the authors' expression (their `1 + sigmoid(...)` times x, both logits expanded) against the fused operator."""

from __future__ import annotations

import torch
from torch import Tensor

import bam_fused
from bam_fused.bench.cases import Case
from bam_fused.bench.problem import Competitor, Problem, feature_map


def authors(x: Tensor, channel_logits: Tensor, spatial_logits: Tensor) -> Tensor:
    """The arithmetic of the authors' code, with the paper's sum."""
    n, c, h, w = x.shape
    channel = channel_logits.reshape(n, c, 1, 1).expand_as(x)
    spatial = spatial_logits.reshape(n, 1, h, w).expand_as(x)
    return (1 + torch.sigmoid(channel + spatial)) * x


def problem(case: Case, device: torch.device) -> Problem:
    n, c, h, w = case.shape
    x = feature_map(case, device)
    logits = (torch.randn(shape, device=device, dtype=x.dtype) for shape in ((n, c), (n, 1, h, w)))
    return Problem(
        inputs=(x, *logits),
        reference=Competitor(bam_fused.reference.gate),
        competitors={
            "eager": Competitor(authors),
            "eager (paper)": Competitor(bam_fused.reference.gate),
            "fused": Competitor(bam_fused.gate),
        },
        to_compile="eager",
        floor={"inference": 2, "forward": 2, "forward+backward": 5},
    )
