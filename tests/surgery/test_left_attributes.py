"""What a forward leaves on its module, such as its last map, replace_bam must not take away: it is left alone."""

import pytest
import torch
from implementations import OfficialBAM, feature_map
from torch import nn

from bam_fused import replace_bam


class KeepsItsMap(OfficialBAM):
    def forward(self, x):
        self.att = self.spatial_att(x)
        return (1 + torch.sigmoid(self.channel_att(x) * self.att)) * x


class KeepsAMapInABranch(OfficialBAM):
    def forward(self, x):
        self.spatial_att.last = x.mean()
        return super().forward(x)


class KeepsItsMapInTraining(OfficialBAM):
    def forward(self, x):
        if self.training:
            self.att = x.mean()
        return super().forward(x)


class KeepsEveryMap(OfficialBAM):
    def __init__(self, channels):
        super().__init__(channels)
        self.seen = []

    def forward(self, x):
        self.seen.append(x.shape)
        return super().forward(x)


class KeepsItsFirstShape(OfficialBAM):
    def forward(self, x):
        if not hasattr(self, "shape"):
            self.shape = x.shape
        return super().forward(x)


@pytest.mark.parametrize(
    ("kind", "attribute"),
    [
        (KeepsItsMap, "att"),
        (KeepsItsMapInTraining, "att"),
        (KeepsAMapInABranch, "spatial_att.last"),
        (KeepsEveryMap, "seen"),
        (KeepsItsFirstShape, "shape"),
    ],
)
def test_what_a_forward_leaves_on_its_module(kind, attribute):
    bam = kind(32)
    before = {name: list(value) if type(value) is list else value for name, value in vars(bam).items()}
    (entry,) = replace_bam(bam)
    assert not entry.replaced and f"its forward also sets {attribute}, which" in entry.reason
    assert type(bam) is kind and vars(bam) == before


def test_what_a_called_layer_leaves_on_itself_stays():
    class Remembers(nn.ReLU):
        def forward(self, x):
            self.largest = x.max()
            return super().forward(x)

    bam = OfficialBAM(32)
    bam.spatial_att.gate_s.gate_s_relu_di_1 = Remembers()
    (entry,) = replace_bam(bam)
    assert entry.replaced, entry
    bam(feature_map(3, 32, 9, 9, dtype=torch.float32))
    assert bam.spatial_att.gate_s.gate_s_relu_di_1.largest > 0
