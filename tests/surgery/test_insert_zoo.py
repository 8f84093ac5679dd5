"""insert_bam on networks of torchvision and timm: its places, weights and outputs as they were, BAMs kept when rewritten."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from attachable import state
from torch import nn

from bam_fused import BAM, insert_bam

TORCHVISION = {
    "resnet18": [("layer1", 64), ("layer2", 128), ("layer3", 256)],
    "resnext50_32x4d": [("layer1", 256), ("layer2", 512), ("layer3", 1024)],
    "wide_resnet50_2": [("layer1", 256), ("layer2", 512), ("layer3", 1024)],
    "mobilenet_v2": [("features.3", 24), ("features.6", 32), ("features.13", 96)],
    "mobilenet_v3_large": [("features.3", 24), ("features.6", 40), ("features.12", 112)],
    "squeezenet1_1": [("features.4", 128), ("features.7", 256)],
    "vgg11_bn": [("features.13", 256), ("features.20", 512), ("features.27", 512)],
    "densenet121": [
        ("features.denseblock1", 256),
        ("features.transition1", 128),
        ("features.denseblock2", 512),
        ("features.transition2", 256),
        ("features.denseblock3", 1024),
        ("features.transition3", 512),
    ],
}
BLOCKS = {"resnet18": 8, "resnext50_32x4d": 16, "mobilenet_v2": 17, "mobilenet_v3_large": 15}
BLOCKS |= {"squeezenet1_1": 8, "densenet121": 58}


def check_network(plain: nn.Module, places: list[tuple[str, int]], blocks: int | None) -> None:
    """The places are as given, the weights still fit, and an identity start leaves the outputs unchanged."""
    plain.eval()
    attended = copy.deepcopy(plain)
    report = insert_bam(attended, identity_start=True)
    assert [(entry.name.removesuffix(".bam"), entry.channels) for entry in report] == places
    missing, unexpected = attended.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all(".bam." in key for key in missing)
    networks = [attended]
    if blocks is not None:
        networks.append(copy.deepcopy(plain))
        assert len(insert_bam(networks[-1], at="every-block", identity_start=True)) == blocks
    x = torch.randn(1, 3, 64, 64)
    expected = plain(x)
    for network in networks:
        assert torch.equal(network(x), expected)


@pytest.mark.models
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name: str) -> None:
    zoo = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    check_network(getattr(zoo, name)(weights=None), TORCHVISION[name], BLOCKS.get(name))


TIMM = {
    "resnet10t": ([("layer1", 64), ("layer2", 128), ("layer3", 256)], 4),
    "seresnet18": ([("layer1", 64), ("layer2", 128), ("layer3", 256)], 8),
    "regnetx_002": ([("s1", 24), ("s2", 56), ("s3", 152)], 13),
    "convnext_atto": ([("stages.0", 40), ("stages.1", 80), ("stages.2", 160)], 12),
    "efficientnet_lite0": ([("blocks.1", 24), ("blocks.2", 40), ("blocks.4", 112)], 15),
    "mobilenetv1_100": ([("blocks.1", 128), ("blocks.2", 256), ("blocks.3", 512)], None),
    "convnextv2_atto": ([("stages.0", 40), ("stages.1", 80), ("stages.2", 160)], 12),
    "mobilenetv4_conv_small": ([("blocks.0", 32), ("blocks.1", 64), ("blocks.2", 96)], 12),
    "ghostnet_050": ([("blocks.2", 12), ("blocks.4", 20), ("blocks.6", 56)], 16),
}


@pytest.mark.models
@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    check_network(timm.create_model(name, pretrained=False), *TIMM[name])


@pytest.mark.models
def test_networks_of_tokens_are_refused() -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    before = state(model)
    with pytest.raises(ValueError, match="no downsampling between feature maps"):
        insert_bam(model)
    assert state(model) == before


@pytest.mark.models
def test_faster_rcnn_with_resnet101() -> None:
    """The paper, section 4.5: a BAM after each of the backbone's first three stages."""
    detection = pytest.importorskip("torchvision.models.detection", reason="torchvision is not installed")
    utils = pytest.importorskip("torchvision.models.detection.backbone_utils")
    backbone = utils.resnet_fpn_backbone(backbone_name="resnet101", weights=None, norm_layer=nn.BatchNorm2d)
    model = detection.FasterRCNN(backbone, 5, min_size=64, max_size=96).eval()
    images = [torch.rand(3, 64, 90), torch.rand(3, 50, 64)]
    keys, expected = set(model.state_dict()), model.backbone(torch.zeros(1, 3, 64, 96))
    report = insert_bam(model, identity_start=True)
    assert [entry.name for entry in report] == [f"backbone.body.layer{stage}.bam" for stage in (1, 2, 3)]
    assert report.parameters == 360_761 + 3 and keys < set(model.state_dict())
    found = model.backbone(torch.zeros(1, 3, 64, 96))
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    targets = [{"boxes": torch.tensor([[5.0, 5.0, 40.0, 40.0]]), "labels": torch.tensor([1])} for _ in images]
    sum(model.train()(images, targets).values()).backward()
    assert model.backbone.body.layer3.bam.residual_scale.grad.count_nonzero() == 1
    assert len(model.eval()(images)) == 2


