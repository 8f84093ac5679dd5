"""A network with one module of each kind that a BAM can be attached to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """Ends in an addition; strided or wider it has a convolution on its shortcut."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, stride, 1)
        self.bn = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = None if stride == 1 and channels == out else nn.Conv2d(channels, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn(self.conv(x))
        out += x if self.shortcut is None else self.shortcut(x)
        return self.relu(out)


class Walker(nn.Module):
    """Runs through its children, whatever they are."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        for child in self.children():
            x = child(x)
        return x


class Growing(nn.ModuleDict):
    """Its children see everything before them, as in torchvision's dense blocks."""

    def forward(self, x: Tensor) -> Tensor:
        for _, layer in self.items():
            x = torch.cat((x, layer(x)), 1)
        return x


class Reversed(nn.Sequential):
    """A Sequential with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        for child in reversed(list(self)):
            x = child(x)
        return x


class Net(nn.Module):
    """One module of each kind that a BAM can be attached to."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.stage = nn.Sequential(Residual(16, 16), Residual(16, 16))
        self.walker = Walker()
        self.growing = Growing({"a": nn.Conv2d(16, 8, 1), "b": nn.Conv2d(24, 8, 1)})
        self.reversed = Reversed(nn.Conv2d(16, 16, 1), nn.Conv2d(32, 16, 1))
        self.down = Residual(16, 32, 2)
        self.twice = nn.ReLU()
        self.never = nn.ReLU()
        self.fc = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.walker(self.stage(self.stem(x)))
        x = self.twice(self.down(self.twice(self.reversed(self.growing(x)))))
        return self.fc(x.mean((2, 3)))


ATTACHABLE = ("stem", "stage", "walker", "growing", "reversed", "down", "stage.0.bn")


def state(model: nn.Module) -> tuple[Any, Any]:
    """Everything an insertion could change in a model."""
    modules = [(name, type(module), module.training, set(vars(module))) for name, module in model.named_modules()]
    tensors = {key: (tensor.data_ptr(), tensor._version) for key, tensor in model.state_dict(keep_vars=True).items()}
    return modules, tensors


def small() -> Net:
    torch.manual_seed(1)
    return Net().double()
