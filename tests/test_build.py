"""setup.py without a compiler: what "auto" leaves out it says, what was asked for it refuses to leave out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def _build(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "setup.py",
        "-q",
        "build_ext",
        "--build-lib",
        str(folder),
        "--build-temp",
        str(folder / "t"),
    ]
    without_cuda = {**os.environ, "CUDA_HOME": str(folder / "no_cuda")}
    return subprocess.run(
        command, cwd=ROOT, env={**without_cuda, **environment}, capture_output=True, text=True, check=False
    )


def _record(folder: Path) -> dict[str, str]:
    record: dict[str, str] = json.loads((folder / "bam_fused/build_record.json").read_text())
    return record


def test_auto_without_a_compiler_records_why(tmp_path):
    done = _build(tmp_path, BAM_FUSED_BUILD="auto", CXX="no-such-compiler")
    assert done.returncode == 0, done.stderr
    assert _record(tmp_path)["cpu"] == "no C++ compiler: no-such-compiler is not on PATH (CXX names another)"


def test_auto_with_a_broken_compiler_records_why(tmp_path):
    broken = tmp_path / "broken"
    broken.write_text(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo broken 1.0 && exit\necho 'broken: out of order' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    done = _build(tmp_path, BAM_FUSED_BUILD="auto", CXX=str(broken))
    assert done.returncode == 0, done.stderr
    assert "broken: out of order" in _record(tmp_path)["cpu"]


@pytest.mark.parametrize("library", ["cpu", "cuda"])
def test_an_explicit_request_that_cannot_be_met_is_an_error(tmp_path, library):
    done = _build(tmp_path, BAM_FUSED_BUILD=library, CXX="no-such-compiler")
    assert done.returncode != 0
    assert f"BAM_FUSED_BUILD={library}: no C++ compiler: no-such-compiler is not on PATH" in done.stderr
    assert not list(tmp_path.rglob("*.so"))


def test_python_builds_nothing(tmp_path):
    done = _build(tmp_path, BAM_FUSED_BUILD="python")
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.so"))


def test_an_unknown_mode_is_named(tmp_path):
    done = _build(tmp_path, BAM_FUSED_BUILD="fast")
    assert done.returncode != 0
    assert "BAM_FUSED_BUILD must be one of ('auto', 'python', 'cpu', 'cuda'), got 'fast'" in done.stderr
