"""What only a GPU can show: streams, graphs, several devices, repeatability, accuracy of the hardware's functions, size."""

from __future__ import annotations

import pytest
import torch
from accuracy import assert_no_worse_than_eager, noise_of_sums
from torch import Tensor

import bam_fused
from bam_fused import backends, reference

pytestmark = pytest.mark.gpu

SHAPE = (8, 64, 28, 28)


@pytest.fixture(autouse=True)
def cuda_backend() -> None:
    reason = backends.REGISTRY["cuda"].why_not(torch.device("cuda"))
    if reason is not None:
        pytest.skip(reason)
    bam_fused.use_backend("cuda")


def arguments(dtype: torch.dtype = torch.float32, device: str = "cuda") -> tuple[Tensor, Tensor, Tensor]:
    n, c, h, w = SHAPE
    return tuple(torch.randn(s, device=device).to(dtype) for s in (SHAPE, (n, c), (n, 1, h, w)))


def forward_backward(x: Tensor, channel: Tensor, spatial: Tensor) -> tuple[Tensor, ...]:
    leaves = [t.detach().requires_grad_() for t in (x, channel, spatial)]
    out = bam_fused.gate(*leaves)
    return out.detach(), *torch.autograd.grad(out, leaves, torch.ones_like(out).copy_(x))


def test_gradcheck() -> None:
    x, channel, spatial = (
        t.requires_grad_()
        for t in (
            torch.randn(2, 8, 5, 4, dtype=torch.float64, device="cuda"),
            torch.randn(2, 8, dtype=torch.float64, device="cuda"),
            torch.randn(2, 5, 4, dtype=torch.float64, device="cuda"),
        )
    )
    for combine in reference.COMBINES:
        assert torch.autograd.gradcheck(lambda *t, how=combine: bam_fused.gate(*t, how), (x, channel, spatial))
        assert torch.autograd.gradgradcheck(lambda *t, how=combine: bam_fused.gate(*t, how), (x, channel, spatial))
    assert torch.autograd.gradcheck(bam_fused.global_avg_pool, (x,))


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16), ids=str)
def test_error_is_no_larger_than_eagers(dtype: torch.dtype) -> None:
    """Each result's largest error against float64 is at most that of the expression in plain PyTorch.

    Sums in float32, which differ by the order of their addends, are judged by the noise of that.
    """
    x, channel, spatial = arguments(dtype)
    channel, spatial = 4 * channel, 4 * spatial
    exact = forward_backward_eager(*(t.double() for t in (x, channel, spatial)))
    ours, eager = forward_backward(x, channel, spatial), forward_backward_eager(x, channel, spatial)
    noise = noise_of_sums(x, x, channel, spatial, "sum")
    for name, mine, theirs, true in zip(("out", "dx", "dchannel", "dspatial"), ours, eager, exact, strict=True):
        if dtype == torch.float32 and name in ("dchannel", "dspatial"):
            assert_no_worse_than_eager(name, mine, theirs, true, noise)
        else:
            scale = true.abs().max() * torch.finfo(dtype).eps
            assert (mine.double() - true).abs().max() <= (theirs.double() - true).abs().max() + 0.05 * scale, name


def forward_backward_eager(x: Tensor, channel: Tensor, spatial: Tensor) -> tuple[Tensor, ...]:
    leaves = [t.detach().requires_grad_() for t in (x, channel, spatial)]
    out = reference.gate(*leaves)
    return out.detach(), *torch.autograd.grad(out, leaves, torch.ones_like(out).copy_(x))


def test_the_same_bits_every_time() -> None:
    given = arguments(torch.bfloat16)
    first = forward_backward(*given)
    for _ in range(1000):
        assert all(torch.equal(a, b) for a, b in zip(first, forward_backward(*given), strict=True))


def test_streams_at_once() -> None:
    """Two streams, each with its own inputs, many times: their workspaces and arrival counters must not meet."""
    given = [arguments() for _ in range(2)]
    expected = [forward_backward(*g) for g in given]
    streams = [torch.cuda.Stream() for _ in range(2)]
    torch.cuda.synchronize()
    found: list[list[tuple[Tensor, ...]]] = [[], []]
    for _ in range(50):
        for i, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                found[i].append(forward_backward(*given[i]))
    torch.cuda.synchronize()
    for i in range(2):
        for results in found[i]:
            assert all(torch.equal(a, b) for a, b in zip(results, expected[i], strict=True))


def test_captured_in_a_graph_and_replayed() -> None:
    given = arguments()
    with torch.cuda.stream(torch.cuda.Stream()):
        forward_backward(*given)  # warm up outside the capture
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = forward_backward(*given)
    for _ in range(3):
        for t in given:
            t.copy_(torch.randn_like(t))
        graph.replay()
        torch.cuda.synchronize()
        expected = forward_backward(*given)
        assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device")
def test_on_the_tensors_device_not_the_current_one() -> None:
    given = arguments(device="cuda:1")
    results = forward_backward(*given)
    assert all(t.device == torch.device("cuda:1") for t in results)
    assert torch.cuda.current_device() == 0
    expected = forward_backward(*(t.to("cuda:0") for t in given))
    assert all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(results, expected, strict=True))


@pytest.mark.slow
def test_more_than_2_to_the_31_elements() -> None:
    free, _ = torch.cuda.mem_get_info()
    if free < 24 << 30:
        pytest.skip("needs 24 GiB of free GPU memory")
    n = 1400
    x = torch.randn(n, 512, 56, 56, device="cuda", dtype=torch.bfloat16)
    channel, spatial = torch.randn(n, 512, device="cuda"), torch.randn(n, 56, 56, device="cuda")
    out = bam_fused.gate(x, channel, spatial)
    for i in (0, n // 2, n - 1):
        expected = reference.gate(x[i : i + 1].double(), channel[i : i + 1].double(), spatial[i : i + 1].double())
        torch.testing.assert_close(out[i : i + 1].double(), expected, rtol=8e-3, atol=1e-6)
