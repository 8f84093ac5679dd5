"""gate: the authors' expression, torch.compile, ONNX Runtime and the fused operator, beside a copy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bam_fused.bench import replay

OPERATION = "gate"


@pytest.mark.benchmark(timer=replay.clock)
def test_gate(report_samples: Callable[[str], None], competitor: str) -> None:
    report_samples(competitor)
