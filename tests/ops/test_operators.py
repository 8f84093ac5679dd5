"""The dispatcher operators: schema, fake kernels with the true strides, and what torch.library.opcheck asks."""

from __future__ import annotations

import pytest
import torch
from drawing import COMBINES, FORMATS, feature_map, gradient, logits
from torch._subclasses.fake_tensor import FakeTensorMode

SHAPE = (2, 6, 5, 4)


def _cases(format: str, combine: str):
    x, grad = feature_map(SHAPE, format=format), gradient(SHAPE, format=format)
    channel, spatial = logits(SHAPE)
    yield torch.ops.bam_fused.gate.default, (x, channel, spatial, combine)
    yield torch.ops.bam_fused.gate_backward.default, (grad, x, channel, spatial, combine)
    yield torch.ops.bam_fused.global_avg_pool.default, (x,)


@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize("format", FORMATS)
def test_opcheck(format, combine):
    for operator, arguments in _cases(format, combine):
        torch.library.opcheck(operator, arguments)


@pytest.mark.parametrize("format", FORMATS)
def test_fake_kernels_have_the_true_strides(format):
    for operator, arguments in _cases(format, "sum"):
        real = operator(*arguments)
        with FakeTensorMode() as mode:
            fake = operator(*(mode.from_tensor(a) if isinstance(a, torch.Tensor) else a for a in arguments))
        for r, f in zip(*((t,) if isinstance(t, torch.Tensor) else t for t in (real, fake)), strict=True):
            assert (r.shape, r.stride(), r.dtype) == (f.shape, f.stride(), f.dtype), operator


def test_meta_tensors():
    x = torch.empty(2, 6, 5, 4, device="meta")
    out = torch.ops.bam_fused.gate(x, torch.empty(2, 6, device="meta"), torch.empty(2, 5, 4, device="meta"), "sum")
    assert out.shape == x.shape and out.device.type == "meta"
