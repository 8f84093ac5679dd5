"""The BAM models that people install: pytorchcv's networks and fightingcv-attention's block, replaced."""

import copy
import time

import pytest
import torch
from implementations import feature_map, randomise
from torch import nn

from bam_fused import BAM, replace_bam, restore_bam

pytestmark = pytest.mark.models


def pytorchcv(name):
    zoo = pytest.importorskip("pytorchcv.model_provider", reason="pytorchcv is not installed")
    torch.manual_seed(0)
    model = zoo.get_model(name)
    model.features.final_pool = nn.AdaptiveAvgPool2d(1)  # so that small images pass
    return model


def fightingcv(**arguments):
    package = pytest.importorskip("fightingcv_attention.attention.BAM", reason="fightingcv-attention is not installed")
    return package.BAMBlock(**arguments)


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", ["bam_resnet18", "bam_resnet50"])
def test_pytorchcv_networks(name, mode, size):
    original = pytorchcv(name).double().train(mode == "train")
    model = copy.deepcopy(original)
    keys = list(model.state_dict())
    report = replace_bam(model)
    assert [entry.name for entry in report] == [f"features.stage{i}.unit1.bam" for i in (2, 3, 4)]
    assert {(e.replaced, e.layout, e.combine, e.reason) for e in report} == {(True, "pytorchcv", "product", "")}
    assert list(model.state_dict()) == keys
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    want, got = original(x), model(x)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9 * want.abs().max().item())
    if mode == "train":
        want.square().mean().backward()
        got.square().mean().backward()
        for (name, p), q in zip(original.named_parameters(), model.parameters(), strict=True):
            scale = p.grad.abs().max().item()
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-6, atol=1e-6 * scale + 1e-9, msg=lambda m, n=name: n + m)
        for p, q in zip(original.buffers(), model.buffers(), strict=True):
            torch.testing.assert_close(q, p)
    assert restore_bam(model) == 3


def test_the_largest_is_replaced_in_little_time():
    model = pytorchcv("bam_resnet152")
    start = time.perf_counter()
    assert len(replace_bam(model).replaced) == 3
    assert time.perf_counter() - start < 10


def test_pytorchcv_checkpoint_gives_a_bam():
    model = pytorchcv("bam_resnet18").eval()
    bam = BAM.from_state_dict(model.state_dict(), prefix="features.stage3.unit1.bam").eval()
    x = feature_map(2, 128, 9, 13, dtype=torch.float32)
    torch.testing.assert_close(bam(x), model.features.stage3.unit1.bam(x))
    assert list(bam.to_layout("pytorchcv")) == list(model.features.stage3.unit1.bam.state_dict())


@pytest.mark.parametrize(("dilation", "size"), [(2, 7), (1, 9), (4, 19)])
def test_fightingcv_block_at_the_sizes_it_takes(dilation, size):
    block = randomise(fightingcv(channel=64, dia_val=dilation)).double().eval()
    x = feature_map(3, 64, size, size)
    want = block(x)
    (entry,) = replace_bam(nn.Sequential(block))
    assert (entry.replaced, entry.layout, entry.combine) == (True, "fightingcv", "sum")
    torch.testing.assert_close(block(x), want, rtol=1e-12, atol=1e-12)
