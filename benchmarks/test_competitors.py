"""Every operation, module and network of bam_fused.bench: eager forms, torch.compile, ONNX Runtime, ours, and the copies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import replay


@pytest.mark.benchmark(timer=replay.clock)
def test_competitor(report_samples: Callable[[str], None], competitor: str) -> None:
    report_samples(competitor)
