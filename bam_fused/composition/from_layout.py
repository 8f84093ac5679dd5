"""The plan of a live module of another implementation, from the layout that its names fit."""

from __future__ import annotations

from torch import nn

from bam_fused.composition.plan import RELU, ChildPath, Layer, Plan, containers
from bam_fused.layouts.layout import Fit, Row


def entry_names(module: nn.Module) -> list[str]:
    """The names of a module's parameters and buffers, one that is there twice under both."""
    named = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    return [name for name, _ in named]


def child_names(module: nn.Module) -> set[str]:
    """The names of all children, at any depth, one that is there twice under both."""
    return {name for name, _ in module.named_modules(remove_duplicate=False)}


def make_plan(module: nn.Module, fit: Fit) -> Plan:
    """The plan of a live module whose entries fit a layout.

    Raises:
        ValueError: a child that the layout names is not there.
    """
    children = dict(module.named_modules(remove_duplicate=False))
    channel, spatial = (tuple(_layer(row, children) for row in rows) for rows in (fit.channel, fit.spatial))
    first = children[(fit.spatial or fit.channel)[0].layer]
    return Plan(
        channels=first.weight.shape[1],
        channel=channel,
        spatial=spatial,
        combine=fit.layout.combine,
        convolves=bool(fit.channel) and isinstance(children[fit.channel[0].layer], nn.Conv2d),
        containers=containers(module, (*channel, *spatial)),
        layout=fit.layout.name,
    )


def _layer(row: Row, children: dict[str, nn.Module]) -> Layer:
    for name in (row.layer, row.norm):
        if name is not None and name not in children:
            raise ValueError(f"it has no child {name}")
    activation = None
    if row.relu:
        activation = _path(row.relu) if isinstance(row.relu, str) and row.relu in children else RELU
    return Layer(_path(row.layer), None if row.norm is None else _path(row.norm), activation)


def _path(name: str) -> ChildPath:
    return tuple(name.split("."))
