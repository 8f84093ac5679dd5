"""insert_bam finds its places in networks of torchvision and timm, and their rewriting for inference keeps the BAMs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bam_fused import BAM, insert_bam

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
