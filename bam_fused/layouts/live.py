"""The fused forward of a live module of a known layout: its own children, this package's pool and gate."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from bam_fused.functional.attend import attend, left_crop
from bam_fused.functional.global_avg_pool import global_avg_pool
from bam_fused.layouts.layout import Fit, Row

Path = tuple[str, ...]
RELU: Path = ()  # a step that is a function, not a child


@dataclass(frozen=True)
class Plan:
    """How to run a live BAM: plain data, so that it is copied and pickled with the module."""

    layout: str
    combine: str
    channels: int
    channel: tuple[Path, ...]
    """The children to call in turn on the pooled vector."""
    spatial: tuple[Path, ...]
    """The children to call in turn on the feature map."""
    bypassed: tuple[tuple[Path, int], ...]
    """The children that are not called as modules (containers, pools, the sigmoid), and how many children each has."""
    convolves: bool
    """Whether the channel branch is made of 1x1 convolutions."""
    crops: bool = False
    """Whether to pool the left H x H crop, as the authors' code does."""


def entry_names(module: nn.Module) -> list[str]:
    """The names of a module's parameters and buffers, one that is there twice under both."""
    named = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    return [name for name, _ in named]


def make_plan(module: nn.Module, fit: Fit) -> Plan:
    """The plan of a live module whose entries fit a layout.

    Raises:
        ValueError: a child that the layout names is not there.
    """
    children = dict(module.named_modules(remove_duplicate=False))
    channel, spatial = (_steps(rows, children) for rows in (fit.channel, fit.spatial))
    called = {".".join(path) for path in (*channel, *spatial)}
    first = children[fit.channel[0].layer]
    reduction = children[fit.spatial[0].layer]
    return Plan(
        layout=fit.layout.name,
        combine=fit.layout.combine,
        channels=reduction.weight.shape[1],
        channel=channel,
        spatial=spatial,
        bypassed=tuple(
            (_path(name), len(module._modules))
            for name, module in children.items()
            if name and not _inside(name, called)
        ),
        convolves=isinstance(first, nn.Conv2d),
    )


def _steps(rows: tuple[Row, ...], children: dict[str, nn.Module]) -> tuple[Path, ...]:
    steps: list[Path] = []
    for row in rows:
        for child in (row.layer, row.norm):
            if child is not None:
                if child not in children:
                    raise ValueError(f"it has no child {child}")
                steps.append(_path(child))
        if row.relu:
            steps.append(_path(row.relu) if isinstance(row.relu, str) and row.relu in children else RELU)
    return tuple(steps)


def _path(name: str) -> Path:
    return tuple(name.split("."))


def _inside(name: str, called: set[str]) -> bool:
    """Whether a child is called, or is part of one that is."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in called for end in range(1, len(parts) + 1))


def child(module: nn.Module, path: Path) -> nn.Module:
    """The child at a path; not by `getattr`, which at some twenty children a call would cost more than the gate."""
    for name in path:
        module = module._modules[name]  # type: ignore[assignment]
    return module


def _branch(module: nn.Module, steps: tuple[Path, ...], features: Tensor) -> Tensor:
    for path in steps:
        features = F.relu(features) if path == RELU else child(module, path)(features)
    return features


def run(module: nn.Module, plan: Plan, x: Tensor) -> Tensor:
    """The forward of a live BAM by its plan."""
    pooled = global_avg_pool(left_crop(x) if plan.crops else x)
    channel = _branch(module, plan.channel, pooled[:, :, None, None] if plan.convolves else pooled)
    return attend(x, channel.flatten(1), _branch(module, plan.spatial, x), plan.combine)


def can_run(module: nn.Module, plan: Plan, x: object) -> bool:
    """Whether the plan stands for the original forward on this input: else the original must run.

    It does not for what is no feature map, for a map that the authors' pool refuses, nor while something waits on a child
    that the plan does not call: a hook, a forward set on the instance, or a layer added to a container.
    """
    if not isinstance(x, Tensor) or x.dim() != 4:
        return False
    if plan.crops and not x.shape[2] <= x.shape[3] < 2 * x.shape[2]:
        return False
    return not any(_wants_a_call(child(module, path), count) for path, count in plan.bypassed)


def _wants_a_call(module: nn.Module, count: int) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
        or len(module._modules) != count
    )
