"""Which GPUs a CUDA library serves, by what it was built for: no GPU and no library needed."""

from __future__ import annotations

import pytest
import torch

from bam_fused import backends
from bam_fused.backends import cuda


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        ("8.0 9.0", (8, 0), True),
        ("8.0 9.0", (8, 9), True),  # a later minor runs an earlier one's code
        ("8.6 9.0", (8, 0), False),
        ("9.0", (10, 0), False),
        ("8.0 9.0+PTX", (10, 0), True),
        ("9.0+PTX", (8, 9), False),
        ("9.0a", (9, 0), True),
        ("9.0a", (10, 0), False),
        ("10.0f", (10, 3), True),
        ("", (9, 0), False),
    ],
)
def test_code_for_a_device(architectures, capability, runs):
    assert cuda.has_code_for(architectures, capability) is runs


def test_a_gpu_that_the_library_holds_no_code_for_goes_to_triton(monkeypatch):
    device = torch.device("cuda", 0)
    monkeypatch.setattr(cuda, "_reason", None)
    monkeypatch.setattr(cuda, "build_info", lambda: {"architectures": "9.0"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA L4")
    assert cuda.why_not(device) == "the library was built for 9.0, and NVIDIA L4 is 8.9"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert cuda.why_not(device) is None
    assert backends.auto_order("gate", device)[:2] == ("cuda", "triton")
