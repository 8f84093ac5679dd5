"""gate_logit_grads: by the kernel of gate_backward, which here writes no gradient of x."""

from __future__ import annotations

from torch import Tensor

from bam_fused.backends.triton.gate_backward import backward


def gate_logit_grads(
    grad: Tensor, x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str
) -> tuple[Tensor, Tensor]:
    """Gradients of channel_logits and spatial_logits by Triton, in their shapes and dtypes."""
    return backward(grad, x, channel_logits, spatial_logits, combine, None, None)
