"""Attention maps of every BAM in a model, and their picture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bam_fused import BAM, models, replace_bam, visualize


def network(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return models.resnet18(num_classes=3, attention="bam", **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"combine": "product"},
        {"combine": "max"},
        {"branches": "channel"},
        {"branches": "spatial"},
        {"final": "none"},
    ],
)
def test_maps_explain_the_outputs(options: dict[str, Any]) -> None:
    """F' = F + F * M(F), as the paper's equation 1 says, in the order of the forward."""
    model = network(**options)
    maps = visualize.attention_maps(model, torch.randn(2, 3, 64, 96))
    assert [one.name for one in maps] == ["bam1", "bam2", "bam3"]
    assert [tuple(one.attention.shape) for one in maps] == [(2, 64, 16, 24), (2, 128, 8, 12), (2, 256, 4, 6)]
    for one in maps:
        assert one.attention.min() >= 0 and one.attention.max() <= 1 and one.attention.std() > 0
        # Twice computed, by one operator and layer by layer: under "product" a logit's rounding is multiplied.
        torch.testing.assert_close(one.features * (1 + one.attention), one.refined, rtol=1e-5, atol=1e-5)


def test_the_model_is_left_as_it_was() -> None:
    model = network()
    model.bam2.eval()
    modes = [module.training for module in model.modules()]
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    visualize.attention_maps(model, torch.randn(2, 3, 64, 64))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_half_precision_maps_are_kept_in_float32() -> None:
    bam = BAM(16, reduction=4, dtype=torch.bfloat16)
    (one,) = visualize.attention_maps(bam, torch.randn(2, 16, 8, 8, dtype=torch.bfloat16))
    assert one.attention.dtype == one.features.dtype == torch.float32


def test_models_without_a_bam_that_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="no BAM"):
        visualize.attention_maps(models.resnet18(), torch.randn(1, 3, 32, 32))
    idle = nn.Identity()
    idle.bam = BAM(16)
    with pytest.raises(ValueError, match="calls none"):
        visualize.attention_maps(idle, torch.randn(1, 16, 8, 8))
    assert not idle.bam._forward_hooks
    with pytest.raises(TypeError, match="model"):
        visualize.attention_maps("model", torch.randn(1, 3, 8, 8))  # type: ignore[arg-type]


def test_the_picture_has_a_row_for_each_bam() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    images = torch.randn(2, 3, 64, 64)
    maps = visualize.attention_maps(network(), images)
    figure = visualize.draw(maps, images, index=1)
    assert len(figure.axes) == 15
    shown = figure.axes[2].images[0].get_array()
    torch.testing.assert_close(torch.as_tensor(shown), maps[0].attention[1].mean(0), check_dtype=False)
    visualize.draw(maps, images[:, :1]).canvas.draw()
    for bad in ({"index": 2}, {"index": -1}):
        with pytest.raises(ValueError, match="index"):
            visualize.draw(maps, images, **bad)
    with pytest.raises(ValueError, match="maps"):
        visualize.draw([], images)


@pytest.mark.models
def test_other_implementations_before_and_after_replacement() -> None:
    provider = pytest.importorskip("pytorchcv.model_provider", reason="pytorchcv is not installed")
    model, images = provider.get_model("bam_resnet18"), torch.randn(1, 3, 224, 224)
    before = visualize.attention_maps(model, images)
    assert len(before) == len(replace_bam(model).replaced) == 3
    for old, new in zip(before, visualize.attention_maps(model, images), strict=True):
        assert (
            old.name == new.name
        )  # untrained logits are large, and their product makes a rounding of the pool visible
        torch.testing.assert_close(old.attention, new.attention, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(old.features * (1 + old.attention), old.refined, rtol=1e-3, atol=1e-3)
