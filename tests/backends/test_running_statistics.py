"""Running statistics moved by what was measured: in one call of the CPU library, elsewhere by PyTorch's operators."""

from __future__ import annotations

import pytest
import torch

from bam_fused.backends import running_statistics


@pytest.mark.parametrize("in_library", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_move(monkeypatch, in_library, dtype):
    if not in_library:
        monkeypatch.setattr(running_statistics, "_in_library", None)
    statistics = torch.rand(2, 9, dtype=torch.float64)
    running = [
        torch.rand(3, 2)[:, 0].to(dtype),
        torch.rand(3).to(dtype),
        torch.rand(4).to(dtype),
        torch.rand(4).to(dtype),
    ]
    bounds, momenta, counts = [0, 3, 5, 9], [0.1, 1.0], [torch.tensor(7), torch.tensor(0)]
    parts = statistics[:, 0:3], statistics[:, 5:9]
    expected = [torch.lerp(t.double(), parts[i // 2][i % 2], momenta[i // 2]) for i, t in enumerate(running)]
    versions = [tensor._version for tensor in running]
    running_statistics.move(statistics, running, bounds, momenta, counts)
    tolerance = 2e-2 if dtype == torch.bfloat16 else torch.finfo(dtype).eps
    for ours, right in zip(running, expected, strict=True):
        torch.testing.assert_close(ours.double(), right, rtol=tolerance, atol=tolerance)
    assert [int(count) for count in counts] == [8, 1]
    assert versions == [tensor._version for tensor in running], "a graph that holds them is none the wiser"


def test_buffers_of_another_length_are_refused():
    running = [torch.ones(1), torch.ones(1), torch.ones(3), torch.ones(4)]
    with pytest.raises(RuntimeError):
        running_statistics.move(torch.rand(2, 5, dtype=torch.float64), running, [0, 1, 1, 5], [0.1, 0.1], [])
    if running_statistics._in_library is not None:
        assert all(bool((tensor == 1).all()) for tensor in running), "none has been moved"


def test_counts_of_another_dtype():
    count = torch.tensor(3, dtype=torch.int32)
    running_statistics.move(
        torch.rand(2, 1, dtype=torch.float64), [torch.ones(1), torch.ones(1)], [0, 1], [0.1], [count]
    )
    assert int(count) == 4
