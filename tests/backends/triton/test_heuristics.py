"""The rules that choose tiles and splits: workspaces within their share, no empty split, GPUs filled; no Triton needed."""

from __future__ import annotations

import math

import pytest
import torch
from drawing import DTYPES
from hypothesis import given, settings
from hypothesis import strategies as st

from bam_fused.backends.triton import heuristics
from bam_fused.backends.triton.heuristics import WORKSPACE_SHARE, TileConfig
from bam_fused.backends.triton.rows import Extent, choose_rows, extent_of, strides_of

NOWHERE = torch.device("meta")


def _cover(size: int, block: int) -> int:
    return -(-size // block)


def _backward(extent: Extent, dtype: torch.dtype) -> TileConfig:
    return heuristics.gate_backward(extent, dtype, NOWHERE, True, (extent.rows * extent.columns,))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_workspaces_keep_to_their_share(data):
    """Partial sums of the backward: under 5 % of x wherever x is large enough for its traffic to matter."""
    shape = tuple(
        data.draw(st.integers(1, top), label=name) for name, top in (("N", 64), ("C", 2048), ("H", 224), ("W", 224))
    )
    extent = extent_of(shape, data.draw(st.booleans()))
    dtype = data.draw(st.sampled_from(DTYPES))
    config = _backward(extent, dtype)
    column_splits = _cover(extent.columns, config.tile_columns)
    kept = (config.splits * extent.columns if config.splits > 1 else 0) + (
        column_splits * extent.rows if column_splits > 1 else 0
    )
    x_bytes = extent.rows * extent.columns * dtype.itemsize
    if heuristics.BATCH * x_bytes >= heuristics.SMALL_BYTES and config.splits > 1:
        assert kept * max(4, dtype.itemsize) <= WORKSPACE_SHARE * x_bytes
    walk = _cover(extent.rows, config.tile_rows * config.unroll)
    assert _cover(walk, _cover(walk, config.splits)) == config.splits, "an empty split"
    assert config.tile_rows * config.tile_columns <= heuristics.LARGEST_DENSE_TILE
    assert config.fits(extent)


@pytest.mark.parametrize("rows_are_channels", [True, False], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("shape", [(32, 256, 56, 56), (32, 512, 28, 28), (32, 1024, 14, 14), (32, 2048, 7, 7)], ids=str)
def test_the_paper_bottlenecks_fill_a_gpu(shape, rows_are_channels):
    extent = extent_of(shape, rows_are_channels)
    config = _backward(extent, torch.bfloat16)
    programs = extent.samples * _cover(extent.columns, config.tile_columns) * config.splits
    assert programs >= 690  # more than five for each of an H200's 132 multiprocessors, with 8 KB under way each


@pytest.mark.parametrize("rows_are_channels", [True, False], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("batch", [1, 8, 32, 256])
@pytest.mark.parametrize("size", [(256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7), (256, 17, 19)], ids=str)
def test_the_gate_fills_a_gpu_and_its_lanes(size, batch, rows_are_channels):
    extent = extent_of((batch, *size), rows_are_channels)
    width = 8
    row_step = width // math.gcd(width, extent.columns)
    config = heuristics.gate(extent, torch.bfloat16, NOWHERE, width, row_step)
    assert config.fits(extent) and config.group_rows % row_step == 0
    groups = _cover(extent.rows, config.group_rows)
    tiles = _cover(config.group_rows * extent.columns, config.vectors * width)
    lanes = groups * tiles * config.vectors * width
    assert extent.rows * extent.columns >= 0.87 * lanes
    most = extent.samples * tiles * groups  # programs, if none walked
    assert extent.samples * tiles * config.splits >= min(most, heuristics.PROGRAMS)
    steps = _cover(groups, config.unroll)
    assert _cover(steps, _cover(steps, config.splits)) == config.splits, "an empty split"


def test_rows_that_begin_at_no_multiple_of_a_vector_are_loaded_as_one_run():
    for pixels in (7, 14):
        assert _backward(extent_of((32, 256, pixels, pixels), True), torch.bfloat16).dense
    assert not _backward(extent_of((32, 256, 56, 56), True), torch.bfloat16).dense
    assert not heuristics.gate_backward(extent_of((32, 256, 7, 7), True), torch.bfloat16, NOWHERE, False, ()).dense


@pytest.mark.parametrize(
    ("shape", "stride", "rows_are_channels"),
    [
        ((2, 8, 5, 7), (280, 35, 7, 1), True),
        ((2, 8, 5, 7), (280, 1, 56, 8), False),
        ((2, 8, 1, 1), (8, 1, 1, 1), False),  # the longer rows
        ((2, 1, 5, 7), (35, 1, 7, 1), True),
        ((2, 8, 5, 7), (280, 35, 1, 5), None),
        ((2, 8, 5, 7), (0, 0, 0, 0), None),
    ],
)
def test_choice_of_rows(shape, stride, rows_are_channels):
    assert choose_rows(shape, stride) is rows_are_channels


def test_strides_of_dimensions_of_size_one_do_not_matter():
    assert strides_of((1, 4, 1, 3), (999, 3, 777, 1), True) == (0, 3, 1)
    assert strides_of((2, 1, 3, 3), (9, 555, 3, 1), True) == (9, 9, 1)
    assert strides_of((2, 4, 1, 1), (4, 1, 55, 66), False) == (4, 4, 1)
