"""BAM for timm: importing this file registers `bam_resnet18` and its kin, and it has a class for timm's `attn_layer`.

``import bam_fused.models.timm; timm.create_model("bam_resnet50", num_classes=10, features_only=...)``. Nothing else in the
package imports it, because importing timm takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet

from bam_fused.modules import BAM

NETWORKS = {
    "bam_resnet18": (BasicBlock, (2, 2, 2, 2)),
    "bam_resnet34": (BasicBlock, (3, 4, 6, 3)),
    "bam_resnet50": (Bottleneck, (3, 4, 6, 3)),
    "bam_resnet101": (Bottleneck, (3, 4, 23, 3)),
    "bam_resnet152": (Bottleneck, (3, 8, 36, 3)),
    "bam_resnext50_32x4d": (Bottleneck, (3, 4, 6, 3)),
    "bam_wide_resnet50_2": (Bottleneck, (3, 4, 6, 3)),
}

_IMAGENET: dict[str, Any] = {
    "url": "",
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "pool_size": (7, 7),
    "crop_pct": 0.875,
    "interpolation": "bilinear",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "first_conv": "conv1",
    "classifier": "fc",
}

default_cfgs = generate_default_cfgs({name: _IMAGENET for name in NETWORKS})


class BAMAttention(BAM):
    """BAM in the form of timm's attention layers: ``create_model("resnet18", block_args={"attn_layer": BAMAttention})``.

    Args:
        channels: C of the input (N, C, H, W).
        rd_ratio, rd_channels: the hidden width as timm gives it, a fraction of `channels` or a number.
        options: keyword arguments of `BAM`, which win. Narrow layers get a hidden width of one.
    """

    def __init__(
        self, channels: int, *, rd_ratio: float = 1 / 16, rd_channels: int | None = None, **options: Any
    ) -> None:
        hidden = channels * rd_ratio if rd_channels is None else rd_channels
        super().__init__(channels, **({"reduction": max(1, round(channels / hidden)), "min_hidden": 1} | options))


class BAMResNet(ResNet):
    """timm's ResNet with a BAM as the last child, `bam`, of every stage but the last.

    Args:
        bam: keyword arguments of `BAM`.
        arguments: timm's.
    """

    def __init__(self, *arguments: Any, bam: Mapping[str, Any] | None = None, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        factory = {name: keywords[name] for name in ("device", "dtype") if name in keywords}
        stages: list[dict[str, Any]] = self.feature_info[1:-1]
        for stage in stages:
            self.get_submodule(stage["module"]).add_module("bam", BAM(stage["num_chs"], **factory, **(bam or {})))


def _build(name: str, pretrained: bool, **keywords: Any) -> BAMResNet:
    block, layers = NETWORKS[name]
    return build_model_with_cfg(BAMResNet, name, pretrained, **{"block": block, "layers": layers, **keywords})


@register_model
def bam_resnet18(pretrained: bool = False, **keywords: Any) -> BAMResNet:
    """ResNet18 with BAM at its three bottlenecks. No weights are published with this package."""
    return _build("bam_resnet18", pretrained, **keywords)


@register_model
def bam_resnet34(pretrained: bool = False, **keywords: Any) -> BAMResNet:
    """ResNet34 with BAM at its three bottlenecks."""
    return _build("bam_resnet34", pretrained, **keywords)


@register_model
def bam_resnet50(pretrained: bool = False, **keywords: Any) -> BAMResNet:
    """ResNet50 with BAM at its three bottlenecks."""
    return _build("bam_resnet50", pretrained, **keywords)


@register_model
def bam_resnet101(pretrained: bool = False, **keywords: Any) -> BAMResNet:
    """ResNet101 with BAM at its three bottlenecks."""
    return _build("bam_resnet101", pretrained, **keywords)


@register_model
def bam_resnet152(pretrained: bool = False, **keywords: Any) -> BAMResNet:
    """ResNet152 with BAM at its three bottlenecks."""
    return _build("bam_resnet152", pretrained, **keywords)


@register_model
def bam_resnext50_32x4d(pretrained: bool = False, **keywords: Any) -> BAMResNet:
    """ResNeXt50 32x4d with BAM at its three bottlenecks."""
    return _build("bam_resnext50_32x4d", pretrained, **{"cardinality": 32, "base_width": 4, **keywords})


@register_model
def bam_wide_resnet50_2(pretrained: bool = False, **keywords: Any) -> BAMResNet:
    """WideResNet50-2 with BAM at its three bottlenecks."""
    return _build("bam_wide_resnet50_2", pretrained, **{"base_width": 128, **keywords})
