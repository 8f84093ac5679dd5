"""The command line: what it prints, writes and returns, and what it says when something is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bam_fused
from bam_fused import __version__, backends
from bam_fused.bench import results
from bam_fused.bench.extras import MissingExtra, need
from bam_fused.cli import main

TINY = ["bench", "--set", "tiny", "--device", "cpu", "--seconds", "0.01"]


def test_info_names_versions_and_every_backend(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    assert __version__ in shown and torch.__version__ in shown
    for name in backends.REGISTRY:
        assert name in shown


def test_info_gives_the_reason_of_each_backend(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for name, backend in backends.REGISTRY.items():
        assert found["backends"]["cpu"][name] == (backend.why_not(torch.device("cpu")) or "runs")
    assert found["backends"]["cpu"]["eager"] == "runs"


def test_info_check_fails_where_no_fast_backend_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = replace(backends.REGISTRY["cpu"], why_not=lambda device: "not built: for this test")
    monkeypatch.setitem(backends.REGISTRY, "cpu", missing)
    assert main(["info", "--check", "--device", "cpu"]) == 1
    assert capsys.readouterr().err == "cpu: no fast backend: cpu: not built: for this test\n"
    with bam_fused.use_backend("eager"):  # nothing else was wanted
        assert main(["info", "--check", "--device", "cpu"]) == 0
    monkeypatch.setitem(backends.REGISTRY, "cpu", replace(missing, why_not=lambda device: None))
    assert main(["info", "--check", "--device", "cpu"]) == 0
    with bam_fused.use_backend("cuda"):
        assert main(["info", "--check", "--device", "cpu"]) == 1


def test_python_minus_m() -> None:
    done = subprocess.run([sys.executable, "-m", "bam_fused", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"bam_fused {__version__}"


def test_info_to_a_reader_that_is_gone_leaves_no_trace() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        done = subprocess.run([sys.executable, "-m", "bam_fused", "info"], stdout=gone, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (141, b"")


def test_the_command_line_imports_no_extra() -> None:
    code = (
        "import sys, bam_fused.cli; bam_fused.cli.parser(); extras = "
        "{'matplotlib', 'onnxruntime', 'onnx', 'pytorchcv', 'skimage', 'torchvision', 'timm', 'triton'}; "
        "print(sorted(extras & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["nothing"], ["bench", "--set", "huge"], []):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


def test_bench_then_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*TINY, "--operation", "gate", "--only", "eager", "--no-plots", "--output", str(tmp_path)]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "[1/3" in captured.err
    assert "gate, forward+backward" in captured.out
    found = results.read(tmp_path / "tiny.json")
    assert found["machine"]["torch"] == torch.__version__
    assert [row["competitor"] for row in found["cases"][0]["rows"]] == ["eager", "fused", "copy", "clone"]

    file = str(tmp_path / "tiny.json")
    assert main(["report", file, "--no-plots", "--against", file]) == 0
    assert "0 moved beyond noise" in capsys.readouterr().out


def test_report_finds_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / results.FOLDER / "here"
    assert main([*TINY, "--operation", "gate", "--only", "eager", "--no-plots", "--output", str(folder)]) == 0
    (folder / "tiny.json").rename(folder / "readme.json")
    capsys.readouterr()
    assert main(["report", "--no-plots"]) == 0
    assert "gate, inference: median latency" in capsys.readouterr().out


def test_bench_fails_when_the_fused_one_has_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bam_fused.gate", lambda x, channel_logits, spatial_logits: x)
    assert main([*TINY, "--operation", "gate", "--only", "eager", "--no-plots", "--output", str(tmp_path)]) == 1
    assert "gate: fused: Wrong: its result is off by" in capsys.readouterr().out


def test_report_without_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report"]) == 2
    assert "bam-fused bench --set readme" in capsys.readouterr().err


def test_a_missing_extra_is_named() -> None:
    with pytest.raises(MissingExtra, match=r'no_such_package is not installed: pip install "bam_fused\[demo\]"'):
        need("no_such_package.deep", "demo")
