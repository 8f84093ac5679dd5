"""insert_bam finds the paper's bottlenecks and blocks, and an encoder's."""

from __future__ import annotations

import pytest
import torch
from attachable import Residual
from torch import Tensor, nn

from bam_fused import BAM, insert_bam, models


class Undecided(nn.Module):
    """Asks for a value, which the meta device does not have, and takes one image size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 16, 3, padding=1), nn.MaxPool2d(2)
        self.head = nn.Linear(16 * 16 * 16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.head(self.pool(x if x.isfinite().all() else x * 0).flatten(1))


def test_a_model_that_needs_values_is_run_where_it_is() -> None:
    assert [(entry.name, entry.height) for entry in insert_bam(Undecided())] == [("conv.bam", 32)]


CHANNELS = {
    "resnet18": [64, 128, 256],
    "resnet50": [256, 512, 1024],
    "mobilenet": [128, 256, 512],
    "squeezenet": [128, 256],
    "cifar_resnet50": [256, 512, 1024],
    "cifar_preresnet110": [64, 128],
    "cifar_wideresnet28": [128, 256],
    "cifar_resnext29": [256, 512],
}


@pytest.mark.parametrize("name", CHANNELS)
def test_auto_finds_the_papers_bottlenecks(name: str) -> None:
    with torch.device("meta"):
        model, paper = getattr(models, name)(), getattr(models, name)(attention="bam")
    added = sum(p.numel() for p in paper.parameters()) - sum(p.numel() for p in model.parameters())
    report = insert_bam(model)
    assert [entry.channels for entry in report] == CHANNELS[name]
    assert report.parameters == added


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "squeezenet", "cifar_preresnet110", "cifar_wideresnet28"])
def test_every_block_is_the_papers_bam_c(name: str) -> None:
    with torch.device("meta"):
        model, paper = getattr(models, name)(), getattr(models, name)(attention="bam-c")
    report = insert_bam(model, at="every-block")
    assert [entry.channels for entry in report] == [m.channels for m in paper.modules() if isinstance(m, BAM)]
    blocks = {
        name for name, m in model.named_modules() if isinstance(m, (models.resnet.BasicBlock, models.resnet.Bottleneck))
    }
    assert not blocks & {entry.name.removesuffix(".bam") for entry in report}, "a BAM belongs before the addition"


def test_plain_sequential_models_of_their_own_size() -> None:
    def stage(channels: int, out: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))

    layers = [nn.Conv2d(1, 16, 3, padding=1), stage(16, 32), stage(32, 64), nn.Flatten(), nn.Linear(64 * 7 * 7, 10)]
    model = nn.Sequential(*layers)
    report = insert_bam(model)
    assert [(entry.name, entry.channels, entry.height) for entry in report] == [
        ("1.1.bam", 32, 28),
        ("2.1.bam", 64, 14),
    ]
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 10)


def test_images_need_not_have_the_first_convolutions_channels() -> None:
    stem = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 16, 3, padding=1))
    report = insert_bam(nn.Sequential(stem, Residual(16, 16), Residual(16, 32, 2), Residual(32, 64, 2)))
    assert [(entry.name, entry.channels) for entry in report] == [("1.bam", 16), ("2.bam", 32)]


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Sequential(nn.Conv2d(c, 2 * c, 3, padding=1), nn.ReLU()) for c in (16, 32, 64))
        self.stem, self.head = nn.Conv2d(3, 16, 1), nn.Conv2d(32, 2, 1)
        self.up = nn.ModuleList([Up(128, 64), Up(64, 32)])

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        x = self.stem(x)
        for index, stage in enumerate(self.down):
            x = stage(x if index == 0 else nn.functional.max_pool2d(x, 2))
            kept.append(x)
        for stage, skip in zip(self.up, (kept[1], kept[0]), strict=True):
            x = stage(x, skip)
        return self.head(x)


class Up(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.reduce, self.mix = nn.Conv2d(channels, out, 1), nn.Conv2d(2 * out, out, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.mix(torch.cat((nn.functional.interpolate(self.reduce(x), scale_factor=2), skip), 1))


def test_a_u_net_gets_them_in_its_encoder() -> None:
    assert [(entry.name, entry.channels) for entry in insert_bam(UNet())] == [("down.0.bam", 32), ("down.1.bam", 64)]


def test_an_example_replaces_the_drawn_images() -> None:
    class TwoInputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.MaxPool2d(2))

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.net(torch.cat((x, y), 1))

    image = torch.randn(1, 2, 20, 30)
    with pytest.raises(ValueError, match="example"):
        insert_bam(TwoInputs())
    report = insert_bam(TwoInputs(), example=(image, image))
    assert [(entry.name, entry.height, entry.width) for entry in report] == [("net.0.bam", 20, 30)]
