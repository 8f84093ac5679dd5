"""gate: the fused end of BAM, x + x * sigmoid(combine(channel_logits, spatial_logits)).

Its backward makes one pass: it reads grad and x, writes dx, and reduces the gradients of both logits on the way. Nothing
the size of x is kept for it but x itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bam_fused import reference
from bam_fused.backends import Choice
from bam_fused.checks import check_combine, check_gate
from bam_fused.functional.recorded import Proxy, recorded
from bam_fused.ops import define, run_backward
from bam_fused.ops.widen import compute_dtype


def _plain(x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str) -> Tensor:
    wide = compute_dtype(x)
    return reference.gate(x.to(wide), channel_logits.to(wide), spatial_logits.to(wide), combine).to(x.dtype)


def _plain_backward(
    grad: Tensor, x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str
) -> tuple[Tensor, Tensor, Tensor]:
    wide = compute_dtype(x)
    dx, dchannel, dspatial = reference.gate_backward(
        grad.to(wide), x.to(wide), channel_logits.to(wide), spatial_logits.to(wide), combine
    )
    return dx.to(x.dtype), dchannel.to(channel_logits.dtype), dspatial.to(spatial_logits.dtype)


def _fake(x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str) -> Tensor:
    return torch.empty_like(x)


def _fake_backward(
    grad: Tensor, x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str
) -> tuple[Tensor, Tensor, Tensor]:
    dchannel, dspatial = (logits.new_empty(logits.shape) for logits in (channel_logits, spatial_logits))
    return torch.empty_like(x), dchannel, dspatial


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kernel: Callable[..., Any],
        choice: Choice,
        x: Tensor,
        channel_logits: Tensor,
        spatial_logits: Tensor,
        combine: str,
    ) -> Tensor:
        ctx.save_for_backward(x, channel_logits, spatial_logits)
        ctx.combine = combine
        ctx.choice = choice
        return kernel(x, channel_logits, spatial_logits, combine)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        arguments = (grad, *ctx.saved_tensors, ctx.combine)
        if not ctx.needs_input_grad[2]:
            return None, None, None, *run_backward("gate_logit_grads", ctx.choice, *arguments), None
        return None, None, *run_backward("gate_backward", ctx.choice, *arguments), None


_gate = define(
    "gate",
    "(Tensor x, Tensor channel_logits, Tensor spatial_logits, str combine) -> Tensor",
    check=check_gate,
    fake=_fake,
    plain=_plain,
    autograd=_Gate,
)
define(
    "gate_backward",
    "(Tensor grad, Tensor x, Tensor channel_logits, Tensor spatial_logits, str combine) -> (Tensor, Tensor, Tensor)",
    check=lambda grad, *arguments: check_gate(*arguments),
    fake=_fake_backward,
    plain=_plain_backward,
)


define(
    "gate_logit_grads",  # gate_backward without x's gradient
    "(Tensor grad, Tensor x, Tensor channel_logits, Tensor spatial_logits, str combine) -> (Tensor, Tensor)",
    check=lambda grad, *arguments: check_gate(*arguments),
    fake=lambda *arguments: _fake_backward(*arguments)[1:],
    plain=lambda *arguments: _plain_backward(*arguments)[1:],
)


def gate(x: Tensor, channel_logits: Tensor, spatial_logits: Tensor, combine: str = "sum") -> Tensor:
    """BAM's gate in one pass over x: ``x + x * sigmoid(combine(channel_logits, spatial_logits))``.

    Args:
        x: the feature map (N, C, H, W), float32, bfloat16, float16 or float64. Contiguous and channels_last run at full
            speed; other layouts are correct.
        channel_logits: (N, C) or (N, C, 1, 1), in x's dtype or float32 (what autocast leaves), any strides.
        spatial_logits: (N, H, W) or (N, 1, H, W), likewise.
        combine: "sum" (the paper, equation 2), "product" (the authors' code and their checkpoints) or "max" (the
            paper's ablation, table 1b).

    Returns:
        A tensor of x's shape, dtype and memory format, computed in at least float32 and rounded once.

    Raises:
        TypeError: an argument is not a dense tensor of one of these dtypes, or combine is not a string.
        ValueError: a shape or device does not fit x, or combine is unknown.
        BackendUnavailable: the backend chosen with `use_backend` cannot run on x's device.

    The backward is one pass as well (reads grad and x, writes dx, reduces both logits' gradients), bit-for-bit
    reproducible, and can be differentiated again; of x's size it keeps x alone. Source: Park et al., "BAM: Bottleneck
    Attention Module", BMVC 2018, equations 1 and 2.
    """
    if isinstance(x, Proxy):
        return recorded(gate, x, channel_logits, spatial_logits, combine)
    if not isinstance(combine, str):
        check_combine(combine)  # bytes would do for an operator
    return _gate(x, channel_logits, spatial_logits, combine)
