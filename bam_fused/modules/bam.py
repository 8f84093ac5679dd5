"""BAM, the Bottleneck Attention Module, ending in the fused gate."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._jit_internal import is_scripting
from torch.fx import Proxy

from bam_fused.checks import check_feature_map
from bam_fused.composition import scripted
from bam_fused.composition.path import path_of
from bam_fused.composition.plan import PLAN, Plan, child, containers
from bam_fused.composition.run import finish
from bam_fused.layouts import convert
from bam_fused.layouts.recognise import bam_entries
from bam_fused.modules.adopt import adopt
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
        final: what follows the last layer of each branch, one value or two: (channel, spatial).
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
            When called: x is not (N, channels, H, W) or not in the weights' dtype. In training BatchNorm1d refuses a batch
            of one, as always.
    """

    if TYPE_CHECKING:
        residual_scale: nn.Parameter | None

    __jit_unused_properties__ = ("channels", "combine")

    def __init__(
        self,
        channels: int,
        reduction: int = BAMOptions.reduction,
        dilation: int | Sequence[int] = BAMOptions.dilation,
        *,
        combine: str = BAMOptions.combine,
        branches: str = BAMOptions.branches,
        channel_layers: int = BAMOptions.channel_layers,
        spatial_layers: int = BAMOptions.spatial_layers,
        channel_hidden: str = BAMOptions.channel_hidden,
        spatial_hidden: str = BAMOptions.spatial_hidden,
        spatial_reduce: str | None = BAMOptions.spatial_reduce,
        final: str | Sequence[str] = BAMOptions.final,
        channel_bias: bool | Sequence[bool] = BAMOptions.channel_bias,
        spatial_bias: bool | Sequence[bool] = BAMOptions.spatial_bias,
        mlp: str = BAMOptions.mlp,
        padding: int | Sequence[int] | None = BAMOptions.padding,
        min_hidden: int | None = BAMOptions.min_hidden,
        legacy_pool: bool = BAMOptions.legacy_pool,
        identity_start: bool = BAMOptions.identity_start,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.options = options = BAMOptions(
            channels, reduction, dilation, combine, branches, channel_layers, spatial_layers, channel_hidden,
            spatial_hidden, spatial_reduce, final, channel_bias, spatial_bias, mlp, padding, min_hidden, legacy_pool,
            identity_start,
        )  # fmt: skip
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
        setattr(self, PLAN, self._plan())
        self._combine = combine if branches == "both" else "sum"  # for TorchScript, which can not read the plan

    @property
    def channels(self) -> int:
        """C of the feature maps it takes."""
        return self.options.channels

    @property
    def combine(self) -> str:
        """How the branches are combined."""
        return self.options.combine

    @classmethod
    def official(
        cls,
        channels: int,
        reduction: int = BAMOptions.reduction,
        dilation: int | Sequence[int] = BAMOptions.dilation,
        **options: Any,
    ) -> BAM:
        """The authors' code (Jongchan/attention-module): product, BatchNorm and ReLU after every hidden layer, none last.

        Takes every option of `BAM`; what is given here overrides these four.
        """
        authors = {"combine": "product", "channel_hidden": "bn-relu", "spatial_hidden": "bn-relu", "final": "none"}
        return cls(channels, reduction, dilation, **(authors | options))

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Any],
        *,
        combine: str | None = None,
        prefix: str = "",
        dilation: int | Sequence[int] | None = None,
        padding: int | Sequence[int] | None = None,
        legacy_pool: bool = False,
    ) -> BAM:
        """A BAM with the weights of one BAM in a checkpoint; its layout is recognised by its keys.

        Args:
            state: names to tensors (or NumPy arrays), as `torch.load` or safetensors give them: a module's own state_dict, a
                whole network's, or a training script's dict with a "state_dict" in it; "module." and "_orig_mod." in
                front of every name are dropped, absent num_batches_tracked are zero.
            combine: "sum", "product" or "max". None takes what the layout's own code does, where nobody uses these
                names otherwise; for the authors' names, in use with sum and with product, it must be given.
            prefix: path of the BAM in `state`, such as "bam1" or "features.stage2.unit1.bam"; may be left out where
                there is only one.
            dilation, padding, legacy_pool: what no checkpoint tells; None takes what the layout's own code does, with a
                warning where that code takes several dilations, and a padding equal to the dilation. See `BAM`.

        Raises:
            TypeError: state is not a mapping of names to tensors.
            ValueError: no BAM, several, entries that fit no layout or nearly fit one (which are missing and which are
                too many), shapes that do not fit together, or combine left open.
        """
        fit, entries = bam_entries(state, prefix)
        if combine is None:
            if fit.layout.combine_is_open and fit.channel and fit.spatial:
                raise ValueError(
                    f"combine must be given for layout {fit.layout.name!r}: its names are in use with 'product' and with "
                    f"'sum'; it is {fit.layout.combine!r} in {fit.layout.source}"
                )
            combine = fit.layout.combine
        canonical = convert.to_canonical(fit, entries)
        weight = next(iter(canonical.values()))
        if dilation is None and fit.dilation_is_a_guess:
            warnings.warn(
                f"dilation is a guess: no checkpoint tells it, and code with the names of layout {fit.layout.name!r} takes "
                f"several, {fit.layout.dilation} by default; give dilation=...",
                stacklevel=2,
            )
        bam = cls(
            **convert.options(fit, *convert.widths(fit, entries), entries),
            dilation=fit.layout.dilation if dilation is None else dilation,
            combine=combine,
            padding=padding,
            legacy_pool=legacy_pool,
            device=weight.device,
            dtype=weight.dtype,
        )
        bam.load_state_dict(canonical)
        return bam

    @classmethod
    def from_module(cls, module: nn.Module, *, legacy_pool: bool | None = None) -> BAM:
        """A BAM around the very layers of a live module of a known implementation, sharing its parameters and buffers.

        The module is first compared with its layout on drawn inputs, which also tells how it combines its branches; see
        `replace_bam`, which instead keeps the module and its state_dict keys.

        Args:
            module: a BAM in one of the layouts of `BAM.to_layout`; it stays as it is.
            legacy_pool: as in `replace_bam`.

        Raises:
            TypeError: module is no torch.nn.Module.
            ValueError: its names fit no layout, it computes something else than its layout's code, or its activations are
                not ReLU.
        """
        return adopt(cls, module, legacy_pool)

    def to_layout(self, name: str) -> dict[str, Tensor]:
        """This module's state_dict under another implementation's keys, in its order, sharing memory.

        Args:
            name: one of `bam_fused.layouts.LAYOUTS`, such as "official" or "pytorchcv"; the README lists them.

        Raises:
            TypeError, ValueError: no such layout, or that implementation has other layers, or combines them otherwise.
        """
        return convert.from_canonical(name, self.options, self.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        if not is_scripting():
            return self._forward(x)
        return self._scripted(x)

    def _forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Proxy):
            self._check(x)
        elif (
            x.tracer.root is not self
        ):  # torch.fx records the module as one node, and walks through it at the root only
            return x.tracer.create_proxy("call_module", x.tracer.path_of_module(self), (x,), {})
        plan = self.__dict__[PLAN]
        try:
            path = path_of(self, plan, x)
            if path.run is not None:
                return path.run()
            channel = None if self.channel is None else self.channel(x)
            spatial = None if self.spatial is None else self.spatial(x)
            return finish(self, plan, x, channel, spatial)
        except Exception:
            self._check_dtype(x)
            raise

    def _check(self, x: object) -> None:
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}")
        if x.is_nested:
            check_feature_map("x", x)
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(f"x must have shape (N, {self.channels}, H, W), got {tuple(x.shape)}")

    def _check_dtype(self, x: Tensor) -> None:
        """Say so if what a layer refused was x's dtype, which autocast does not mend where one of the two is float64."""
        plan = self.__dict__[PLAN]
        dtype = child(self, (*plan.channel, *plan.spatial)[0].weight).weight.dtype
        mended = torch.is_autocast_enabled(x.device.type) and torch.float64 not in (dtype, x.dtype)
        if x.dtype != dtype and x.is_floating_point() and not mended:
            raise TypeError(f"x must have dtype {dtype}, which the weights have, got {x.dtype}")

    def _scripted(self, x: Tensor) -> Tensor:
        """What TorchScript compiles; a branch that is not there adds nothing."""
        channel, spatial = x.new_zeros((x.shape[0], x.shape[1])), x.new_zeros((x.shape[0], 1, 1, 1))
        if self.channel is not None:
            channel = self.channel(x)
        if self.spatial is not None:
            spatial = self.spatial(x)
        out = scripted.gate(x, channel, spatial, self._combine)
        if self.residual_scale is not None:
            out = torch.lerp(x, out, self.residual_scale.to(x.dtype))
        return out

    def _plan(self) -> Plan:
        """Both branches' plans in one."""
        channel = () if self.channel is None else tuple(layer.below("channel") for layer in self.channel.plan.channel)
        spatial = () if self.spatial is None else tuple(layer.below("spatial") for layer in self.spatial.plan.spatial)
        return Plan(
            self.channels,
            channel,
            spatial,
            combine=self.combine,
            convolves=self.options.mlp == "conv",
            crops=self.options.legacy_pool and self.channel is not None,
            scales=self.options.identity_start,
            containers=containers(self, (*channel, *spatial)),
        )

    def extra_repr(self) -> str:
        return self.options.describe()
