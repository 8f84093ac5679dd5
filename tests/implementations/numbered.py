"""The authors' layers in Sequentials that number them."""

import torch
import torch.nn.functional as F
from torch import nn

from implementations.authors import Flatten


class IndexedChannelGate(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.gate_c = nn.Sequential(
            Flatten(), nn.Linear(channels, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )

    def forward(self, x):
        return self.gate_c(F.avg_pool2d(x, x.size(2), stride=x.size(2)))[:, :, None, None].expand_as(x)


class IndexedSpatialGate(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        layers = [nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU()]
        for _ in range(2):
            layers += [nn.Conv2d(hidden, hidden, 3, padding=4, dilation=4), nn.BatchNorm2d(hidden), nn.ReLU()]
        self.gate_s = nn.Sequential(*layers, nn.Conv2d(hidden, 1, 1))

    def forward(self, x):
        return self.gate_s(x).expand_as(x)


class IndexedBAM(nn.Module):
    """The Jittor and MindSpore ports' structure."""

    def __init__(self, channels):
        super().__init__()
        self.channel_att = IndexedChannelGate(channels, channels // 16)
        self.spatial_att = IndexedSpatialGate(channels, channels // 16)

    def forward(self, x):
        return (1 + torch.sigmoid(self.channel_att(x) * self.spatial_att(x))) * x


class DscBAM(nn.Module):
    """DSC-BAM: the pool inside, BatchNorm and ReLU also at the end of the channel branch, no bias there."""

    def __init__(self, channels, reduction=4):
        super().__init__()
        h = channels // reduction
        self.channel_att, self.spatial_att = nn.Module(), IndexedSpatialGate(channels, h)
        self.channel_att.gate_c = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, h, bias=False), nn.BatchNorm1d(h), nn.ReLU(),
            nn.Linear(h, channels, bias=False), nn.BatchNorm1d(channels), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x):
        c = self.channel_att.gate_c(x)[:, :, None, None]
        return (1 + torch.sigmoid(c * self.spatial_att(x))) * x


class Ee898BAM(nn.Module):
    """EE898-PA1 and AaP-ReID."""

    def __init__(self, channels, combine="sum"):
        super().__init__()
        h = channels // 16
        self.combine = combine
        self.channel_attention, self.spatial_attention = nn.Module(), nn.Module()
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.channel_attention.ch = nn.Sequential(
            pool, nn.Linear(channels, h), nn.BatchNorm1d(h), nn.ReLU(), nn.Linear(h, channels)
        )
        self.spatial_attention.spatial = IndexedSpatialGate(channels, h).gate_s

    def forward(self, x):
        c, p = self.channel_attention.ch(x)[:, :, None, None], self.spatial_attention.spatial(x)
        return x * (1 + torch.sigmoid(c + p if self.combine == "sum" else c * p))


class SimpleResearchBAM(nn.Module):
    """SimpleResearch-Pytorch: the MLP as 1x1 convolutions."""

    def __init__(self, channels):
        super().__init__()
        h = channels // 16
        self.channel_attn, self.spatial_attn = nn.Module(), IndexedSpatialGate(channels, h)
        self.channel_attn.gate_c = nn.Sequential(
            nn.Conv2d(channels, h, 1), nn.BatchNorm2d(h), nn.ReLU(), nn.Conv2d(h, channels, 1)
        )

    def forward(self, x):
        c = self.channel_attn.gate_c(F.adaptive_avg_pool2d(x, 1))
        return (1 + torch.sigmoid(c * self.spatial_attn(x))) * x


class AlbertterBAM(nn.Module):
    """albertter/cifar10.pytorch: the MLP as 1x1 convolutions, one BatchNorm after it."""

    def __init__(self, channels):
        super().__init__()
        h = channels // 16
        self.channel_att, self.spatial_att = nn.Module(), nn.Module()
        self.channel_att.mlp = nn.Sequential(
            nn.Conv2d(channels, h, 1), nn.BatchNorm2d(h), nn.ReLU(inplace=True), nn.Conv2d(h, channels, 1)
        )
        self.channel_att.bn = nn.BatchNorm2d(channels)
        self.spatial_att.gate_s = IndexedSpatialGate(channels, h).gate_s[:-1]
        self.spatial_att.final = nn.Conv2d(h, 1, 1)

    def forward(self, x):
        c = self.channel_att.bn(self.channel_att.mlp(F.adaptive_avg_pool2d(x, 1)))
        p = self.spatial_att.final(self.spatial_att.gate_s(x))
        return (1 + torch.sigmoid(c * p)) * x


class SharedMlpBAM(nn.Module):
    """Atherosclerotic_Plaque's: no BatchNorm in the channel branch, one more at the end of the spatial branch."""

    def __init__(self, channels):
        super().__init__()
        h = channels // 16
        self.channel_attention, self.spatial_attention = nn.Module(), nn.Module()
        self.channel_attention.shared_MLP = nn.Sequential(nn.Linear(channels, h), nn.ReLU(), nn.Linear(h, channels))
        layers = IndexedSpatialGate(channels, h).gate_s
        self.spatial_attention.reduce_conv = layers[:3]
        self.spatial_attention.dilation_convs = nn.Sequential(*layers[3:9])
        self.spatial_attention.final_conv = nn.Sequential(layers[9], nn.BatchNorm2d(1))

    def forward(self, x):
        branch = self.spatial_attention
        c = self.channel_attention.shared_MLP(x.mean((2, 3)))[:, :, None, None]
        p = branch.final_conv(branch.dilation_convs(branch.reduce_conv(x)))
        return (1 + torch.sigmoid(c * p)) * x
