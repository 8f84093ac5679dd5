"""BAM in timm's registry and as timm's attention layer."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

import bam_fused
from bam_fused import BAM

pytestmark = pytest.mark.models
timm = pytest.importorskip("timm", reason="timm is not installed")


@pytest.fixture(scope="module", autouse=True)
def registered() -> Any:
    import bam_fused.models.timm

    return bam_fused.models.timm


def places(model: torch.nn.Module) -> list[tuple[str, int]]:
    return [(name, module.channels) for name, module in model.named_modules() if isinstance(module, BAM)]


def test_every_network_has_bam_where_insert_bam_puts_it(registered: Any) -> None:
    assert set(registered.NETWORKS) <= set(timm.list_models("bam_*"))
    for name in registered.NETWORKS:
        with torch.device("meta"):
            model, plain = timm.create_model(name), timm.create_model(name.removeprefix("bam_"))
        report = bam_fused.insert_bam(plain)
        assert places(model) == [(entry.name, entry.channels) for entry in report]
        assert model.state_dict().keys() == plain.state_dict().keys()


def test_timm_facilities_work() -> None:
    model = timm.create_model("bam_resnet18", num_classes=5, in_chans=1, bam={"reduction": 8, "combine": "product"})
    assert model.layer2.bam.options.reduction == 8 and model.pretrained_cfg["input_size"] == (3, 224, 224)
    x = torch.randn(2, 1, 64, 64)
    expected = model.eval()(x)
    assert expected.shape == (2, 5)
    model.set_grad_checkpointing(True)
    torch.testing.assert_close(model.train().eval()(x), expected)
    model.reset_classifier(3)
    assert model(x).shape == (2, 3)
    pyramid = timm.create_model("bam_resnet18", features_only=True, in_chans=1)
    assert [tuple(level.shape[1:]) for level in pyramid(x)][1:] == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
    with pytest.raises(RuntimeError, match="pretrained"):
        timm.create_model("bam_resnet18", pretrained=True)


def test_attention_layer_of_timm_blocks(registered: Any) -> None:
    options = {
        "block_args": {"attn_layer": registered.BAMAttention},
        "zero_init_last": False,
    }  # else F is 0 in each block
    model = timm.create_model("resnet18", num_classes=4, **options)
    assert [channels for _, channels in places(model)] == [64, 64, 128, 128, 256, 256, 512, 512]
    model(torch.randn(3, 3, 64, 64)).square().sum().backward()
    assert model.layer1[0].se.channel.linears[0].weight.grad.count_nonzero() > 0
    layer = timm.layers.create_attn(registered.BAMAttention, 64, rd_ratio=0.125, combine="max")
    assert (layer.options.hidden, layer.combine) == (8, "max")
    assert (
        registered.BAMAttention(12).options.hidden == 1
        and registered.BAMAttention(64, rd_channels=16).options.hidden == 16
    )


def test_timm_is_imported_by_its_own_module_alone() -> None:
    import subprocess

    code = "import sys, bam_fused; bam_fused.models; assert 'timm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
