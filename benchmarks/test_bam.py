"""The whole module: the authors' arithmetic with avg_pool2d and with the mean, torch.compile, ONNX Runtime and ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bam_fused.bench import replay

OPERATION = "bam"


@pytest.mark.benchmark(timer=replay.clock)
def test_bam(report_samples: Callable[[str], None], competitor: str) -> None:
    report_samples(competitor)
