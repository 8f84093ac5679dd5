"""The blocks of a network: the units that its stages repeat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from bam_fused.modules import BAM
from bam_fused.surgery.dry_run import Call, Join, Trace
from bam_fused.surgery.fusing import Fusing


def blocks(trace: Trace, fused: Fusing) -> tuple[str, list[Call]]:
    """The outermost modules whose forward adds or, if none does, concatenates feature maps, and that are no stage.

    Outermost, since a block may hold more additions: those of its attention or normalisation (ConvNeXt V2, YOLO11) and of
    branches that inference merges into one convolution (RepVGG, FastViT). Modules of the same classes count too: a strided
    block of MobileNetV2 is a block although it adds nothing. Returns the kind of join, "add", "cat" or "" where there are
    no blocks.
    """
    tokens = any(join.kind == "tokens" for join in trace.joins)  # of a transformer, whose head may concatenate its maps
    for kind in ("add",) if tokens else ("add", "cat"):
        found = blocks_of(trace, kind, fused)
        if found:
            return kind, found
    return "", []


def ending_in_maps(trace: Trace, fused: Fusing) -> list[Call]:
    """The blocks for which there can be a BAM: with those that add tokens and return a map of them (DaViT)."""
    _, found = blocks(trace, fused)
    return _outermost([*found, *(call for call in blocks_of(trace, "tokens", fused) if trace.layout(call.output))])


def blocks_of(trace: Trace, kind: str, fused: Fusing) -> list[Call]:
    """The blocks that one kind of join makes; see `blocks`."""
    units = _units(trace, kind, fused)
    joins = [join for join in trace.joins if join.kind == kind]
    stages = {unit for unit in units if _is_stage(unit, units, joins)}
    classes = {type(unit.module) for unit in _outermost(unit for unit in units if unit not in stages)}
    alike = [call for call in trace.calls if type(call.module) in classes and call not in stages]
    return _outermost(call for call in alike if call.children and id(call.module) not in fused.lost)


def _units(trace: Trace, kind: str, fused: Fusing) -> list[Call]:
    """The finished calls, but the model's own, whose module joins in its forward and may be a block.

    That are neither layers nor, unless there is nothing else, modules that inference merges.
    """
    joining = dict.fromkeys(join.inside for join in trace.joins if join.kind == kind and join.inside.parents)
    finished = [call for call in joining if call.end > 0 and call.children and not isinstance(call.module, BAM)]
    units = [call for call in finished if id(call.module) not in fused.lost]
    return [call for call in units if id(call.module) not in fused.merged] or units


def _is_stage(call: Call, units: Sequence[Call], joins: Iterable[Join]) -> bool:
    """Whether a call is more than a block: it holds several blocks of one class, or blocks of several sizes."""
    inside = [unit for unit in units if call in unit.parents]
    repeated = max(Counter(type(unit.module) for unit in inside).values(), default=0) > 1
    sizes = {join.size for join in joins if join.inside is call or join.inside in inside}
    return repeated or len(sizes) > 1


def _outermost(calls: Iterable[Call]) -> list[Call]:
    calls = list(dict.fromkeys(calls))
    every = set(calls)
    return [call for call in calls if every.isdisjoint(call.parents)]
