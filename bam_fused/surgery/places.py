"""Where BAMs go in a network: at its bottlenecks, in its blocks, or at modules given by name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from bam_fused.surgery.blocks import ending_in_maps
from bam_fused.surgery.dry_run import Call, Trace
from bam_fused.surgery.fusing import Fusing

BEFORE, AFTER = "before", "after"


@dataclass(frozen=True)
class Place:
    """A BAM's place: on the input or on the output of one module."""

    name: str
    module: nn.Module
    position: str
    channels: int
    height: int
    width: int
    layout: str
    """"NCHW" or "NHWC", the order of the map's dimensions."""
    warning: str = ""
    """What to know about it, such as that the network's own rewriting for inference drops it."""


def place_at(trace: Trace, fused: Fusing, call: Call, position: str) -> Place:
    """The place at a call; ValueError says why there can be none."""
    times = len(trace.calls_of(call.module))
    what = "input" if position == BEFORE else "output"
    value: Any = call.output if position == AFTER else next(iter(call.inputs), None)
    if times > 1:
        raise ValueError(f"{call.name!r} is called {times} times in one forward, a BAM there would act {times} times")
    layout = trace.layout(value)
    if not layout:
        shape = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
        raise ValueError(f"the {what} of {call.name!r} is no feature map (N, C, H, W) or (N, H, W, C) but {shape}")
    by = fused.lost.get(id(call.module))
    warning = f"{by} for inference drops this BAM" if by else ""
    return Place(call.name, call.module, position, *trace.size(value), layout, warning)


def named(model: nn.Module, trace: Trace, fused: Fusing, names: Sequence[str], position: str) -> list[Place]:
    """The places at the modules of these names.

    Raises:
        ValueError: a name is given twice or names no module; the dry run does not reach it, calls it several times, or
            it does not handle a feature map.
    """
    modules = dict(model.named_modules())
    places = []
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"at names {name!r} twice")
        if name not in modules or not name:
            close = difflib.get_close_matches(name, modules)
            raise ValueError(
                f"at names {name!r}, which is no module of the model" + (f"; near: {close}" if close else "")
            )
        calls = trace.calls_of(modules[name])
        if not calls:
            reason = f"; the dry run ended with: {trace.error}" if trace.error else ""
            raise ValueError(
                f"at names {name!r}, which the model does not call{reason} (`example` gives another input)"
            )
        places.append(place_at(trace, fused, calls[0], position))
    return places


def every_block(trace: Trace, fused: Fusing) -> list[Place]:
    """The end of each block's own branch, before a residual addition; else the block's output.

    Else: where nothing is added, or where inference merges the branch away.

    Raises:
        ValueError: the network has no blocks, or none that ends in a feature map.
    """
    found = ending_in_maps(trace, fused)
    instead = "name the modules instead, at=[...]"
    if not found:
        tokens = any(join.kind == "tokens" for join in trace.joins)
        what = "its blocks return tokens" if tokens else "no module of the model adds or concatenates"
        raise ValueError(f"at='every-block': {what}{', not' if tokens else ''} feature maps (N, C, H, W); {instead}")
    try:
        return [place_at(trace, fused, _end(trace, fused, block), AFTER) for block in found]
    except ValueError as error:
        raise ValueError(f"at='every-block': {error}; {instead}") from error


def _end(trace: Trace, fused: Fusing, block: Call) -> Call:
    """What returns the branch that the block's last addition adds, or the block itself."""
    branches = [join.branch for join in trace.joins if join.inside is block and join.kind != "cat"]
    branch = branches[-1] if branches else None
    if branch is None or block not in branch.parents or len(trace.calls_of(branch.module)) > 1:
        return block
    return branch if trace.layout(branch.output) and id(branch.module) not in fused.lost else block
