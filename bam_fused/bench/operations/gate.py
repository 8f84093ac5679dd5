"""gate: the authors' expression (their `1 + sigmoid(...)` times x, both logits expanded) against the fused operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

import bam_fused
from bam_fused.bench.cases import FORMATS, OVERHEAD, Case, both_modes
from bam_fused.bench.description import Description
from bam_fused.bench.problem import Competitor, Problem, feature_map
from bam_fused.reference import COMBINES


def authors(x: Tensor, channel_logits: Tensor, spatial_logits: Tensor) -> Tensor:
    """The arithmetic of the authors' code, with the paper's sum."""
    n, c, h, w = x.shape
    channel = channel_logits.reshape(n, c, 1, 1).expand_as(x)
    spatial = spatial_logits.reshape(n, 1, h, w).expand_as(x)
    return (1 + torch.sigmoid(channel + spatial)) * x


def _logits(x: Tensor) -> tuple[Tensor, Tensor]:
    n, c, h, w = x.shape
    channel, spatial = (torch.randn(shape, device=x.device, dtype=x.dtype) for shape in ((n, c), (n, 1, h, w)))
    return channel, spatial


def samples(x: Tensor) -> Iterator[tuple[Any, ...]]:
    for combine in COMBINES:
        yield x, *_logits(x), combine


def backward_samples(x: Tensor) -> Iterator[tuple[Any, ...]]:
    for combine in COMBINES:
        yield torch.randn_like(x), x, *_logits(x), combine


def problem(case: Case, device: torch.device) -> Problem:
    x = feature_map(case, device)
    return Problem(
        inputs=(x, *_logits(x)),
        reference=Competitor(bam_fused.reference.gate),
        competitors={
            "eager": Competitor(authors),
            "eager (paper)": Competitor(bam_fused.reference.gate),
            "fused": Competitor(bam_fused.gate),
        },
        to_compile="eager",
    )


DESCRIPTION = Description(
    problem,
    competitors=("eager", "eager (paper)", "fused"),
    operators={"gate": samples, "gate_backward": backward_samples, "gate_logit_grads": backward_samples},
    floor={"forward": 2, "backward": 3},  # reads x, writes the output; reads the gradient and x, writes x's gradient
    cases={
        "quick": (
            *(case for name in FORMATS for case in both_modes("gate", (8, 256, 56, 56), "float32", name)),
            *both_modes("gate", (8, 512, 28, 28), "bfloat16"),
            *both_modes("gate", OVERHEAD),
        ),
        "readme": (
            *(case for name in FORMATS for case in both_modes("gate", (8, 256, 56, 56), "float32", name)),
            *both_modes("gate", (32, 1024, 14, 14)),
            *both_modes("gate", (8, 256, 56, 56), "bfloat16"),
            *both_modes("gate", OVERHEAD),
        ),
        "gpu": (
            *(case for name in FORMATS for case in both_modes("gate", (32, 256, 56, 56), "bfloat16", name)),
            *both_modes("gate", (32, 1024, 14, 14), "bfloat16", "NHWC"),
            *both_modes("gate", (32, 256, 56, 56)),
        ),
    },
)
