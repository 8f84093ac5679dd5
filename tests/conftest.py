"""What every test shares: markers that need something absent are skipped with the reason, and backends are put back."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest
import torch

import bam_fused
from bam_fused import backends

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # Triton reads it when it is imported: before any test does

# What a test runs in a process of its own is no part of this run: it neither divides itself nor takes itself for a part.
for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
    os.environ.pop(name, None)

# Everybody draws the same cases, so that a failure is everybody's; `--hypothesis-profile fresh` draws others.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.register_profile("fresh", derandomize=False)
hypothesis.settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu") is not None:  # the keywords name the folders too
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def _same_start() -> Iterator[None]:
    """Every test starts from one seed, with nothing compiled or selected, and leaves the backend as it found it."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    for choice in backends.CHOICES.values():
        choice.kernels.clear()
    bam_fused.use_backend("auto")
    yield
    bam_fused.use_backend("auto")


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Fill all memory that PyTorch hands out uninitialised, C++ included, with NaN: what no kernel wrote shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
