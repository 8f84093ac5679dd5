"""bam-fused visualize, on a small network with pytorchcv's BAM in the place of its bam_resnet50."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from torch import nn

from bam_fused.bench import pictures
from bam_fused.cli import main, visualize

pytestmark = pytest.mark.models


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("pytorchcv", "skimage", "matplotlib"):
        pytest.importorskip(package, reason=f"{package} is not installed")

    def small_network(name: str = "") -> nn.Module:
        block = importlib.import_module("pytorchcv.models.bamresnet").BamBlock(32)
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 32, 8, 8), block)

    monkeypatch.setattr(visualize, "network", small_network)


def test_every_bam_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "attention.png"
    assert main(["visualize", "--output", str(output)]) == 0
    shown = capsys.readouterr().out
    assert "the weights are random" in shown
    assert "1: (1, 32, 28, 28), attention from" in shown
    assert output.read_bytes().startswith(b"\x89PNG")


def test_a_checkpoint_saved_from_data_parallel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = visualize.network().state_dict()
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "a.pth")
    arguments = ["visualize", "--checkpoint", str(tmp_path / "a.pth"), "--output", str(tmp_path / "attention.png")]
    assert main(arguments) == 0
    assert "random" not in capsys.readouterr().out


def test_files_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["visualize", str(tmp_path / "none.jpg")]) == 2
    assert "no picture at" in capsys.readouterr().err
    assert main(["visualize", "--checkpoint", str(tmp_path / "none.pth")]) == 2
    assert "no checkpoint at" in capsys.readouterr().err


def test_pictures_become_what_the_network_wants() -> None:
    photo = pictures.photograph()
    assert photo.shape == (3, 300, 451) and float(photo.min()) >= 0 and float(photo.max()) <= 1
    assert pictures.centre(photo).shape == (3, 224, 224)
    crops = pictures.crops(photo, 3)
    assert crops.shape == (3, 3, 224, 224)
    assert not torch.equal(crops[0], crops[1])
    middle = torch.tensor(pictures.MEAN).reshape(3, 1, 1).expand(3, 4, 4)
    assert float(pictures.normalise(middle).abs().max()) < 1e-6
