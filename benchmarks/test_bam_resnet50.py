"""pytorchcv's bam_resnet50 as it comes and after replace_bam, in inference and in training."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bam_fused.bench import replay

OPERATION = "bam_resnet50"


@pytest.mark.benchmark(timer=replay.clock)
def test_bam_resnet50(report_samples: Callable[[str], None], competitor: str) -> None:
    report_samples(competitor)
