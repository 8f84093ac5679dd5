"""The gate in plain PyTorch: the reference's formulas, computed in at least float32 and rounded once at the end."""

from __future__ import annotations

import torch
from torch import Tensor

from bam_fused import reference
from bam_fused.checks import check_gate


def _compute_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def gate(x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str) -> Tensor:
    check_gate(x, channel_logits, spatial_logits, combine)
    wide = _compute_dtype(x)
    return reference.gate(x.to(wide), channel_logits.to(wide), spatial_logits.to(wide), combine).to(x.dtype)


def gate_backward(
    grad: Tensor, x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str
) -> tuple[Tensor, Tensor, Tensor]:
    check_gate(x, channel_logits, spatial_logits, combine)
    wide = _compute_dtype(x)
    dx, dchannel, dspatial = reference.gate_backward(
        grad.to(wide), x.to(wide), channel_logits.to(wide), spatial_logits.to(wide), combine
    )
    return dx.to(x.dtype), dchannel.to(channel_logits.dtype), dspatial.to(spatial_logits.dtype)
