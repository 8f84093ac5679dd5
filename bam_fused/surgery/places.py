"""Where BAMs go in a network: at its bottlenecks, in its blocks, or at modules given by name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from bam_fused.modules import BAM
from bam_fused.surgery.dry_run import Call, Trace

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


def _place(trace: Trace, call: Call, position: str) -> Place:
    """The place at a call; ValueError says why there can be none."""
    times = len(trace.calls_of(call.module))
    what = "input" if position == BEFORE else "output"
    value: Any = call.output if position == AFTER else next(iter(call.inputs), None)
    if times > 1:
        raise ValueError(f"{call.name!r} is called {times} times in one forward, a BAM there would act {times} times")
    if not trace.is_map(value):
        shape = tuple(value.shape) if hasattr(value, "shape") else type(value).__name__
        raise ValueError(f"the {what} of {call.name!r} is no feature map (N, C, H, W) but {shape}")
    return Place(call.name, call.module, position, value.shape[1], value.shape[2], value.shape[3])


def named(model: nn.Module, trace: Trace, names: Sequence[str], position: str) -> list[Place]:
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
        places.append(_place(trace, calls[0], position))
    return places


def blocks(trace: Trace) -> tuple[str, list[Call]]:
    """The network's blocks: innermost modules whose forward adds or, if none does, concatenates feature maps.

    Modules of the same classes count too: a strided block of MobileNetV2 is a block although it adds nothing. Returns the
    kind of join, "add", "cat" or "" where there are no blocks.
    """
    for kind in ("add", "cat"):
        classes = {type(call.module) for call in _innermost(_joining(trace, kind))}
        found = _innermost(call for call in trace.calls if type(call.module) in classes)
        if found:
            return kind, found
    return "", []


def _joining(trace: Trace, kind: str) -> list[Call]:
    """The finished calls, but the model's own, whose module joins in its forward."""
    inside = [join.inside for join in trace.joins if join.kind == kind and join.inside.parents]
    return [call for call in inside if call.end > 0 and not isinstance(call.module, BAM)]


def _innermost(calls: Iterable[Call]) -> list[Call]:
    calls = list(dict.fromkeys(calls))
    outer = {parent for call in calls for parent in call.parents}
    return [call for call in calls if call not in outer]


def every_block(trace: Trace) -> list[Place]:
    """The end of each block's own branch, before a residual addition; the block's output where nothing is added.

    Raises:
        ValueError: the network has no blocks, or none that ends in a feature map.
    """
    _, found = blocks(trace)
    if not found:
        raise ValueError("at='every-block': no module of the model adds or concatenates feature maps (N, C, H, W)")
    places = []
    for block in found:
        branches = [join.branch for join in trace.joins if join.inside is block and join.kind == "add"]
        branch = branches[-1] if branches else None
        inside = branch is not None and block in branch.parents and len(trace.calls_of(branch.module)) == 1
        places.append(_place(trace, branch if inside and branch else block, AFTER))
    return places


def bottlenecks(trace: Trace) -> list[Place]:
    """The last map before each downsampling, as the paper places BAM.

    That is the output of the last block at each map size or, in a network without blocks, of the last module. In networks
    that reduce the image by 16 or more, maps larger than a quarter of the image get none: so it is in all of the paper's
    networks. A DenseNet gets one after each transition as well (the paper's table 3).

    Raises:
        ValueError: there is no downsampling between feature maps.
    """
    kind, found = blocks(trace)
    tokens = _innermost(_joining(trace, "tokens"))  # blocks as well, though only a stage's output may be a map
    chosen = _before_downsampling(trace, found + tokens, kind)
    if not chosen and not tokens:
        chosen = _before_downsampling(trace, [], "")  # blocks in the decoder only, as in a U-Net
    if not chosen:
        raise ValueError(
            "at='auto': no downsampling between feature maps (N, C, H, W) was seen; name the modules instead, at=[...]"
        )
    return [_place(trace, call, AFTER) for call in chosen]


def _before_downsampling(trace: Trace, found: list[Call], kind: str) -> list[Call]:
    """For each downsampling the call that returned the last map before it, and DenseNet's transitions."""
    inner = {call for block in found for call in _descendants(block)}
    maps = [call for call in trace.calls if call not in inner and call.parents and trace.is_wide(call.output)]
    holds_block = {id(call) for block in found for call in (block, *block.parents)}
    image = trace.image.shape[-2]
    smallest = min((call.output.shape[-2] for call in maps), default=image)
    largest = image / 3 if round(math.log2(image / smallest)) >= 4 else image
    chosen: list[Call] = []
    size = image
    for index, call in enumerate(maps):
        rows = call.output.shape[-2]
        if size / 5 < rows <= size * 0.75:  # neither an unpadded convolution nor a pooling of everything
            before = [earlier for earlier in maps[:index] if earlier.output.shape[-2] == size]
            ends = [earlier for earlier in before if id(earlier) in holds_block] if found else before
            if ends and size <= largest:
                chosen.append(_alone(trace, ends))
                chosen += [
                    after for after in maps if kind == "cat" and _is_transition(after, ends[-1], call, holds_block)
                ]
        size = min(size, rows)
    return chosen


def _descendants(call: Call) -> list[Call]:
    return [inner for child in call.children for inner in (child, *_descendants(child))]


def _alone(trace: Trace, ends: Sequence[Call]) -> Call:
    """Of the calls that returned the last map, the outermost whose module is called once."""
    last = ends[-1]
    same = [call for call in ends if call.output is last.output and len(trace.calls_of(call.module)) == 1]
    return same[-1] if same else last


def _is_transition(call: Call, end: Call, downsampling: Call, holds_block: set[int]) -> bool:
    """Whether a call is the composite module that, after the block end, makes the downsampling."""
    return id(call) not in holds_block and end.end < call.start and downsampling in _descendants(call)
