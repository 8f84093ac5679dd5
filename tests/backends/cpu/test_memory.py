"""Memory on the CPU: offsets beyond 32 bits, and nothing left behind by calls."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from drawing import feature_map, gradient, logits

import bam_fused
from bam_fused import BAM
from bam_fused.backends import cpu

if cpu.library is None:
    pytest.skip(f"no CPU library: {cpu.why_not(torch.device('cpu'))}", allow_module_level=True)


@pytest.mark.parametrize("stride", [(2**31, 12, 4, 1), (2**31, 1, 32, 8), (0, 2**28, 4, 1), (0, 1, 2**29, 2**27)])
def test_offsets_beyond_32_bits(stride):
    """Views whose samples, rows or pixels lie 2^31 elements apart, in memory that is reserved but hardly touched."""
    shape = (2 if stride[0] else 1, 8 if stride[1] < 16 else 9, 3, 4)
    reach = sum(step * (size - 1) for step, size in zip(stride, shape, strict=True)) + 1
    try:
        far = torch.empty(reach, dtype=torch.bfloat16).as_strided(shape, stride)
    except RuntimeError:
        pytest.skip(f"cannot reserve {2 * reach / 2**30:.0f} GiB")
    far.copy_(torch.randn(shape))
    near = far.clone(memory_format=torch.contiguous_format)
    grad, (channel, spatial), module = gradient(shape), logits(shape), BAM(shape[1], min_hidden=1).eval()

    def everything(x):
        leaf = x.detach().requires_grad_()
        out = bam_fused.gate(leaf, channel.to(leaf.dtype), spatial.to(leaf.dtype))
        with torch.no_grad():
            inference = module.to(leaf.dtype)(leaf)
        return out, *torch.autograd.grad(out, leaf, grad.to(leaf.dtype)), bam_fused.global_avg_pool(leaf), inference

    for ours, wanted in zip(everything(far), everything(near.float()), strict=True):
        torch.testing.assert_close(ours.float(), wanted, rtol=3e-2, atol=3e-2)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_left_behind():
    """Results and workspaces of a megabyte and more, gone after each call: a hundred calls need no more than a few."""
    x, module = feature_map((4, 64, 32, 32)).requires_grad_(), BAM(64)
    before = 0
    for i in range(110):
        module.train()(x).sum().backward()
        with torch.no_grad():
            module.eval()(x)
        x.grad = None
        before = _resident() if i == 9 else before
    assert _resident() - before < 40 * x.nbytes
