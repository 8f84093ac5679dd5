"""What only a GPU can show of the Triton backend: CUDA graphs, streams, other devices, more than 2^31 elements."""

from __future__ import annotations

import pytest
import torch
from checking import with_gradients
from drawing import feature_map, gradient, logits

import bam_fused

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("triton_backend")]

SHAPE = (4, 64, 14, 14)


def _arguments(device: torch.device | str, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    tensors = feature_map(SHAPE, dtype), *logits(SHAPE, dtype), gradient(SHAPE, dtype)
    return [tensor.to(device) for tensor in tensors]


def test_capture_in_a_cuda_graph(device):
    """Captured once and replayed on other inputs; nothing is tuned or compiled inside the capture."""
    x, channel, spatial, grad = _arguments(device)
    with_gradients(bam_fused.gate, x, channel, spatial, grad, "sum")
    bam_fused.global_avg_pool(x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = torch.ops.bam_fused.gate.triton(x, channel, spatial, "sum")
        gradients = torch.ops.bam_fused.gate_backward.triton(grad, x, channel, spatial, "sum")
        mean = torch.ops.bam_fused.global_avg_pool.triton(x)
    for tensor, fresh in zip((x, channel, spatial, grad), _arguments(device), strict=True):
        tensor.copy_(fresh)
    graph.replay()
    expected = with_gradients(bam_fused.gate, x, channel, spatial, grad, "sum")
    for found, wanted in zip((out, *gradients, mean), (*expected, bam_fused.global_avg_pool(x)), strict=True):
        assert torch.equal(found, wanted)


def test_runs_on_the_current_stream(device):
    """The input is only written on a side stream, after a long wait: a launch on another stream would read zeros."""
    x, channel, spatial, _ = _arguments(device)
    expected = bam_fused.gate(x, channel, spatial)
    late = torch.zeros_like(x)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        late.copy_(x)
        out = bam_fused.gate(late, channel, spatial)
    stream.synchronize()
    assert torch.equal(out, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs a second CUDA device")
def test_runs_on_the_device_of_the_tensor():
    first, second = _arguments("cuda:0"), _arguments("cuda:1")
    second = [tensor.copy_(other) for tensor, other in zip(second, first, strict=True)]
    with torch.cuda.device(0):
        here = with_gradients(bam_fused.gate, *first, "sum")
        there = with_gradients(bam_fused.gate, *second, "sum")
    for a, b in zip(here, there, strict=True):
        assert b.device.index == 1
        assert torch.equal(a.cpu(), b.cpu())


@pytest.mark.slow
@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_more_than_2_to_the_31_elements(device, format):
    """The last sample lies beyond the reach of 32-bit indices, in its own sample and as one of many."""
    for shape in ((1400, 512, 56, 56), (2, 512, 1536, 1536)):
        size = torch.Size(shape).numel()
        assert size > 2**31
        if torch.cuda.mem_get_info(device)[0] < 5 * 2 * size:
            pytest.skip(f"needs {5 * 2 * size / 2**30:.0f} GiB of free GPU memory")
        n, c, h, w = shape
        x = torch.empty(shape, dtype=torch.bfloat16, device=device, memory_format=format).normal_()
        channel, spatial = (torch.randn(s, device=device) for s in ((n, c), (n, h, w)))
        out = bam_fused.gate(x, channel, spatial)
        last = slice(n - 1, n)
        small = x[last].clone(memory_format=torch.preserve_format), channel[last], spatial[last]
        assert torch.equal(out[last], bam_fused.gate(*small))
        del out
        dx, dchannel, dspatial = torch.ops.bam_fused.gate_backward.triton(x, x, channel, spatial, "sum")
        expected = bam_fused.reference.gate_backward(*(t.float() for t in (small[0], *small)), "sum")
        torch.testing.assert_close(dx[last].float(), expected[0], rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(dchannel[last], expected[1], rtol=1e-3, atol=1e-1)
        torch.testing.assert_close(dspatial[last], expected[2], rtol=1e-3, atol=1e-2)
        mean = bam_fused.global_avg_pool(x)[last].float()
        torch.testing.assert_close(mean, small[0].float().mean((2, 3)), rtol=1e-2, atol=1e-3)
        del x, dx
