"""global_avg_pool: avg_pool2d over the whole map, the mean, torch.compile, ONNX Runtime and the fused operator."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bam_fused.bench import replay

OPERATION = "global_avg_pool"


@pytest.mark.benchmark(timer=replay.clock)
def test_global_avg_pool(report_samples: Callable[[str], None], competitor: str) -> None:
    report_samples(competitor)
