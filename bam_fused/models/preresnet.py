"""PreResNet and WideResNet28 for CIFAR: blocks in which normalisation and ReLU come before each convolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bam_fused.models.attention import Attention, initialise


class PreActivation(nn.Module):
    """BatchNorm, ReLU, convolution, as often as `widths` says; the input is added to the result (arXiv:1603.05027).

    Where the shape changes, a 1x1 convolution of the first normalised and activated input takes the input's place.
    The stride is on the first convolution, which the paper's operation counts need.

    Args:
        channels: of the input.
        widths: the output channels of each convolution.
        kernels: their sizes.
        stride: of the block.
        attention: what stands at the end of the block's own branch.
    """

    def __init__(
        self, channels: int, widths: tuple[int, ...], kernels: tuple[int, ...], stride: int, attention: Attention
    ) -> None:
        super().__init__()
        self.norms, self.convs = nn.ModuleList(), nn.ModuleList()
        before = channels
        for index, (width, kernel) in enumerate(zip(widths, kernels, strict=True)):
            step = stride if index == 0 else 1
            self.norms.append(nn.BatchNorm2d(before))
            self.convs.append(nn.Conv2d(before, width, kernel, step, padding=kernel // 2, bias=False))
            before = width
        self.attention = attention.in_block(before)
        changes = stride != 1 or channels != before
        self.shortcut = nn.Conv2d(channels, before, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        out = activated = x
        for index, (norm, conv) in enumerate(zip(self.norms, self.convs)):  # noqa: B905 (not in TorchScript)
            out = torch.relu(norm(out))
            if index == 0:
                activated = out
            out = conv(out)
        return self.attention(out) + (x if self.shortcut is None else self.shortcut(activated))


class PreActivationNet(nn.Module):
    """Three stages of `depth` pre-activation blocks of the given kernels, a BAM before each halving of the map.

    Args:
        depth: blocks in a stage.
        widths: for each stage, the output channels of a block's convolutions.
        kernels: the sizes of a block's convolutions.
        num_classes: width of the output (N, num_classes).
        attention: what stands at the bottlenecks and in the blocks.
    """

    def __init__(
        self,
        depth: int,
        widths: tuple[tuple[int, ...], ...],
        kernels: tuple[int, ...],
        *,
        num_classes: int,
        attention: Attention,
    ) -> None:
        super().__init__()
        channels = 16
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
        for stage, stage_widths in enumerate(widths):
            if stage:
                layers.append(attention.at_bottleneck(channels))
            for position in range(depth):
                stride = 2 if stage and position == 0 else 1
                layers.append(PreActivation(channels, stage_widths, kernels, stride, attention))
                channels = stage_widths[-1]
        self.features = nn.Sequential(*layers)
        self.norm = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.norm(self.features(x))).mean((2, 3)))


def cifar_preresnet110(num_classes: int = 100, *, attention: str | None = None, **options: Any) -> PreActivationNet:
    """The network of the paper's rows "PreResNet110", for 32 x 32 images: 18 bottleneck blocks in each of three stages.

    Only this network has the parameters and operations that the paper prints; counting its layers as He et al. do gives
    a depth of 164. It is what a public CIFAR code base that the field used builds when asked for a depth of 110.
    """
    widths = tuple((width, width, 4 * width) for width in (16, 32, 64))
    return PreActivationNet(18, widths, (1, 3, 1), num_classes=num_classes, attention=Attention(attention, options))


def cifar_wideresnet28(
    num_classes: int = 100, *, widen: int = 8, attention: str | None = None, **options: Any
) -> PreActivationNet:
    """WideResNet28 for 32 x 32 images (Zagoruyko and Komodakis, arXiv:1605.07146), `widen` times as wide as ResNet."""
    widths = tuple((width * widen, width * widen) for width in (16, 32, 64))
    return PreActivationNet(4, widths, (3, 3), num_classes=num_classes, attention=Attention(attention, options))
