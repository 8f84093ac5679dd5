"""The authors' code and the copies that kept its names."""

import torch
import torch.nn.functional as F
from torch import nn


class Flatten(nn.Module):
    def forward(self, x):
        return x.view(x.size(0), -1)


class OfficialChannelGate(nn.Module):
    def __init__(self, channels, reduction, layers, pool):
        super().__init__()
        self.crops = pool == "crop"
        widths = [channels, *[channels // reduction] * layers, channels]
        self.gate_c = nn.Sequential()
        self.gate_c.add_module("flatten", Flatten())
        for i in range(layers):
            self.gate_c.add_module(f"gate_c_fc_{i}", nn.Linear(widths[i], widths[i + 1]))
            self.gate_c.add_module(f"gate_c_bn_{i + 1}", nn.BatchNorm1d(widths[i + 1]))
            self.gate_c.add_module(f"gate_c_relu_{i + 1}", nn.ReLU())
        self.gate_c.add_module("gate_c_fc_final", nn.Linear(widths[-2], widths[-1]))

    def forward(self, x):
        pooled = F.avg_pool2d(x, x.size(2), stride=x.size(2)) if self.crops else F.adaptive_avg_pool2d(x, 1)
        return self.gate_c(pooled).unsqueeze(2).unsqueeze(3).expand_as(x)


class OfficialSpatialGate(nn.Module):
    def __init__(self, channels, reduction, layers, dilation):
        super().__init__()
        h = channels // reduction
        self.gate_s = nn.Sequential()
        self.gate_s.add_module("gate_s_conv_reduce0", nn.Conv2d(channels, h, 1))
        self.gate_s.add_module("gate_s_bn_reduce0", nn.BatchNorm2d(h))
        self.gate_s.add_module("gate_s_relu_reduce0", nn.ReLU())
        for i in range(layers):
            conv = nn.Conv2d(h, h, 3, padding=dilation, dilation=dilation)
            self.gate_s.add_module(f"gate_s_conv_di_{i}", conv)
            self.gate_s.add_module(f"gate_s_bn_di_{i}", nn.BatchNorm2d(h))
            self.gate_s.add_module(f"gate_s_relu_di_{i}", nn.ReLU())
        self.gate_s.add_module("gate_s_conv_final", nn.Conv2d(h, 1, 1))

    def forward(self, x):
        return self.gate_s(x).expand_as(x)


class OfficialBAM(nn.Module):
    """Jongchan/attention-module, and with other arguments its copies: '+' for '*', an adaptive pool."""

    def __init__(self, channels, reduction=16, combine="product", pool="crop", layers=1, convs=2, dilation=4):
        super().__init__()
        self.combine = combine
        self.channel_att = OfficialChannelGate(channels, reduction, layers, pool)
        self.spatial_att = OfficialSpatialGate(channels, reduction, convs, dilation)

    def forward(self, in_tensor):
        c, p = self.channel_att(in_tensor), self.spatial_att(in_tensor)
        logits = {"product": lambda: c * p, "sum": lambda: c + p, "max": lambda: torch.maximum(c, p)}[self.combine]()
        return (1 + torch.sigmoid(logits)) * in_tensor


class WithoutNorms(OfficialBAM):
    """MUCO-Net's ("channel") and HE_MFR's ("all") copies: without BatchNorm in the channel branch, or without any."""

    def __init__(self, channels, which="channel", **options):
        super().__init__(channels, **options)
        branches = [self.channel_att.gate_c] + [self.spatial_att.gate_s] * (which == "all")
        for branch in branches:
            for name in [name for name in branch._modules if "_bn_" in name]:
                del branch._modules[name]


class OneBranch(nn.Module):
    """FastLFnet's copy (spatial) and wakemodel's (either) without the other branch."""

    def __init__(self, channels, branch="spatial", dilations=(1, 2)):
        super().__init__()
        if branch == "channel":
            self.channel_att = OfficialChannelGate(channels, 16, 1, "crop")
        else:
            self.spatial_att = OfficialSpatialGate(channels, 16, 2, 4)
            for i, dilation in enumerate(dilations):
                conv = self.spatial_att.gate_s._modules[f"gate_s_conv_di_{i}"]
                conv.dilation = conv.padding = (dilation, dilation)

    def forward(self, x):
        (gate,) = self.children()
        return (1 + torch.sigmoid(gate(x))) * x


class UsesOneBranch(OfficialBAM):
    """LCRNet's copy: it has both branches and uses one."""

    def __init__(self, channels, branch="spatial"):
        super().__init__(channels)
        self.used = branch

    def forward(self, x):
        return (1 + torch.sigmoid(self.channel_att(x) if self.used == "channel" else self.spatial_att(x))) * x


class MaXuBAM(nn.Module):
    """ResidualAttention's copy: the channel branch is called otherwise and has no BatchNorm."""

    def __init__(self, channels):
        super().__init__()
        h = channels // 16
        self.channel_att, self.spatial_att = nn.Module(), OfficialSpatialGate(channels, 16, 2, 4)
        self.channel_att.fc = nn.Sequential()
        self.channel_att.fc.add_module("gate_c_fc_0", nn.Linear(channels, h))
        self.channel_att.fc.add_module("gate_c_relu_1", nn.ReLU(inplace=True))
        self.channel_att.fc.add_module("gate_c_fc_final", nn.Linear(h, channels))

    def forward(self, x):
        channel = self.channel_att.fc(x.mean((2, 3)))[:, :, None, None]
        return (1 + torch.sigmoid(channel * self.spatial_att(x))) * x


class DayelianxishengBAM(nn.Module):
    """dayelianxisheng/Module's copy: the reduction is numbered, the pool takes any map."""

    def __init__(self, channels):
        super().__init__()
        self.channel_att, self.spatial_att = OfficialChannelGate(channels, 16, 1, "all"), nn.Module()
        layers = dict(OfficialSpatialGate(channels, 16, 2, 4).gate_s.named_children())
        self.spatial_att.gate_s = nn.Sequential(*[layers.pop(name) for name in list(layers)[:3]])
        for name, layer in layers.items():
            self.spatial_att.gate_s.add_module(name, layer)

    def forward(self, x):
        return (1 + torch.sigmoid(self.channel_att(x) * self.spatial_att.gate_s(x))) * x


class AttentionAlone(OfficialBAM):
    """Weather_Classification's and DAM-Net's copies: the caller multiplies."""

    def forward(self, x):
        return 1 + torch.sigmoid(self.channel_att(x) * self.spatial_att(x))


class WithItsAttention(OfficialBAM):
    """MUCO-Net's and wakemodel's copies: the attention is returned too."""

    def forward(self, x):
        attention = 1 + torch.sigmoid(self.channel_att(x) * self.spatial_att(x))
        return attention * x, attention


class EHaNetBAM(AttentionAlone):
    """E-HANet's copy: no ReLU after the reduction, another name for the last convolution."""

    def __init__(self, channels):
        super().__init__(channels)
        names = {"conv_final": "gate-s_conv_final", "relu_di_0": "gate_s_rule_di_0", "relu_di_1": "gate_s_rule_di_1"}
        layers = self.spatial_att.gate_s._modules
        del layers["gate_s_relu_reduce0"]
        renamed = {names.get(name.removeprefix("gate_s_"), name): layer for name, layer in layers.items()}
        layers.clear()
        layers.update(renamed)


class WithItsSpatialMap(OfficialBAM):
    """diploma's copy: the spatial branch's own map is returned too."""

    def forward(self, x):
        spatial = self.spatial_att.gate_s(x)
        return (1 + torch.sigmoid(self.channel_att(x) * spatial)) * x, spatial
