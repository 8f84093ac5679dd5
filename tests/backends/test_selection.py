"""use_backend, BAM_FUSED_BACKEND, and falling back: said once under "auto", an error with the reason when named."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from drawing import feature_map, logits

import bam_fused
from bam_fused import backends

SHAPE = (2, 4, 3, 3)


def _gate():
    return bam_fused.gate(feature_map(SHAPE), *logits(SHAPE))


def test_a_block_puts_the_earlier_choice_back():
    with bam_fused.use_backend("eager"):
        assert backends.current_backend() == "eager"
        with bam_fused.use_backend("cpu"):
            assert backends.current_backend() == "cpu"
        assert backends.current_backend() == "eager"
    assert backends.current_backend() == "auto"


def test_a_plain_call_stays():
    bam_fused.use_backend("eager")
    assert backends.current_backend() == "eager"


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("gpu", ValueError, "backend must be one of .*, got 'gpu'"),
        (3, TypeError, "backend must be a string, .*, got int"),
    ],
)
def test_unknown_names(name, error, message):
    with pytest.raises(error, match=message):
        bam_fused.use_backend(name)
    assert backends.current_backend() == "auto"


def test_a_named_backend_that_cannot_run_says_why():
    with (
        bam_fused.use_backend("cuda"),
        pytest.raises(bam_fused.BackendUnavailable, match="'cuda' cannot run gate on cpu: "),
    ):
        _gate()


def test_eager_selects_plain_pytorch():
    with bam_fused.use_backend("eager"):
        assert backends.select("gate", torch.device("cpu")) is backends.eager.kernel("gate")


def test_fallback_is_logged_once(monkeypatch, caplog):
    broken = replace(backends.REGISTRY["cpu"], why_not=lambda device: "not built: for this test")
    monkeypatch.setitem(backends.REGISTRY, "cpu", broken)
    monkeypatch.setattr(backends, "_logged", set())
    with bam_fused.use_backend("auto"), caplog.at_level(logging.WARNING, "bam_fused"):
        for _ in range(3):
            _gate()
    assert [r.getMessage() for r in caplog.records] == [
        "gate runs in eager PyTorch on cpu (cpu: not built: for this test)"
    ]
    with bam_fused.use_backend("cpu"), pytest.raises(bam_fused.BackendUnavailable, match="not built: for this test"):
        _gate()


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_the_environment_variable_sets_the_first_choice():
    code = "from bam_fused import backends; print(backends.current_backend())"
    assert _python(code, BAM_FUSED_BACKEND="eager").stdout.strip() == "eager"
    done = _python(code, BAM_FUSED_BACKEND="fast")
    assert done.returncode == 1
    assert "ValueError: BAM_FUSED_BACKEND must be one of" in done.stderr


def test_importing_is_light_and_silent_and_writes_nothing(tmp_path):
    """In a folder that could as well be read-only, and has a space and an umlaut in its name."""
    there = tmp_path / "Größe mit Leerzeichen"
    package = Path(bam_fused.__file__).parent
    shutil.copytree(package, there / "bam_fused", ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(there.rglob("*"))
    code = (
        f"import sys; sys.path.insert(0, {str(there)!r})\n"
        "import bam_fused, torch\n"
        "bam_fused.global_avg_pool(torch.ones(1, 2, 3, 4))\n"
        "print(sorted({'triton', 'torchvision', 'timm', 'matplotlib', 'pytorchcv'} & set(sys.modules)))\n"
        "print(bam_fused.__file__)"
    )
    done = _python(code, PYTHONDONTWRITEBYTECODE="1")
    assert (done.stdout.split("\n")[:2], done.stderr) == (["[]", str(there / "bam_fused/__init__.py")], "")
    assert sorted(there.rglob("*")) == before
