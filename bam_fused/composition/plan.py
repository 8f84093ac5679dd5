"""The plan of a BAM: which of a module's children are its layers, and what happens between them.

Plain data, so that it is copied and pickled with the module that carries it, and children are named, not held, so that a
layer put in place of another later is the one that runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor, nn

ChildPath = tuple[str, ...]
"""Where a child is, from the module down: ("channel_att", "gate_c", "gate_c_fc_0")."""

RELU: ChildPath = ()
"""The activation that is a function, not a child."""

ATTENDED, ATTENTION = "F'", "attention"
"""What a forward may return: F', or 1 + sigmoid(...), which is the F' of a map of ones."""

PLAIN_TENSORS = (Tensor, nn.Parameter)
"""What a layer's tensors are where nobody has put something in their place, as sharding does."""

PLAN = "_bam_fused_plan"
"""The attribute in which a module carries its plan."""


class Layer(NamedTuple):
    """One layer of a branch with what follows it."""

    weight: ChildPath
    """The Linear or Conv2d."""
    norm: ChildPath | None = None
    """What normalises its output."""
    activation: ChildPath | None = None
    """The child that follows, or `RELU`; None where nothing does."""

    def below(self, prefix: str) -> Layer:
        """The same layer, seen from the module whose child `prefix` has it."""
        norm = None if self.norm is None else (prefix, *self.norm)
        return Layer((prefix, *self.weight), norm, (prefix, *self.activation) if self.activation else self.activation)


@dataclass(frozen=True)
class Plan:
    """How to run a BAM."""

    channels: int
    """C of the feature map."""
    channel: tuple[Layer, ...] = ()
    """The channel branch, on the pooled vector; empty where there is none."""
    spatial: tuple[Layer, ...] = ()
    """The spatial branch, on the feature map; empty where there is none."""
    combine: str = "sum"
    """How the branches are combined; says nothing where there is one."""
    convolves: bool = False
    """Whether the channel branch is made of 1x1 convolutions."""
    crops: bool = False
    """Whether to pool the left H x H crop only, as the authors' code does."""
    resizes: bool = False
    """Whether a spatial map smaller than x (padding below the dilation) is resized to x's size, bilinearly."""
    returns: tuple[str, ...] = (ATTENDED,)
    """What the forward returns, each `ATTENDED` or `ATTENTION`; a tuple where there are several."""
    scales: bool = False
    """Whether the module's parameter `residual_scale` multiplies what is added to x."""
    containers: tuple[tuple[ChildPath, int], ...] = ()
    """The children that are not called as modules (containers, pools, the sigmoid), and how many children each has."""
    layout: str | None = None
    """The layout that the module follows; None for a `BAM`."""

    @property
    def branches(self) -> str:
        """Which there are: "both", "channel" or "spatial"."""
        if self.channel and self.spatial:
            return "both"
        return "channel" if self.channel else "spatial"

    @property
    def combined(self) -> str:
        """How the branches are combined, or which there is, in words."""
        return self.combine if self.branches == "both" else f"{self.branches} alone"

    @property
    def only_layer_by_layer(self) -> str | None:
        """What the faster paths do not do; None where there is nothing."""
        if self.returns != (ATTENDED,):
            return "it returns the attention"
        return "it resizes its spatial map" if self.resizes else None

    def alone(self, module: nn.Module, branch: str) -> Plan:
        """The plan of a module that uses one branch, though it has both."""
        channel, spatial = (self.channel, ()) if branch == "channel" else ((), self.spatial)
        return replace(self, channel=channel, spatial=spatial, containers=containers(module, (*channel, *spatial)))


def plan_of(module: nn.Module) -> Plan | None:
    """The plan that a module carries: a `BAM`, or one that `replace_bam` has given the fused forward."""
    return module.__dict__.get(PLAN)


def child(module: nn.Module, path: ChildPath) -> nn.Module:
    """The child at a path; not by `getattr`, which at some twenty children a call would cost more than the gate."""
    for name in path:
        module = module._modules[name]  # type: ignore[assignment]
    return module


class Step(NamedTuple):
    """The live children of one layer."""

    weight: nn.Module
    norm: nn.Module | None
    """None also where the norm is an Identity."""
    relu: bool
    """Any activation counts as a ReLU here."""
    normalises: nn.Module | None
    """The child that is the norm, of any kind."""
    activates: nn.Module | None
    """The child that is the activation."""


class Live(NamedTuple):
    """A module and its layers as they are in one call, for a path that reads their tensors and does not call them.

    Children may be of any kind: ask `waits.on_a_layer` first.
    """

    module: nn.Module
    plan: Plan
    channel: list[Step]
    spatial: list[Step]


def live(module: nn.Module, plan: Plan) -> Live:
    """The children of a module that are its layers now."""
    return Live(module, plan, _steps(module, plan.channel), _steps(module, plan.spatial))


def _steps(module: nn.Module, layers: tuple[Layer, ...]) -> list[Step]:
    resolved = []
    for weight, norm, activation in layers:
        normalises = None if norm is None else child(module, norm)
        activates = child(module, activation) if activation else None
        plain = None if type(normalises) is nn.Identity else normalises
        resolved.append(Step(child(module, weight), plain, activation is not None, normalises, activates))
    return resolved


def containers(module: nn.Module, layers: tuple[Layer, ...]) -> tuple[tuple[ChildPath, int], ...]:
    """The children that a plan of these layers does not call, with how many children each of them has."""
    called = {path for layer in layers for path in layer if path is not None}
    return tuple(
        (path, len(inner._modules))
        for name, inner in module.named_modules(remove_duplicate=False)
        if (path := tuple(name.split("."))) != ("",)
        and not any(path[:end] in called for end in range(1, len(path) + 1))
    )
