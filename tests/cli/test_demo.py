"""The demo, on a small network with pytorchcv's BAM in the place of its bam_resnet50."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bam_fused.bench import demo, extras
from bam_fused.bench.timing import Quantiles
from bam_fused.cli import main


def small_network() -> nn.Module:
    block = importlib.import_module("pytorchcv.models.bamresnet").BamBlock(32)
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 32, 8, 8), block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


@pytest.fixture
def packages() -> None:
    for package in ("pytorchcv", "skimage", "matplotlib"):
        pytest.importorskip(package, reason=f"{package} is not installed")


@pytest.mark.models
@pytest.mark.usefixtures("packages")
def test_the_demo_replaces_checks_times_and_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "network", small_network)
    picture = tmp_path / "demo.png"
    assert main(["demo", "--device", "cpu", "--batch", "2", "--seconds", "0.1", "--output", str(picture)]) == 0
    captured = capsys.readouterr()
    assert "[1/8" in captured.err
    for line in (
        "BamBlock",
        "output, photograph",
        "gradients, training step",
        "training step, batch of 2",
        "The BAMs are",
    ):
        assert line in captured.out
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.models
@pytest.mark.usefixtures("packages")
def test_both_models_are_equally_near_to_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "network", small_network)
    subject = demo.prepare(2, torch.device("cpu"))
    assert len(subject.report.replaced) == 1
    before = [value.clone() for value in subject.original.state_dict().values()]
    found = demo.differences(subject)
    assert [one.what for one in found] == ["output, photograph", "output, batch", "gradients, training step"]
    for one in found:
        assert one.relative < 1e-4
        assert one.replaced_off <= 2 * one.original_off + 1e-6
    after = list(subject.original.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True)), "comparing must not train the model"


def test_a_missing_package_says_which_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(module: str) -> Any:
        raise ImportError(name=module.partition(".")[0])

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    assert main(["demo"]) == 2
    assert 'matplotlib is not installed: pip install "bam_fused[demo]"' in capsys.readouterr().err


def test_a_batch_of_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--batch", "1"]) == 2
    assert "--batch must be at least 2" in capsys.readouterr().err


def test_the_share_of_bam() -> None:
    def timed(seconds: float) -> demo.Timed:
        quantiles = Quantiles(seconds, seconds, seconds)
        return demo.Timed("", quantiles, quantiles, quantiles)

    assert demo.bam_share(timed(10.0), [timed(1.0), timed(2.0)]) == pytest.approx(0.3)
