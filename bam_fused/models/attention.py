"""What the paper puts into its networks: BAM at the bottlenecks, BAM in every block, or Squeeze-and-Excitation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bam_fused.modules import BAM

KINDS = (None, "bam", "bam-c", "se")


class SqueezeExcitation(nn.Module):
    """Squeeze-and-Excitation (Hu et al., arXiv:1709.01507): ``x * sigmoid(W1 relu(W0 mean(x) + b0) + b1)``.

    Args:
        channels: C of the input (N, C, H, W), which the output has too.
        reduction: the hidden width is ``max(1, channels // reduction)``.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.expand(torch.relu(self.reduce(x.mean((2, 3)))))
        return x * torch.sigmoid(scale)[:, :, None, None]


class Attention:
    """Which attention a network gets, and with which options; a network asks it at every place that may hold one.

    Args:
        kind: None, "bam" (at the bottlenecks), "bam-c" (BAM in every block, the paper's table 2) or "se" (in every block).
        options: keyword arguments of `BAM` (reduction, dilation, combine, branches, ...), and ``official=True`` for
            `BAM.official` in its place; of "se" `reduction` alone.

    Raises:
        TypeError, ValueError: `attention` is none of these, or has no such option.
    """

    def __init__(self, kind: str | None, options: Mapping[str, Any]) -> None:
        if kind is not None and not isinstance(kind, str):
            raise TypeError(f"attention must be None or a string, got {type(kind).__name__}")
        if kind not in KINDS:
            raise ValueError(f"attention must be one of {KINDS}, got {kind!r}")
        if kind is None and options:
            raise TypeError(f"attention=None takes no options, got {sorted(options)}")
        if kind == "se" and options.keys() - {"reduction"}:
            raise TypeError(f"attention='se' takes no option but reduction, got {sorted(options)}")
        self.kind = kind
        self.options = dict(options)
        self._bam = BAM.official if self.options.pop("official", False) else BAM

    def at_bottleneck(self, channels: int) -> nn.Module:
        """The module between two stages, before a downsampling."""
        return self._bam(channels, **self.options) if self.kind == "bam" else nn.Identity()

    def in_block(self, channels: int) -> nn.Module:
        """The module at the end of a block's own branch, before a residual addition."""
        if self.kind == "bam-c":
            return self._bam(channels, **self.options)
        return SqueezeExcitation(channels, **self.options) if self.kind == "se" else nn.Identity()


def initialise(network: nn.Module) -> None:
    """He initialisation (fan out) of every convolution outside the attention modules, which have their own."""
    for child in network.children():
        if isinstance(child, (BAM, SqueezeExcitation)):
            continue
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu")
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        initialise(child)
