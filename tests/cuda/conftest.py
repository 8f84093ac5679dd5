"""What the CUDA tests share: the kernels built for the CPU."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from cuda_host_library import HostKernels, build_library


@pytest.fixture(scope="session")
def host_kernels() -> HostKernels:
    """The kernels on the CPU; BAM_CUDA_HOST_LIBRARY names a library built otherwise (with a sanitizer)."""
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler (g++) to build the kernels for the CPU")
    library = os.environ.get("BAM_CUDA_HOST_LIBRARY")
    return HostKernels(Path(library) if library else build_library())
