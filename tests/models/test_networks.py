"""The paper's networks: where BAM stands, that they train, and that public weights fit them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

import bam_fused
from bam_fused import models

# What the paper's tables imply: channels and map size of the BAMs, and the image size.
PLACES = {
    "resnet18": (224, [(64, 56), (128, 28), (256, 14)]),
    "resnet34": (224, [(64, 56), (128, 28), (256, 14)]),
    "resnet50": (224, [(256, 56), (512, 28), (1024, 14)]),
    "resnet101": (224, [(256, 56), (512, 28), (1024, 14)]),
    "wideresnet18": (224, [(128, 56), (256, 28), (512, 14)]),
    "resnext50": (224, [(256, 56), (512, 28), (1024, 14)]),
    "mobilenet": (224, [(128, 56), (256, 28), (512, 14)]),
    "squeezenet": (224, [(128, 55), (256, 27)]),
    "cifar_resnet50": (32, [(256, 32), (512, 16), (1024, 8)]),
    "cifar_preresnet110": (32, [(64, 32), (128, 16)]),
    "cifar_wideresnet28": (32, [(128, 32), (256, 16)]),
    "cifar_resnext29": (32, [(256, 32), (512, 16)]),
    "cifar_densenet100": (32, [(216, 32), (108, 16), (300, 16), (150, 8)]),
}
BLOCKS = {
    "resnet18": 8,
    "resnet34": 16,
    "resnet50": 16,
    "resnet101": 33,
    "wideresnet18": 8,
    "resnext50": 16,
    "mobilenet": 13,
}
BLOCKS |= {"mobilenet": 13, "squeezenet": 8, "cifar_resnet50": 16, "cifar_preresnet110": 54, "cifar_wideresnet28": 12}
BLOCKS |= {"cifar_resnext29": 9, "cifar_densenet100": 48}
SMALL = {
    "resnet18": {},
    "cifar_preresnet110": {},
    "cifar_wideresnet28": {"widen": 1},
    "cifar_densenet100": {"growth": 16},
    "cifar_resnext29": {"cardinality": 1},
    "mobilenet": {"alpha": 0.5},
    "squeezenet": {},
}


def seen(name: str, kind: str, **options: object) -> list[tuple[int, int]]:
    """Channels and map size of each BAM of a network, in the order in which it runs them."""
    with torch.device("meta"):
        network = getattr(models, name)(attention=kind, **options).eval()
    found: list[tuple[int, int]] = []
    for module in network.modules():
        if isinstance(module, bam_fused.BAM):
            module.register_forward_pre_hook(lambda _, x: found.append(tuple(x[0].shape[1:3])))
    size = PLACES[name][0]
    assert network(torch.empty(2, 3, size, size, device="meta")).shape[0] == 2
    return found


@pytest.mark.parametrize("name", PLACES)
def test_bam_stands_where_the_paper_puts_it(name: str) -> None:
    assert set(models.__all__) == {*PLACES, "load_official"}
    assert seen(name, "bam") == PLACES[name][1]


@pytest.mark.parametrize("name", PLACES)
def test_bam_c_stands_in_every_block(name: str) -> None:
    assert len(seen(name, "bam-c", min_hidden=1)) == BLOCKS[name]


@pytest.mark.parametrize("kind", [None, "bam", "bam-c", "se"])
@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns(name: str, kind: str | None) -> None:
    torch.manual_seed(0)
    network = getattr(models, name)(num_classes=7, attention=kind, **SMALL[name])
    out = network(torch.randn(4, 3, 32, 32))
    assert out.shape == (4, 7) and out.isfinite().all()
    (out * torch.randn_like(out)).sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key


def test_options_reach_the_modules() -> None:
    network = models.resnet18(attention="bam", reduction=8, dilation=2, combine="max")
    options = network.bam2.options
    assert (options.reduction, options.dilation, options.combine) == (8, 2, "max")
    assert models.squeezenet(attention="bam", branches="channel").features.bam1.spatial is None


def test_attention_starts_from_the_plain_network() -> None:
    """With a BAM that starts as the identity, a network and its form with BAM agree on the same weights."""
    plain, attended = models.resnet18().eval(), models.resnet18(attention="bam", identity_start=True).eval()
    missing, unexpected = attended.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and {key.split(".")[0] for key in missing} == {"bam1", "bam2", "bam3"}
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(attended(x), plain(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (ValueError, "attention", {"attention": "cbam"}),
        (TypeError, "attention", {"attention": True}),
        (TypeError, "reduction", {"reduction": 8}),
        (TypeError, "dilation", {"attention": "se", "dilation": 4}),
        (ValueError, "reduction", {"attention": "bam", "reduction": 1024}),
        (ValueError, "stride_on", {"stride_on": "conv2"}),
    ],
)
def test_bad_options_are_named(error: type[Exception], match: str, arguments: dict[str, object]) -> None:
    with torch.device("meta"), pytest.raises(error, match=match):
        models.resnet50(**arguments)


def authors_checkpoint(network: nn.Module) -> dict[str, Any]:
    """A network's weights as the authors' training script saves them."""
    state = {key: tensor for key, tensor in network.state_dict().items() if not key.startswith("bam")}
    for name in ("bam1", "bam2", "bam3"):
        entries = network.get_submodule(name).to_layout("official")
        state |= {f"{name}.{key}": tensor for key, tensor in entries.items()}
    return {"epoch": 89, "state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}


def test_the_authors_checkpoints_load() -> None:
    options = {"attention": "bam", "official": True, "num_classes": 10, "stride_on": "3x3"}
    trained, fresh = models.cifar_resnet50(**options).eval(), models.cifar_resnet50(**options).eval()
    checkpoint = authors_checkpoint(trained)
    assert "module.bam1.channel_att.gate_c.gate_c_fc_0.weight" in checkpoint["state_dict"]
    models.load_official(fresh, checkpoint)
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(fresh(x), trained(x))


def test_a_checkpoint_that_does_not_fit_changes_nothing() -> None:
    checkpoint = authors_checkpoint(models.resnet18(attention="bam", official=True))
    network = models.resnet18(num_classes=5, attention="bam", official=True)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"fc\.bias"):
        models.load_official(network, checkpoint)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    refused = [
        (models.resnet18(attention="bam"), "official=True"),
        (models.resnet18(), "must have BAMs"),
        (models.cifar_resnet50(attention="bam", official=True), "stride_on"),
    ]
    for other, match in refused:
        with pytest.raises(ValueError, match=match):
            models.load_official(other, checkpoint)
    del checkpoint["state_dict"]["module.bam2.spatial_att.gate_s.gate_s_conv_reduce0.weight"]
    with pytest.raises(ValueError, match="gate_s_conv_reduce0"):
        models.load_official(models.resnet18(attention="bam", official=True), checkpoint)


@pytest.mark.models
@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        ("resnet18", "resnet18", {}),
        ("resnet50", "resnet50", {"stride_on": "3x3"}),
        ("resnext50", "resnext50_32x4d", {"stride_on": "3x3"}),
        ("squeezenet", "squeezenet1_1", {}),
    ],
)
def test_torchvision_weights_give_torchvision_outputs(ours: str, theirs: str, options: dict[str, str]) -> None:
    zoo = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    original: nn.Module = getattr(zoo, theirs)(weights=None).eval()
    network = getattr(models, ours)(**options).eval()
    network.load_state_dict(original.state_dict())
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(network(x), original(x))


def test_models_are_imported_on_first_use() -> None:
    code = (
        "import sys, bam_fused; assert 'bam_fused.models' not in sys.modules; bam_fused.models.resnet18;"
        "assert not {'timm', 'torchvision'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
