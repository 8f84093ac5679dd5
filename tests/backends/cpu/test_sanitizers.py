"""The whole CPU library under sanitizers: no access outside a buffer and no undefined behaviour, however it is called."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bam_fused.backends import cpu

ROOT = Path(__file__).resolve().parents[3]
AVX2 = platform.machine() in ("x86_64", "AMD64") and "avx2" in Path("/proc/cpuinfo").read_text()
WIDEST = "-DBAM_VECTOR_BYTES=32 -mavx2 -mfma -mf16c" if AVX2 else "-DBAM_VECTOR_BYTES=16"
CHECKS = "-fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=undefined"


def _build(folder: Path) -> Path:
    """The library as setup.py builds it, but of one instruction set and with sanitizers; what is there is used again."""
    import ninja
    from building.cpu import cpu_library
    from building.library import Library, Step, ninja_file

    def sanitized(step: Step) -> Step:
        command = step.command.replace("-O3", f"-O0 {CHECKS}").replace("-DBAM_X86_64", "")
        return Step(command.replace("-DBAM_VECTOR_BYTES=16", WIDEST), step.source, step.name)

    whole = cpu_library()
    steps = [sanitized(step) for step in whole.compile if step.name in ("", "baseline")]
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "sanitized.so"
    link = whole.link.replace("-Wl,-s", CHECKS)
    (folder / "build.ninja").write_text(ninja_file(Library(steps, link), library))
    subprocess.run([Path(ninja.BIN_DIR) / "ninja", "-j", os.environ.get("MAX_JOBS", "2")], cwd=folder, check=True)
    return library


@pytest.mark.slow
@pytest.mark.skipif(cpu.library is None, reason="the CPU library is not built")
@pytest.mark.skipif(sys.platform != "linux" or shutil.which("g++") is None, reason="no C++ compiler (g++) on Linux")
def test_address_and_undefined_behaviour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "csrc")
    monkeypatch.setenv("CXX", "g++")
    library = _build(ROOT / "build/sanitized")
    runtime = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("sanitized_cases.py"), library, "0"],
        env={
            **os.environ,
            "LD_PRELOAD": runtime.strip(),
            "ASAN_OPTIONS": "detect_leaks=0:alloc_dealloc_mismatch=0",  # both are Python's and PyTorch's own business
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert int(done.stdout.split()[-1]) > 20, done.stdout
