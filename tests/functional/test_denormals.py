"""Numbers below the smallest normal one: their roundings are steps of a fixed size, not parts of what they round."""

from __future__ import annotations

import math

import pytest
import torch
from accuracy import assert_no_worse_than_eager, noise_of_sums
from checking import NAMES, with_gradients
from drawing import COMBINES, feature_map, gradient, logits

import bam_fused
from bam_fused import reference

SHAPES = ((3, 1, 11, 10), (2, 16, 13, 1), (2, 40, 7, 7))


@pytest.mark.parametrize("tiny", [0, 1, 2, 3], ids=["x", "channel", "spatial", "grad"])
@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_gate(dtype, combine, tiny):
    smallest = torch.finfo(dtype).tiny
    for shape in SHAPES:
        for scale in (1.0, 1e-2, 1e-5):
            tensors = [feature_map(shape, dtype), *logits(shape, dtype, 30.0), gradient(shape, dtype)]
            tensors[tiny] *= scale * smallest
            ours = with_gradients(bam_fused.gate, *tensors, combine)
            eager = with_gradients(reference.gate, *tensors, combine)
            exact = with_gradients(reference.gate, *(t.double() for t in tensors), combine)
            x, channel, spatial, grad = tensors
            # An addend is off by up to a step, then multiplied by the other logit; they add up as random signs do.
            largest = max(channel.abs().max().item(), spatial.abs().max().item(), 1.0)
            steps = smallest * largest * math.sqrt(max(shape[1], shape[2] * shape[3]))
            noise = noise_of_sums(grad, x, channel, spatial, combine) + steps
            for name, a, b, c in zip(NAMES, ours, eager, exact, strict=True):
                assert_no_worse_than_eager(name, a, b, c, noise if name in NAMES[2:] else smallest)
