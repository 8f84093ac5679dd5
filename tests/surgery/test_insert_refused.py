"""What insert_bam refuses, with the model left as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attachable import Net, small, state
from torch import Tensor, nn

from bam_fused import insert_bam


def test_distributed_wrappers_are_refused() -> None:
    wrapped = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    nn.Module.__init__(wrapped)
    with pytest.raises(ValueError, match="wrap last"):
        insert_bam(wrapped)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 16, 16)
        self.mix = nn.TransformerEncoderLayer(32, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.patch(x).flatten(2).mT).mean(1)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(x), x


REFUSED: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (Net, {"at": ["stage", "stagge"]}, ValueError, "'stagge'.*stage"),
    (Net, {"at": ["stage", "stage"]}, ValueError, "twice"),
    (Net, {"at": ["stage", "twice"]}, ValueError, "called 2 times"),
    (Net, {"at": ["stage", "never"]}, ValueError, "does not call"),
    (Net, {"at": ["stage", "fc"]}, ValueError, "'fc' is no feature map"),
    (Net, {"at": ["stage", ""]}, ValueError, "no module"),
    (Net, {"at": []}, ValueError, "empty"),
    (Net, {"at": 3}, TypeError, "at must be"),
    (Net, {"at": "everywhere"}, ValueError, "everywhere"),
    (Net, {"at": "classifiers"}, ValueError, "SSD"),
    (Net, {"position": "inside"}, ValueError, "position"),
    (Net, {"at": ["stage", "down"], "reduction": 0}, ValueError, "'stage'.*reduction"),
    (Net, {"at": ["stage", "down"], "reduction": 17, "min_hidden": None}, ValueError, "'stage'.*reduction"),
    (Net, {"at": ["stage"], "dilation": 0}, ValueError, "dilation"),
    (Net, {"at": ["stage"], "combine": "mean"}, ValueError, "combine"),
    (Net, {"at": ["stage", "walker"], "position": "before", "reduction": 4}, ValueError, "'walker' would be called 2"),
    (Net, {"at": ["stage"], "depth": 3}, TypeError, "depth"),
    (Tokens, {}, ValueError, "no downsampling"),
    (Tokens, {"at": "every-block"}, ValueError, "its blocks return tokens"),
    (Tokens, {"at": ["mix"]}, ValueError, "no feature map"),
    (nn.Identity, {}, ValueError, "no downsampling"),
    (lambda: nn.Sequential(Pair()), {"at": ["0"]}, ValueError, "'0' is no feature map .* tuple"),
]


@pytest.mark.parametrize(("make", "arguments", "error", "match"), REFUSED)
def test_a_refusal_leaves_the_model_as_it_was(
    make: Any, arguments: dict[str, Any], error: type[Exception], match: str
) -> None:
    model = make()
    before = state(model)
    with pytest.raises(error, match=match):
        insert_bam(model, **arguments)
    assert state(model) == before


def test_a_module_that_has_a_bam_is_refused() -> None:
    model = small()
    insert_bam(model, at=["stage"], reduction=4)
    before = state(model)
    with pytest.raises(ValueError, match="already has"):
        insert_bam(model, at=["down", "stage"], reduction=4)
    assert state(model) == before


def test_what_is_no_python_module_is_refused() -> None:
    model = nn.Sequential(torch.jit.script(nn.Conv2d(3, 16, 3)), nn.ReLU())
    with pytest.raises(ValueError, match="scripted"):
        insert_bam(model, at=["0"], example=torch.zeros(1, 3, 8, 8))
    with pytest.raises(TypeError, match="model must be"):
        insert_bam("resnet50")  # type: ignore[arg-type]


def test_batchnorm_with_a_bam_can_not_be_converted_unnoticed() -> None:
    model = small()
    insert_bam(model, at="every-block", reduction=4)
    with pytest.raises(RuntimeError, match="convert_sync_batchnorm first"):
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
