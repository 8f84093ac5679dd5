"""branches: both branches of a BAM in a training step as one operator, from pooled vector and reduction to the logits.

Its arguments describe the layers as those of `bam` do, with two differences. A norm that takes the batch's statistics has
`BATCH` in place of `NORM`, and no running ones among its tensors. The reduction, the first layer of the spatial branch, has
neither weight nor bias, which are the squeeze's: only what follows it is done here. Both branches must be there.

Beside the logits, in the compute type, it returns what its backward takes, and the batch's means and unbiased variances, in
float64, for the running statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bam_fused.checks import check_feature_map
from bam_fused.functional.bam import AFFINE, BIAS, NORM, RELU
from bam_fused.ops import define
from bam_fused.ops.widen import compute_dtype

BATCH = 16
_MOST_FOLDS = 64  # of the spatial logits, as csrc/cpu/norms.h has it

Ints = Sequence[int]
Floats = Sequence[float]
Tensors = Sequence[Tensor]


class _Layer(NamedTuple):
    """One layer's tensors, in the compute type, and their places among all."""

    tensors: dict[str, Tensor]
    places: dict[str, int]
    dilation: int
    eps: float
    batch: bool
    relu: bool


def places_of(layers: Ints, channel_layers: int) -> Iterator[dict[str, int]]:
    """Where each layer's tensors are among all, by name."""
    place = 0
    for i, has in enumerate(layers):
        names = [] if i == channel_layers else ["weight"]
        for bit, more in ((BIAS, ["bias"]), (NORM, ["mean", "variance"]), (AFFINE, ["gain", "offset"])):
            names += more if has & bit else []
        yield {name: place + k for k, name in enumerate(names)}
        place += len(names)


def _read(
    like: Tensor, tensors: Tensors, layers: Ints, channel_layers: int, dilations: Ints, eps: Floats
) -> list[_Layer]:
    wide, read = compute_dtype(like), []
    for i, (has, places) in enumerate(zip(layers, places_of(layers, channel_layers), strict=True)):
        hidden = channel_layers < i < len(layers) - 1
        dilation = dilations[i - channel_layers - 1] if hidden else 1
        mine = {name: tensors[at].to(wide) for name, at in places.items()}
        read.append(_Layer(mine, places, dilation, eps[i], bool(has & BATCH), bool(has & RELU)))
    return read


def _check(
    pooled: Tensor, reduced: Tensor, tensors: Tensors, layers: Ints, channel_layers: int, dilations: Ints, eps: Floats
) -> None:
    check_feature_map("reduced", reduced)
    if pooled.dim() != 2 or pooled.shape[0] != reduced.shape[0]:
        raise ValueError(f"pooled must have shape (N, C), N that of reduced, got {tuple(pooled.shape)}")
    if not len(layers) == len(eps) == channel_layers + len(dilations) + 2 or channel_layers < 1:
        raise ValueError(
            f"layers, eps and dilations do not fit each other: {len(layers)}, {len(eps)} and {len(dilations)} for "
            f"{channel_layers} layers in the channel branch"
        )
    if layers[channel_layers] & BIAS:
        raise ValueError(f"layers must give the reduction no bias, which the squeeze has added, got {list(layers)}")
    n, _, h, w = reduced.shape
    for i, has in enumerate(layers):
        if has & BATCH and (n if i < channel_layers else n * h * w) < 2:
            raise ValueError(
                f"reduced must give each norm over the batch more than one value, got shape {tuple(reduced.shape)}"
            )
    counts = (
        bool(has & BIAS) + 2 * bool(has & NORM) + 2 * bool(has & AFFINE) + (i != channel_layers)
        for i, has in enumerate(layers)
    )
    if len(tensors) != (expected := sum(counts)):
        raise ValueError(f"tensors must be {expected} for these layers, got {len(tensors)}")


class Kept(NamedTuple):
    """Where what the kernels keep of a layer begins: its features, rows of its outputs, and four vectors of them."""

    features: int
    vectors: int


