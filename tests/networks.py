"""A small network with a BAM in it, in float64."""

import torch
from implementations import OfficialBAM, feature_map
from torch import nn


def network(bam=None, channels=32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, channels, 3), bam or OfficialBAM(channels), nn.Conv2d(channels, 4, 1)).double()


def image(h=12, w=12):
    return feature_map(3, 3, h, w)
