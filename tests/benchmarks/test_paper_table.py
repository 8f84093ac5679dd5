"""The committed table of parameters and multiply-adds is what the code counts."""

from __future__ import annotations

from pathlib import Path

import paper_table
import pytest
import torch
from torch import nn

from bam_fused import BAM

COMMITTED = Path(__file__).parents[2] / "benchmarks" / "paper_table.md"


def test_the_committed_table_is_current() -> None:
    assert paper_table.markdown() == COMMITTED.read_text(), (
        "run: python benchmarks/paper_table.py > benchmarks/paper_table.md"
    )


@pytest.mark.parametrize(
    ("name", "index"), [(name, i) for name, rows in paper_table.ROWS.items() for i in range(len(rows))]
)
def test_a_row_agrees_or_says_why_not(name: str, index: int) -> None:
    agrees = paper_table.agreement(name, index)[2]
    assert agrees != bool(paper_table.ROWS[name][index].note)


def test_parameters_of_one_module_follow_the_papers_equations() -> None:
    for channels in (64, 128, 256, 512, 1024):
        hidden = channels // 16
        channel = channels * hidden + hidden + hidden * channels + channels + 2 * channels
        spatial = channels * hidden + hidden + 2 * (9 * hidden**2 + hidden) + hidden + 1 + 2
        assert sum(parameter.numel() for parameter in BAM(channels).parameters()) == channel + spatial


def test_multiply_adds_of_one_module() -> None:
    """Two matrix products on the pooled vector; a 1x1, two 3x3 and a 1x1 convolution on the map."""
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(3, 64, 1), BAM(64))
    hidden, size = 4, 8
    expected = size**2 * (3 * 64 + 64 * hidden + 18 * hidden**2 + hidden) + 2 * 64 * hidden
    assert paper_table.count(network, size)[1] == expected
