"""The gradients of the logits alone, by Triton: what a gate over a map that needs none asks for."""

from __future__ import annotations

import pytest
import torch
from drawing import feature_map, gradient, logits

import bam_fused
from bam_fused import reference

pytestmark = [pytest.mark.triton_interpret, pytest.mark.usefixtures("triton_backend")]


def test_a_map_that_needs_no_gradient(device):
    shape = (2, 8, 5, 6)
    x, grad = feature_map(shape).to(device), gradient(shape).to(device)
    channel, spatial = (t.to(device).requires_grad_() for t in logits(shape))
    ours = torch.autograd.grad(bam_fused.gate(x, channel, spatial), (channel, spatial), grad)
    exact = reference.gate_backward(*(t.detach().double() for t in (grad, x, channel, spatial)))[1:]
    for actual, expected in zip(ours, exact, strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)
