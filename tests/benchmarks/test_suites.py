"""The pytest-benchmark suites of benchmarks/, run as a user runs them, on the tiny set."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_suites_run_and_report(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "benchmarks",
        "--set=tiny",
        "--seconds=0.01",
        "--device=cpu",
    ]
    command += ["-k", "gate and inference and not compile and not onnx", "-p", "no:cacheprovider"]
    command += ["--output", str(tmp_path / "run.json"), "--benchmark-json", str(tmp_path / "pytest.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gate, inference: median latency" in done.stdout

    case = json.loads((tmp_path / "run.json").read_text())["cases"][0]
    benchmarks = json.loads((tmp_path / "pytest.json").read_text())["benchmarks"]
    replayed = {one["extra_info"]["competitor"]: one for one in benchmarks}
    for row in case["rows"]:
        if row["competitor"] in replayed:  # pytest-benchmark must report what was measured
            assert replayed[row["competitor"]]["stats"]["median"] == pytest.approx(row["seconds"]["median"], rel=1e-6)
    assert {"eager", "fused", "copy", "clone"} <= set(replayed)
