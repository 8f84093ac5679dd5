"""The grids of the CUDA kernels, as the library chooses them for five GPUs: none is left half idle."""

from __future__ import annotations

import shutil

import pytest
from scripts import ROOT, load

if shutil.which("g++") is None:
    pytest.skip("no C++ compiler (g++) to compile the choice of tilings", allow_module_level=True)

COMMAND = "benchmarks/static/grids.py"
grids = load(COMMAND)


@pytest.fixture(scope="module", params=grids.GPUS, ids=lambda gpu: gpu.name)
def paper(request):
    return [found for found in grids.grids(request.param, grids.PAPER) if found.batch >= 8]


def _name(found) -> str:
    return f"{found.operation} {found.dtype} {found.batch}x{found.shape} {found.layout}"


def test_waves_are_filled_unless_the_work_is_smaller(paper):
    assert [_name(g) for g in paper if g.tiling.can_fill and g.tiling.filled < 0.9] == []


def test_partial_sums_are_added_up_in_a_tenth_of_the_traffics_time(paper):
    """Or in two round trips: one for the rows and one for the columns are the least there is.

    float64, which is there to be exact, is left out: its partial sums are twice as wide.
    """
    fast = [g for g in paper if g.dtype != "float64"]
    assert [_name(g) for g in fast if g.tail > 0.1 * g.traffic and g.tiling.tail_trips > 2] == []


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
