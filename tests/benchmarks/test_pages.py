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


@pytest.mark.skipif(pages.why_not() is not None, reason=f"{pages.why_not()}")
@pytest.mark.skipif(cpu.why_not(torch.device("cpu")) is not None, reason="the CPU library is not built")
def test_memory_sees_no_more_than_the_floor() -> None:
    found = pages.counted("fused", *(name for name in FLOORS if " " not in name))
    assert {(one.name, one.memory_format) for one in found} == {(name, to) for name in FLOORS for to in FORMATS}
    for one in found:
        assert one.passes == pytest.approx(FLOORS[one.name], abs=0.02), one
    for memory_format in FORMATS:
        inference, *training = [
            one for one in found if one.name.startswith("fused") and one.memory_format == memory_format
        ]
        assert inference.small < 0.1
        assert sum(one.small for one in training) < 3  # the small branches: on maps of a sixteenth of x
