"""global_avg_pool in Triton, against float64."""

from __future__ import annotations

import pytest
import torch
from accuracy import assert_no_worse_than_eager
from drawing import DTYPES, FORMATS, VIEWS, feature_map
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bam_fused
from bam_fused import reference
from bam_fused.backends.triton import heuristics

pytestmark = [pytest.mark.triton_interpret, pytest.mark.usefixtures("triton_backend")]

drawn = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # fixtures that only choose the backend
)


def check(device, x, config=None):
    from bam_fused.backends.triton import global_avg_pool

    ours = global_avg_pool.global_avg_pool(x.to(device), config)
    assert ours.dtype == x.dtype
    addend = x.double().abs().max().item() if x.numel() else 0.0
    assert_no_worse_than_eager(
        "mean", ours.cpu(), reference.global_avg_pool(x), reference.global_avg_pool(x.double()), addend
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("format", FORMATS)
def test_values(poisoned, device, dtype, format):
    for shape in ((2, 16, 7, 7), (1, 24, 14, 14), (2, 5, 6, 10), (1, 3, 67, 71), (3, 17, 1, 1), (2, 1, 5, 3)):
        check(device, feature_map(shape, dtype, format))


@pytest.mark.parametrize("view", VIEWS)
def test_every_view(poisoned, device, view):
    for shape in ((2, 12, 4, 5), (1, 3, 1, 5), (3, 17, 1, 1), (2, 1, 5, 3)):
        check(device, feature_map(shape, torch.float32, view))


@drawn
@given(st.data())
def test_any_tiling_gives_the_same(device, data):
    """Drawn shapes under drawn tilings, those with partial sums and empty splits among them."""
    shape = tuple(
        data.draw(st.integers(1, top), label=name) for name, top in (("N", 2), ("C", 24), ("H", 12), ("W", 12))
    )
    format = data.draw(st.sampled_from(VIEWS))
    tile_rows, tile_columns = (2 ** data.draw(st.integers(0, 6)) for _ in range(2))
    splits, unroll = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4))
    config = heuristics.TileConfig(tile_rows, tile_columns, False, splits, 4, unroll)
    check(device, feature_map(shape, data.draw(st.sampled_from(DTYPES)), format), config)


def test_what_lies_next_to_a_view_is_not_read(device):
    memory = torch.full((4, 8, 6, 6), float("nan"))
    memory[1:3, 2:5] = 1.0
    assert torch.equal(bam_fused.global_avg_pool(memory[1:3, 2:5].to(device)).cpu(), torch.ones(2, 3))


def test_large_sums_in_half_precision(device):
    """The sum of 4,096 values of 100 overflows float16; their mean does not."""
    for format in ("contiguous", "channels_last"):
        check(device, feature_map((1, 3, 64, 64), torch.float16, format).fill_(100.0))


def test_gradcheck(device):
    x = feature_map((2, 3, 4, 5), torch.float64).to(device).requires_grad_()
    assert torch.autograd.gradcheck(bam_fused.global_avg_pool, (x,), fast_mode=True)


@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (2, 0, 3, 3)])
def test_nothing_to_do(device, shape):
    assert bam_fused.global_avg_pool(feature_map(shape).to(device)).shape == shape[:2]


def test_of_no_pixels_is_nan_as_in_eager(device):
    assert bam_fused.global_avg_pool(feature_map((2, 4, 0, 3)).to(device)).isnan().all()
