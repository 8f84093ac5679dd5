"""insert_bam in networks that share modules, downsample inside one module, or turn maps into tokens in their blocks."""

import pytest
import torch
from torch import nn

from bam_fused import insert_bam


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + self.conv(x)


class Tokens(nn.Module):
    """A position encoding of the map, then attention of tokens, as a map again if `maps`."""

    def __init__(self, channels, maps=True):
        super().__init__()
        self.position, self.mix, self.maps = Residual(channels), nn.Linear(channels, channels), maps

    def forward(self, x):
        x = self.position(x)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.mix(tokens)
        return tokens.transpose(1, 2).reshape(x.shape) if self.maps else tokens


class AndItsState(Residual):
    def forward(self, x):
        return super().forward(x), x


class Stage(nn.Module):
    def __init__(self, channels, out):
        super().__init__()
        self.blocks = nn.ModuleList([AndItsState(channels), AndItsState(channels)])
        self.downsample = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 1), nn.ReLU(), nn.Conv2d(2 * channels, out, 3, stride=2, padding=1)
        )

    def forward(self, x):
        for block in self.blocks:
            x, _ = block(x)
        return self.downsample(x)


def test_a_module_that_is_there_twice_keeps_its_weights():
    model = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), Residual(32), nn.Conv2d(32, 32, 3, 2, 1))
    model.append(model[1].conv)
    before = dict(model.named_parameters(remove_duplicate=False))
    insert_bam(model, at=["0"])
    for name, tensor in before.items():
        assert model.get_parameter(name) is tensor and not tensor.is_meta


def test_blocks_that_return_more_than_a_map():
    model = nn.Sequential(nn.Conv2d(3, 32, 4, 4), Stage(32, 48), Stage(48, 64))
    report = insert_bam(model, at="auto")
    assert [(entry.name, entry.position, entry.channels) for entry in report] == [
        ("1.downsample.bam", "before", 32),
        ("2.downsample.bam", "before", 48),
    ]


def test_a_block_that_returns_no_map_alone_is_refused():
    class Growing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(32, 32, 3, padding=1)

        def forward(self, x):
            return torch.cat((x, self.conv(x)), 1), x

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.grow = nn.Conv2d(3, 32, 4, 4), Growing()

        def forward(self, x):
            return self.grow(self.stem(x))[0]

    with pytest.raises(
        ValueError, match=r"at='every-block': the output of 'grow' .* but tuple; name the modules instead"
    ):
        insert_bam(Network(), at="every-block")


def test_a_block_of_tokens_that_returns_a_map_is_the_block():
    model = nn.Sequential(nn.Conv2d(3, 32, 4, 4), Tokens(32), Tokens(32))
    report = insert_bam(model, at="every-block")
    assert [entry.name for entry in report] == ["1.bam", "2.bam"]
    assert model(torch.ones(2, 3, 32, 32)).shape == (2, 32, 8, 8)


def test_blocks_of_tokens_alone_are_named():
    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Linear(32, 32)

        def forward(self, tokens):
            return tokens + self.mix(tokens)

    model = nn.Sequential(nn.Conv2d(3, 32, 4, 4), nn.Flatten(2), nn.Linear(49, 32), Mixer(), Mixer())
    with pytest.raises(ValueError, match=r"its blocks return tokens, not feature maps .* name the modules instead"):
        insert_bam(model, at="every-block", example=torch.ones(2, 3, 28, 28))
