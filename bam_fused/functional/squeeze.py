"""squeeze: what BAM's two branches begin with, the pooled vector and the 1x1 reduction, from one read of x.

Its backward writes x's gradient once, W^T times the reduction's gradient plus the pooled one's share, and reads x once more
for the weight's. Both kernels also serve the whole BAM (two_passes.py), where the gate adds its part of x's gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bam_fused import reference
from bam_fused.backends import Choice
from bam_fused.checks import check_gate, check_reduced_grad, check_squeeze
from bam_fused.functional.recorded import Proxy, recorded
from bam_fused.ops import OPERATORS, define, run_backward
from bam_fused.ops.widen import compute_dtype

MOST_REDUCED = 512
"""Reduced channels that the gradients' kernels keep in a core's cache; beyond, PyTorch's own products run."""


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None, features: bool = False) -> tuple[Tensor, Tensor]:
    wide = compute_dtype(x)
    pooled, reduced = reference.squeeze(x.to(wide), weight.to(wide), None if bias is None else bias.to(wide))
    if features:
        return pooled, reduced.contiguous(memory_format=torch.channels_last)
    return pooled.to(x.dtype), reduced.to(x.dtype, memory_format=memory_format_of(x))


def _fake(x: Tensor, weight: Tensor, bias: Tensor | None, features: bool = False) -> tuple[Tensor, Tensor]:
    n, c, h, w = x.shape
    shape = (n, weight.shape[0], h, w)
    if features:
        wide = compute_dtype(x)
        reduced = torch.empty(shape, dtype=wide, device=x.device, memory_format=torch.channels_last)
        return x.new_empty((n, c), dtype=wide), reduced
    return x.new_empty((n, c)), torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format_of(x))


def memory_format_of(x: Tensor) -> torch.memory_format:
    """The memory format of the reduction: that in which a 1x1 convolution of x would come."""
    channels, positions = x.shape[1], x.shape[2] * x.shape[3]
    adjacent = channels > 1 and positions > 1 and x.stride(1) == 1
    return torch.channels_last if adjacent else torch.contiguous_format


def _check_input_grad(x: Tensor, weight: Tensor, pooled_grad: Tensor, reduced_grad: Tensor, *gate: Any) -> None:
    check_squeeze(x, weight, None)
    check_reduced_grad(x, reduced_grad)
    if tuple(pooled_grad.shape) != tuple(x.shape[:2]) or reduced_grad.shape[1] != weight.shape[0]:
        raise ValueError(
            f"pooled_grad must have shape {tuple(x.shape[:2])} and reduced_grad {weight.shape[0]} channels, "
            f"got {tuple(pooled_grad.shape)} and {tuple(reduced_grad.shape)}"
        )
    grad, channel_logits, spatial_logits, combine = gate
    if grad is not None:
        check_gate(x, channel_logits, spatial_logits, combine)


def _plain_input_grad(
    x: Tensor, weight: Tensor, pooled_grad: Tensor, reduced_grad: Tensor, grad: Tensor | None,
    channel_logits: Tensor | None, spatial_logits: Tensor | None, combine: str,
) -> Tensor:  # fmt: skip
    wide = compute_dtype(x)
    dx = reference.squeeze_input_grad(weight.to(wide), pooled_grad.to(wide), reduced_grad.to(wide))
    if grad is not None:
        assert channel_logits is not None and spatial_logits is not None
        attention = reference.attention(channel_logits.to(wide), spatial_logits.to(wide), combine)
        dx = grad.to(wide) * (1 + attention) + dx
    return torch.empty_like(x).copy_(dx)


def _plain_weight_grad(x: Tensor, reduced_grad: Tensor) -> Tensor:
    wide = compute_dtype(x)
    return reference.squeeze_weight_grad(x.to(wide), reduced_grad.to(wide))


