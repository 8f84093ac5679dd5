"""The bottlenecks of a network: the last map before each downsampling, where the paper places BAM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from bam_fused.surgery.blocks import blocks, blocks_of
from bam_fused.surgery.dry_run import Call, Trace
from bam_fused.surgery.fusing import Fusing
from bam_fused.surgery.places import AFTER, BEFORE, Place, place_at


def bottlenecks(trace: Trace, fused: Fusing) -> list[Place]:
    """The last map before each downsampling, as the paper places BAM.

    That is the output of the last block at each map size or, in a network without blocks, of the last module. A stage
    whose blocks are dilated in place of a stride (DeepLab's) counts as a downsampling. In networks that reduce the image by
    16 or more, maps larger than a quarter of the image get none: so it is in all of the paper's networks. A DenseNet gets
    one after each transition as well (the paper's table 3). Where a stage's tokens become a map outside of any module
    (SegFormer), the BAM acts on the input of the downsampling module.

    Raises:
        ValueError: there is no downsampling between feature maps.
    """
    kind, found = blocks(trace, fused)
    tokens = blocks_of(trace, "tokens", fused)  # blocks as well, though only a stage's output may be a map
    chosen = _Search(trace, fused, found + tokens, kind).places()
    if not chosen and not tokens:
        chosen = _Search(trace, fused, [], "").places()  # blocks in the decoder only, as in a U-Net
    if not chosen:
        raise ValueError(
            "at='auto': no downsampling between feature maps (N, C, H, W) was seen; name the modules instead, at=[...]"
        )
    return chosen


@dataclass(frozen=True)
class _Downsampling:
    """A call that begins a stage: it returns a smaller map, or it is the first block that is dilated in place of that."""

    call: Call
    size: int
    """The rows of the map before it."""


class _Search:
    """The places before the downsamplings of one network with these blocks."""

    def __init__(self, trace: Trace, fused: Fusing, found: Sequence[Call], kind: str) -> None:
        self.trace, self.fused, self.found, self.kind = trace, fused, found, kind
        inner = {call for block in found for call in _descendants(block)}
        self.maps = [call for call in trace.calls if call not in inner and call.parents and trace.is_wide(call.output)]
        self.holds_block = {call for block in found for call in (block, *block.parents)}
        self.mapless = [block for block in found if not trace.layout(block.output)]  # that return tuples (EfficientViM)
        self.dilated = _dilated_stages(trace, found)

    def places(self) -> list[Place]:
        places: list[Place] = []
        largest = self._largest()
        for downsampling in self._downsamplings():
            end = self._end(downsampling) if downsampling.size <= largest else None
            if end is not None:
                places += [end, *self._transitions(downsampling)]
        return list({id(place.module): place for place in places}.values())

    def _rows(self, call: Call) -> int:
        return self.trace.size(call.output)[1]

    def _largest(self) -> float:
        """The largest map, in rows, that gets a BAM."""
        image = self.trace.image.shape[-2]
        smallest = min(map(self._rows, self.maps), default=image)
        halvings = round(math.log2(image / smallest)) + len(self.dilated)
        return image / 3 if halvings >= 4 else image

    def _downsamplings(self) -> list[_Downsampling]:
        found = []
        size = self.trace.image.shape[-2]
        for call in self.maps:
            rows = self._rows(call)
            if size / 5 < rows <= size * 0.75:  # neither an unpadded convolution nor a pooling of everything
                found.append(_Downsampling(call, size))
            elif call in self.dilated:
                found.append(_Downsampling(call, rows))
            size = min(size, rows)
        return found

    def _end(self, downsampling: _Downsampling) -> Place | None:
        """The place of the last map before a downsampling."""
        before = [
            call for call in self.maps if call.end < downsampling.call.start and self._rows(call) == downsampling.size
        ]
        latest = before[-1].end if before else 0
        if any(join.kind == "tokens" and latest <= join.time < downsampling.call.start for join in self.trace.joins):
            return self._input(downsampling)
        ends = [call for call in before if call in self.holds_block] if self.found else before
        maker = next((call for call in downsampling.call.parents if call not in self.holds_block), None)
        if not ends:
            ends = [call for call in before if self._is_stage_of_layers(call)]
            if maker is not None and ends and maker in ends[-1].parents:
                return self._input(downsampling, maker)  # they are the first layers of what makes it
        if ends and any(ends[-1].end < block.end < downsampling.call.start for block in self.mapless):
            return self._input(downsampling, maker)
        return place_at(self.trace, self.fused, self._attachable(ends), AFTER) if ends else None

    def _is_stage_of_layers(self, call: Call) -> bool:
        """Whether a call that holds no block has a container, not the whole network, in common with the blocks."""
        return not self.holds_block.isdisjoint(call.parents[1:])

    def _attachable(self, ends: Sequence[Call]) -> Call:
        """Of the calls that returned the last map, the outermost whose module is called once and stays in inference."""
        last = ends[-1]
        same = [call for call in ends if call.output is last.output and self._is_free(call)]
        return same[-1] if same else last

    def _is_free(self, call: Call) -> bool:
        return len(self.trace.calls_of(call.module)) == 1 and id(call.module) not in self.fused.lost

    def _input(self, downsampling: _Downsampling, maker: Call | None = None) -> Place | None:
        """The place on the input of a downsampling, of the outermost module that takes it; None if that is no map."""
        call = maker or downsampling.call
        value = next(iter(call.inputs), None)
        if self.trace.size(value)[1] != downsampling.size:
            return None
        outer = [parent for parent in call.parents if any(argument is value for argument in parent.inputs[:1])]
        free = [taker for taker in (*outer, call) if self._is_free(taker)]
        return place_at(self.trace, self.fused, (free or [call])[0], BEFORE)

    def _transitions(self, downsampling: _Downsampling) -> list[Place]:
        """DenseNet's: composite modules without a block, after the blocks, that make the downsampling."""
        if self.kind != "cat":
            return []
        inside = [
            call for call in self.maps if downsampling.call in _descendants(call) and call not in self.holds_block
        ]
        return [place_at(self.trace, self.fused, call, AFTER) for call in inside]


def _dilated_stages(trace: Trace, found: Sequence[Call]) -> set[Call]:
    """The first block of each stage that is dilated where it would be strided: wider, as large, more dilated.

    A stage here is a run of blocks of one size and width. Its first block may have the dilation of the stage before.
    """
    runs: list[list[Call]] = []
    for block in sorted(found, key=lambda call: call.start):
        if runs and trace.size(runs[-1][-1].output) == trace.size(block.output):
            runs[-1].append(block)
        else:
            runs.append([block])
    starts = set()
    for before, run in pairwise(runs):
        as_large = trace.size(before[0].output)[1:] == trace.size(run[0].output)[1:]
        if as_large and max(map(_dilation, run)) > max(map(_dilation, before)):
            starts.add(run[0])
    return starts


def _dilation(call: Call) -> int:
    """The largest dilation of the convolutions in a call."""
    layers = [inner.module for inner in _descendants(call) if isinstance(inner.module, nn.Conv2d)]
    return max((max(layer.dilation) for layer in layers if max(layer.kernel_size) > 1), default=1)


def _descendants(call: Call) -> list[Call]:
    return [inner for child in call.children for inner in (child, *_descendants(child))]
