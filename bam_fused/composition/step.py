"""The path of a BAM's training step as two nodes of autograd's graph."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from bam_fused import backends
from bam_fused.backends import running_statistics
from bam_fused.checks import DTYPES
from bam_fused.composition import autocast, training
from bam_fused.composition.plan import PLAIN_TENSORS, Live, Step
from bam_fused.composition.whole import odd_layer
from bam_fused.functional.bam import AFFINE, BIAS, NORM, RELU
from bam_fused.functional.branches import BATCH
from bam_fused.functional.training_step import Layers, training_step


def why_not(live: Live, x: Tensor) -> str | None:
    """Why it can not run this module on this x; None where it can."""
    if torch.compiler.is_compiling():
        return "torch.compile fuses what lies between the convolutions"
    reason = training.why_no_squeeze(live, x) or backends.why_only_eager("branches", x.device) or autocast.why_not(x)
    if reason is not None:
        return reason
    values = (x.shape[0], x.shape[0] * x.shape[2] * x.shape[3])
    for branch, count in zip((live.channel, live.spatial), values, strict=True):
        kind = nn.BatchNorm2d if branch is live.spatial or live.plan.convolves else nn.BatchNorm1d
        for i, step in enumerate(branch):
            size = 3 if branch is live.spatial and 0 < i < len(branch) - 1 else 1
            reason = odd_layer(step.weight, size) or _odd_norm(step.norm, kind, count) or _odd_tensor(step, x)
            if reason is not None:
                return reason
    return None if x.numel() > 0 else "x is empty"


def _odd_norm(norm: nn.Module | None, kind: type[nn.Module], values: int) -> str | None:
    if norm is None:
        return None
    if not isinstance(norm, kind):
        return f"a norm is no {kind.__name__}"
    if (norm._parameters["weight"] is None) != (norm._parameters["bias"] is None):
        return "a norm has a weight or a bias alone"
    if (norm._buffers["running_mean"] is None) != (norm._buffers["running_var"] is None):
        return "a norm has a running mean or a running variance alone"
    return "a norm would measure a single value" if _takes_batch(norm) and values == 1 else None


def _odd_tensor(step: Step, x: Tensor) -> str | None:
    device = x.device
    for tensor in step.weight._parameters.values():
        if tensor is None:
            continue
        if type(tensor) not in PLAIN_TENSORS or tensor.device != device or not autocast.runs_in_dtype_of(x, tensor):
            return f"a layer's tensor is no plain tensor of x's device and dtype, {device} and {x.dtype}"
    if step.norm is not None:
        running = step.norm._buffers
        for own in (*step.norm._parameters.values(), running["running_mean"], running["running_var"]):
            if own is not None and (type(own) not in PLAIN_TENSORS or own.device != device or own.dtype not in DTYPES):
                return "a norm's tensor is no plain floating-point tensor on x's device"
    return None


def _takes_batch(norm: nn.Module) -> bool:
    return norm.training or norm._buffers["running_mean"] is None


def run(live: Live, x: Tensor) -> Tensor:
    """The forward of a BAM that `why_not` has nothing against."""
    module, plan, channel, spatial = live
    reduction = spatial[0].weight._parameters
    weight, bias = cast(Tensor, reduction["weight"]), cast("Tensor | None", reduction["bias"])
    tensors, layers = described(live)
    if torch.is_autocast_enabled(x.device.type):
        # As it does to convolutions; the channel branch loses nothing in float32.
        own = {id(tensor) for step in spatial for tensor in step.weight._parameters.values()}
        tensors = [tensor.to(x.dtype) if id(tensor) in own else tensor for tensor in tensors]
        weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    out, statistics = training_step(x, weight, bias, tensors, layers, plan.combine)
    _track(channel + spatial, statistics)
    if plan.scales:
        out = torch.lerp(x, out, module._parameters["residual_scale"].to(x.dtype))  # type: ignore[union-attr]
    return out


def described(live: Live) -> tuple[list[Tensor], Layers]:
    """The layers as `branches` takes them."""
    _, _, channel, spatial = live
    tensors: list[Tensor | None] = []
    layers = []
    for step in (*channel, *spatial):
        own, norm = step.weight._parameters, step.norm
        has = RELU if step.relu else 0
        if step is not spatial[0]:  # the squeeze's
            tensors.append(own["weight"])
            if own["bias"] is not None:
                has |= BIAS
                tensors.append(own["bias"])
        if norm is not None:
            has |= BATCH if _takes_batch(norm) else NORM
            if has & NORM:
                tensors += (norm._buffers["running_mean"], norm._buffers["running_var"])
            if norm._parameters["weight"] is not None:
                has |= AFFINE
                tensors += (norm._parameters["weight"], norm._parameters["bias"])
        layers.append(has)
    dilations = [cast(nn.Conv2d, step.weight).dilation[0] for step in spatial[1:-1]]
    eps = [0.0 if step.norm is None else cast(nn.BatchNorm2d, step.norm).eps for step in (*channel, *spatial)]
    return cast("list[Tensor]", tensors), Layers(layers, len(channel), dilations, eps)


@torch.no_grad()
def _track(layers: list[Step], statistics: Tensor) -> None:
    """Move the running statistics as `nn.BatchNorm2d` does, by whom no version counter notices: graphs may hold them."""
    begin = 0
    bounds: list[int] = []
    running: list[Tensor] = []
    momenta: list[float] = []
    counts: list[Tensor] = []
    for step in layers:
        norm = cast("nn.BatchNorm2d | None", step.norm)
        if norm is None or not _takes_batch(norm):
            continue
        buffers, end = norm._buffers, begin + norm.num_features
        mean, variance, count = buffers["running_mean"], buffers["running_var"], buffers["num_batches_tracked"]
        if norm.training and norm.track_running_stats and mean is not None and variance is not None:
            momentum = norm.momentum or 0.0
            if count is not None:
                counts.append(count)
                if norm.momentum is None:
                    momentum = 1.0 / (float(count) + 1)
            bounds += (begin, end)
            running += (mean, variance)
            momenta.append(momentum)
        begin = end
    if running:
        running_statistics.move(statistics, running, bounds, momenta, counts)