class _Squeeze(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kernel: Callable[..., Any],
        choice: Choice,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        features: bool = False,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, weight)
        ctx.choice = choice
        pooled, reduced = kernel(x, weight, bias, features)
        return pooled, reduced

    @staticmethod
    def backward(ctx: Any, pooled_grad: Tensor, reduced_grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = (pooled_grad, reduced_grad)
        wanted = ctx.needs_input_grad[2:]
        found = squeeze_grads(ctx.choice, wanted, *ctx.saved_tensors, *grads, None, None, None, "sum")
        return None, None, *found, None


_squeeze = define(
    "squeeze",
    # With features both come in the compute type, the reduction channels_last, as a training step's branches take them.
    "(Tensor x, Tensor weight, Tensor? bias, bool features=False) -> (Tensor, Tensor)",
    check=check_squeeze,
    fake=_fake,
    plain=_plain,
    autograd=_Squeeze,
    backends=("cpu", "triton"),
)

define(
    "squeeze_input_grad",
    "(Tensor x, Tensor weight, Tensor pooled_grad, Tensor reduced_grad, Tensor? grad, Tensor? channel_logits, "
    "Tensor? spatial_logits, str combine) -> Tensor",
    check=_check_input_grad,
    fake=lambda x, *_: torch.empty_like(x),
    plain=_plain_input_grad,
    backends=("cpu", "triton"),
)
define(
    "squeeze_weight_grad",
    "(Tensor x, Tensor reduced_grad) -> Tensor",
    check=check_reduced_grad,
    fake=lambda x, grad: x.new_empty((grad.shape[1], x.shape[1]), dtype=compute_dtype(x)),
    plain=_plain_weight_grad,
    backends=("cpu", "triton"),
)


def squeeze_grads(
    choice: Choice,
    wanted: Sequence[bool],
    x: Tensor,
    weight: Tensor,
    pooled_grad: Tensor,
    reduced_grad: Tensor,
    *gate: Any,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients in x, weight and bias that are wanted; `gate` as in the operator squeeze_input_grad."""
    dx = dweight = dbias = None
    run = run_backward if weight.shape[0] <= MOST_REDUCED else _run_plain
    if wanted[1]:
        dweight = run("squeeze_weight_grad", choice, x, reduced_grad).to(weight.dtype).reshape(weight.shape)
    if wanted[2]:
        dbias = reduced_grad.sum((0, 2, 3))
    if wanted[0]:  # last: the weight's partial sums are gone before a second feature map is there
        dx = run("squeeze_input_grad", choice, x, weight, pooled_grad, reduced_grad, *gate)
    return dx, dweight, dbias


def _run_plain(name: str, choice: Choice, *arguments: Any) -> Any:
    choice.refuse(name, f"its kernels reduce to at most {MOST_REDUCED} channels")
    return OPERATORS[name].plain(*arguments)


def squeeze(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The mean over H and W and a 1x1 convolution, both from one read of x.

    Args:
        x: the feature map (N, C, H, W), float32, bfloat16, float16 or float64. Contiguous and channels_last run at full
            speed; other layouts are correct.
        weight: (R, C, 1, 1) or (R, C), in x's dtype, any strides.
        bias: (R,), in x's dtype, or None.

    Returns:
        The pooled vector (N, C) and the reduction (N, R, H, W), in x's dtype, computed in at least float32 and rounded
        once; the reduction in x's memory format.

    Raises:
        TypeError: an argument is not a dense tensor of one of these dtypes.
        ValueError: a shape or device does not fit x.
        BackendUnavailable: the backend chosen with `use_backend` cannot run on x's device.

    The backward writes x's gradient once and reads x once, is bit-for-bit reproducible, and can be differentiated again; of
    x's size it keeps x alone. Source: Park et al., "BAM: Bottleneck Attention Module", BMVC 2018, sections 3.1 and 3.2: the
    average pooling of the channel branch and the 1x1 reduction of the spatial branch.
    """
    if isinstance(x, Proxy):
        return recorded(squeeze, x, weight, bias)
    return _squeeze(x, weight, bias)
