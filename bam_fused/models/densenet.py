"""DenseNet-BC for CIFAR (Huang et al., arXiv:1608.06993), with BAM before and after each transition (the paper, table 3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bam_fused.models.attention import Attention, initialise


class DenseLayer(nn.Module):
    """Adds `growth` channels to its input, through a 1x1 convolution to four times as many and a 3x3 one."""

    def __init__(self, channels: int, growth: int, attention: Attention) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        self.attention = attention.in_block(growth)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv2(torch.relu(self.norm2(self.conv1(torch.relu(self.norm1(x))))))
        return torch.cat((x, self.attention(new)), 1)


class DenseNet(nn.Module):
    """Three dense blocks and the two transitions between them, which halve channels and map.

    Args:
        layers: dense layers in each block.
        growth: channels that each of them adds.
        num_classes: width of the output (N, num_classes).
        attention: what stands before and after each transition and in the dense layers.
    """

    def __init__(self, layers: int, growth: int, *, num_classes: int, attention: Attention) -> None:
        super().__init__()
        channels = 2 * growth
        features: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
        for block in range(3):
            if block:
                features += [
                    attention.at_bottleneck(channels),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                    nn.Conv2d(channels, channels // 2, 1, bias=False),
                    nn.AvgPool2d(2),
                    attention.at_bottleneck(channels // 2),
                ]
                channels //= 2
            for _ in range(layers):
                features.append(DenseLayer(channels, growth, attention))
                channels += growth
        self.features = nn.Sequential(*features)
        self.norm = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.norm(self.features(x))).mean((2, 3)))


def cifar_densenet100(
    num_classes: int = 100, *, growth: int = 12, attention: str | None = None, **options: Any
) -> DenseNet:
    """DenseNet-BC of depth 100 for 32 x 32 images; every option as in `Attention`.

    With "bam-c" the modules see `growth` channels: a reduction above that needs `min_hidden`.
    """
    return DenseNet(16, growth, num_classes=num_classes, attention=Attention(attention, options))
