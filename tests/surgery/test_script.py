"""torch.jit.script on replaced modules, on BAM and on networks that have been given BAMs."""

import copy

import pytest
import torch
from implementations import PUBLIC, feature_map, randomise
from scripted import scripted
from torch import Tensor, nn

from bam_fused import BAM, insert_bam, replace_bam, restore_bam
from bam_fused.surgery.channels_last import ChannelsLastBAM

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*jit.* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*jit.* is deprecated:FutureWarning"),
]


@pytest.mark.parametrize("layout", [name for name in PUBLIC if name != "official"])  # ours of that has a lambda in it
def test_replaced_modules(layout):
    model = nn.Sequential(randomise(PUBLIC[layout](32))).double().eval()
    x = feature_map(2, 32, 9, 9)
    want = model(x)
    replace_bam(model)
    torch.testing.assert_close(scripted(model)(x), want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model(x), want, rtol=1e-12, atol=1e-12)
    restore_bam(model)
    torch.testing.assert_close(scripted(model)(x), want, rtol=1e-12, atol=1e-12)


def authors_module(sigmoid=torch.sigmoid):
    """A class whose forward closes over a name, as one made in a function does."""

    class Closed(nn.Module):
        def __init__(self, channels: int):
            super().__init__()
            self.channel_att = nn.Module()
            self.channel_att.gate_c = PUBLIC["indexed"](channels).channel_att.gate_c
            self.spatial_att = PUBLIC["indexed"](channels).spatial_att

        def forward(self, x: Tensor) -> Tensor:
            pooled = x.mean([2, 3])
            for layer in self.channel_att.gate_c:
                pooled = layer(pooled)
            return x + x * sigmoid(pooled[:, :, None, None] * self.spatial_att(x))

    return Closed


def test_replaced_module_whose_forward_closes_over_names():
    model = randomise(authors_module()(32)).double().eval()
    x = feature_map(2, 32, 9, 9)
    want = model(x)
    (entry,) = replace_bam(model)
    assert entry.replaced, entry
    torch.testing.assert_close(scripted(model)(x), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"combine": "product", "mlp": "conv", "channel_layers": 2, "channel_hidden": "bn-relu"},
        {"combine": "max", "final": "none", "legacy_pool": True},
        {"branches": "channel", "combine": "product"},
        {"branches": "spatial", "identity_start": True},
        {"padding": 1, "dilation": 2},
    ],
)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_bam(options, mode):
    bam = randomise(BAM(32, **options)).double().train(mode == "train")
    other = scripted(bam)
    x = feature_map(3, 32, 5, 5 if "padding" in options else 8)
    leaf, twin = x.clone().requires_grad_(), x.clone().requires_grad_()
    for module, tensor in ((bam, leaf), (other, twin)):
        module(tensor).square().sum().backward()
    torch.testing.assert_close(other(x), bam(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(twin.grad, leaf.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_bam_in_every_dtype(dtype):
    bam = randomise(BAM(32)).to(dtype).eval()
    x = feature_map(2, 32, 7, 9, dtype=dtype)
    out = scripted(bam)(x)
    assert out.dtype == dtype
    torch.testing.assert_close(out, bam(x), rtol=2e-2, atol=2e-2)


def test_bam_for_channels_last_maps():
    bam = randomise(ChannelsLastBAM(32)).double().eval()
    x = feature_map(2, 7, 9, 32)
    torch.testing.assert_close(scripted(bam)(x), bam(x), rtol=1e-12, atol=1e-12)


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, scale: float = 2.0, flip: bool = False) -> Tensor:
        out = scale * self.norm(self.conv(x))
        return x + (out.flip(3) if flip else out)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = nn.Conv2d(3, 32, 1), Block(32), Block(32)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(self.stem(x), 0.5, flip=True))


@pytest.mark.parametrize("position", ["after", "before"])
@pytest.mark.parametrize("at", ["every-block", ["first", "second.conv", "second"], ["stem", "first.norm"]])
def test_networks_that_have_been_given_bams(at, position):
    model = Network().double().eval()
    plain, x = copy.deepcopy(model), feature_map(2, 3, 8, 8)
    insert_bam(model, at=at, position=position, min_hidden=4)
    randomise(model)
    want = model(x)
    assert not torch.allclose(want, plain(x))
    torch.testing.assert_close(scripted(model)(x), want, rtol=1e-10, atol=1e-10)
    other = copy.deepcopy(model)
    assert type(other.first) is type(model.first) and torch.equal(other(x), want)


def test_forwards_of_any_signature_take_a_bam():
    class Any(nn.Conv2d):
        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs)

    model = nn.ModuleDict({"conv": Any(3, 32, 1)})
    model.forward = lambda x: model["conv"](input=x)
    insert_bam(model, at=["conv"])
    assert model(torch.ones(2, 3, 4, 4)).shape == (2, 32, 4, 4)
