"""ResNet, WideResNet18, ResNeXt and their CIFAR forms: blocks that end in an addition and a ReLU.

Parameter names are torchvision's, the BAMs between the stages are `bam1`, `bam2` and `bam3` as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bam_fused.models.attention import Attention, initialise


def _downsample(channels: int, out: int, stride: int) -> nn.Module | None:
    if stride == 1 and channels == out:
        return None
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (He et al., arXiv:1512.03385)."""

    expansion = 1

    def __init__(self, channels: int, planes: int, stride: int, attention: Attention) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.attention = attention.in_block(planes)
        self.downsample = _downsample(channels, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.attention(self.bn2(self.conv2(out)))
        return torch.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions; with groups it is ResNeXt's (Xie et al., arXiv:1611.05431).

    The stride is on the first 1x1 convolution ("1x1": He et al., and the paper's operation counts) or on the 3x3 one
    ("3x3": torchvision, and the authors' code and checkpoints).
    """

    expansion = 4

    def __init__(
        self,
        channels: int,
        planes: int,
        stride: int,
        attention: Attention,
        *,
        groups: int = 1,
        base_width: int = 64,
        stride_on: str = "1x1",
    ) -> None:
        super().__init__()
        if stride_on not in ("1x1", "3x3"):
            raise ValueError(f"stride_on must be '1x1' or '3x3', got {stride_on!r}")
        width, out = planes * base_width // 64 * groups, planes * self.expansion
        first, second = (stride, 1) if stride_on == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(channels, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.attention = attention.in_block(out)
        self.downsample = _downsample(channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        out = self.attention(self.bn3(self.conv3(out)))
        return torch.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Stages of residual blocks; each stage but the first halves the map, and before each halving stands a BAM.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: how many blocks each of the three or four stages has.
        planes: the width of each stage; its output has ``planes * block.expansion`` channels.
        num_classes: width of the output (N, num_classes).
        stem: "imagenet" (7x7 convolution and pooling, to a quarter of the size) or "cifar" (3x3, full size).
        attention: what stands at the bottlenecks and in the blocks.
        block_options: keyword arguments of the block.
    """

    if TYPE_CHECKING:
        layer1: nn.Module
        layer2: nn.Module
        layer3: nn.Module
        layer4: nn.Module
        bam1: nn.Module
        bam2: nn.Module
        bam3: nn.Module

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        planes: Sequence[int],
        *,
        num_classes: int,
        stem: str,
        attention: Attention,
        **block_options: Any,
    ) -> None:
        super().__init__()
        if len(depths) not in (3, 4):
            raise ValueError(f"depths must be those of three or four stages, got {len(depths)}")
        channels = 64
        imagenet = stem == "imagenet"
        self.conv1 = nn.Conv2d(
            3, channels, 7 if imagenet else 3, 2 if imagenet else 1, 3 if imagenet else 1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if imagenet else nn.Identity()
        stages = len(depths)
        for stage, (depth, width) in enumerate(zip(depths, planes, strict=True), 1):
            blocks = []
            for position in range(depth):
                stride = 2 if stage > 1 and position == 0 else 1
                blocks.append(block(channels, width, stride, attention, **block_options))
                channels = width * block.expansion
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            if stage < stages:
                self.add_module(f"bam{stage}", attention.at_bottleneck(channels))
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.bam1(self.layer1(x)))
        x = self.layer3(self.bam2(x))
        if hasattr(self, "layer4"):  # by name: TorchScript knows none that are made at run time
            x = self.layer4(self.bam3(x))
        return self.fc(x.mean((2, 3)))


def _resnet(
    block: type[BasicBlock] | type[Bottleneck],
    depths: Sequence[int],
    num_classes: int,
    stem: str,
    attention: Attention,
    widen: float = 1.0,
    **block_options: Any,
) -> ResNet:
    planes = [int(64 * 2**stage * widen) for stage in range(len(depths))]
    return ResNet(block, depths, planes, num_classes=num_classes, stem=stem, attention=attention, **block_options)


def resnet18(num_classes: int = 1000, *, attention: str | None = None, **options: Any) -> ResNet:
    """ResNet18 for 224 x 224 images; `attention` and `options` as in `Attention`."""
    return _resnet(BasicBlock, (2, 2, 2, 2), num_classes, "imagenet", Attention(attention, options))


def resnet34(num_classes: int = 1000, *, attention: str | None = None, **options: Any) -> ResNet:
    """ResNet34 for 224 x 224 images; not in the paper, but among the authors' checkpoints."""
    return _resnet(BasicBlock, (3, 4, 6, 3), num_classes, "imagenet", Attention(attention, options))


def wideresnet18(
    num_classes: int = 1000, *, widen: float = 2.0, attention: str | None = None, **options: Any
) -> ResNet:
    """ResNet18 with every stage `widen` times as wide (the paper: 1.5 and 2.0), for 224 x 224 images."""
    return _resnet(BasicBlock, (2, 2, 2, 2), num_classes, "imagenet", Attention(attention, options), widen)


def resnet50(
    num_classes: int = 1000, *, attention: str | None = None, stride_on: str = "1x1", **options: Any
) -> ResNet:
    """ResNet50 for 224 x 224 images. With torchvision's or the authors' weights use ``stride_on="3x3"``."""
    places = Attention(attention, options)
    return _resnet(Bottleneck, (3, 4, 6, 3), num_classes, "imagenet", places, stride_on=stride_on)


def resnet101(
    num_classes: int = 1000, *, attention: str | None = None, stride_on: str = "1x1", **options: Any
) -> ResNet:
    """ResNet101 for 224 x 224 images. With torchvision's or the authors' weights use ``stride_on="3x3"``."""
    places = Attention(attention, options)
    return _resnet(Bottleneck, (3, 4, 23, 3), num_classes, "imagenet", places, stride_on=stride_on)


def resnext50(
    num_classes: int = 1000, *, attention: str | None = None, stride_on: str = "1x1", **options: Any
) -> ResNet:
    """ResNeXt50 32x4d for 224 x 224 images. With torchvision's weights use ``stride_on="3x3"``."""
    places = Attention(attention, options)
    return _resnet(
        Bottleneck, (3, 4, 6, 3), num_classes, "imagenet", places, groups=32, base_width=4, stride_on=stride_on
    )


def cifar_resnet50(
    num_classes: int = 100, *, attention: str | None = None, stride_on: str = "1x1", **options: Any
) -> ResNet:
    """ResNet50 for 32 x 32 images: a 3x3 stem, four stages."""
    return _resnet(Bottleneck, (3, 4, 6, 3), num_classes, "cifar", Attention(attention, options), stride_on=stride_on)


def cifar_resnext29(
    num_classes: int = 100, *, cardinality: int = 8, attention: str | None = None, **options: Any
) -> ResNet:
    """ResNeXt29 for 32 x 32 images, `cardinality` x 64d (the paper: 8 and 16), three stages of three blocks."""
    places = Attention(attention, options)
    return _resnet(Bottleneck, (3, 3, 3), num_classes, "cifar", places, groups=cardinality)
