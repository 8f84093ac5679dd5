"""A BAM's training step: x's gradient in two passes over the feature map, and this package's small convolutions.

The norms, whatever their mode, are called as the modules they are: they update their running statistics themselves.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bam_fused import backends
from bam_fused.composition import autocast
from bam_fused.composition.plan import PLAIN_TENSORS, Live, Step
from bam_fused.composition.whole import why_not_wide
from bam_fused.functional.dilated_conv import dilated_conv
from bam_fused.functional.squeeze import MOST_REDUCED, memory_format_of
from bam_fused.functional.two_passes import two_passes
from bam_fused.ops.operation import is_exporting, wants_standard_operators


def why_not(live: Live, x: Tensor) -> str | None:
    """Why the training step can not run this module on this x; None where it can."""
    if (reason := why_no_squeeze(live, x)) is not None:
        return reason
    return "autocast is on" if torch.is_autocast_enabled(x.device.type) else None


def why_no_squeeze(live: Live, x: Tensor) -> str | None:
    """Why a training step of two branches behind a squeeze can not run; None where it can, as far as x's read goes."""
    if not torch.is_grad_enabled():
        return "gradients are switched off"
    if wants_standard_operators() or is_exporting():
        return "PyTorch exports, traces or transforms what is computed"
    if not live.channel or not live.spatial:
        return "it has one branch"
    if live.plan.crops and x.shape[2] != x.shape[3]:
        return "it pools a crop of x"
    reason = backends.why_only_eager("squeeze_input_grad", x.device) or why_not_wide(x)
    return reason or _why_not_reduction(live.spatial[0].weight, x)


def _why_not_reduction(layer: nn.Module, x: Tensor) -> str | None:
    if not isinstance(layer, nn.Conv2d) or layer.kernel_size != (1, 1) or layer.stride != (1, 1) or layer.groups != 1:
        return "its spatial branch does not begin with a 1x1 convolution"
    if layer.padding not in ((0, 0), "valid", "same") or layer.in_channels != x.shape[1]:
        return "its spatial branch does not begin with a 1x1 convolution of x"
    if layer.out_channels > MOST_REDUCED:
        return f"it reduces to more than {MOST_REDUCED} channels"
    for tensor in (x, layer.weight, layer.bias):
        if tensor is not None and (type(tensor) not in PLAIN_TENSORS or not autocast.runs_in_dtype_of(x, tensor)):
            return "x and the reduction's tensors are not plain tensors of one dtype"
    return None


def run(live: Live, x: Tensor) -> Tensor:
    """The forward of a BAM, its backward in two passes."""
    module, plan, channel_steps, (reduction, *spatial_steps) = live
    memory_format = memory_format_of(x)

    def branches(pooled: Tensor, reduced: Tensor) -> tuple[Tensor, Tensor]:
        channel = pooled[:, :, None, None] if plan.convolves else pooled
        for step in channel_steps:
            channel = _after(step, step.weight(channel))
        spatial = _after_spatial(reduction, reduced, memory_format)
        for step in spatial_steps:
            spatial = _layer(step, spatial, memory_format)
        return channel.flatten(1), spatial

    layer = cast(nn.Conv2d, reduction.weight)
    out = two_passes(x, layer.weight, layer.bias, branches, plan.combine)
    if plan.scales:
        out = torch.lerp(x, out, module._parameters["residual_scale"].to(x.dtype))  # type: ignore[union-attr]
    return out


def _layer(step: Step, features: Tensor, memory_format: torch.memory_format) -> Tensor:
    layer = step.weight
    if isinstance(layer, nn.Conv2d) and _is_plain(layer, features):
        if layer.kernel_size == (1, 1) and layer.padding in ((0, 0), "valid", "same"):
            return _after_spatial(step, _pointwise(layer, features), memory_format)
        if layer.kernel_size == (3, 3) and (layer.padding == "same" or layer.padding == layer.dilation):
            fuses_relu = step.norm is None and step.relu
            out = dilated_conv(features, layer.weight, layer.bias, layer.dilation[0], fuses_relu)
            return out if fuses_relu else _after_spatial(step, out, memory_format)
    return _after_spatial(step, layer(features), memory_format)


def _is_plain(layer: nn.Conv2d, features: Tensor) -> bool:
    """Whether its kernel's size, dilation and padding, which is of zeros, say all that the layer does."""
    return (
        layer.stride == (1, 1)
        and layer.groups == 1
        and layer.dilation[0] == layer.dilation[1]
        and layer.padding_mode == "zeros"
        and all(
            tensor is None or (type(tensor) in PLAIN_TENSORS and tensor.dtype == features.dtype)
            for tensor in (layer.weight, layer.bias)
        )
    )


def _pointwise(layer: nn.Conv2d, features: Tensor) -> Tensor:
    """A 1x1 convolution as the product that it is: a convolution would make Inductor turn the whole graph to NHWC."""
    return F.linear(features.permute(0, 2, 3, 1), layer.weight.flatten(1), layer.bias).permute(0, 3, 1, 2)


def _after_spatial(step: Step, features: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Norm and ReLU behind a layer of the spatial branch; channels_last, as the convolutions want it.

    On the CPU the norm gets x's memory format, as it would in eager: there PyTorch adds up the statistics of a channels_last
    batch in one long run, which rounds far worse, and so many more of a ReLU's inputs near 0 change sides.
    """
    if step.norm is not None and features.is_cpu and not torch.compiler.is_compiling():
        # Inductor adds up alike in every format.
        features = features.contiguous(memory_format=memory_format)
    return _after(step, features).contiguous(memory_format=torch.channels_last)


def _after(step: Step, features: Tensor) -> Tensor:
    if step.norm is not None:
        features = step.norm(features)
    return F.relu(features) if step.relu else features
