"""SqueezeNet v1.1 (Iandola et al., arXiv:1602.07360), with torchvision's parameter names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bam_fused.models.attention import Attention, initialise

# Squeeze and expand widths of the Fire modules that follow each pooling. A BAM stands before each pooling of theirs.
STAGES = (((16, 64), (16, 64)), ((32, 128), (32, 128)), ((48, 192), (48, 192), (64, 256), (64, 256)))


class Fire(nn.Module):
    """A 1x1 convolution to few channels, then a 1x1 and a 3x3 one side by side: (N, C, H, W) -> (N, 2 expand, H, W)."""

    def __init__(self, channels: int, squeeze: int, expand: int, attention: Attention) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.attention = attention.in_block(2 * expand)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.squeeze(x))
        return self.attention(torch.cat((torch.relu(self.expand1x1(x)), torch.relu(self.expand3x3(x))), 1))


class SqueezeNet(nn.Module):
    """Fire modules and three poolings, then a 1x1 convolution to the classes and the mean.

    Args:
        num_classes: width of the output (N, num_classes).
        attention: what stands before the second and third pooling and in the Fire modules.
    """

    def __init__(self, *, num_classes: int, attention: Attention) -> None:
        super().__init__()
        channels, index = 64, 2
        self.features = nn.Sequential(nn.Conv2d(3, channels, 3, 2), nn.ReLU())
        for stage, fires in enumerate(STAGES):
            if stage:
                self.features.add_module(f"bam{stage}", attention.at_bottleneck(channels))
            layers: list[nn.Module] = [nn.MaxPool2d(3, 2, ceil_mode=True)]
            for squeeze, expand in fires:
                layers.append(Fire(channels, squeeze, expand, attention))
                channels = 2 * expand
            for layer in layers:
                self.features.add_module(str(index), layer)
                index += 1
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(channels, num_classes, 1), nn.ReLU())
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x)).mean((2, 3))


def squeezenet(num_classes: int = 1000, *, attention: str | None = None, **options: Any) -> SqueezeNet:
    """SqueezeNet v1.1 for 224 x 224 images; every option as in `Attention`."""
    return SqueezeNet(num_classes=num_classes, attention=Attention(attention, options))
