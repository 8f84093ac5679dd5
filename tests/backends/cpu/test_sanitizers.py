"""Squeeze's kernel under sanitizers: no access outside a buffer, no undefined behaviour, exact sums of integers."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
AVX2 = platform.machine() in ("x86_64", "AMD64") and "avx2" in Path("/proc/cpuinfo").read_text()
WIDEST = ("-DBAM_VECTOR_BYTES=32", "-mavx2", "-mfma", "-mf16c") if AVX2 else ("-DBAM_VECTOR_BYTES=16",)


@pytest.mark.slow
def test_address_and_undefined_behaviour(tmp_path: Path) -> None:
    program = tmp_path / "squeeze"
    checks = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
    source = Path(__file__).with_name("sanitized_squeeze.cpp")
    command = ["g++", "-std=c++17", "-O1", "-Wno-psabi", *checks, *WIDEST, "-DBAM_INSTRUCTION_SET=baseline"]
    subprocess.run([*command, f"-I{ROOT / 'csrc/cpu/kernels'}", str(source), "-o", str(program)], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