def places_kept(
    pooled: Tensor, reduced: Tensor, tensors: Tensors, layers: Ints, channel_layers: int
) -> tuple[list[Kept], int]:
    """What is kept for the backward, every part from the beginning of a cache line (csrc/cpu/branches.h), and how much."""
    unit = 8 if compute_dtype(pooled) == torch.float64 else 16

    def lines(numbers: int) -> int:
        return (numbers + unit - 1) // unit * unit

    n, _, h, w = reduced.shape
    place, total, found = 0, 0, []
    for i, has in enumerate(layers):
        first, last = i == channel_layers, i + 1 == len(layers)
        outputs = reduced.shape[1] if first else tensors[place].shape[0]
        ends = (last or i + 1 == channel_layers) and not has & (BATCH | NORM | RELU)
        rows = 0 if first or ends else n if i < channel_layers else n * h * w
        row = 1 if last else outputs if i < channel_layers else lines(outputs)
        found.append(Kept(total, total + lines(rows * row)))
        total += lines(rows * row) + 4 * lines(_MOST_FOLDS if last else outputs)
        place += (not first) + bool(has & BIAS) + 2 * bool(has & NORM) + 2 * bool(has & AFFINE)
    return found, total


def _fake(
    pooled: Tensor, reduced: Tensor, tensors: Tensors, layers: Ints, channel_layers: int, dilations: Ints, eps: Floats
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, _, h, w = reduced.shape
    wide, place, normed = compute_dtype(pooled), 0, 0
    for i, has in enumerate(layers):
        normed += (reduced.shape[1] if i == channel_layers else tensors[place].shape[0]) if has & BATCH else 0
        place += (i != channel_layers) + bool(has & BIAS) + 2 * bool(has & NORM) + 2 * bool(has & AFFINE)
    return (
        pooled.new_empty(pooled.shape, dtype=wide),
        pooled.new_empty((n, 1, h, w), dtype=wide),
        pooled.new_empty(places_kept(pooled, reduced, tensors, layers, channel_layers)[1], dtype=wide),
        pooled.new_empty((2, normed), dtype=torch.float64),
    )


class _Trace(NamedTuple):
    """A layer's input, and its output in front of a norm and in front of a ReLU."""

    features: Tensor
    before: Tensor
    normed: Tensor


def _forward(features: Tensor, layers: Sequence[_Layer]) -> Iterator[tuple[_Trace, Tensor]]:
    """Each layer's steps and its result."""
    for layer in layers:
        own, before = layer.tensors, features
        if "weight" in own:
            weight = own["weight"]
            weight = weight.reshape(*weight.shape[:2], *(weight.shape[2:] or (1, 1)))
            padding = layer.dilation if weight.shape[-1] > 1 else 0
            before = F.conv2d(features, weight, own.get("bias"), padding=padding, dilation=layer.dilation)
        normed = before
        if layer.batch or "mean" in own:
            mean, variance, gain, offset = (own.get(name) for name in ("mean", "variance", "gain", "offset"))
            normed = F.batch_norm(before, mean, variance, gain, offset, training=layer.batch, eps=layer.eps)
        result = F.relu(normed) if layer.relu else normed
        yield _Trace(features, before, normed), result
        features = result


def logits(
    pooled: Tensor, reduced: Tensor, tensors: Tensors, layers: Ints, channel_layers: int, dilations: Ints, eps: Floats
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Both logits in PyTorch's operators, and what each norm over the batch was given."""
    read = _read(pooled, tensors, layers, channel_layers, dilations, eps)
    wide = compute_dtype(pooled)
    ends, normed = [], []
    for start, branch in ((pooled[:, :, None, None], read[:channel_layers]), (reduced, read[channel_layers:])):
        traces, results = zip(*_forward(start.to(wide), branch), strict=True)
        normed += [trace.before for trace, layer in zip(traces, branch, strict=True) if layer.batch]
        ends.append(results[-1])
    return ends[0].flatten(1), ends[1], normed


def _plain(
    pooled: Tensor, reduced: Tensor, tensors: Tensors, layers: Ints, channel_layers: int, dilations: Ints, eps: Floats
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    channel, spatial, normed = logits(pooled, reduced, tensors, layers, channel_layers, dilations, eps)
    moments = [torch.var_mean(features.double(), (0, 2, 3)) for features in normed]
    numbers = (torch.cat([moment[k] for moment in moments] or [channel.new_empty(0).double()]) for k in (1, 0))
    kept = channel.new_zeros(places_kept(pooled, reduced, tensors, layers, channel_layers)[1])
    return channel, spatial.contiguous(), kept, torch.stack(list(numbers))


def _check_backward(channel_grad: Tensor, spatial_grad: Tensor, *arguments: object) -> None:
    pooled, reduced, _, *description, wanted = arguments
    _check(pooled, reduced, *description)  # type: ignore[arg-type]
    assert isinstance(reduced, Tensor) and isinstance(pooled, Tensor) and isinstance(wanted, Sequence)
    n, _, h, w = check_feature_map("reduced", reduced)
    if tuple(channel_grad.shape) != tuple(pooled.shape) or tuple(spatial_grad.shape) != (n, 1, h, w):
        raise ValueError(
            f"channel_grad must have shape {tuple(pooled.shape)} and spatial_grad {(n, 1, h, w)}, "
            f"got {tuple(channel_grad.shape)} and {tuple(spatial_grad.shape)}"
        )


def _fake_backward(
    channel_grad: Tensor, spatial_grad: Tensor, pooled: Tensor, reduced: Tensor, saved: Tensor, tensors: Tensors,
    layers: Ints, channel_layers: int, dilations: Ints, eps: Floats, wanted: Ints,
) -> tuple[Tensor, Tensor, list[Tensor]]:  # fmt: skip
    wide = compute_dtype(pooled)
    return (
        pooled.new_empty(pooled.shape, dtype=wide),
        torch.empty(reduced.shape, dtype=wide, device=reduced.device, memory_format=torch.channels_last),
        [
            pooled.new_empty(tensor.shape if is_wanted else (0,), dtype=wide)
            for tensor, is_wanted in zip(tensors, wanted, strict=True)
        ],
    )


def _plain_backward(
    channel_grad: Tensor, spatial_grad: Tensor, pooled: Tensor, reduced: Tensor, saved: Tensor, tensors: Tensors,
    layers: Ints, channel_layers: int, dilations: Ints, eps: Floats, wanted: Ints,
) -> tuple[Tensor, Tensor, list[Tensor]]:  # fmt: skip
    read = _read(pooled, tensors, layers, channel_layers, dilations, eps)
    wide = compute_dtype(pooled)
    found = [pooled.new_empty(0, dtype=wide)] * len(tensors)
    ends = []
    for grad, features, branch in (
        (channel_grad[:, :, None, None], pooled[:, :, None, None], read[:channel_layers]),
        (spatial_grad, reduced, read[channel_layers:]),
    ):
        grad = grad.to(wide)
        traces = [trace for trace, _ in _forward(features.to(wide), branch)]
        for layer, trace in reversed(list(zip(branch, traces, strict=True))):
            grad, gradients = _layer_backward(layer, trace, grad)
            for name, place in layer.places.items():
                if wanted[place] and name in gradients:
                    found[place] = gradients[name].reshape(tensors[place].shape).contiguous()
        ends.append(grad)
    return ends[0].flatten(1), ends[1].contiguous(memory_format=torch.channels_last), found


def _layer_backward(layer: _Layer, trace: _Trace, grad: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    own, aten, gradients = layer.tensors, torch.ops.aten, {}
    if layer.relu:
        grad = aten.threshold_backward(grad, trace.normed, 0)
    if layer.batch or "mean" in own:
        given = [own.get(name) for name in ("gain", "mean", "variance")]
        variance, mean = torch.var_mean(trace.before, (0, 2, 3), correction=0)
        grad, gradients["gain"], gradients["offset"] = aten.native_batch_norm_backward(
            grad, trace.before, *given, mean, (variance + layer.eps).rsqrt(), layer.batch, layer.eps, [True] * 3
        )
    gradients["bias"] = grad.sum((0, 2, 3))
    if "weight" in own:
        weight = own["weight"]
        weight = weight.reshape(*weight.shape[:2], *(weight.shape[2:] or (1, 1)))
        padding, dilation = (layer.dilation if weight.shape[-1] > 1 else 0), layer.dilation
        grad, gradients["weight"], _ = aten.convolution_backward(
            grad, trace.features, weight, None, [1, 1], [padding] * 2, [dilation] * 2, False, [0, 0], 1,
            [True, True, False],
        )  # fmt: skip
    return grad, gradients


_LAYERS = "Tensor[] tensors, int[] layers, int channel_layers, int[] dilations, float[] eps"

define(
    "branches",
    f"(Tensor pooled, Tensor reduced, {_LAYERS}) -> (Tensor, Tensor, Tensor, Tensor)",
    check=_check,
    fake=_fake,
    plain=_plain,
    backends=("cpu", "triton"),
)
define(
    "branches_backward",
    f"(Tensor channel_grad, Tensor spatial_grad, Tensor pooled, Tensor reduced, Tensor saved, {_LAYERS}, int[] wanted)"
    " -> (Tensor, Tensor, Tensor[])",
    check=_check_backward,
    fake=_fake_backward,
    plain=_plain_backward,
    backends=("cpu", "triton"),
)
