"""Passes over x counted by the pages that are touched: what the operators and a whole module are held to."""

from __future__ import annotations

import pytest
import torch
from traffic import pages

from bam_fused.backends import cpu
from bam_fused.bench.cases import FORMATS

FLOORS = {
    "bam": 2.0,  # x, and the output
    "gate": 2.0,
    "gate_backward": 3.0,  # the output's gradient, x, and x's gradient
    "gate_logit_grads": 2.0,
    "global_avg_pool": 1.0,
    "squeeze": 1.0,
    "squeeze_input_grad": 2.0,  # the output's gradient, and x's
    "squeeze_weight_grad": 1.0,
    "fused inference": 2.0,
    "fused forward": 3.0,
    "fused backward": 5.0,
}
FLOORS |= {f"{name} bfloat16": passes for name, passes in FLOORS.items() if name.startswith("fused")}

# In passes over the reduction. A norm over the batch needs all of a map before it can change any of it. Sums over what a
# convolution writes are taken meanwhile; the last layer, and each weight's gradient, norm what they read by themselves.
BRANCHES = {
    # The reduction read for its statistics. In front of each of two 3x3 convolutions a norm reads and writes, the
    # convolution reads and writes, the last layer reads.
    "branches": 6.0 + 4.0,
    # The last layer reads its input and writes the gradient. Three norms read the gradient and what was in front, and
    # write. Behind a 3x3 convolution two maps are read for its weight, one read and one written for its input, and one read
    # for the sums of the norm before.
    "branches_backward": 15.0 + 6.0,
}
FLOORS |= BRANCHES


@pytest.mark.skipif(pages.why_not() is not None, reason=f"{pages.why_not()}")
@pytest.mark.skipif(cpu.why_not(torch.device("cpu")) is not None, reason="the CPU library is not built")
def test_memory_sees_no_more_than_the_floor() -> None:
    found = pages.counted("fused", *(name for name in FLOORS if " " not in name))
    assert {(one.name, one.memory_format) for one in found} == {(name, to) for name in FLOORS for to in FORMATS}
    for one in found:
        assert one.passes == pytest.approx(FLOORS[one.name], abs=0.02), one
    for memory_format in FORMATS:
        small = {one.name: one.small for one in found if one.memory_format == memory_format}
        # The small branches: on float32 maps of x's size / 16, or twice that. Where the processor multiplies pairs of
        # bfloat16, both convolutions' gradients are also written, and read, as pairs of positions.
        pairs = 4 / 8 if cpu.instruction_set() == "avx512_bf16" else 0.0
        for dtype, most in (("", 1.2), (" bfloat16", 2.4 + pairs)):
            assert small[f"fused inference{dtype}"] < 0.1
            assert small[f"fused forward{dtype}"] + small[f"fused backward{dtype}"] < most
