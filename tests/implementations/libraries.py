"""pytorchcv, torchattn and attention-in-vision: libraries of networks and of attention modules."""

import torch
import torch.nn.functional as F
from torch import nn


class PytorchcvBlock(nn.Module):
    def __init__(self, layer, norm):
        super().__init__()
        self.add_module("fc" if isinstance(layer, nn.Linear) else "conv", layer)
        self.bn = norm
        self.activ = nn.ReLU(inplace=True)

    def forward(self, x):
        for module in self.children():
            x = module(x)
        return x


class PytorchcvChannelGate(nn.Module):
    def __init__(self, channels, hidden, layers):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.init_fc = PytorchcvBlock(nn.Linear(channels, hidden), nn.BatchNorm1d(hidden))
        self.main_fcs = nn.Sequential()
        for i in range(1, layers):
            self.main_fcs.add_module(f"fc{i}", PytorchcvBlock(nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden)))
        self.final_fc = nn.Linear(hidden, channels)

    def forward(self, x):
        return self.final_fc(self.main_fcs(self.init_fc(self.pool(x).flatten(1))))[:, :, None, None].expand_as(x)


class PytorchcvSpatialGate(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.init_conv = PytorchcvBlock(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden))
        self.dil_convs = nn.Sequential()
        for i in (1, 2):
            conv = nn.Conv2d(hidden, hidden, 3, padding=4, dilation=4)
            self.dil_convs.add_module(f"conv{i}", PytorchcvBlock(conv, nn.BatchNorm2d(hidden)))
        self.final_conv = nn.Conv2d(hidden, 1, 1)

    def forward(self, x):
        return self.final_conv(self.dil_convs(self.init_conv(x))).expand_as(x)


class PytorchcvBAM(nn.Module):
    """osmr/pytorchcv's BamBlock."""

    def __init__(self, channels, layers=1):
        super().__init__()
        self.ch_att = PytorchcvChannelGate(channels, channels // 16, layers)
        self.sp_att = PytorchcvSpatialGate(channels, channels // 16)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        return x * (1 + self.sigmoid(self.ch_att(x) * self.sp_att(x)))


class RenovamenChannel(nn.Module):
    def __init__(self, channels, hidden, layers):
        super().__init__()
        self.attn = nn.Sequential(nn.AdaptiveAvgPool2d(1))
        for i in range(layers):
            self.attn.add_module(f"ca_fc_{i}", nn.Conv2d(hidden if i else channels, hidden, 1))
            self.attn.add_module(f"ca_bn_{i + 1}", nn.BatchNorm2d(hidden))
            self.attn.add_module(f"ca_relu_{i + 1}", nn.ReLU())
        self.attn.add_module(f"ca_fc_{layers}", nn.Conv2d(hidden, channels, 1))

    def forward(self, x):
        return self.attn(x)


class RenovamenSpatial(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.attn = nn.Sequential()
        self.attn.add_module("sa_reduce_conv_0", nn.Conv2d(channels, hidden, 1))
        self.attn.add_module("sa_reduce_bn_0", nn.BatchNorm2d(hidden))
        self.attn.add_module("sa_reduce_relu_0", nn.ReLU())
        for i in range(2):
            self.attn.add_module(f"sa_dc_conv_{i}", nn.Conv2d(hidden, hidden, 3, padding=4, dilation=4))
            self.attn.add_module(f"sa_dc_bn_{i}", nn.BatchNorm2d(hidden))
            self.attn.add_module(f"sa_dc_relu_{i}", nn.ReLU())
        self.attn.add_module("sa_final_conv", nn.Conv2d(hidden, 1, 1))

    def forward(self, x):
        return self.attn(x)


class RenovamenBAM(nn.Module):
    """Renovamen/torchattn."""

    def __init__(self, channels, layers=1):
        super().__init__()
        self.channel_attn = RenovamenChannel(channels, channels // 16, layers)
        self.spatial_attn = RenovamenSpatial(channels, channels // 16)

    def forward(self, x):
        return (1 + torch.sigmoid(self.channel_attn(x) + self.spatial_attn(x))) * x


class BobMcDearChannel(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        layers = nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        self.mlp = nn.Sequential(*layers)

    def forward(self, x):
        return self.mlp(F.adaptive_avg_pool2d(x, 1))


class BobMcDearSpatial(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.reduce_1 = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU())
        conv = nn.Conv2d(hidden, hidden, 3, padding=4, dilation=4)
        self.convs = nn.Sequential(*2 * [conv, nn.BatchNorm2d(hidden), nn.ReLU()])
        self.reduce_2 = nn.Conv2d(hidden, 1, 1)

    def forward(self, x):
        return self.reduce_2(self.convs(self.reduce_1(x)))


class BobMcDearBAM(nn.Module):
    """BobMcDear/attention-in-vision; its two dilated convolutions are one module."""

    def __init__(self, channels):
        super().__init__()
        self.channel_attention = BobMcDearChannel(channels, channels // 16)
        self.spatial_attention = BobMcDearSpatial(channels, channels // 16)

    def forward(self, x):
        return x * (1 + torch.sigmoid(self.channel_attention(x) * self.spatial_attention(x)))
