"""BAM, the Bottleneck Attention Module, ending in the fused gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bam_fused.modules.attend import attend
from bam_fused.modules.branches import ChannelBranch, SpatialBranch, initialise
from bam_fused.modules.options import BAMOptions


class BAM(nn.Module):
    """Bottleneck Attention Module: ``F' = F + F * sigmoid(combine(Mc(F), Ms(F)))`` for F (N, C, H, W).

    ``Mc`` is a multi-layer perceptron on the globally pooled F, ``Ms`` a 1x1 reduction, dilated 3x3 convolutions and a 1x1
    convolution to one channel. The defaults are the paper's (Park, Woo, Lee, Kweon, "BAM: Bottleneck Attention Module",
    BMVC 2018, equations 1 to 4): the branches are added, hidden layers are followed by ReLU, each branch ends in one
    BatchNorm. `BAM.official` gives the authors' code instead. float32, bfloat16, float16, float64 and autocast; any
    H and W; the output has x's shape, dtype and memory format.

    Args:
        channels: C.
        reduction: the hidden width of both branches is ``channels // reduction``.
        dilation: of the 3x3 convolutions, one number or one for each.
        combine: "sum" (paper), "product" (the authors' code) or "max" (the paper's ablation).
        branches: "both", or "channel" or "spatial" alone (the paper's ablation): F + F * sigmoid of that branch.
        channel_layers, spatial_layers: how many hidden Linear layers, how many dilated convolutions.
        channel_hidden, spatial_hidden: what follows them: "none", "relu", "bn" or "bn-relu".
        spatial_reduce: what follows the 1x1 reduction; None takes `spatial_hidden`.
        final: what follows the last layer of each branch.
        channel_bias, spatial_bias: whether the layers have a bias, one bool or one for each layer.
        mlp: "linear", or "conv" for 1x1 convolutions with BatchNorm2d (the same arithmetic).
        padding: of the 3x3 convolutions; None takes the dilation, which keeps the map's size. Smaller values exist in
            published code; the map left must then be of size 1 to be broadcast.
        min_hidden: a floor for the hidden width, as ``max(min_hidden, channels // reduction)``.
        legacy_pool: pool only the left H x H crop of an input with H < W < 2H, as the authors' code does.
        identity_start: multiply the residual term by a learnable scalar that starts at zero, so that the module first
            returns x exactly: ``F' = F + residual_scale * F * sigmoid(...)``. The scalar has a gradient from the first step
            on, the branches from the second (as in ReZero and SkipInit). It costs one more pass over the feature map.
        device, dtype: where and in what the parameters are made.

    Raises:
        TypeError, ValueError: an option is not one of these, or ``channels // reduction`` is 0 and no `min_hidden` given.
            When called: x is not (N, channels, H, W). In training BatchNorm1d refuses a batch of one, as always.
    """

    residual_scale: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        dilation: int | Sequence[int] = 4,
        *,
        combine: str = "sum",
        branches: str = "both",
        channel_layers: int = 1,
        spatial_layers: int = 2,
        channel_hidden: str = "relu",
        spatial_hidden: str = "relu",
        spatial_reduce: str | None = None,
        final: str = "bn",
        channel_bias: bool | Sequence[bool] = True,
        spatial_bias: bool | Sequence[bool] = True,
        mlp: str = "linear",
        padding: int | Sequence[int] | None = None,
        min_hidden: int | None = None,
        legacy_pool: bool = False,
        identity_start: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.options = options = BAMOptions(
            channels, reduction, dilation, combine, branches, channel_layers, spatial_layers, channel_hidden,
            spatial_hidden, spatial_reduce, final, channel_bias, spatial_bias, mlp, padding, min_hidden, legacy_pool,
            identity_start,
        )  # fmt: skip
        self.channels, self.combine = options.channels, options.combine
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.channel: ChannelBranch | None = None
        self.spatial: SpatialBranch | None = None
        if branches != "spatial":
            self.channel = ChannelBranch(
                options.channel_widths, options.channel_after, options.channel_biases, mlp, legacy_pool, **factory
            )
            initialise(self.channel)
        if branches != "channel":
            self.spatial = SpatialBranch(
                channels, options.hidden, options.dilations, options.paddings, options.spatial_after,
                options.spatial_biases, **factory,
            )  # fmt: skip
            initialise(self.spatial)
        scale = nn.Parameter(torch.zeros((), **factory)) if identity_start else None
        self.register_parameter("residual_scale", scale)

    @classmethod
    def official(cls, channels: int, reduction: int = 16, dilation: int | Sequence[int] = 4, **options: Any) -> BAM:
        """The authors' code (Jongchan/attention-module): product, BatchNorm and ReLU after every hidden layer, none last.

        Takes every option of `BAM`; what is given here overrides these four.
        """
        authors = {"combine": "product", "channel_hidden": "bn-relu", "spatial_hidden": "bn-relu", "final": "none"}
        return cls(channels, reduction, dilation, **(authors | options))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(f"x must have shape (N, {self.channels}, H, W), got {tuple(x.shape)}")
        out = self._attend(x)
        if self.residual_scale is not None:
            out = torch.lerp(x, out, self.residual_scale.to(x.dtype))
        return out

    def _attend(self, x: Tensor) -> Tensor:
        if self.channel is not None and self.spatial is not None:
            return attend(x, self.channel(x), self.spatial(x), self.combine)
        n, c, h, w = x.shape
        zero = x.new_zeros(())  # the branch that is not there adds nothing
        if self.channel is not None:
            return attend(x, self.channel(x), zero.expand(n, 1, h, w), "sum")
        assert self.spatial is not None
        return attend(x, zero.expand(n, c), self.spatial(x), "sum")

    def extra_repr(self) -> str:
        return self.options.describe()