@pytest.mark.models
def test_ssd_with_a_bam_before_every_classifier() -> None:
    """The paper, section 4.6."""
    detection = pytest.importorskip("torchvision.models.detection", reason="torchvision is not installed")
    model = detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=4).eval()
    keys = set(model.state_dict())
    report = insert_bam(model, at="classifiers")
    assert [entry.channels for entry in report] == [512, 1024, 512, 256, 256, 256]
    assert {entry.position for entry in report} == {"before"} and keys < set(model.state_dict())
    head = model.head.classification_head.module_list[1]
    x = torch.randn(1, 1024, 3, 3)
    expected = nn.functional.conv2d(head.bam(x), head.weight, head.bias, padding=1)
    torch.testing.assert_close(head(x), expected)


DILATED = {
    "deeplabv3_resnet50": ["layer1", "layer2", "layer3"],
    "fcn_resnet50": ["layer1", "layer2", "layer3"],
    "deeplabv3_mobilenet_v3_large": ["3", "6", "12"],
}


@pytest.mark.models
@pytest.mark.parametrize("name", DILATED)
def test_torchvision_segmentation(name: str) -> None:
    zoo = pytest.importorskip("torchvision.models.segmentation", reason="torchvision is not installed")
    with torch.device("meta"):
        model = getattr(zoo, name)(weights=None, weights_backbone=None)
    assert [entry.name for entry in insert_bam(model)] == [f"backbone.{stage}.bam" for stage in DILATED[name]]


@pytest.mark.models
def test_torchvision_swin() -> None:
    zoo = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    model = zoo.swin_t(weights=None).eval()
    x = torch.randn(1, 3, 64, 64)
    expected = model(x)
    report = insert_bam(model, identity_start=True)
    assert [(entry.name, entry.channels) for entry in report] == [
        ("features.1.bam", 96),
        ("features.3.bam", 192),
        ("features.5.bam", 384),
    ]
    assert torch.equal(model(x), expected)


MERGED = {"repvgg_a0": 22, "mobileone_s0": 43, "fastvit_t8": 10, "repvit_m0_9": 23, "repghostnet_050": 16}


@pytest.mark.models
@pytest.mark.parametrize("name", MERGED)
def test_timm_networks_keep_their_bams_when_they_are_reparameterized(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    model = timm.create_model(name, pretrained=False).eval()
    count = len(insert_bam(model, at="every-block"))
    assert count == MERGED[name]
    merged = timm.utils.reparameterize_model(model)
    bams = [module for module in merged.modules() if isinstance(module, BAM)]
    calls: list[Any] = []
    for bam in bams:
        bam.register_forward_hook(lambda *call: calls.append(call))
    x = torch.randn(1, 3, 64, 64)
    expected = model(x)
    torch.testing.assert_close(merged(x) / expected.abs().max(), expected / expected.abs().max(), rtol=0, atol=1e-3)
    assert len(bams) == len(calls) == count
