"""The script for the day a GPU is there, as far as a machine without one can run it."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest
import torch
from scripts import ROOT, load


@pytest.fixture(scope="module")
def gpu_day() -> ModuleType:
    return load("benchmarks/gpu_day.py")


def python(gpu_day: ModuleType, name: str, code: str, seconds: int = 30, **more):
    return gpu_day.Step(name, (sys.executable, "-c", code), seconds, **more)


def test_every_step_ends_within_ten_minutes_and_names_existing_files(gpu_day, tmp_path):
    plan = gpu_day.steps(tmp_path)
    assert len({step.name for step in plan}) == len(plan)
    assert all(step.seconds < 600 for step in plan)
    for step in plan:
        for part in step.command:
            if part.startswith(("tests/", "benchmarks/")) or part == "setup.py":
                assert (ROOT / part).exists(), part


def test_its_python_compiles(gpu_day):
    for code in (gpu_day.REDUCED, gpu_day.COPY):
        compile(code, "step", "exec")


def test_dry_run_prints_the_plan_and_writes_nothing(gpu_day, tmp_path, capsys):
    assert gpu_day.main(["--dry-run", "--output", str(tmp_path / "results")]) == 0
    printed = capsys.readouterr().out
    assert "racecheck" in printed and "bench gate" in printed and "streaming copy" in printed
    assert not (tmp_path / "results").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so(gpu_day, tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu_day.main(["--output", str(tmp_path)])
    assert "no CUDA device" in capsys.readouterr().err


def test_steps_are_kept_and_not_run_again(gpu_day, tmp_path):
    path, mark = tmp_path / "gpu_day.json", tmp_path / "ran"
    step = python(gpu_day, "once", f"open({str(mark)!r}, 'a').write('x'); print('{{\"bytes\": 1}}')", results=True)
    assert gpu_day.go(path, [step], 5) == 0 and gpu_day.go(path, [step], 5) == 0
    assert mark.read_text() == "x"
    record = json.loads(path.read_text())
    assert record["steps"]["once"]["results"] == [{"bytes": 1}]
    assert {"device", "driver", "commit", "torch", "toolkit"} <= set(record["machine"])


def test_a_failure_is_kept_and_the_rest_goes_on(gpu_day, tmp_path):
    path = tmp_path / "gpu_day.json"
    plan = [
        python(gpu_day, "wrong", "raise SystemExit(3)"),
        python(gpu_day, "slow", "import time; time.sleep(60)", seconds=1),
        python(gpu_day, "absent", "", needs="no-such-program"),
        python(gpu_day, "right", "print('fine')"),
    ]
    assert gpu_day.go(path, plan, 5) == 1
    kept = json.loads(path.read_text())["steps"]
    assert (kept["wrong"]["status"], kept["wrong"]["exit"]) == ("failed", 3)
    assert (kept["slow"]["status"], kept["slow"]["exit"]) == ("failed", 124)
    assert kept["absent"] == {"status": "skipped", "why": "no-such-program is not on PATH"}
    assert kept["right"]["status"] == "done"


def test_nothing_starts_that_may_not_end_in_time(gpu_day, tmp_path, capsys):
    path = tmp_path / "gpu_day.json"
    plan = [python(gpu_day, "first", "import time; time.sleep(2)", seconds=6), python(gpu_day, "second", "", seconds=6)]
    gpu_day.go(path, plan, 0.1)
    assert set(json.loads(path.read_text())["steps"]) == {"first"}
    assert "second: not started" in capsys.readouterr().out


def test_the_operations_results_become_one_file(gpu_day, tmp_path, monkeypatch):
    for operation in gpu_day.OPERATIONS:
        (tmp_path / operation).mkdir()
        part = {"schema": 1, "set": "readme", "machine": {"device": "x"}, "cases": [{"operation": operation}]}
        (tmp_path / operation / "readme.json").write_text(json.dumps(part))
    reported = []
    monkeypatch.setattr(gpu_day.subprocess, "run", lambda command, **_: reported.append(command))
    gpu_day.merge(tmp_path)
    merged = json.loads((tmp_path / "readme.json").read_text())
    assert [case["operation"] for case in merged["cases"]] == list(gpu_day.OPERATIONS)
    assert reported and reported[0][-1] == str(tmp_path / "readme.json")
