"""Calls from many threads at once, and in a forked process."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from drawing import feature_map, gradient, logits

import bam_fused

SHAPE = (2, 24, 9, 7)

FORKED = """
import os, torch, bam_fused
x, channel, spatial = torch.randn(1, 2, 3, 3), torch.randn(1, 2), torch.randn(1, 1, 3, 3)
child = os.fork()
out = bam_fused.gate(x, channel, spatial)
right = torch.allclose(out, bam_fused.reference.gate(x, channel, spatial))
if child == 0:
    os._exit(0 if right else 3)
print(right, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def _step(arguments):
    x, channel, spatial, grad = arguments
    leaves = [tensor.clone().requires_grad_() for tensor in (x, channel, spatial)]
    out = bam_fused.gate(*leaves)
    return out, bam_fused.global_avg_pool(x), *torch.autograd.grad(out, leaves, grad)


def test_calls_in_many_threads_at_once():
    """Each with inputs of its own, in forward and backward: the bits are those of one thread after the other."""
    calls = [(feature_map(SHAPE), *logits(SHAPE), gradient(SHAPE)) for _ in range(64)]
    alone = [_step(call) for call in calls]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(_step, calls))
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("threads", [2, 5])
def test_bams_of_one_sample_in_many_threads_at_once(threads):
    """Each call's own threads go through its steps together, and finish, though there are more of them than cores."""
    cases = [(bam_fused.BAM(channels).eval(), feature_map((1, channels, 24, 20))) for channels in (96, 128, 160)]

    def infer(case):
        torch.set_num_threads(threads)
        module, x = case
        with torch.no_grad():
            return module(x)

    with torch.no_grad():
        alone = [module(x) for module, x in cases]
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(infer, 16 * cases))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(out, alone[i % len(cases)]) for i, out in enumerate(together))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_process_computes():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "True 0\n", done.stderr
