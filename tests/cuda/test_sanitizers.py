"""The CUDA kernels on the CPU under sanitizers: no access outside a buffer, no undefined behaviour, no data race."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_host_library import HOST, KERNELS, ROOT, build, build_library

pytestmark = pytest.mark.cuda_host

ADDRESS_AND_UNDEFINED = (
    "-O0",  # compiled in a third of the time, for a run that takes a few seconds more
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
    "-fno-omit-frame-pointer",
)


def sanitizer_runtime(name: str) -> str:
    found = subprocess.run(
        ["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(found).is_absolute():
        pytest.skip(f"g++ has no {name}")
    return found


@pytest.mark.slow
def test_address_and_undefined_behaviour() -> None:
    """The drawn problems of test_host_kernels.py again, in a process whose allocations AddressSanitizer guards."""
    preload = sanitizer_runtime("libasan.so")
    library = build_library(*ADDRESS_AND_UNDEFINED)
    tests = Path(__file__).with_name("test_host_kernels.py")
    environment = os.environ | {
        "LD_PRELOAD": f"{preload} {sanitizer_runtime('libstdc++.so')}",  # C++ exceptions need the latter beside it
        "ASAN_OPTIONS": "detect_leaks=0",
        "BAM_CUDA_HOST_LIBRARY": str(library),
        "BAM_CUDA_HOST_EXAMPLES": "15",
        "PYTHONMALLOC": "malloc",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def test_address_sanitizer_sees_a_read_past_the_end() -> None:
    """The guard above is no dummy: x is one row shorter than the kernel is told."""
    preload = sanitizer_runtime("libasan.so")
    library = build_library(*ADDRESS_AND_UNDEFINED)
    code = f"""
import sys; sys.path.insert(0, {str(ROOT / "tests")!r})
import torch
from pathlib import Path
from cuda_host_library import HostKernels, Problem
x, out = torch.ones(1, 15, 64), torch.ones(1, 16, 64)
HostKernels(Path({str(library)!r})).gate(Problem(1, 16, 64, torch.float32), x, torch.ones(1, 16), torch.ones(1, 64), out)
"""
    environment = os.environ | {"LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode != 0 and "heap-buffer-overflow" in done.stderr


def run_threads(fault: str = "") -> subprocess.CompletedProcess[str]:
    """race.cpp with one thread of the system per CUDA thread, under ThreadSanitizer."""
    sanitizer_runtime("libtsan.so")
    sources = dict.fromkeys([*KERNELS, HOST / "threads.cpp", HOST / "race.cpp"], ())
    program = build("race", sources, ("-O1", "-g1", "-fsanitize=thread"), ("-pthread",))
    environment = os.environ | {"CUDA_HOST_WITHOUT": fault, "TSAN_OPTIONS": "halt_on_error=1"}
    return subprocess.run([str(program)], env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_no_data_race() -> None:
    done = run_threads()
    assert done.returncode == 0 and "done" in done.stdout, done.stderr[:3000]


@pytest.mark.parametrize("fault", ("barriers", "fences"))
def test_missing_synchronisation_is_reported(fault: str) -> None:
    done = run_threads(fault)
    assert "ThreadSanitizer: data race" in done.stderr
