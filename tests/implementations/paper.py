"""The paper's reading: layers of the formula, added."""

import torch
from torch import nn


class Changzy00Channel(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels))
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, x):
        return self.bn(self.mlp(x.mean((2, 3))))[:, :, None, None]


class Changzy00Spatial(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, 1)
        layers = []
        for _ in range(2):
            conv = nn.Conv2d(hidden, hidden, 3, padding=4, dilation=4)
            layers += [conv, nn.BatchNorm2d(hidden), nn.ReLU(inplace=True)]
        self.conv2 = nn.Sequential(*layers)
        self.conv3 = nn.Conv2d(hidden, 1, 1)
        self.bn = nn.BatchNorm2d(1)

    def forward(self, x):
        return self.bn(self.conv3(self.conv2(self.conv1(x))))


class Changzy00BAM(nn.Module):
    """changzy00/pytorch-attention."""

    def __init__(self, channels):
        super().__init__()
        self.channel_attn = Changzy00Channel(channels, channels // 16)
        self.spatial_attn = Changzy00Spatial(channels, channels // 16)

    def forward(self, x):
        return x + x * torch.sigmoid(self.channel_attn(x) + self.spatial_attn(x))


class GazaphrenologyBAM(nn.Module):
    """gazaphrenology997/Attention_Module: no BatchNorm in the channel branch, another dilation for each convolution."""

    def __init__(self, channels, dilations=(1, 2, 4)):
        super().__init__()
        h = max(1, channels // 16)
        self.GlobalAvgPool = nn.AdaptiveAvgPool2d(1)
        self.Conv = nn.Sequential(
            nn.Conv2d(channels, h, 1, bias=False), nn.ReLU(inplace=True), nn.Conv2d(h, channels, 1, bias=False)
        )
        self.SpatialDilation = nn.Sequential(nn.Conv2d(channels, h, 1, bias=False), nn.BatchNorm2d(h), nn.ReLU())
        layers = []
        for d in dilations:
            layers += [nn.Conv2d(h, h, 3, padding=d, dilation=d, bias=False), nn.BatchNorm2d(h), nn.ReLU(inplace=True)]
        self.SpatialConvs = nn.Sequential(*layers)
        self.spatial_out = nn.Conv2d(h, 1, 1, bias=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        c, p = self.Conv(self.GlobalAvgPool(x)), self.spatial_out(self.SpatialConvs(self.SpatialDilation(x)))
        return x * (1.0 + self.sigmoid(c + p))


class BarkinadiguzelBAM(nn.Module):
    """barkinadiguzel/BAM-Replication: no BatchNorm but the last of each branch."""

    def __init__(self, channels):
        super().__init__()
        h = channels // 16
        self.channel_att, self.spatial_att = nn.Module(), nn.Module()
        self.channel_att.mlp = nn.Sequential(nn.Conv2d(channels, h, 1), nn.ReLU(), nn.Conv2d(h, channels, 1))
        self.channel_att.bn = nn.BatchNorm2d(channels)
        self.spatial_att.conv_reduce = nn.Conv2d(channels, h, 1)
        self.spatial_att.conv1 = nn.Conv2d(h, h, 3, padding=4, dilation=4)
        self.spatial_att.conv2 = nn.Conv2d(h, h, 3, padding=4, dilation=4)
        self.spatial_att.conv_expand, self.spatial_att.bn = nn.Conv2d(h, 1, 1), nn.BatchNorm2d(1)
        self.spatial_att.relu = nn.ReLU()

    def forward(self, x):
        branch = self.spatial_att
        p = branch.relu(branch.conv_reduce(x))
        p = branch.relu(branch.conv2(branch.relu(branch.conv1(p))))
        c = self.channel_att.bn(self.channel_att.mlp(x.mean((2, 3), keepdim=True)))
        return x + x * torch.sigmoid(c + branch.bn(branch.conv_expand(p)))
