"""torch.jit.script on containers that walk through their children and have a BAM on their output, and what it refuses."""

import copy
import pickle

import pytest
import torch
import torchvision
from implementations import feature_map, randomise
from scripted import scripted
from torch import Tensor, nn
from torch.testing import assert_close

from bam_fused import insert_bam

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*jit.* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*jit.* is deprecated:FutureWarning"),
]


class ByItems(nn.ModuleDict):
    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for name, layer in self.items():
            maps.append(layer(maps[-1]) * len(name))
        return torch.cat(maps, 1)


class ByValues(nn.ModuleDict):
    def forward(self, x: Tensor, scale: float = 0.5) -> Tensor:
        out = x
        for layer in self.values():
            out = out + scale * layer(out)
        return out


class ByItself(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = x + layer(x)
        return x


class Enumerated(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self):
            x = x + layer(x) * (i + 1)
        return x


class ByName(nn.ModuleDict):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.b(x)


def network(kind):
    layers = {"a": nn.Conv2d(4, 4, 1), "b": nn.Conv2d(4, 4, 3, padding=1)}
    made = kind(*layers.values()) if issubclass(kind, nn.Sequential) else kind(layers)
    return nn.Sequential(made, nn.ReLU()).double().eval()


@pytest.mark.parametrize("position", ["after", "before"])
@pytest.mark.parametrize("kind", [ByItems, ByValues, ByItself, Enumerated, ByName, nn.Sequential])
def test_containers(kind, position):
    model, x = network(kind), feature_map(2, 4, 8, 8)
    plain = model(x)
    insert_bam(model, at=["0"], position=position, example=x, min_hidden=2)
    want = randomise(model)(x)
    assert not torch.allclose(want, plain)
    assert_close(scripted(model)(x), want, rtol=1e-12, atol=1e-12)
    assert_close(model(x), want, rtol=0, atol=0)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_close(scripted(other)(x), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("at", ["auto", "every-block"])
def test_densenet(at):
    """Its blocks walk through their layers, whose forward TorchScript knows under two signatures."""
    model = torchvision.models.DenseNet(16, (2, 2, 2, 2), 16, num_classes=4).double().eval()
    x = feature_map(1, 3, 64, 64)
    scripted(model)
    insert_bam(model, at=at, min_hidden=2)
    assert_close(scripted(model)(x), model(x), rtol=1e-10, atol=1e-10)


class Indexed(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return self[-1](self[0](x))


class Zipped(nn.ModuleDict):
    def forward(self, x: Tensor) -> Tensor:
        for layer, scale in zip(self.values(), (1.0, 2.0)):  # noqa: B905 (not in TorchScript)
            x = layer(x) * scale
        return x


class Unnamed(nn.Conv2d):
    def forward(self, *args):
        return super().forward(*args)


class Decorated(nn.Conv2d):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


Sourceless = type(
    "Sourceless", (nn.Conv2d,), {"forward": eval("lambda self, x: self._conv_forward(x, self.weight, None)")}
)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (network(Indexed), "looks at its children otherwise than in a loop"),
        (network(Zipped), "looks at its children otherwise than in a loop"),
        (nn.Sequential(Unnamed(4, 4, 1)).double(), "does not name its arguments"),
        (nn.Sequential(Decorated(4, 4, 1)).double(), "its forward is decorated"),
        (nn.Sequential(Sourceless(4, 4, 1)).double(), "source of its forward can not be read"),
    ],
)
def test_what_can_not_be_scripted_says_why(model, reason):
    x = feature_map(2, 4, 8, 8)
    insert_bam(model, at=["0"], example=x)
    want = model(x)
    with pytest.raises(RuntimeError, match=f"can not compile this .* with the BAM that insert_bam gave it: .*{reason}"):
        torch.jit.script(model)
    assert torch.equal(model(x), want)
    assert_close(torch.jit.trace(model, x)(x), want, rtol=1e-12, atol=1e-12)
