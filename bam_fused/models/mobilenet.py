"""MobileNet (Howard et al., arXiv:1704.04861), with its width multiplier."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from bam_fused.models.attention import Attention, initialise

# Output channels and stride of each depthwise separable block. A BAM stands before the last three halvings, on maps of
# a quarter, an eighth and a sixteenth of the image's size.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
BAM_BEFORE = (3, 5, 11)


def _conv(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())


class MobileNet(nn.Module):
    """A strided convolution, then depthwise separable blocks.

    Args:
        alpha: width multiplier; each width is ``int(alpha * width)``.
        num_classes: width of the output (N, num_classes).
        attention: what stands at the bottlenecks and after the blocks.
    """

    def __init__(self, alpha: float, *, num_classes: int, attention: Attention) -> None:
        super().__init__()
        channels = int(32 * alpha)
        features: list[nn.Module] = [_conv(3, channels, 3, 2)]
        for index, (width, stride) in enumerate(BLOCKS):
            if index in BAM_BEFORE:
                features.append(attention.at_bottleneck(channels))
            out = int(width * alpha)
            features += [
                _conv(channels, channels, 3, stride, groups=channels),
                _conv(channels, out, 1),
                attention.in_block(out),
            ]
            channels = out
        self.features = nn.Sequential(*features)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


def mobilenet(
    num_classes: int = 1000, *, alpha: float = 1.0, attention: str | None = None, **options: Any
) -> MobileNet:
    """MobileNet for 224 x 224 images (the paper: alpha 1 and 0.7, and alpha 1 on 192 x 192)."""
    return MobileNet(alpha, num_classes=num_classes, attention=Attention(attention, options))
