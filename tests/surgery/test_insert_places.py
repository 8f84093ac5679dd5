"""insert_bam finds blocks and bottlenecks in networks of every kind, written anew from what the public ones compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bam_fused import BAM, insert_bam
from bam_fused.surgery import InsertReport


def conv(channels: int, out: int, stride: int = 1, kernel: int = 3, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel, stride, dilation * (kernel // 2), dilation)


def places(report: InsertReport) -> list[str]:
    return [entry.name.removesuffix(".bam") for entry in report]


class ResponseNorm(nn.Module):
    """A layer that adds, as in ConvNeXt V2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight * x * x.norm(dim=(2, 3), keepdim=True)


class Attention(nn.Module):
    """A part of a block that adds, as in YOLO11."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.value, self.position, self.out = (conv(channels, channels) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        value = self.value(x)
        return self.out(value.sigmoid() * value + self.position(value))


class Block(nn.Module):
    """x + its branch, which itself adds."""

    def __init__(self, channels: int, out: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.first = conv(channels, out, stride, dilation=dilation)
        self.branch = nn.Sequential(ResponseNorm(out), Attention(out))
        self.shortcut = nn.Identity() if channels == out and stride == 1 else conv(channels, out, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.branch(self.first(x))


class Trunk(nn.Module):
    """Blocks inside a skip of their own: no block itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(Block(channels, channels), Block(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def test_a_block_is_the_outermost_unit_that_adds() -> None:
    model = nn.Sequential(conv(3, 16), Trunk(16), Block(16, 32, 2))
    report = insert_bam(model, at="every-block")
    assert places(report) == ["1.body.0.branch", "1.body.1.branch", "2.branch"]


class Branches(nn.Module):
    """Parallel branches that inference merges into one convolution, as in RepVGG and MobileOne."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.wide, self.narrow = conv(channels, out, stride), conv(channels, out, stride, 1)
        self.deployed: nn.Conv2d | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.deployed is not None:
            return torch.relu(self.deployed(x))
        return torch.relu(self.wide(x) + self.narrow(x))

    def reparameterize(self) -> None:
        self.deployed = self.wide
        with torch.no_grad():
            self.deployed.weight[:, :, 1:2, 1:2] += self.narrow.weight
            self.deployed.bias += self.narrow.bias
        del self.wide, self.narrow


class Merging(nn.Module):
    """One layer to inference, which replaces the whole module, as in RepViT and LeViT."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide, self.narrow = conv(channels, channels), conv(channels, channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(x) + self.narrow(x)

    def fuse(self) -> nn.Module:
        merged = self.wide
        with torch.no_grad():
            merged.weight[:, :, 1:2, 1:2] += self.narrow.weight
            merged.bias += self.narrow.bias
        return merged


class Mixing(nn.Module):
    """A block whose two layers are merged in inference."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.token, self.last = Merging(channels), Merging(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.last(torch.relu(self.token(x)))


def rewrite(model: nn.Module) -> None:
    """What `timm.utils.reparameterize_model` does."""
    for name, child in list(model.named_children()):
        if hasattr(child, "fuse"):
            setattr(model, name, child.fuse())
        elif hasattr(child, "reparameterize"):
            child.reparameterize()
        rewrite(child)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: nn.Sequential(Branches(3, 16), Branches(16, 16), Branches(16, 32, 2)), ["0", "1", "2"]),
        (lambda: nn.Sequential(conv(3, 16), Mixing(16), conv(16, 16, 2), Mixing(16)), ["1", "3"]),
        (lambda: nn.Sequential(Branches(3, 16), Block(16, 16), nn.Sequential(Merging(16))), ["1.branch"]),
    ],
    ids=["in place", "replaced", "beside blocks"],
)
def test_what_inference_merges_is_no_place(make: Any, found: list[str]) -> None:
    torch.manual_seed(3)
    model = make().double().eval()
    report = insert_bam(model, at="every-block", reduction=4)
    assert places(report) == found and not any(entry.warning for entry in report)
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    before, count = model(x), sum(isinstance(module, BAM) for module in model.modules())
    rewrite(model)
    assert sum(isinstance(module, BAM) for module in model.modules()) == count
    torch.testing.assert_close(model(x), before)


def test_a_bam_that_inference_drops_is_warned_of() -> None:
    model = nn.Sequential(Branches(3, 16), Mixing(16))
    report = insert_bam(model, at=["0", "0.wide", "1.last"])
    assert [entry.warning for entry in report] == [
        "",
        "its reparameterize() for inference drops this BAM",
        "its fuse() for inference drops this BAM",
    ]
    assert str(report).splitlines()[-1] == "warning: 1.last.bam: its fuse() for inference drops this BAM"


def test_a_method_called_fuse_that_mixes_maps_is_none() -> None:
    class Fusing(Block):
        def fuse(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    assert places(insert_bam(nn.Sequential(Fusing(3, 16), Fusing(16, 16)), at="every-block")) == [
        "0.branch",
        "1.branch",
    ]


def test_stages_dilated_in_place_of_a_stride_are_stages() -> None:
    """As torchvision's DeepLab and FCN: the first block of such a stage has the dilation of the stage before."""
    stages = [
        nn.Sequential(Block(16, 16), Block(16, 16)),
        nn.Sequential(Block(16, 32, 2), Block(32, 32)),
        nn.Sequential(Block(32, 64), Block(64, 64, dilation=2)),
        nn.Sequential(Block(64, 128, dilation=2), Block(128, 128, dilation=4)),
    ]
    stem = nn.Sequential(conv(3, 16, 2), nn.MaxPool2d(2))
    report = insert_bam(nn.Sequential(stem, *stages))
    assert [(entry.name, entry.height) for entry in report] == [("1.bam", 56), ("2.bam", 28), ("3.bam", 28)]


def test_stages_of_plain_layers_beside_stages_of_blocks_are_stages() -> None:
    """As in MobileNetV4; the stem, which is no neighbour of the blocks, is none."""
    stages = nn.Sequential(
        nn.Sequential(conv(16, 16, 2), nn.ReLU(), conv(16, 16)), nn.Sequential(Block(16, 32, 2)), Block(32, 64, 2)
    )
    model = nn.Sequential(nn.Sequential(conv(3, 16, 2), conv(16, 16, 2)), stages)
    assert places(insert_bam(model)) == ["1.0", "1.1"]


class Tokens(nn.Module):
    """A block on tokens (N, L, C) with a convolution on the map that they are."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local, self.mix = conv(channels, channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor, rows: int) -> Tensor:
        spatial = self.local(x.mT.unflatten(2, (rows, -1))).flatten(2).mT
        return x + self.mix(spatial)


class TokenStages(nn.Module):
    """Stages of tokens that become maps outside of any module, as in SegFormer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.ModuleList([conv(3, 16, 4, 7), conv(16, 32, 2), conv(32, 64, 2)])
        self.stages = nn.ModuleList(nn.ModuleList(Tokens(c) for _ in range(2)) for c in (16, 32, 64))

    def forward(self, x: Tensor) -> Tensor:
        for embed, stage in zip(self.embed, self.stages, strict=True):
            x = embed(x)
            rows, tokens = x.shape[2], x.flatten(2).mT
            for block in stage:
                tokens = block(tokens, rows)
            x = tokens.mT.unflatten(2, (rows, -1))
        return x


def test_tokens_that_become_a_map_outside_of_modules_get_it_before_the_downsampling() -> None:
    report = insert_bam(TokenStages())
    assert [(entry.name, entry.position, entry.channels) for entry in report] == [
        ("embed.1.bam", "before", 16),
        ("embed.2.bam", "before", 32),
    ]


def test_fewer_channels_than_the_reduction_get_a_hidden_width_of_one() -> None:
    model = nn.Sequential(conv(3, 12), Block(12, 12))
    insert_bam(model, at="every-block")
    assert model[1].branch.bam.options.hidden == 1


class LastMixing(nn.Module):
    """A residual block on maps (N, H, W, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial, self.linear = conv(channels, channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(self.spatial(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class ChannelsLast(nn.Module):
    """Two stages of blocks on maps (N, H, W, C), whose width C is near W, as in Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 48, 4, 4)
        self.first, self.down, self.second = LastMixing(48), nn.Conv2d(48, 96, 2, 2), LastMixing(96)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.patch(x).permute(0, 2, 3, 1))
        return self.second(self.down(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


@pytest.mark.parametrize(
    ("at", "found"),
    [
        ("auto", ["first"]),
        ("every-block", ["first.linear", "second.linear"]),
        (["first", "second"], ["first", "second"]),
    ],
    ids=["auto", "every-block", "named"],
)
def test_maps_with_channels_last_get_a_bam_that_takes_them(at: Any, found: list[str]) -> None:
    torch.manual_seed(4)
    model = ChannelsLast().double().eval()
    plain = {name: model.get_submodule(name).forward for name in found}
    report = insert_bam(model, at=at)
    assert places(report) == found and [entry.channels for entry in report] == [48, 96][: len(found)]
    for name in found:
        module = model.get_submodule(name)
        for tensor in (*module.bam.parameters(), *module.bam.buffers()):
            if tensor.is_floating_point():
                tensor.data.uniform_(0.2, 1.0)
        reference = BAM(module.bam.channels).double().eval()
        reference.load_state_dict(module.bam.state_dict())
        x = torch.randn(2, 5, 5, module.bam.channels, dtype=torch.float64)
        expected = reference(plain[name](x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        torch.testing.assert_close(module(x), expected)
        with pytest.raises(ValueError, match=r"\(N, H, W, "):
            module.bam(x.permute(0, 3, 1, 2))
    image = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(image), model(image))
