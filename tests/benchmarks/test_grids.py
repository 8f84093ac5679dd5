"""The grids of the CUDA kernels, as the library chooses them for five GPUs."""

from __future__ import annotations

import shutil

import pytest
from scripts import ROOT, load

if shutil.which("g++") is None:
    pytest.skip("no C++ compiler (g++) to compile the choice of tilings", allow_module_level=True)

COMMAND = "benchmarks/static/grids.py"
grids = load(COMMAND)


@pytest.mark.parametrize("gpu", grids.GPUS, ids=lambda gpu: gpu.name)
def test_no_call_takes_much_longer_than_its_traffic(gpu):
    """By the model, in the batches that fill a GPU; and partial sums are a small part of what is moved."""
    for grid in grids.grids(gpu, grids.PAPER):
        if grid.batch >= 32 and grid.dtype != "float64":
            assert grid.multiple <= 1.7 and grid.partials <= 0.1, grid


def test_a_sample_is_cut_alike_in_every_batch():
    for gpu in grids.GPUS:
        for shape in grids.PAPER:
            of = [grids.grid(gpu, "gate_backward", "bfloat16", shape, "nchw", batch).tiling for batch in (1, 3, 8, 500)]
            assert len({(t.threads, t.group_rows, t.slab_slots, t.slabs, t.split_rows) for t in of}) == 1


def test_a_multiprocessor_holds_what_the_occupancy_calculator_says():
    h200, _, _, l4, _ = grids.GPUS
    assert [h200.resident(80, 8208, warps) for warps in (2, 5, 7, 8)] == [12, 4, 3, 3]
    assert h200.resident(64, 0, 8) == 4 and h200.resident(32, 0, 1) == 32
    assert l4.resident(40, 0, 8) == 6 and l4.resident(40, 60_000, 8) == 1


def test_the_committed_pages_are_up_to_date():
    for gpu in grids.GPUS:
        committed = grids.path((ROOT / COMMAND).with_suffix(""), gpu)
        assert committed.read_text() == grids.page(gpu), "make them again: python benchmarks/static/grids.py"
