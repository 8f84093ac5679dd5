"""dilated_conv: the 3x3 convolutions of BAM's spatial branch, with bias and, where nothing comes between, ReLU.

Their channels are so few that the library's convolutions take most of a BAM's time.

It works on channels_last features and returns them whatever x's memory format, so that one after the other converts nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from bam_fused.backends import Choice
from bam_fused.checks import check_dilated_conv, check_feature_map
from bam_fused.ops import define, run_backward
from bam_fused.ops.widen import compute_dtype


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int, relu: bool) -> Tensor:
    wide = compute_dtype(x)
    b = None if bias is None else bias.to(wide)
    out = F.conv2d(x.to(wide), weight.to(wide), b, padding=dilation, dilation=dilation)
    return (out.relu() if relu else out).to(x.dtype).contiguous(memory_format=torch.channels_last)


def _fake(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int, relu: bool) -> Tensor:
    shape = (x.shape[0], weight.shape[0], *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _plain_weight_grad(x: Tensor, grad: Tensor, dilation: int) -> Tensor:
    wide, shape = compute_dtype(x), (grad.shape[1], x.shape[1], 3, 3)
    return conv2d_weight(x.to(wide), shape, grad.to(wide), padding=dilation, dilation=dilation)


def _check_weight_grad(x: Tensor, grad: Tensor, dilation: int) -> None:
    check_feature_map("x", x)
    check_feature_map("grad", grad)


class _DilatedConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kernel: Callable[..., Tensor], choice: Choice, x: Tensor, weight: Tensor, bias: Tensor | None,
        dilation: int, relu: bool,
    ) -> Tensor:  # fmt: skip
        out = kernel(x, weight, bias, dilation, relu)
        ctx.save_for_backward(x, weight, out if relu else None)
        ctx.choice, ctx.dilation = choice, dilation
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, out = ctx.saved_tensors
        if out is not None:
            grad = torch.ops.aten.threshold_backward(grad, out, 0)
        _, _, wants_x, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        dx = dweight = None
        if wants_x:  # the same convolution, the weight turned around
            turned = weight.flip(2, 3).transpose(0, 1)
            dx = run_backward("dilated_conv", ctx.choice, grad, turned, None, ctx.dilation, False)
        if wants_weight:
            dweight = run_backward("dilated_conv_weight_grad", ctx.choice, x, grad, ctx.dilation).to(weight.dtype)
        return None, None, dx, dweight, grad.sum((0, 2, 3)) if wants_bias else None, None, None


_dilated_conv = define(
    "dilated_conv",
    "(Tensor x, Tensor weight, Tensor? bias, int dilation, bool relu) -> Tensor",
    check=check_dilated_conv,
    fake=_fake,
    plain=_plain,
    autograd=_DilatedConv,
    backends=("cpu", "triton"),
)
define(
    "dilated_conv_weight_grad",
    "(Tensor x, Tensor grad, int dilation) -> Tensor",
    check=_check_weight_grad,
    fake=lambda x, grad, dilation: x.new_empty((grad.shape[1], x.shape[1], 3, 3), dtype=compute_dtype(x)),
    plain=_plain_weight_grad,
    backends=("cpu", "triton"),
)


def dilated_conv(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int, relu: bool) -> Tensor:
    """A 3x3 convolution that keeps the map's size (padding = dilation), and ReLU if wanted.

    x (N, I, H, W) in any memory format; weight (O, I, 3, 3) and bias (O,) in x's dtype. Returns (N, O, H, W), channels_last,
    computed in at least float32 and rounded once. The backward is reproducible and can be differentiated again.
    """
    out: Tensor = _dilated_conv(x, weight, bias, dilation, relu)
    return out
