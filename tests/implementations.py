"""Public implementations of BAM, written anew from their descriptions: same names, same arithmetic, same faults."""

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


class Asdf2krBAM(nn.Module):
    """asdf2kr/BAM-CBAM-pytorch before December 2019: flat names, BatchNorm and ReLU last, the residual counted twice."""

    def __init__(self, in_channel, reduction_ratio=16, dilation=4):
        super().__init__()
        h = in_channel // reduction_ratio
        self.fc1, self.bn1_1d = nn.Linear(in_channel, h), nn.BatchNorm1d(h)
        self.fc2, self.bn2_1d = nn.Linear(h, in_channel), nn.BatchNorm1d(in_channel)
        self.conv1, self.bn1_2d = nn.Conv2d(in_channel, h, 1, bias=False), nn.BatchNorm2d(h)
        self.conv2 = nn.Conv2d(h, h, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2_2d = nn.BatchNorm2d(h)
        self.conv4, self.bn4_2d = nn.Conv2d(h, 1, 1, bias=False), nn.BatchNorm2d(1)

    def forward(self, x):
        c = F.relu(self.bn1_1d(self.fc1(x.mean((2, 3)))))
        c = F.relu(self.bn2_1d(self.fc2(c)))[:, :, None, None]
        p = F.relu(self.bn2_2d(self.conv2(F.relu(self.bn1_2d(self.conv1(x))))))
        p = F.relu(self.bn4_2d(self.conv4(p)))
        return x + x * (1 + torch.sigmoid(c * p))


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

PUBLIC = {
    "official": OfficialBAM,
    "pytorchcv": PytorchcvBAM,
    "fightingcv": FightingcvBAM,
    "changzy00": Changzy00BAM,
    "renovamen": RenovamenBAM,
    "bobmcdear": BobMcDearBAM,
    "indexed": IndexedBAM,
}
"""By layout; each takes the number of channels."""


def randomise(module, seed=0):
    """Weights, running statistics and all, at which every way of combining the branches gives something else."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in (*module.named_parameters(), *module.named_buffers()):
            if value.is_floating_point():
                noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
                value.copy_(0.5 + noise.abs() if name.endswith("running_var") else 0.5 * noise)
    return module


def feature_map(*shape, dtype=torch.float64, seed=1):
    """A map whose channel means differ from sample to sample."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (x + torch.randn(*shape[:2], 1, 1, generator=generator, dtype=torch.float64)).to(dtype)
