"""External-Attention-pytorch and its copies."""

import torch.nn.functional as F
from torch import nn

from implementations.authors import Flatten


class FightingcvChannel(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.ca = nn.Sequential()
        self.ca.add_module("flatten", Flatten())
        for i in range(3):
            self.ca.add_module(f"fc{i}", nn.Linear(hidden if i else channels, hidden))
            self.ca.add_module(f"bn{i}", nn.BatchNorm1d(hidden))
            self.ca.add_module(f"relu{i}", nn.ReLU())
        self.ca.add_module("last_fc", nn.Linear(hidden, channels))

    def forward(self, x):
        return self.ca(self.avgpool(x))[:, :, None, None].expand_as(x)


class FightingcvSpatial(nn.Module):
    def __init__(self, channels, hidden, dilation, padding):
        super().__init__()
        self.sa = nn.Sequential()
        self.sa.add_module("conv_reduce1", nn.Conv2d(channels, hidden, 1))
        self.sa.add_module("bn_reduce1", nn.BatchNorm2d(hidden))
        self.sa.add_module("relu_reduce1", nn.ReLU())
        for i in range(3):
            self.sa.add_module(f"conv_{i}", nn.Conv2d(hidden, hidden, 3, padding=padding, dilation=dilation))
            self.sa.add_module(f"bn_{i}", nn.BatchNorm2d(hidden))
            self.sa.add_module(f"relu_{i}", nn.ReLU())
        self.sa.add_module("last_conv", nn.Conv2d(hidden, 1, 1))

    def forward(self, x):
        return self.sa(x).expand_as(x)


class FightingcvBAM(nn.Module):
    """External-Attention-pytorch's BAMBlock; padding=1 is the original, padding=dilation the mended copies."""

    def __init__(self, channels, reduction=16, dilation=2, padding=2):
        super().__init__()
        self.ca = FightingcvChannel(channels, channels // reduction)
        self.sa = FightingcvSpatial(channels, channels // reduction, dilation, padding)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        return (1 + self.sigmoid(self.sa(x) + self.ca(x))) * x


class WithoutChannelNorms(FightingcvBAM):
    """A copy without the BatchNorms of the channel branch."""

    def __init__(self, channels):
        super().__init__(channels)
        for i in range(3):
            del self.ca.ca._modules[f"bn{i}"]


class ResizedFightingcvBAM(WithoutChannelNorms):
    """Plug-play-modules' copy: pads by 1 whatever the dilation, and resizes the spatial map to x's size."""

    def __init__(self, channels):
        super().__init__(channels)
        for i in range(3):
            self.sa.sa._modules[f"conv_{i}"].padding = (1, 1)

    def forward(self, x):
        spatial = F.interpolate(self.sa.sa(x), size=x.shape[2:], mode="bilinear", align_corners=False)
        return (1 + self.sigmoid(spatial + self.ca(x))) * x
