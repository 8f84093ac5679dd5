"""A flat module, and strangers."""

import torch
from torch import nn


class Asdf2krBAM(nn.Module):
    """asdf2kr/BAM-CBAM-pytorch: flat names, BatchNorm and ReLU last; `doubled` before December 2019: x once more."""

    def __init__(self, in_channel, reduction_ratio=16, dilation=4, doubled=False):
        super().__init__()
        h = in_channel // reduction_ratio
        self.doubled = doubled
        self.globalAvgPool, self.relu, self.sigmoid = nn.AdaptiveAvgPool2d(1), nn.ReLU(inplace=True), nn.Sigmoid()
        self.fc1, self.bn1_1d = nn.Linear(in_channel, h), nn.BatchNorm1d(h)
        self.fc2, self.bn2_1d = nn.Linear(h, in_channel), nn.BatchNorm1d(in_channel)
        self.conv1, self.bn1_2d = nn.Conv2d(in_channel, h, 1, bias=False), nn.BatchNorm2d(h)
        self.conv2 = nn.Conv2d(h, h, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2_2d = nn.BatchNorm2d(h)
        self.conv3 = nn.Conv2d(h, h, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn3_2d = nn.BatchNorm2d(h)
        self.conv4, self.bn4_2d = nn.Conv2d(h, 1, 1, bias=False), nn.BatchNorm2d(1)

    def forward(self, x):
        c = self.relu(self.bn1_1d(self.fc1(self.globalAvgPool(x).flatten(1))))
        c = self.relu(self.bn2_1d(self.fc2(c)))[:, :, None, None]
        p = self.relu(self.bn1_2d(self.conv1(x)))
        p = self.relu(self.bn3_2d(self.conv3(self.relu(self.bn2_2d(self.conv2(p))))))
        p = self.relu(self.bn4_2d(self.conv4(p)))
        out = x * (1 + self.sigmoid(c * p))
        return x + out if self.doubled else out


class NguyenvietanBAM(nn.Module):
    """DL_Attention_PA1_ee898: flat, both branches or one."""

    def __init__(self, channels, branches="cs"):
        super().__init__()
        h = channels // 16
        self.branches = branches
        if "c" in branches:
            self.conv1_c, self.bn1_c = nn.Conv2d(channels, h, 1, bias=False), nn.BatchNorm2d(h)
            self.relu1_c, self.conv2_c = nn.ReLU(inplace=True), nn.Conv2d(h, channels, 1, bias=False)
        if "s" in branches:
            for i, (width, size) in enumerate(((channels, 1), (h, 3), (h, 3)), 1):
                conv = nn.Conv2d(width, h, size, padding=2 * (size - 1), dilation=2 * size - 2 or 1, bias=False)
                for name, layer in (("conv", conv), ("bn", nn.BatchNorm2d(h)), ("relu", nn.ReLU())):
                    self.add_module(f"{name}{i}_s", layer)
            self.conv4_s = nn.Conv2d(h, 1, 1, bias=False)

    def forward(self, x):
        logits = torch.zeros_like(x[:, :1])
        if hasattr(self, "conv1_c"):
            logits = logits + self.conv2_c(self.relu1_c(self.bn1_c(self.conv1_c(x.mean([2, 3], keepdim=True)))))
        if hasattr(self, "conv1_s"):
            p = self.relu2_s(self.bn2_s(self.conv2_s(self.relu1_s(self.bn1_s(self.conv1_s(x))))))
            logits = logits + self.conv4_s(self.relu3_s(self.bn3_s(self.conv3_s(p))))
        return x * (1 + torch.sigmoid(logits))


class STANetBAM(nn.Module):
    """A stranger: STANet's basic spatio-temporal attention module, whose class is called BAM."""

    def __init__(self, in_dim):
        super().__init__()
        self.query_conv, self.key_conv = nn.Conv2d(in_dim, in_dim // 8, 1), nn.Conv2d(in_dim, in_dim // 8, 1)
        self.value_conv = nn.Conv2d(in_dim, in_dim, 1)
        self.gamma = nn.Parameter(torch.ones(1))

    def forward(self, x):
        n, c, h, w = x.shape
        query, key, value = (conv(x).flatten(2) for conv in (self.query_conv, self.key_conv, self.value_conv))
        attention = torch.softmax(query.transpose(1, 2) @ key, -1)
        return self.gamma * (value @ attention.transpose(1, 2)).view(n, c, h, w) + x


STANetBAM.__name__ = "BAM"
