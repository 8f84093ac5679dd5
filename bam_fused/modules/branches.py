"""The two branches of BAM: ordinary Linear, Conv2d and BatchNorm children under regular names.

Layer i of a branch is `linears.{i}` or `convs.{i}`, and what normalises its output is `norms.{i}` (an Identity where
nothing does). Every public implementation is this structure under other names, so a layout is a table of names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._jit_internal import is_scripting

from bam_fused.composition.plan import RELU, Layer, Plan
from bam_fused.composition.run import channel_logits, spatial_logits
from bam_fused.composition.scripted import left_crop

AFTER = ("none", "relu", "bn", "bn-relu")
"""What can follow a layer."""


def _norms(
    kind: type[nn.Module], widths: Sequence[int], after: Sequence[str], factory: dict[str, Any]
) -> nn.ModuleList:
    return nn.ModuleList(
        kind(width, **factory) if "bn" in what else nn.Identity() for width, what in zip(widths, after, strict=True)
    )


def _layers(name: str, after: Sequence[str]) -> tuple[Layer, ...]:
    """The layers of a branch whose children are called `name` and "norms"; an Identity among the norms is called too."""
    return tuple(
        Layer((name, str(i)), ("norms", str(i)), RELU if "relu" in what else None) for i, what in enumerate(after)
    )


def _relus(after: Sequence[str]) -> tuple[bool, ...]:
    return tuple("relu" in what for what in after)


def _check_count(layers: nn.ModuleList, planned: tuple[Layer, ...]) -> None:
    if len(layers) != len(planned):
        raise ValueError(f"the branch was made with {len(planned)} layers and now has {len(layers)}: make another BAM")


class ChannelBranch(nn.Module):
    """Pool, then a multi-layer perceptron: (N, C, H, W) -> channel logits (N, C).

    Args:
        widths: the width before, between and after the layers: (C, h, ..., h, C).
        after: for each layer, what follows it, one of `AFTER`.
        bias: for each layer, whether it has one.
        mlp: "linear" (Linear, BatchNorm1d) or "conv" (1x1 Conv2d, BatchNorm2d), the same arithmetic.
        legacy_pool: pool only the left H x H crop of a map with H < W < 2H, as the authors' code does.
    """

    def __init__(
        self,
        widths: Sequence[int],
        after: Sequence[str],
        bias: Sequence[bool],
        mlp: str = "linear",
        legacy_pool: bool = False,
        **factory: Any,
    ) -> None:
        super().__init__()
        conv = mlp == "conv"
        self.plan = Plan(widths[0], channel=_layers("linears", after), convolves=conv, crops=legacy_pool)
        self._relus, self._convolves, self._crops = _relus(after), conv, legacy_pool  # for TorchScript
        self.linears = nn.ModuleList(
            nn.Conv2d(i, o, 1, bias=b, **factory) if conv else nn.Linear(i, o, bias=b, **factory)
            for i, o, b in zip(widths[:-1], widths[1:], bias, strict=True)
        )
        self.norms = _norms(nn.BatchNorm2d if conv else nn.BatchNorm1d, widths[1:], after, factory)

    def forward(self, x: Tensor) -> Tensor:
        if not is_scripting():
            _check_count(self.linears, self.plan.channel)
            return channel_logits(self, self.plan, x)
        features = (left_crop(x) if self._crops else x).mean((2, 3))
        if self._convolves:
            features = features[:, :, None, None]
        for layer, norm, relu in zip(self.linears, self.norms, self._relus):  # noqa: B905 (not in TorchScript)
            features = norm(layer(features))
            if relu:
                features = torch.relu(features)
        return features.flatten(1)


class SpatialBranch(nn.Module):
    """1x1 reduction, dilated 3x3 convolutions, 1x1 to one channel: (N, C, H, W) -> spatial logits (N, 1, H, W).

    Args:
        channels, hidden: C and the width after the reduction.
        dilations: one for each 3x3 convolution.
        paddings: likewise; the map keeps its size where padding equals dilation.
        after, bias: for each layer (reduction, 3x3 convolutions, last), as in `ChannelBranch`.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        dilations: Sequence[int],
        paddings: Sequence[int],
        after: Sequence[str],
        bias: Sequence[bool],
        **factory: Any,
    ) -> None:
        super().__init__()
        self.plan = Plan(channels, spatial=_layers("convs", after))
        self._relus = _relus(after)  # for TorchScript
        convs = [nn.Conv2d(channels, hidden, 1, bias=bias[0], **factory)]
        for dilation, padding, b in zip(dilations, paddings, bias[1:-1], strict=True):
            convs.append(nn.Conv2d(hidden, hidden, 3, padding=padding, dilation=dilation, bias=b, **factory))
        convs.append(nn.Conv2d(hidden, 1, 1, bias=bias[-1], **factory))
        self.convs = nn.ModuleList(convs)
        self.norms = _norms(nn.BatchNorm2d, [hidden] * (len(convs) - 1) + [1], after, factory)

    def forward(self, x: Tensor) -> Tensor:
        if not is_scripting():
            _check_count(self.convs, self.plan.spatial)
            return spatial_logits(self, self.plan, x)
        features = x
        for layer, norm, relu in zip(self.convs, self.norms, self._relus):  # noqa: B905 (not in TorchScript)
            features = norm(layer(features))
            if relu:
                features = torch.relu(features)
        return features


def initialise(branch: nn.Module) -> None:
    """He initialisation for the layers that feed a ReLU, variance-preserving for the last one, biases zero."""
    layers = [m for m in branch.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    for layer in layers:
        if layer is layers[-1]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        else:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if layer.bias is not None:
            with torch.no_grad():
                layer.bias.zero_()
