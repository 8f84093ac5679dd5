"""The path of a whole BAM as one operator: inference, where a backend has a kernel for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bam_fused import backends
from bam_fused.checks import DTYPES
from bam_fused.composition import autocast
from bam_fused.composition.plan import PLAIN_TENSORS, Live, Step
from bam_fused.functional.bam import AFFINE, BIAS, NORM, RELU, bam
from bam_fused.ops.operation import is_exporting, wants_standard_operators

_WANTS_GRADIENT = "a gradient is wanted"


def why_not(live: Live, x: Tensor) -> str | None:
    """Why the operator can not run this module on this x; None where it can."""
    if x.requires_grad and torch.is_grad_enabled():  # asked first, as so it is in most steps of training
        return _WANTS_GRADIENT
    if wants_standard_operators() or is_exporting():
        return "PyTorch exports, traces or transforms what is computed"
    if type(x) is not Tensor or x.layout is not torch.strided or x.dtype not in DTYPES:
        return "x is no plain dense floating-point tensor"
    if x.shape[1] != live.plan.channels:
        return f"x has {x.shape[1]} channels, not {live.plan.channels}"
    reason = backends.why_only_eager(bam.name, x.device) or autocast.why_not(x) or why_not_wide(x)
    if reason is not None:
        return reason
    dtype = x.dtype
    layers = live.channel + live.spatial
    first, last = len(live.channel), len(layers) - 1
    for i, step in enumerate(layers):
        layer = step.weight
        reason = odd_layer(layer, 3 if first < i < last else 1) or _odd_norm(step.norm)
        if reason is not None:
            return reason
        for own in layer._parameters.values():
            if own is not None and own.dtype is not dtype and not autocast.runs_in_dtype_of(x, own):
                return f"x is {dtype}, a layer {own.dtype}"
    tensors = [tensor for step in layers for tensor in _tensors(step)]
    on_cpu = x.is_cpu  # a device takes longer to compare
    for tensor in tensors:
        if type(tensor) not in PLAIN_TENSORS or not (tensor.is_cpu if on_cpu else tensor.device == x.device):
            return "a parameter is no plain tensor on x's device"
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return _WANTS_GRADIENT
    return None


def why_not_wide(x: Tensor) -> str | None:
    """Why no kernel of a whole BAM is compiled for x's dtype on its device; None where one is."""
    return (
        None if x.is_cpu or x.dtype is not torch.float64 else "x is float64, for which no kernels of a BAM are compiled"
    )


def run(live: Live, x: Tensor) -> Tensor:
    """The forward of a BAM that `why_not` has nothing against."""
    out: Tensor = backends.run(bam.name, *arguments(live, x))
    if live.plan.scales:
        out = torch.lerp(x, out, live.module._parameters["residual_scale"].to(x.dtype))  # type: ignore[union-attr]
    return out


def arguments(live: Live, x: Tensor) -> tuple[Any, ...]:
    """What the operator is called with: the module's own tensors, as they are now."""
    _, plan, channel, spatial = live
    layers = channel + spatial
    return (
        x,
        [tensor for step in layers for tensor in _tensors(step)],
        [_has(step) for step in layers],
        len(channel),
        [step.weight.dilation[0] for step in spatial[1:-1]],  # type: ignore[index]
        [0.0 if step.norm is None else step.norm.eps for step in layers],
        plan.combine if channel and spatial else "sum",
        plan.crops,
    )


def _tensors(step: Step) -> list[Tensor]:
    """A layer's tensors in the operator's order."""
    own, norm = step.weight._parameters, step.norm
    tensors: list[Tensor | None] = [own["weight"]] if own["bias"] is None else [own["weight"], own["bias"]]
    if norm is not None:
        tensors += (norm._buffers["running_mean"], norm._buffers["running_var"])
        if norm._parameters["weight"] is not None:
            tensors += (norm._parameters["weight"], norm._parameters["bias"])
    return tensors  # type: ignore[return-value]


def _has(step: Step) -> int:
    has = RELU if step.relu else 0
    if step.weight._parameters["bias"] is not None:
        has |= BIAS
    if step.norm is not None:
        has |= NORM if step.norm._parameters["weight"] is None else NORM | AFFINE
    return has


def odd_layer(layer: nn.Module, size: int) -> str | None:
    """What a layer has that the operators do not do: they take Linear layers and convolutions that keep the map's size."""
    if isinstance(layer, nn.Linear):
        return None
    assert isinstance(layer, nn.Conv2d)
    dilation = layer.dilation[0]
    padding = (dilation, dilation) if size == 3 else (0, 0)
    plain = (
        layer.kernel_size == (size, size)
        and layer.stride == (1, 1)
        and layer.groups == 1
        and (layer.padding == padding or layer.padding == "same")
        and (size == 1 or layer.dilation == (dilation, dilation))
        and layer.padding_mode == "zeros"
    )
    if plain:
        return None
    return f"a {size}x{size} convolution has other sizes, groups or strides, or a padding that is not its dilation"


def _odd_norm(norm: nn.Module | None) -> str | None:
    if norm is None:
        return None
    if norm.training or norm._buffers["running_mean"] is None:
        return "a norm takes the batch's own statistics"
    if (norm._parameters["weight"] is None) != (norm._parameters["bias"] is None):
        return "a norm has a weight or a bias alone"
    return None
