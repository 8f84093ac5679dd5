"""A sample's bits do not depend on the batch it is in."""

from __future__ import annotations

import pytest
import torch
from checking import with_gradients
from drawing import DTYPES, feature_map, gradient, logits
from hypothesis import given, settings
from hypothesis import strategies as st

import bam_fused
from bam_fused.backends.triton import heuristics
from bam_fused.backends.triton.rows import extent_of

NOWHERE = torch.device("meta")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_sums_are_cut_alike_for_every_batch(data):
    size = tuple(data.draw(st.integers(1, top), label=name) for name, top in (("C", 2048), ("H", 112), ("W", 112)))
    dtype, rows_are_channels, dense = (
        data.draw(st.sampled_from(DTYPES)),
        data.draw(st.booleans()),
        data.draw(st.booleans()),
    )
    for choose in (heuristics.gate_backward, heuristics.global_avg_pool):
        configs = set()
        for batch in (1, 2, 31, 1024):
            extent = extent_of((batch, *size), rows_are_channels)
            stride = 0 if batch == 1 else extent.rows * extent.columns
            configs.add(choose(extent, dtype, NOWHERE, dense, (stride,)))
        assert len(configs) == 1


@pytest.mark.triton_interpret
@pytest.mark.usefixtures("triton_backend")
@pytest.mark.parametrize("format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", [(4, 24, 14, 14), (3, 7, 37, 11)], ids=str)
def test_same_bits_alone_and_in_a_batch(device, format, shape):
    x, grad = feature_map(shape, torch.float32, format).to(device), gradient(shape, torch.float32, format).to(device)
    channel, spatial = (tensor.to(device) for tensor in logits(shape))

    def results(chosen):
        gated = with_gradients(bam_fused.gate, *(tensor[chosen] for tensor in (x, channel, spatial, grad)), "sum")
        return *gated, bam_fused.global_avg_pool(x[chosen])

    together = results(slice(None))
    for n in range(shape[0]):
        for one, other in zip(results(slice(n, n + 1)), together, strict=True):
            assert torch.equal(one[0], other[n])
