"""What the tests of the Triton backend share: a device that runs its kernels, and that backend chosen by name.

Where there is a CUDA device the kernels are compiled for it; elsewhere they run on the CPU in Triton's interpreter (the
root conftest sets TRITON_INTERPRET=1 before anything imports Triton).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import bam_fused


@pytest.fixture(scope="session")
def device() -> torch.device:
    pytest.importorskip("triton", reason="triton is not installed")
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


@pytest.fixture
def triton_backend(device: torch.device) -> Iterator[None]:
    with bam_fused.use_backend("triton"):
        yield
